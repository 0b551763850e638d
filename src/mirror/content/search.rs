//! Which images of a stream something belongs to: found by reading manifests, as few as will do.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use tokio::time::Instant;

use super::Content;
use super::facts::Facts;
use super::upstream::{Source, worse};
use crate::digest::Digest;
use crate::mirror::PullError;
use crate::mirror::catalogue::Pullable;
use crate::registry::{FetchError, Form, Reason, Retry};
use crate::store::home::Home;
use crate::stream::Key;

/// The most bytes of a manifest, as registries have it.
pub(super) const MANIFEST_MAX: usize = 4 << 20;
/// How long it is remembered that a manifest is not there.
const ABSENT: Duration = Duration::from_mins(1);
/// The same if it could not be had for another reason: who looks through a history does not wait for each of its images.
const TROUBLE: Duration = Duration::from_secs(3);
/// How many manifests are above a blob at most: indexes may have indexes in them.
const DEPTH_MAX: usize = 4;
/// How many manifests one request has fetched to learn what is in them.
const FETCHED_MAX: usize = 200;

/// A stream in which something is looked for.
#[derive(Clone, Copy)]
pub(super) struct Within<'a> {
    pub(super) key: &'a Key,
    pub(super) pullable: &'a Pullable,
}

/// What is looked for.
#[derive(Clone, Copy)]
pub(super) enum Sought<'a> {
    /// An image of an index, or an index in it.
    Child(&'a Digest),
    /// A configuration or a layer.
    Blob(&'a Digest),
}

impl<'a> Sought<'a> {
    fn digest(self) -> &'a Digest {
        match self {
            Self::Child(digest) | Self::Blob(digest) => digest,
        }
    }

    /// Its size, if it belongs to a manifest that says so. That of a manifest does not matter.
    fn size_in(self, facts: &Facts) -> Option<u64> {
        match self {
            Self::Child(digest) => facts.children.contains(digest).then_some(0),
            Self::Blob(digest) => facts.blob(digest),
        }
    }

    /// What it may belong to further down.
    fn below(self, facts: &Facts) -> &[Digest] {
        match self {
            Self::Child(_) => &facts.indexes,
            Self::Blob(_) => &facts.children,
        }
    }
}

/// Where it was found.
pub(super) struct Found {
    /// The image of the history that it belongs to.
    pub(super) image: Digest,
    /// How many bytes a blob has.
    pub(super) size: u64,
}

/// How far one goes to learn what a manifest says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Memory,
    Storage,
    Upstream,
}

impl Within<'_> {
    /// From where an image of the history comes, and what belongs to it.
    pub(super) fn source(&self, image: &Digest) -> Source {
        Source { namespace: self.key.namespace.clone(), origins: self.pullable.origins(image) }
    }
}

impl<H: Home> Content<H> {
    /// Looks for something in the images of a stream: first in those that were asked for lately, then in the newest of each
    /// tag, then in older ones. What is known is looked at before what is kept, and that before any registry is asked.
    pub(super) async fn find(&self, within: Within<'_>, sought: Sought<'_>) -> Result<Option<Found>, FetchError> {
        let images = self.in_order(within);
        let (mut trouble, mut fetched) = (None, 0);
        for reach in [Reach::Memory, Reach::Storage, Reach::Upstream] {
            for image in &images {
                match self.find_in(within, image, sought, (reach, &mut fetched)).await {
                    Ok(None) => {}
                    Ok(Some(found)) => return Ok(Some(found)),
                    Err(error) if error.reason == Reason::NotFound => {}
                    Err(error) => trouble = Some(worse(trouble, error)),
                }
            }
        }
        let Some(error) = trouble else { return Ok(None) };
        tracing::warn!(stream = %within.key, digest = %sought.digest(), %error, "a part of an image could not be looked for");
        Err(error)
    }

    fn in_order(&self, within: Within<'_>) -> Vec<Digest> {
        let lately = self.asked.get(within.key).unwrap_or_default();
        let mut images: Vec<Digest> = lately.iter().filter(|image| within.pullable.has(image)).cloned().collect();
        let rest = within.pullable.images().into_iter().filter(|image| !lately.contains(image)).cloned();
        images.extend(rest);
        images
    }

    /// Looks for something in an image and, if that is an index, in what belongs to it.
    async fn find_in(
        &self,
        within: Within<'_>,
        image: &Digest,
        sought: Sought<'_>,
        (reach, fetched): (Reach, &mut usize),
    ) -> Result<Option<Found>, FetchError> {
        let (mut level, mut seen, mut trouble) = (vec![image.clone()], HashSet::new(), None);
        for _ in 0..DEPTH_MAX {
            let mut below = Vec::new();
            for manifest in level {
                match self.facts(within, image, &manifest, (reach, fetched)).await {
                    Ok(None) => {}
                    Ok(Some(facts)) => {
                        if let Some(size) = sought.size_in(&facts) {
                            return Ok(Some(Found { image: image.clone(), size }));
                        }
                        below.extend(sought.below(&facts).iter().filter(|part| seen.insert((*part).clone())).cloned());
                    }
                    Err(error) => trouble = Some(worse(trouble, error)),
                }
            }
            level = below;
        }
        trouble.map_or(Ok(None), Err)
    }

    /// What a manifest says that is, or belongs to, `image`. `None` if that is not to be learned within reach.
    async fn facts(
        &self,
        within: Within<'_>,
        image: &Digest,
        digest: &Digest,
        (reach, fetched): (Reach, &mut usize),
    ) -> Result<Option<Arc<Facts>>, FetchError> {
        let namespace = &within.key.namespace;
        if self.rights.are_known(namespace, digest)
            && let Some(known) = self.facts.get(digest)
        {
            return Ok(Some(known));
        }
        match reach {
            Reach::Memory => Ok(None),
            Reach::Storage => match self.kept(namespace, digest).await {
                Some(bytes) => self.learn(digest, &bytes).map(Some),
                None => Ok(None),
            },
            Reach::Upstream => {
                *fetched += 1;
                if *fetched > FETCHED_MAX {
                    return Err(unsearched());
                }
                let bytes = self.fetch_manifest(&within.source(image), digest).await?;
                self.learn(digest, &bytes).map(Some)
            }
        }
    }

    /// A manifest that is, or belongs to, `image`, and what it says.
    pub(super) async fn read(
        &self,
        within: Within<'_>,
        image: &Digest,
        digest: &Digest,
    ) -> Result<(Bytes, Arc<Facts>), PullError> {
        let bytes = if let Some(bytes) = self.kept(&within.key.namespace, digest).await {
            self.metrics.hit("manifest");
            bytes
        } else {
            self.metrics.missed("manifest");
            let told = |error: &FetchError| tracing::warn!(stream = %within.key, %digest, %error, "a manifest could not be fetched");
            self.fetch_manifest(&within.source(image), digest).await.inspect_err(told)?
        };
        let facts = self.learn(digest, &bytes)?;
        Ok((bytes, facts))
    }

    /// What a manifest says, remembered.
    fn learn(&self, digest: &Digest, bytes: &[u8]) -> Result<Arc<Facts>, FetchError> {
        if let Some(known) = self.facts.get(digest) {
            return Ok(known);
        }
        let facts = Facts::read(bytes).map_err(|error| {
            let message = format!("{digest} is no manifest that can be passed on: {error}");
            FetchError { reason: Reason::Invalid, message, retry: Retry::Never }
        })?;
        self.needs.learn(digest, &facts);
        let facts = Arc::new(facts);
        self.facts.put(digest.clone(), Arc::clone(&facts), facts.weight());
        Ok(facts)
    }

    /// A manifest from the storage, if the namespace was given it.
    async fn kept(&self, namespace: &str, digest: &Digest) -> Option<Bytes> {
        let bytes = self.stored(digest).await?;
        self.rights.are_given(namespace, digest).await.then_some(bytes)
    }

    /// A manifest from the storage, if where it comes from would give it.
    async fn confirmed(&self, source: &Source, digest: &Digest) -> Option<Bytes> {
        let bytes = self.stored(digest).await?;
        let may_have = self.rights.may_have(source, Form::Manifest, (digest, bytes.len() as u64)).await;
        may_have.then_some(bytes)
    }

    /// A manifest from the storage, whoever may have it. One that cannot be read there is as good as none.
    async fn stored(&self, digest: &Digest) -> Option<Bytes> {
        self.storage.bytes(digest, MANIFEST_MAX).await.unwrap_or_else(|error| {
            tracing::warn!(%digest, %error, "a manifest cannot be read from the storage");
            None
        })
    }

    /// A manifest from where it came. Who asks for the same with the same credentials at the same time shares the answer.
    async fn fetch_manifest(&self, source: &Source, digest: &Digest) -> Result<Bytes, FetchError> {
        let work = async || match self.kept(&source.namespace, digest).await {
            // It came since it was looked for.
            Some(bytes) => Ok(bytes),
            None => self.fetch_manifest_alone(source, digest).await,
        };
        self.manifests.share((source.clone(), digest.clone()), work).await
    }

    /// Fetches a manifest and keeps it, if it is not kept for another namespace that was given it. That it cannot be had is remembered for a while.
    async fn fetch_manifest_alone(&self, source: &Source, digest: &Digest) -> Result<Bytes, FetchError> {
        let absent = (source.clone(), digest.clone());
        let now = Instant::now();
        if let Some((_, error)) = self.absent.get(&absent).filter(|(until, _)| now < *until) {
            return Err(error);
        }
        if let Some(bytes) = self.confirmed(source, digest).await {
            return Ok(bytes);
        }
        let (fetched, giver) = self.upstream.manifest(source, digest).await.inspect_err(|error| {
            let lasts = if error.reason == Reason::NotFound { ABSENT } else { TROUBLE };
            self.absent.put(absent, (now + lasts, error.clone()), 1);
        })?;
        self.rights.remember(&source.namespace, digest);
        match self.storage.keep_bytes(digest, fetched.clone()).await {
            Ok(()) => self.rights.give(&source.namespace, digest, &giver).await,
            Err(error) => tracing::debug!(%digest, %error, "a manifest was passed on and not kept"),
        }
        Ok(fetched)
    }
}

/// More manifests would have to be fetched than are for one request.
fn unsearched() -> FetchError {
    let message = "more manifests have to be read to say whether the stream has it; ask again".to_owned();
    FetchError { reason: Reason::TooManyRequests, message, retry: Retry::Later }
}

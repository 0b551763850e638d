//! What can be pulled, from where it is kept or from where it came.
//!
//! What belongs to a stream is decided by its history and by the manifests in it, before anything is given: that something
//! is kept, or being fetched, for another stream is of no use to who may not have it.

mod facts;
mod fetch;
mod fetches;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod needs;
mod passed;
mod recent;
mod rights;
mod search;
mod upstream;

use std::sync::Arc;

use axum::body::Bytes;
use tokio::time::Instant;

pub use self::fetches::{Fetcher, Limits};
pub use self::needs::Needs;

use self::facts::Facts;
use self::fetch::{Fetch, Wanted};
use self::fetches::Fetches;
use self::passed::Passage;
use self::recent::Recent;
use self::rights::Rights;
use self::search::{Found, Sought, Within};
use self::upstream::{Source, Upstream};
use super::catalogue::Catalogue;
use super::storage::{Storage, StorageError};
use super::{Blob, Contents, Manifest, Part, PullError, Version};
use crate::digest::Digest;
use crate::metrics::UpstreamMetrics;
use crate::registry::flights::Flights;
use crate::registry::{Client, FetchError, Form};
use crate::store::home::Home;
use crate::stream::Key;

/// How many parts of manifests are remembered; each takes some hundred bytes.
const FACTS_MAX: usize = 300_000;
/// How many streams it is remembered of which images were asked for lately, and how many of each.
const ASKED_MAX: usize = 10_000;
const ASKED_OF_STREAM_MAX: usize = 8;
/// How many manifests it is remembered of that they could not be had.
const ABSENT_MAX: usize = 10_000;

/// What everything that can be pulled is made of.
pub struct Sources<H> {
    /// What streams allow.
    pub catalogue: Arc<Catalogue>,
    /// What current tags need, by which the storage was opened.
    pub needs: Arc<Needs>,
    /// What is kept.
    pub storage: Storage,
    /// The client of registries.
    pub client: Arc<Client>,
    /// Who has the credentials of namespaces.
    pub home: Arc<H>,
    /// What is counted.
    pub metrics: UpstreamMetrics,
}

/// Everything that can be pulled.
pub struct Content<H> {
    catalogue: Arc<Catalogue>,
    needs: Arc<Needs>,
    storage: Storage,
    upstream: Arc<Upstream<H>>,
    rights: Arc<Rights<H>>,
    fetches: Arc<Fetches<H>>,
    metrics: UpstreamMetrics,
    /// What manifests say, by digest: the same for all who may have them.
    facts: Recent<Digest, Arc<Facts>>,
    /// The images of a stream that were asked for lately, the last one first.
    asked: Recent<Key, Arc<[Digest]>>,
    /// Manifests that are being fetched.
    manifests: Flights<(Source, Digest), Result<Bytes, FetchError>>,
    /// Manifests that cannot be had, until when that is believed.
    absent: Recent<(Source, Digest), (Instant, FetchError)>,
}

impl<H: Home> Content<H> {
    /// Nothing is asked yet. The [`Fetcher`] has to run beside it.
    #[must_use]
    pub fn new(sources: Sources<H>, limits: Limits) -> (Self, Fetcher) {
        let Sources { catalogue, needs, storage, client, home, metrics } = sources;
        let upstream = Arc::new(Upstream::new(client, home, metrics.clone()));
        let rights = Arc::new(Rights::new(storage.clone(), Arc::clone(&upstream)));
        let (under_way, fetcher) = Fetches::new(Arc::clone(&upstream), Arc::clone(&rights), storage.clone(), limits);
        let content = Self {
            catalogue,
            needs,
            storage,
            upstream,
            rights,
            fetches: under_way,
            metrics,
            facts: Recent::new(FACTS_MAX),
            asked: Recent::new(ASKED_MAX),
            manifests: Flights::new(),
            absent: Recent::new(ABSENT_MAX),
        };
        (content, fetcher)
    }

    /// The image of the history that a version is or belongs to, and the digest that is meant.
    async fn image_of(&self, within: Within<'_>, version: &Version) -> Result<(Digest, Digest), PullError> {
        let unknown = |what: &str| {
            PullError::ManifestUnknown(format!("image stream {} has no {what} that can be pulled", within.key))
        };
        match version {
            Version::Tag(tag) => {
                let digest = within.pullable.tag(tag).ok_or_else(|| unknown(&format!("tag {tag}")))?;
                Ok((digest.clone(), digest.clone()))
            }
            Version::Digest(digest) if within.pullable.has(digest) => Ok((digest.clone(), digest.clone())),
            Version::Digest(digest) => {
                let found = self.find(within, Sought::Child(digest)).await?;
                Ok((found.ok_or_else(|| unknown(&format!("image {digest}")))?.image, digest.clone()))
            }
        }
    }

    /// The image of the history that a blob belongs to, and its size.
    async fn image_with(&self, within: Within<'_>, digest: &Digest) -> Result<Found, PullError> {
        let found = self.find(within, Sought::Blob(digest)).await?;
        found.ok_or_else(|| PullError::BlobUnknown(format!("no image of stream {} has a blob {digest}", within.key)))
    }

    /// An image was asked for: what belongs to it will be, too.
    fn is_asked(&self, key: &Key, image: &Digest) {
        let before = self.asked.get(key).unwrap_or_default();
        if before.first() == Some(image) {
            return;
        }
        let others = before.iter().filter(|other| *other != image).take(ASKED_OF_STREAM_MAX - 1);
        let asked = std::iter::once(image).chain(others).cloned().collect();
        self.asked.put(key.clone(), asked, 1);
    }

    /// The namespace may have a blob that is kept.
    async fn may_have(&self, within: Within<'_>, image: &Digest, digest: &Digest) -> bool {
        if self.rights.are_known(&within.key.namespace, digest) {
            return true;
        }
        // What cannot be looked at is as good as not kept.
        let Ok(Some(size)) = self.storage.size(digest).await else { return false };
        self.rights.may_have(&within.source(image), Form::Blob, (digest, size)).await
    }

    /// A part of a blob that is being fetched, and what cannot be written down of it from its source. `None` if it is not for
    /// this namespace.
    async fn fetched(
        &self,
        (fetch, turn): (&Fetch, usize),
        source: &Source,
        part: Part,
    ) -> Result<Option<Blob>, PullError> {
        if fetch.allows(turn).await? || self.rights.admit(fetch, turn, source.clone()).await {
            let (blob, reader) = fetch.blob(part, turn).await?;
            return Ok(Some(self.passage(source, (&fetch.wanted.digest, blob.size)).complete(blob, reader)));
        }
        Ok(None)
    }

    fn passage(&self, source: &Source, (digest, size): (&Digest, u64)) -> Passage<H> {
        Passage { upstream: Arc::clone(&self.upstream), source: source.clone(), digest: digest.clone(), size }
    }

    /// A part of a blob that is kept. What cannot be read there is as good as not kept.
    async fn kept_blob(&self, digest: &Digest, part: Part) -> Result<Option<Blob>, PullError> {
        match self.storage.read(digest, part).await {
            Ok(blob) => Ok(blob),
            Err(StorageError::Range { size, .. }) => Err(PullError::Range(size)),
            Err(error) => {
                tracing::warn!(%digest, %error, "a blob cannot be read from the storage");
                Ok(None)
            }
        }
    }
}

impl<H: Home> Contents for Content<H> {
    fn tags(&self, stream: &Key) -> Result<Vec<String>, PullError> {
        Ok(self.catalogue.get(stream)?.tags().map(str::to_owned).collect())
    }

    async fn manifest(&self, stream: &Key, version: &Version) -> Result<Manifest, PullError> {
        let pullable = self.catalogue.get(stream)?;
        let within = Within { key: stream, pullable: &pullable };
        let (image, digest) = self.image_of(within, version).await?;
        let (bytes, facts) = self.read(within, &image, &digest).await?;
        self.is_asked(stream, &image);
        Ok(Manifest { digest, media_type: facts.media_type.to_string(), bytes })
    }

    async fn blob(&self, stream: &Key, digest: &Digest, part: Part) -> Result<Blob, PullError> {
        let pullable = self.catalogue.get(stream)?;
        let within = Within { key: stream, pullable: &pullable };
        let Found { image, size } = self.image_with(within, digest).await?;
        let mut alone = false;
        loop {
            let ended = self.fetches.ended();
            if self.may_have(within, &image, digest).await
                && let Some(blob) = self.kept_blob(digest, part).await?
            {
                self.metrics.hit("blob");
                return Ok(blob);
            }
            let source = within.source(&image);
            let wanted = Wanted::new((digest, size), &source, alone);
            let Some((fetch, turn)) = self.fetches.join(wanted, &source.namespace, ended)? else { continue };
            match self.fetched((&fetch, turn), &source, part).await {
                Ok(Some(blob)) => return Ok(blob),
                Ok(None) => {}
                Err(PullError::Storage(why)) => {
                    tracing::debug!(%digest, why, "a blob is passed on, it cannot be written down");
                    return self.passage(&source, (digest, size)).part(part).await;
                }
                Err(error) => return Err(error),
            }
            // What another is sent is not for this namespace, as far as was said; it asks for itself.
            alone = true;
        }
    }

    async fn size(&self, stream: &Key, digest: &Digest) -> Result<u64, PullError> {
        let pullable = self.catalogue.get(stream)?;
        Ok(self.image_with(Within { key: stream, pullable: &pullable }, digest).await?.size)
    }
}

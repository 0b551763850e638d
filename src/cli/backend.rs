//! Where commands find and write image streams: a directory, or a cluster. What a write does is `stream::write`'s.

mod cluster;
mod directory;

use std::collections::BTreeSet;

use anyhow::Context as _;
use jiff::Timestamp;

pub(super) use cluster::ClusterBackend;
pub(super) use directory::DirectoryBackend;

use super::edit;
use super::target::{DryRun, Target, WaitArgs};
use crate::config::RegistryArgs;
use crate::controller::agenda::WHOLE_STREAM;
use crate::controller::settle::Others;
use crate::reference::Reference;
use crate::registry::{Address, Registries};
use crate::store::home::{Catalogue, Home as _, HomeError, Stored};
use crate::store::kube::{ClusterHome, Resource};
use crate::stream::history::observed;
use crate::stream::pullspec::RegistryHost;
use crate::stream::types::ImportMode;
use crate::stream::write::{self, Context};
use crate::stream::{ImageStream, Key, plan};

/// How often a stream that others write to meanwhile is read again.
const WRITES_MAX: usize = 10;
/// The API group of OpenShift's own streams.
const OPENSHIFT: &str = "image.openshift.io";

/// What was asked for is not there: an answer and no failure, told apart by the exit code.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Miss(pub(super) String);

/// What all commands on streams have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    /// Namespace of names that say none.
    pub namespace: String,
    /// API group of the streams, which messages name.
    pub group: String,
    /// Who writes.
    pub dry_run: DryRun,
    /// Import mode of tags that say none.
    pub default_mode: ImportMode,
    /// Which registries may be asked.
    pub registries: Registries,
}

/// A directory or a cluster.
pub(super) trait Backend {
    /// Where the streams are.
    type Home: Catalogue;

    fn home(&self) -> &Self::Home;

    fn common(&self) -> &Common;

    /// The status is written with the spec; elsewhere a controller writes it.
    fn writes_status(&self) -> bool;

    /// Waits until these tags of a stream have been imported, or imports them. What fails is told by their conditions.
    async fn import(&self, key: &Key, tags: &[String]) -> anyhow::Result<()>;

    /// How many Pods of a namespace run each image, by digest. `None` where nothing runs.
    async fn running(&self, namespace: &str) -> anyhow::Result<Option<std::collections::BTreeMap<String, usize>>>;

    /// How many files of streams cannot be read, so that it is not known what is in them. Elsewhere one that cannot be read
    /// is an error.
    fn unread(&self) -> usize {
        0
    }

    /// Sees what others made, moved or took away since. Where everything is asked for anew, there is nothing to do.
    async fn refresh(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// An object of the cluster, `None` if there is none.
    async fn object(&self, resource: Resource, key: &Key) -> anyhow::Result<Option<serde_json::Value>>;

    /// A label of a namespace, if there is one that may be read.
    async fn namespace_label(&self, namespace: &str, label: &str) -> Option<String>;

    /// The key of a stream of the command's namespace.
    fn key(&self, name: &str) -> Key {
        Key::new(&self.common().namespace, name)
    }

    /// A stream, or [`Miss`].
    async fn expect(&self, key: &Key) -> anyhow::Result<Stored> {
        let stored = self.home().read(key).await?;
        Ok(stored.ok_or_else(|| no_stream(key))?)
    }

    /// Takes a tag out of a stream, with its history. [`Miss`] if it is not there.
    async fn remove_tag(&self, key: &Key, tag: &str) -> anyhow::Result<()> {
        remove_from_stream(self, key, tag).await
    }

    /// The cluster, if it is one.
    fn cluster(&self) -> Option<&ClusterHome> {
        None
    }

    /// Writes are not even sent.
    fn pretends(&self) -> bool {
        match self.common().dry_run {
            DryRun::None => false,
            DryRun::Client => true,
            DryRun::Server => self.writes_status(),
        }
    }

    /// Changes a stream, or makes it: `change` gets it as it is now, perhaps several times. Gives the stream as it is then,
    /// or would be.
    async fn change(
        &self,
        key: &Key,
        change: impl Fn(Option<&ImageStream>) -> anyhow::Result<ImageStream>,
    ) -> anyhow::Result<ImageStream> {
        self.change_with(key, change, |_| ()).await
    }

    /// Like [`Backend::change`], and `finish` may change the status of what was made of the stream.
    async fn change_with(
        &self,
        key: &Key,
        change: impl Fn(Option<&ImageStream>) -> anyhow::Result<ImageStream>,
        finish: impl Fn(&mut ImageStream),
    ) -> anyhow::Result<ImageStream> {
        for _ in 0..WRITES_MAX {
            let before = self.home().read(key).await?;
            let mut wanted = change(before.as_ref().map(|stored| &stored.stream))?;
            wanted.metadata.namespace = Some(key.namespace.to_string());
            let asked = asked_again(&wanted);
            let mut after = self.written(wanted, before.as_ref()).await?;
            if let Some(before) = before.as_ref().filter(|_| !self.writes_status()) {
                after.status = before.stream.status.clone();
            }
            if self.common().dry_run != DryRun::Server {
                finish(&mut after);
            }
            if self.common().group == OPENSHIFT {
                // It counts for itself, and takes no other number than 0.
                let tags = after.spec.tags.iter_mut().filter(|tag| asked.contains(&tag.name));
                tags.for_each(|tag| tag.generation = Some(0));
            }
            if self.pretends() || before.as_ref().is_some_and(|before| before.stream == after) {
                return Ok(after);
            }
            let written = match &before {
                Some(before) => self.home().write(before, &after).await,
                None => self.home().create(&after).await,
            };
            match written {
                Ok(stored) => return Ok(stored.stream),
                Err(HomeError::Conflict(_) | HomeError::Exists(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        anyhow::bail!("image stream {key} is changed by others again and again; try once more")
    }

    /// What a write makes of a stream.
    async fn written(&self, wanted: ImageStream, before: Option<&Stored>) -> anyhow::Result<ImageStream> {
        let others = Others::of(self.home(), &wanted).await?;
        let common = self.common();
        let permits = |reference: &Reference<'_>| {
            Address::of(&reference.to_string()).is_ok_and(|address| common.registries.permit(&address.registry))
        };
        // Who serves the streams is told to servers, not to commands: what a server wrote stays.
        let is_served = |stream: &ImageStream| {
            let written = &stream.status.docker_image_repository;
            !written.is_empty() && *written != stream.spec.docker_image_repository
        };
        let registry_host = match before {
            Some(before) if is_served(&before.stream) => RegistryHost::Unknown,
            _ => RegistryHost::Nowhere,
        };
        let context = Context {
            now: Timestamp::now(),
            registry_host: &registry_host,
            default_mode: common.default_mode,
            permits: &permits,
            source: &|key| others.source(key),
        };
        Ok(match before {
            Some(before) => write::update(wanted, &before.stream, &context)?,
            None => write::create(wanted, &context)?,
        })
    }
}

/// Names of the tags that are to be imported again, changed or not.
fn asked_again(stream: &ImageStream) -> BTreeSet<String> {
    let asked = stream.spec.tags.iter().filter(|tag| tag.generation == Some(0));
    asked.map(|tag| tag.name.clone()).collect()
}

/// Takes a tag out of spec and status of its stream.
async fn remove_from_stream<B: Backend + ?Sized>(backend: &B, key: &Key, tag: &str) -> anyhow::Result<()> {
    let without = |before: Option<&ImageStream>| {
        let stream = before.ok_or_else(|| no_stream(key))?;
        Ok(edit::without(stream, tag).ok_or_else(|| {
            Miss(format!(
                "there is no tag {}:{tag} in namespace {}; see: pinstream describe is {0}",
                key.name, key.namespace
            ))
        })?)
    };
    backend.change_with(key, without, |stream| stream.status.tags.retain(|events| events.tag != tag)).await?;
    Ok(())
}

/// The error of a stream that is not there.
pub(super) fn no_stream(key: &Key) -> Miss {
    Miss(format!(
        "there is no image stream {} in namespace {}; make it with: pinstream create is {}",
        key.name, key.namespace, key.name
    ))
}

/// Tags that were asked for and have not been imported yet; [`WHOLE_STREAM`] for those that a repository will bring.
pub(super) fn pending(stream: &ImageStream) -> Vec<String> {
    let is_pending = |tag: &&crate::stream::types::SpecTag| {
        tag.from.is_some()
            && (tag.generation.unwrap_or_default() > observed(stream.status.tag(&tag.name))
                || plan::need(stream, tag) == Some(plan::Need::Asked))
    };
    let tags = stream.spec.tags.iter().filter(is_pending).map(|tag| tag.name.clone());
    let repository = plan::repository(stream).map(|_| WHOLE_STREAM.to_owned());
    repository.into_iter().chain(tags).collect()
}

/// A command on image streams.
pub(super) trait Verb {
    /// Does it.
    async fn on<B: Backend>(self, backend: &B) -> anyhow::Result<()>;
}

/// How a backend is opened.
#[derive(Clone, Debug, Default)]
pub(super) struct Opening {
    /// The command writes nothing, so that a directory need not be writable.
    pub only_reads: bool,
    pub dry_run: DryRun,
    /// Whether imports are waited for, and how long.
    pub wait: WaitArgs,
    /// How registries are asked, if the command imports.
    pub registry: Option<RegistryArgs>,
}

impl Opening {
    /// For a command that only reads.
    pub(super) fn to_read() -> Self {
        Self { only_reads: true, ..Self::default() }
    }
}

/// Runs a command where the flags say.
pub(super) fn run<V: Verb>(target: &Target, opening: &Opening, verb: V) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let result = runtime.block_on(async {
        match &target.streams {
            Some(root) => verb.on(&DirectoryBackend::open(root, target, opening).await?).await,
            None => verb.on(&ClusterBackend::open(target, opening).await?).await,
        }
    });
    runtime.shutdown_background();
    result
}

//! What can be pulled: of each stream the images of its tags and of their history, and where each came from.
//!
//! Made from whole streams as they change. Knows nothing of what is kept, and asks nobody.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use super::PullError;
use crate::digest::Digest;
use crate::reference::Reference;
use crate::registry::Address;
use crate::store::home::Change;
use crate::stream::plan::INSECURE;
use crate::stream::{ImageStream, Key};

/// All streams, as they are now. Each changes as a whole.
#[derive(Debug)]
pub struct Catalogue {
    own_registry: Option<String>,
    state: RwLock<State>,
    is_loaded: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    streams: HashMap<Key, Arc<Pullable>>,
    /// Of how many tags an image is the newest.
    current: HashMap<Digest, u32>,
    /// Counts the changes.
    version: u64,
}

/// What can be pulled of one stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pullable {
    /// Which image each tag has, by name.
    tags: Box<[(Box<str>, u32)]>,
    /// Images and origins, the newest of each tag first. An image with several origins stands there several times.
    images: Box<[(Digest, Option<u32>)]>,
    origins: Box<[Origin]>,
}

/// Where images come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The repository as it was written.
    pub repository: Box<str>,
    /// Bad TLS and plain HTTP are accepted.
    pub insecure: bool,
}

impl Catalogue {
    /// Nothing is known yet. `own_host` is the host of this registry, which is never asked itself.
    #[must_use]
    pub fn new(own_host: Option<&str>) -> Self {
        let own_registry = own_host.and_then(registry_of_host);
        Self { own_registry, state: RwLock::default(), is_loaded: watch::Sender::new(false) }
    }

    /// Takes in changes as they come. Ends with those who tell them.
    pub async fn follow(&self, mut changes: UnboundedReceiver<Change>) {
        while let Some(change) = changes.recv().await {
            self.take(change);
        }
    }

    /// Takes in a change.
    pub fn take(&self, change: Change) {
        match change {
            Change::Applied(stream) => {
                let pullable = Arc::new(Pullable::of(&stream, self.own_registry.as_deref()));
                self.write().put(stream.key(), pullable);
            }
            Change::Deleted(key) => self.write().delete(&key),
            // Those that are gone are told one by one.
            Change::Listed => {
                self.is_loaded.send_replace(true);
            }
            Change::Back => {}
        }
    }

    /// Every stream was told at least once.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        *self.is_loaded.borrow()
    }

    /// Waits until every stream was told once.
    pub async fn loaded(&self) {
        let _ = self.is_loaded.subscribe().wait_for(|is_loaded| *is_loaded).await;
    }

    /// Another number after each change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.read().version
    }

    /// What can be pulled of a stream.
    ///
    /// # Errors
    /// If there is no such stream, or none is known yet.
    pub fn get(&self, key: &Key) -> Result<Arc<Pullable>, PullError> {
        if !self.is_loaded() {
            return Err(PullError::NotLoaded);
        }
        self.read().streams.get(key).cloned().ok_or_else(|| PullError::NameUnknown(key.clone()))
    }

    /// It is the newest image of a tag.
    #[must_use]
    pub fn is_current(&self, digest: &Digest) -> bool {
        self.read().current.contains_key(digest)
    }

    /// The newest images of all tags.
    #[must_use]
    pub fn current(&self) -> Vec<Digest> {
        self.read().current.keys().cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, key: Key, pullable: Arc<Pullable>) {
        for digest in pullable.newest() {
            *self.current.entry(digest.clone()).or_default() += 1;
        }
        self.version += 1;
        if let Some(before) = self.streams.insert(key, pullable) {
            self.let_go(&before);
        }
    }

    fn delete(&mut self, key: &Key) {
        self.version += 1;
        if let Some(before) = self.streams.remove(key) {
            self.let_go(&before);
        }
    }

    fn let_go(&mut self, pullable: &Pullable) {
        for digest in pullable.newest() {
            if let Some(count) = self.current.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    self.current.remove(digest);
                }
            }
        }
    }
}

impl Pullable {
    /// What can be pulled of this stream. Nothing comes from `own_registry`.
    #[must_use]
    pub fn of(stream: &ImageStream, own_registry: Option<&str>) -> Self {
        let mut found = Builder::default();
        let is_insecure = stream.metadata.annotations.get(INSECURE).is_some_and(|value| value == "true");
        let depth = stream.status.tags.iter().map(|events| events.items.len()).max().unwrap_or_default();
        for age in 0..depth {
            for events in &stream.status.tags {
                let Some(item) = events.items.get(age) else { continue };
                let Ok(digest) = item.image.parse::<Digest>() else { continue };
                let tag = stream.spec.tag(&events.tag);
                let insecure = is_insecure || tag.is_some_and(|tag| tag.import_policy.insecure);
                let repository = repository(&item.docker_image_reference)
                    .filter(|repository| own_registry.is_none() || registry(repository).as_deref() != own_registry);
                let origin = repository.map(|repository| found.origin(repository, insecure));
                let image = found.image(digest, origin);
                if age == 0 {
                    found.tags.insert(events.tag.as_str().into(), image);
                }
            }
        }
        Self { tags: found.tags.into_iter().collect(), images: found.images.into(), origins: found.origins.into() }
    }

    /// The tags that have an image, sorted.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.tags.iter().map(|(name, _)| &**name)
    }

    /// The image of a tag.
    #[must_use]
    pub fn tag(&self, name: &str) -> Option<&Digest> {
        let found = self.tags.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(self.image(self.tags[found].1))
    }

    /// It is in the history of a tag.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.images.iter().any(|(known, _)| known == digest)
    }

    /// All images, each once, the newest of each tag first.
    #[must_use]
    pub fn images(&self) -> Vec<&Digest> {
        let mut seen = HashSet::with_capacity(self.images.len());
        self.images.iter().map(|(digest, _)| digest).filter(|digest| seen.insert(*digest)).collect()
    }

    /// Where an image comes from, what needs no insecure way first.
    #[must_use]
    pub fn origins(&self, image: &Digest) -> Vec<Origin> {
        let of_image = self.images.iter().filter(|(known, _)| known == image);
        let mut origins: Vec<Origin> =
            of_image.filter_map(|(_, origin)| self.origins.get(usize::try_from((*origin)?).ok()?)).cloned().collect();
        origins.sort_by_key(|origin| origin.insecure);
        origins
    }

    fn newest(&self) -> impl Iterator<Item = &Digest> {
        self.tags.iter().map(|(_, image)| self.image(*image))
    }

    fn image(&self, index: u32) -> &Digest {
        &self.images[index as usize].0
    }
}

/// A stream as it is reduced.
#[derive(Default)]
struct Builder {
    tags: BTreeMap<Box<str>, u32>,
    images: Vec<(Digest, Option<u32>)>,
    places: HashMap<(Digest, Option<u32>), u32>,
    origins: Vec<Origin>,
}

impl Builder {
    /// Of one repository that is written with and without `insecure` the insecure way is allowed.
    fn origin(&mut self, repository: &str, insecure: bool) -> u32 {
        let known = self.origins.iter().position(|origin| &*origin.repository == repository);
        let index = known.unwrap_or_else(|| {
            self.origins.push(Origin { repository: repository.into(), insecure: false });
            self.origins.len() - 1
        });
        self.origins[index].insecure |= insecure;
        number(index)
    }

    fn image(&mut self, digest: Digest, origin: Option<u32>) -> u32 {
        let next = number(self.images.len());
        *self.places.entry((digest, origin)).or_insert_with_key(|(digest, origin)| {
            self.images.push((digest.clone(), *origin));
            next
        })
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("an object of a few MiB has fewer items")
}

/// `quay.io/a/b` of `quay.io/a/b:1@sha256:…`.
fn repository(pull_spec: &str) -> Option<&str> {
    let parsed = Reference::parse(pull_spec).ok().filter(|parsed| !parsed.name.is_empty())?;
    let behind = parsed.tag.map_or(0, |tag| tag.len() + 1) + parsed.digest.map_or(0, |digest| digest.len() + 1);
    pull_spec.get(..pull_spec.len() - behind)
}

/// The registry of a repository, the same for all spellings.
fn registry(repository: &str) -> Option<String> {
    let registry = Address::of(repository).ok()?.registry;
    Some(registry.strip_suffix(":443").unwrap_or(&registry).to_owned())
}

fn registry_of_host(host: &str) -> Option<String> {
    registry(&format!("{host}/name"))
}

#[cfg(test)]
mod tests;

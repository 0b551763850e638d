//! The streams of a namespace, found by the digests in the histories of their tags. Pure.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::image::DigestKey;
use crate::stream::ImageStream;
use crate::stream::history::observed;
use crate::stream::plan;

/// Where an image stands in the history of a tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// How many newer images the tag has had since. 0 if it points to it.
    pub steps: usize,
    /// Name of the stream.
    pub stream: Arc<str>,
    /// The tag.
    pub tag: Arc<str>,
    /// When the next newer image came.
    pub since: Option<Timestamp>,
}

/// What there is to say of streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// All of them.
    pub streams: usize,
    /// Those of whose images none is run by its digest.
    pub unused: usize,
    /// Tags whose newest import failed.
    pub failing: usize,
    /// Tags that were asked for and never imported, nor was it tried.
    pub pending: usize,
}

impl Stock {
    pub(super) fn with(self, other: Self) -> Self {
        Self {
            streams: self.streams + other.streams,
            unused: self.unused + other.unused,
            failing: self.failing + other.failing,
            pending: self.pending + other.pending,
        }
    }

    fn without(self, part: Self) -> Self {
        Self {
            streams: self.streams - part.streams,
            unused: self.unused - part.unused,
            failing: self.failing - part.failing,
            pending: self.pending - part.pending,
        }
    }
}

/// The streams of a namespace.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    streams: HashMap<Arc<str>, Stream>,
    /// Streams that have an image in the history of a tag.
    holders: HashMap<DigestKey, Vec<Arc<str>>>,
    /// Of all streams together.
    stock: Stock,
}

/// A stream, reduced to its histories.
#[derive(Debug)]
struct Stream {
    tags: Box<[(Arc<str>, History)]>,
    repositories: Repositories,
    failing: usize,
    pending: usize,
    is_used: bool,
}

/// The images that a tag has pointed to, newest first.
type History = Box<[Event]>;

/// An image that a tag has pointed to.
#[derive(Debug)]
struct Event {
    digest: DigestKey,
    created: Option<Timestamp>,
}

/// Under which names a registry serves the images of a stream.
#[derive(Debug)]
pub(super) struct Repositories([Box<str>; 2]);

impl Repositories {
    /// One of them is this.
    pub(super) fn are(&self, repository: &str) -> bool {
        self.0.iter().any(|own| **own == *repository)
    }
}

impl Stream {
    fn new(stream: &ImageStream) -> Self {
        let tag = |events: &crate::stream::types::TagEvents| {
            let items = events.items.iter().filter(|item| !item.image.is_empty());
            let event = |item: &crate::stream::types::TagEvent| Event {
                digest: DigestKey::of(&item.image),
                created: item.created,
            };
            (Arc::from(events.tag.as_str()), items.map(event).collect())
        };
        let is_pending = |tag: &&crate::stream::types::SpecTag| {
            let events = stream.status.tag(&tag.name);
            let is_tried = events.is_some_and(|events| events.failure().is_some() || !events.items.is_empty());
            plan::is_importable(tag) && (!is_tried || tag.generation.unwrap_or_default() > observed(events))
        };
        Self {
            tags: stream.status.tags.iter().map(tag).collect(),
            repositories: Repositories([
                stream.status.docker_image_repository.as_str().into(),
                stream.status.public_docker_image_repository.as_str().into(),
            ]),
            failing: stream.status.tags.iter().filter(|events| events.failure().is_some()).count(),
            pending: stream.spec.tags.iter().filter(is_pending).count(),
            is_used: false,
        }
    }

    fn stock(&self) -> Stock {
        let (failing, pending) = (self.failing, self.pending);
        Stock { streams: 1, unused: usize::from(!self.is_used), failing, pending }
    }

    fn digests(&self) -> impl Iterator<Item = &DigestKey> {
        self.tags.iter().flat_map(|(_, events)| events.iter().map(|event| &event.digest))
    }

    /// The place nearest to the newest image of a tag.
    fn place(&self, name: &Arc<str>, digest: &DigestKey) -> Option<Place> {
        let places = self.tags.iter().filter_map(|(tag, events)| {
            let steps = events.iter().position(|event| event.digest == *digest)?;
            let since = steps.checked_sub(1).and_then(|newer| events.get(newer)?.created);
            Some(Place { steps, stream: Arc::clone(name), tag: Arc::clone(tag), since })
        });
        places.min()
    }
}

impl Shelf {
    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Adds a stream that is not there, and gives the digests it has.
    pub(super) fn insert(&mut self, stream: &ImageStream) -> Vec<DigestKey> {
        let name: Arc<str> = stream.metadata.name.as_str().into();
        let stream = Stream::new(stream);
        let mut digests: Vec<_> = stream.digests().cloned().collect();
        digests.sort_unstable();
        digests.dedup();
        for digest in &digests {
            let holders = self.holders.entry(digest.clone()).or_insert_with(|| Vec::with_capacity(1));
            holders.push(Arc::clone(&name));
        }
        self.stock = self.stock.with(stream.stock());
        self.streams.insert(name, stream);
        digests
    }

    /// Takes a stream out, and gives the digests it had. `None` if it is not there.
    pub(super) fn remove(&mut self, name: &str) -> Option<Vec<DigestKey>> {
        let stream = self.streams.remove(name)?;
        self.stock = self.stock.without(stream.stock());
        let digests: Vec<_> = stream.digests().cloned().collect();
        for digest in &digests {
            if let Some(holders) = self.holders.get_mut(digest) {
                holders.retain(|holder| **holder != *name);
                if holders.is_empty() {
                    self.holders.remove(digest);
                }
            }
        }
        Some(digests)
    }

    /// Where an image stands best in all streams.
    pub(super) fn place(&self, digest: &DigestKey) -> Option<Place> {
        let holders = self.holders.get(digest)?;
        holders.iter().filter_map(|name| self.streams.get(name)?.place(name, digest)).min()
    }

    /// Where an image stands in a stream that is served under that repository.
    pub(super) fn served_place(&self, digest: &DigestKey, stream: &str, repository: &str) -> Option<Place> {
        let (name, stream) = self.streams.get_key_value(stream)?;
        if !stream.repositories.are(repository) {
            return None;
        }
        stream.place(name, digest)
    }

    /// Says anew of the streams that have one of these images whether one of their images is used.
    pub(super) fn mark(&mut self, digests: &[DigestKey], is_used: impl Fn(&DigestKey, &str, &Repositories) -> bool) {
        let holders: BTreeSet<_> = digests.iter().filter_map(|digest| self.holders.get(digest)).flatten().collect();
        for name in holders {
            if let Some(stream) = self.streams.get_mut(name) {
                let is_used = stream.digests().any(|digest| is_used(digest, name, &stream.repositories));
                self.stock = self.stock.without(stream.stock());
                stream.is_used = is_used;
                self.stock = self.stock.with(stream.stock());
            }
        }
    }

    pub(super) fn stock(&self) -> Stock {
        self.stock
    }

    /// Streams of whose images none is used.
    pub(super) fn unused(&self) -> impl Iterator<Item = &str> {
        self.streams.iter().filter(|(_, stream)| !stream.is_used).map(|(name, _)| &**name)
    }
}

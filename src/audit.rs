//! How far what runs is from its image streams: which containers run the newest image of a tag, an older one, one that
//! no stream knows, or no certain one. Pure, and kept up as Pods and streams change.
//!
//! Containers of a namespace with one image are one use of it, so a change of a stream costs what its images and their
//! uses cost, however many Pods there are. Must not know where Pods and streams come from.

mod image;
mod shelf;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

pub use shelf::{Place, Stock};

use crate::stream::{ImageStream, Key};
use image::{DigestKey, Image};
use shelf::Shelf;

/// What is said of a container's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A tag points to it.
    Current(Place),
    /// A tag pointed to it, and points to a newer one.
    Behind(Place),
    /// It is pinned to a digest that no stream knows.
    Unknown,
    /// It has a registry or a namespace and no digest, so that it can change.
    Mutable,
    /// It is a short name that no stream has turned into a digest, or no image reference at all.
    Unresolved,
}

impl Standing {
    /// Every state, from best to worst.
    pub const STATES: [&'static str; 5] = ["current", "behind", "unknown", "mutable", "unresolved"];

    /// The state in one word.
    #[must_use]
    pub fn state(&self) -> &'static str {
        Self::STATES[self.rank()]
    }

    /// Where the state is among [`Self::STATES`].
    #[must_use]
    pub fn rank(&self) -> usize {
        match self {
            Self::Current(_) => 0,
            Self::Behind(_) => 1,
            Self::Unknown => 2,
            Self::Mutable => 3,
            Self::Unresolved => 4,
        }
    }

    /// Where a stream knows the image.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Current(place) | Self::Behind(place) => Some(place),
            _ => None,
        }
    }
}

/// Sums of a namespace, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Containers by [`Standing::STATES`].
    pub containers: [usize; 5],
    /// How many steps the container that is furthest behind is behind.
    pub steps: usize,
    /// Since when the container that is behind longest is.
    pub behind_since: Option<Timestamp>,
}

impl Sums {
    /// All containers.
    #[must_use]
    pub fn total(&self) -> usize {
        self.containers.iter().sum()
    }

    /// Adds those of another namespace.
    pub fn add(&mut self, other: &Self) {
        self.containers.iter_mut().zip(other.containers).for_each(|(own, other)| *own += other);
        self.steps = self.steps.max(other.steps);
        self.behind_since = self.behind_since.into_iter().chain(other.behind_since).min();
    }

    fn look_back(&mut self, standing: &Standing) {
        if let Standing::Behind(place) = standing {
            self.steps = self.steps.max(place.steps);
            self.behind_since = self.behind_since.into_iter().chain(place.since).min();
        }
    }
}

/// Pods and image streams, and how the one stands to the other.
#[derive(Debug, Default)]
pub struct Audit {
    namespaces: HashMap<Arc<str>, Namespace>,
}

/// What is in a namespace.
#[derive(Debug, Default)]
struct Namespace {
    pods: HashMap<Box<str>, Box<[Arc<Image>]>>,
    uses: HashMap<Arc<Image>, Use>,
    containers: [usize; 5],
    shelf: Shelf,
    /// Who runs images by digest that streams of this namespace may have: its own, and those who name a stream of it.
    visitors: HashMap<DigestKey, Vec<Visitor>>,
}

/// Containers of a namespace that have one image.
#[derive(Debug)]
struct Use {
    count: usize,
    standing: Standing,
}

/// An image, and the namespace that uses it.
type Visitor = (Arc<str>, Arc<Image>);

impl Namespace {
    fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.shelf.is_empty() && self.visitors.is_empty()
    }

    fn sums(&self) -> Sums {
        let mut sums = Sums { containers: self.containers, ..Sums::default() };
        if self.containers[1] > 0 {
            self.uses.values().for_each(|used| sums.look_back(&used.standing));
        }
        sums
    }
}

impl Audit {
    /// A Pod is there, new or changed, with the images of its containers as they are written.
    pub fn apply_pod<'i>(&mut self, key: &Key, images: impl IntoIterator<Item = &'i str>) {
        let images: Vec<Image> = images.into_iter().map(Image::read).collect();
        let known = self.namespaces.get(&*key.namespace).and_then(|namespace| namespace.pods.get(&*key.name));
        if known.is_some_and(|known| known.iter().map(|image| &**image).eq(&images)) {
            return;
        }
        self.delete_pod(key);
        let name = self.enter(&key.namespace);
        let used: Box<[_]> = images.into_iter().map(|image| self.begin_use(&name, image)).collect();
        self.namespaces.entry(name).or_default().pods.insert(key.name.clone(), used);
    }

    /// A Pod is gone, or has ended.
    pub fn delete_pod(&mut self, key: &Key) {
        let Some((name, _)) = self.namespaces.get_key_value(&*key.namespace) else { return };
        let name = Arc::clone(name);
        let pods = self.namespaces.get_mut(&name).map(|namespace| &mut namespace.pods);
        let Some(images) = pods.and_then(|pods| pods.remove(&*key.name)) else { return };
        for image in &images {
            self.end_use(&name, image);
        }
        self.tidy(&name);
    }

    /// Every Pod that is known, in no order.
    pub fn pods(&self) -> impl Iterator<Item = Key> {
        let keys = |(name, namespace): (&'_ Arc<str>, &'_ Namespace)| {
            namespace.pods.keys().map(|pod| Key::new(name, pod)).collect::<Vec<_>>()
        };
        self.namespaces.iter().flat_map(keys)
    }

    /// A stream is there, new or changed.
    pub fn apply_stream(&mut self, stream: &ImageStream) {
        let key = stream.key();
        let name = self.enter(&key.namespace);
        let own = &mut self.namespaces.entry(Arc::clone(&name)).or_default().shelf;
        let mut touched = own.remove(&key.name).unwrap_or_default();
        touched.extend(own.insert(stream));
        self.judge_again(&name, touched);
    }

    /// A stream is gone.
    pub fn delete_stream(&mut self, key: &Key) {
        let Some((name, _)) = self.namespaces.get_key_value(&*key.namespace) else { return };
        let name = Arc::clone(name);
        let own = self.namespaces.get_mut(&name).map(|namespace| &mut namespace.shelf);
        let Some(touched) = own.and_then(|own| own.remove(&key.name)) else { return };
        self.judge_again(&name, touched);
        self.tidy(&name);
    }

    /// What is said of an image in a namespace.
    #[must_use]
    pub fn standing(&self, namespace: &str, image: &str) -> Standing {
        self.judge(namespace, &Image::read(image))
    }

    /// Sums of all namespaces that have containers, in no order.
    pub fn sums(&self) -> impl Iterator<Item = (&str, Sums)> {
        let busy = self.namespaces.iter().filter(|(_, namespace)| !namespace.pods.is_empty());
        busy.map(|(name, namespace)| (&**name, namespace.sums()))
    }

    /// What there is to say of all streams.
    #[must_use]
    pub fn stock(&self) -> Stock {
        self.namespaces.values().fold(Stock::default(), |all, namespace| all.with(namespace.shelf.stock()))
    }

    /// Streams of whose images no container runs one by its digest, in order.
    #[must_use]
    pub fn unused(&self) -> Vec<Key> {
        let idle = |(name, namespace): (&'_ Arc<str>, &'_ Namespace)| {
            namespace.shelf.unused().map(|stream| Key::new(name, stream)).collect::<Vec<_>>()
        };
        let mut unused: Vec<_> = self.namespaces.iter().flat_map(idle).collect();
        unused.sort();
        unused
    }

    /// The shared name of a namespace, whether anything is in it or not.
    fn enter(&self, name: &str) -> Arc<str> {
        self.namespaces.get_key_value(name).map_or_else(|| Arc::from(name), |(known, _)| Arc::clone(known))
    }

    /// Forgets a namespace that nothing is in.
    fn tidy(&mut self, name: &str) {
        if self.namespaces.get(name).is_some_and(Namespace::is_empty) {
            self.namespaces.remove(name);
        }
    }

    fn judge(&self, namespace: &str, image: &Image) -> Standing {
        let digest = match image {
            Image::Pinned { digest, .. } => digest,
            Image::Mutable => return Standing::Mutable,
            Image::Unresolved => return Standing::Unresolved,
        };
        let streams_of = |namespace: &str| self.namespaces.get(namespace).map(|namespace| &namespace.shelf);
        let own = streams_of(namespace).and_then(|streams| streams.place(digest));
        let served = || {
            let (home, stream, repository) = image.home()?;
            streams_of(home)?.served_place(digest, stream, repository)
        };
        match own.or_else(served) {
            Some(place) if place.steps == 0 => Standing::Current(place),
            Some(place) => Standing::Behind(place),
            None => Standing::Unknown,
        }
    }

    /// One more container of a namespace has the image.
    fn begin_use(&mut self, name: &Arc<str>, image: Image) -> Arc<Image> {
        let namespace = self.namespaces.entry(Arc::clone(name)).or_default();
        if let Some((image, _)) = namespace.uses.get_key_value(&image) {
            let image = Arc::clone(image);
            if let Some(used) = namespace.uses.get_mut(&image) {
                used.count += 1;
                namespace.containers[used.standing.rank()] += 1;
            }
            return image;
        }
        let (standing, image) = (self.judge(name, &image), Arc::new(image));
        let namespace = self.namespaces.entry(Arc::clone(name)).or_default();
        namespace.containers[standing.rank()] += 1;
        namespace.uses.insert(Arc::clone(&image), Use { count: 1, standing });
        for (home, digest) in homes(name, &image) {
            let home = self.enter(home);
            let visited = self.namespaces.entry(Arc::clone(&home)).or_default();
            visited.visitors.entry(digest.clone()).or_default().push((Arc::clone(name), Arc::clone(&image)));
            self.mark(&home, digest);
        }
        image
    }

    /// One container less has the image.
    fn end_use(&mut self, name: &str, image: &Arc<Image>) {
        let Some(namespace) = self.namespaces.get_mut(name) else { return };
        let Some(used) = namespace.uses.get_mut(image) else { return };
        used.count -= 1;
        namespace.containers[used.standing.rank()] -= 1;
        if used.count > 0 {
            return;
        }
        namespace.uses.remove(image);
        for (home, digest) in homes(name, image) {
            let Some(visited) = self.namespaces.get_mut(home) else { continue };
            if let Some(visitors) = visited.visitors.get_mut(digest) {
                visitors.retain(|(visitor, used)| **visitor != *name || used != image);
                if visitors.is_empty() {
                    visited.visitors.remove(digest);
                }
            }
            self.mark(home, digest);
            if home != name {
                self.tidy(home);
            }
        }
    }

    /// Judges whoever runs one of these images of streams of a namespace.
    fn judge_again(&mut self, name: &str, mut touched: Vec<DigestKey>) {
        touched.sort_unstable();
        touched.dedup();
        for digest in touched {
            let visitors = self.namespaces.get(name).and_then(|namespace| namespace.visitors.get(&digest));
            for (visitor, image) in visitors.cloned().unwrap_or_default() {
                let standing = self.judge(&visitor, &image);
                let Some(namespace) = self.namespaces.get_mut(&visitor) else { continue };
                let Some(used) = namespace.uses.get_mut(&image) else { continue };
                namespace.containers[used.standing.rank()] -= used.count;
                namespace.containers[standing.rank()] += used.count;
                used.standing = standing;
            }
            self.mark(name, &digest);
        }
    }

    /// Says of the streams of a namespace that have an image whether they are used.
    fn mark(&mut self, name: &str, digest: &DigestKey) {
        let Some(namespace) = self.namespaces.get_mut(name) else { return };
        let Namespace { shelf, visitors, .. } = namespace;
        shelf.mark(digest, |digest, stream, repositories| {
            visitors.get(digest).into_iter().flatten().any(|(visitor, image)| {
                **visitor == *name
                    || image.home().is_some_and(|(_, named, from)| named == stream && repositories.are(from))
            })
        });
    }
}

/// The namespaces whose streams may have an image that is used in one, each with its digest.
fn homes<'i>(name: &'i str, image: &'i Image) -> impl Iterator<Item = (&'i str, &'i DigestKey)> {
    let digest = if let Image::Pinned { digest, .. } = image { Some(digest) } else { None };
    let other = image.home().map(|(home, ..)| home).filter(|home| *home != name);
    digest.into_iter().flat_map(move |digest| [name].into_iter().chain(other).map(move |home| (home, digest)))
}

#[cfg(test)]
mod tests;

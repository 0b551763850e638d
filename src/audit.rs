//! How far what runs is from its image streams: which containers run the newest image of a tag, an older one, one that
//! no stream knows, or no certain one. Pure, and kept up as Pods and streams change.
//!
//! A change of a stream costs what its images and those who use them cost, however many Pods there are. Must not know where
//! Pods and streams come from.

mod image;
mod namespace;
mod shelf;
mod sums;

use std::collections::HashMap;
use std::slice;
use std::sync::Arc;

pub use shelf::{Place, Stock};
pub use sums::{Counts, Sums};

use crate::stream::{ImageStream, Key};
use image::{DigestKey, Image};
use namespace::Namespace;

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

/// Pods and image streams, and how the one stands to the other.
#[derive(Debug, Default)]
pub struct Audit {
    namespaces: HashMap<Arc<str>, Namespace>,
}

/// A namespace, and an image that it uses.
type Visitor = (Arc<str>, Arc<Image>);

impl Audit {
    /// A Pod is there, new or changed, with the images of its containers as they are written.
    pub fn apply_pod<'i>(&mut self, key: &Key, images: impl IntoIterator<Item = &'i str>) {
        let images: Vec<Image> = images.into_iter().map(Image::read).collect();
        let known = self.namespaces.get(&*key.namespace).and_then(|namespace| namespace.images(&key.name));
        if known.is_some_and(|known| known.iter().map(|image| &**image).eq(&images)) {
            return;
        }
        self.delete_pod(key);
        let name = self.enter(&key.namespace);
        let used: Vec<_> = images.into_iter().map(|image| self.begin_use(&name, image)).collect();
        self.namespaces.entry(name).or_default().add_pod(key.name.clone(), &used);
    }

    /// A Pod is gone, or has ended.
    pub fn delete_pod(&mut self, key: &Key) {
        let Some((name, _)) = self.namespaces.get_key_value(&*key.namespace) else { return };
        let name = Arc::clone(name);
        let namespace = self.namespaces.get_mut(&name);
        let Some(images) = namespace.and_then(|namespace| namespace.remove_pod(&key.name)) else { return };
        for image in &*images {
            self.end_use(&name, image);
        }
        self.tidy(&name);
    }

    /// Every Pod that is known, in no order.
    pub fn pods(&self) -> impl Iterator<Item = Key> {
        let keys = |(name, namespace): (&'_ Arc<str>, &'_ Namespace)| {
            namespace.pods().map(|pod| Key::new(name, pod)).collect::<Vec<_>>()
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
        let busy = self.namespaces.iter().filter(|(_, namespace)| namespace.has_pods());
        busy.map(|(name, namespace)| (&**name, namespace.sums()))
    }

    /// What there is to say of all streams.
    #[must_use]
    pub fn stock(&self) -> Stock {
        self.namespaces.values().fold(Stock::default(), |all, namespace| all.with(namespace.stock()))
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
        let image = match self.namespaces.entry(Arc::clone(name)).or_default().join_use(image) {
            Ok(known) => return known,
            Err(image) => Arc::new(image),
        };
        let standing = self.judge(name, &image);
        self.namespaces.entry(Arc::clone(name)).or_default().begin_use(Arc::clone(&image), standing);
        for (home, digest) in homes(name, &image) {
            let home = self.enter(home);
            let visited = self.namespaces.entry(Arc::clone(&home)).or_default();
            visited.visitors.entry(digest.clone()).or_default().insert((Arc::clone(name), Arc::clone(&image)));
            visited.mark(&home, slice::from_ref(digest));
        }
        image
    }

    /// One container less of a namespace has the image.
    fn end_use(&mut self, name: &Arc<str>, image: &Arc<Image>) {
        let is_over = self.namespaces.get_mut(name).is_some_and(|namespace| namespace.leave_use(image));
        if !is_over {
            return;
        }
        let visitor = (Arc::clone(name), Arc::clone(image));
        for (home, digest) in homes(name, image) {
            let Some(visited) = self.namespaces.get_mut(home) else { continue };
            if let Some(visitors) = visited.visitors.get_mut(digest) {
                visitors.remove(&visitor);
                if visitors.is_empty() {
                    visited.visitors.remove(digest);
                }
            }
            visited.mark(home, slice::from_ref(digest));
            if home != &**name {
                self.tidy(home);
            }
        }
    }

    /// Judges whoever runs one of these images of streams of a namespace.
    fn judge_again(&mut self, name: &str, mut touched: Vec<DigestKey>) {
        touched.sort_unstable();
        touched.dedup();
        for digest in &touched {
            let visitors = self.namespaces.get(name).and_then(|namespace| namespace.visitors.get(digest));
            for (visitor, image) in visitors.cloned().unwrap_or_default() {
                let standing = self.judge(&visitor, &image);
                if let Some(namespace) = self.namespaces.get_mut(&visitor) {
                    namespace.judge(&image, standing);
                }
            }
        }
        if let Some(namespace) = self.namespaces.get_mut(name) {
            namespace.mark(name, &touched);
        }
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

//! What is in a namespace: Pods by their images, who uses which image, and its streams. Pure.
//!
//! Containers with one image are one use of it, and Pods with the same images one crew, so that a change of what is said
//! of an image costs what its crews cost, however many Pods they have. Must not know of other namespaces.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::image::{DigestKey, Image};
use super::shelf::{Shelf, Stock};
use super::sums::{Counts, Sums};
use super::{Standing, Visitor};

/// The images of a Pod's containers, in their order.
pub(super) type Images = Arc<[Arc<Image>]>;

/// What is in a namespace.
#[derive(Debug, Default)]
pub(super) struct Namespace {
    pods: HashMap<Box<str>, Images>,
    crews: HashMap<Images, Crew>,
    uses: HashMap<Arc<Image>, Use>,
    /// Containers by state.
    containers: Counts,
    /// Pods by the worst state of their containers.
    worst: Counts,
    pub(super) shelf: Shelf,
    /// Who runs images by digest that streams of this namespace may have: its own, and those who name a stream of it.
    pub(super) visitors: HashMap<DigestKey, HashSet<Visitor>>,
}

/// Pods that have the same images.
#[derive(Debug)]
struct Crew {
    count: usize,
    /// The rank of the worst image, 0 if there are none.
    rank: usize,
}

/// Containers that have one image.
#[derive(Debug)]
struct Use {
    count: usize,
    standing: Standing,
    crews: HashSet<Images>,
}

impl Namespace {
    pub(super) fn is_empty(&self) -> bool {
        !self.has_pods() && self.shelf.is_empty() && self.visitors.is_empty()
    }

    pub(super) fn has_pods(&self) -> bool {
        !self.pods.is_empty()
    }

    /// Names of all Pods, in no order.
    pub(super) fn pods(&self) -> impl Iterator<Item = &str> {
        self.pods.keys().map(|name| &**name)
    }

    /// The images of a Pod.
    pub(super) fn images(&self, pod: &str) -> Option<&[Arc<Image>]> {
        self.pods.get(pod).map(|images| &**images)
    }

    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums { containers: self.containers, pods: self.worst, ..Sums::default() };
        if self.containers[1] > 0 {
            self.uses.values().for_each(|used| sums.look_back(&used.standing));
        }
        sums
    }

    pub(super) fn stock(&self) -> Stock {
        self.shelf.stock()
    }

    /// One more container has the image. Gives the image as it is shared, or back if nobody had it.
    pub(super) fn join_use(&mut self, image: Image) -> Result<Arc<Image>, Image> {
        let Some((known, _)) = self.uses.get_key_value(&image) else { return Err(image) };
        let known = Arc::clone(known);
        if let Some(used) = self.uses.get_mut(&known) {
            used.count += 1;
            self.containers[used.standing.rank()] += 1;
        }
        Ok(known)
    }

    /// A container has an image that none had.
    pub(super) fn begin_use(&mut self, image: Arc<Image>, standing: Standing) {
        self.containers[standing.rank()] += 1;
        self.uses.insert(image, Use { count: 1, standing, crews: HashSet::new() });
    }

    /// One container less has the image. Says whether none is left.
    pub(super) fn leave_use(&mut self, image: &Arc<Image>) -> bool {
        let Some(used) = self.uses.get_mut(image) else { return false };
        used.count -= 1;
        self.containers[used.standing.rank()] -= 1;
        let is_over = used.count == 0;
        if is_over {
            self.uses.remove(image);
        }
        is_over
    }

    /// Adds a Pod that is not there. Its images are in use.
    pub(super) fn add_pod(&mut self, name: Box<str>, images: &[Arc<Image>]) {
        let images = self.crews.get_key_value(images).map_or_else(|| Arc::from(images), |(known, _)| Arc::clone(known));
        if !self.crews.contains_key(&images) {
            let crew = Crew { count: 0, rank: self.worst_of(&images) };
            self.crews.insert(Arc::clone(&images), crew);
            for image in &*images {
                if let Some(used) = self.uses.get_mut(image) {
                    used.crews.insert(Arc::clone(&images));
                }
            }
        }
        if let Some(crew) = self.crews.get_mut(&images) {
            crew.count += 1;
            self.worst[crew.rank] += 1;
        }
        self.pods.insert(name, images);
    }

    /// Takes a Pod out, and gives its images, which are still in use. `None` if it is not there.
    pub(super) fn remove_pod(&mut self, name: &str) -> Option<Images> {
        let images = self.pods.remove(name)?;
        let crew = self.crews.get_mut(&images)?;
        crew.count -= 1;
        self.worst[crew.rank] -= 1;
        if crew.count == 0 {
            self.crews.remove(&images);
            for image in &*images {
                if let Some(used) = self.uses.get_mut(image) {
                    used.crews.remove(&images);
                }
            }
        }
        Some(images)
    }

    /// Something else is said of an image than before.
    pub(super) fn judge(&mut self, image: &Arc<Image>, standing: Standing) {
        let Some(used) = self.uses.get_mut(image) else { return };
        let (before, after) = (used.standing.rank(), standing.rank());
        used.standing = standing;
        if before == after {
            return;
        }
        self.containers[before] -= used.count;
        self.containers[after] += used.count;
        for images in used.crews.clone() {
            let rank = self.worst_of(&images);
            if let Some(crew) = self.crews.get_mut(&images) {
                self.worst[crew.rank] -= crew.count;
                self.worst[rank] += crew.count;
                crew.rank = rank;
            }
        }
    }

    /// The rank of the worst of some images.
    fn worst_of(&self, images: &[Arc<Image>]) -> usize {
        let ranks = images.iter().filter_map(|image| Some(self.uses.get(image)?.standing.rank()));
        ranks.max().unwrap_or_default()
    }

    /// Says of the streams that have one of these images whether they are used in a namespace, this one by its name.
    pub(super) fn mark(&mut self, name: &str, digests: &[DigestKey]) {
        let Self { shelf, visitors, .. } = self;
        shelf.mark(digests, |digest, stream, repositories| {
            visitors.get(digest).into_iter().flatten().any(|(visitor, image)| {
                **visitor == *name
                    || image.home().is_some_and(|(_, named, from)| named == stream && repositories.are(from))
            })
        });
    }
}

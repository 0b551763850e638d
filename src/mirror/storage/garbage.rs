//! What nothing refers to any more: everything that is kept, less what streams name and what that names in turn. Finding it
//! changes nothing; when something is not certain, it is kept.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use serde::Deserialize;

use super::{Kept, Storage, StorageError};
use crate::digest::Digest;
use crate::stream::ImageStream;

/// What is larger is no manifest.
const MANIFEST_MAX: usize = 4 * 1024 * 1024;

/// What a storage has, told apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// What streams refer to, with all that belongs to it.
    pub referred: Vec<Kept>,
    /// What nothing refers to, but that was used a short while ago.
    pub young: Vec<Kept>,
    /// What nothing refers to and nobody used for a while, oldest first.
    pub unreferred: Vec<Kept>,
}

/// The images in the histories of all tags of these streams, newest first.
pub fn referred<'a>(streams: impl IntoIterator<Item = &'a ImageStream>) -> Vec<Digest> {
    let mut by_age: BTreeMap<usize, BTreeSet<Digest>> = BTreeMap::new();
    for events in streams.into_iter().flat_map(|stream| &stream.status.tags) {
        for (age, item) in events.items.iter().enumerate() {
            // A mere reference has no digest, and one of an unknown kind cannot have been pulled.
            by_age.entry(age).or_default().extend(item.image.parse::<Digest>().ok());
        }
    }
    let mut known = HashSet::new();
    by_age.into_values().flatten().filter(|digest| known.insert(digest.clone())).collect()
}

/// Finds what none of these images has. What was used less than `min_age` ago may be on its way to a stream.
///
/// # Errors
/// If the storage, or a manifest in it, cannot be read: then it is not known what it refers to.
pub async fn find(storage: &Storage, images: Vec<Digest>, min_age: Duration) -> Result<Garbage, StorageError> {
    let kept = storage.list().await?;
    let sizes = kept.iter().map(|kept| (kept.digest.clone(), kept.size)).collect();
    let closed = closure(storage, images, &sizes).await?;
    Ok(Garbage::of(kept, &closed, min_age))
}

impl Garbage {
    fn of(kept: Vec<Kept>, referred: &HashSet<Digest>, min_age: Duration) -> Self {
        let mut garbage = Self::default();
        for kept in kept {
            let list = match (referred.contains(&kept.digest), kept.age < min_age) {
                (true, _) => &mut garbage.referred,
                (false, true) => &mut garbage.young,
                (false, false) => &mut garbage.unreferred,
            };
            list.push(kept);
        }
        garbage.unreferred.sort_by(|one, other| (other.age, &one.digest).cmp(&(one.age, &other.digest)));
        garbage
    }
}

/// These images and all that belongs to them, as far as their manifests are there.
async fn closure(
    storage: &Storage,
    images: Vec<Digest>,
    sizes: &HashMap<Digest, u64>,
) -> Result<HashSet<Digest>, StorageError> {
    let mut closed: HashSet<_> = images.iter().cloned().collect();
    let mut manifests = images;
    let mut read = HashSet::new();
    while let Some(digest) = manifests.pop() {
        let is_manifest = sizes.get(&digest).is_some_and(|size| *size <= MANIFEST_MAX as u64);
        if !is_manifest || !read.insert(digest.clone()) {
            continue;
        }
        let Some((bytes, _)) = storage.look(&digest, MANIFEST_MAX).await? else { continue };
        let written: Written = serde_json::from_slice(&bytes).unwrap_or_default();
        let children: Vec<Digest> = digests(written.manifests.as_deref()).collect();
        closed.extend(children.iter().cloned());
        closed.extend(written.blobs());
        manifests.extend(children);
    }
    Ok(closed)
}

/// A manifest, or an index of several; of either only what it refers to.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Written {
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    /// Of an OCI artifact.
    blobs: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Descriptor {
    digest: String,
}

impl Written {
    fn blobs(&self) -> impl Iterator<Item = Digest> {
        let config = digests(self.config.as_ref().map(std::slice::from_ref));
        config.chain(digests(self.layers.as_deref())).chain(digests(self.blobs.as_deref()))
    }
}

fn digests(descriptors: Option<&[Descriptor]>) -> impl Iterator<Item = Digest> {
    descriptors.unwrap_or_default().iter().filter_map(|descriptor| descriptor.digest.parse().ok())
}

#[cfg(test)]
mod tests;

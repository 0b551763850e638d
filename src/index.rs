//! The snapshot of every stream that resolving reads: immutable, compact, swapped as a whole.
//!
//! Holds for each tag only what admission needs, worked out beforehand. Must not know where streams come from.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;

use crate::stream::ImageStream;
use crate::stream::places::Places;
use crate::stream::pullspec::{self, Admitted};

/// All streams of all namespaces at one moment.
///
/// A clone shares everything with the original; a change to it copies the references to the streams of the one
/// namespace that changes. So a store keeps one, changes it, and publishes clones: what that costs grows with the
/// number of namespaces and the streams of those that changed, not with all streams.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    namespaces: HashMap<Arc<str>, Arc<HashSet<ByName>>>,
    streams: usize,
    tags: usize,
}

/// A stream that is found by its name, within one namespace.
#[derive(Clone, Debug)]
struct ByName(Arc<IndexedStream>);

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        &self.0.name
    }
}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

/// One stream, reduced to what resolving reads.
#[derive(Debug, PartialEq, Eq)]
pub struct IndexedStream {
    namespace: Box<str>,
    name: Box<str>,
    local: bool,
    repository: Option<Box<str>>,
    tags: Box<[IndexedTag]>,
}

/// One tag of a stream, reduced to what resolving reads.
#[derive(Debug, PartialEq, Eq)]
pub struct IndexedTag {
    name: Box<str>,
    /// What it resolves to.
    pub target: Target,
}

/// What a tag resolves to.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// A pull spec with a digest.
    Pinned {
        /// The pull spec.
        image: Box<str>,
        /// Set if the newest import failed, so that this is an older image than the one asked for.
        stale: Option<Box<Stale>>,
    },
    /// The tag was asked for and has no image yet.
    NotImported,
    /// The tag has a pull spec without a digest: a reference tag.
    NoDigest,
}

/// What is known of an import that failed while an older image is there.
#[derive(Debug, PartialEq, Eq)]
pub struct Stale {
    /// One word, such as `NotFound`; may be empty.
    pub reason: Box<str>,
    /// When the older image was found.
    pub image_created: Option<Timestamp>,
}

impl Snapshot {
    /// Builds a snapshot. Of two streams with one namespace and name the first stays.
    #[must_use]
    pub fn new(streams: impl IntoIterator<Item = Arc<IndexedStream>>) -> Self {
        let mut snapshot = Self::default();
        for stream in streams {
            if snapshot.stream(&stream.namespace, &stream.name).is_none() {
                snapshot.insert(stream);
            }
        }
        snapshot
    }

    /// The stream of that name in that namespace.
    #[must_use]
    pub fn stream(&self, namespace: &str, name: &str) -> Option<&IndexedStream> {
        self.namespaces.get(namespace)?.get(name).map(|stream| stream.0.as_ref())
    }

    /// Adds a stream, in place of the one with its namespace and name.
    pub fn insert(&mut self, stream: Arc<IndexedStream>) {
        let namespace = match self.namespaces.get_mut(&*stream.namespace) {
            Some(namespace) => namespace,
            None => self.namespaces.entry(Arc::from(&*stream.namespace)).or_default(),
        };
        self.streams += 1;
        self.tags += stream.tags.len();
        if let Some(before) = Arc::make_mut(namespace).replace(ByName(stream)) {
            self.streams -= 1;
            self.tags -= before.0.tags.len();
        }
    }

    /// Takes a stream out, if it is there.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        let Some(streams) = self.namespaces.get_mut(namespace).filter(|streams| streams.contains(name)) else { return };
        let streams = Arc::make_mut(streams);
        if let Some(before) = streams.take(name) {
            self.streams -= 1;
            self.tags -= before.0.tags.len();
        }
        if streams.is_empty() {
            self.namespaces.remove(namespace);
        }
    }

    /// Every stream, in no order.
    pub fn streams(&self) -> impl Iterator<Item = &IndexedStream> {
        self.namespaces.values().flat_map(|streams| streams.iter().map(|stream| stream.0.as_ref()))
    }

    /// How many streams there are.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.streams
    }

    /// How many tags all streams have together.
    #[must_use]
    pub fn tag_count(&self) -> usize {
        self.tags
    }
}

impl IndexedStream {
    /// Reduces a stream, whose images can be pulled from these places. A stream without a namespace is in `default`.
    #[must_use]
    pub fn new(stream: &ImageStream, places: &Places) -> Self {
        let mut names: Vec<&str> = stream.spec.tags.iter().map(|tag| tag.name.as_str()).collect();
        names.extend(stream.status.tags.iter().map(|events| events.tag.as_str()));
        names.sort_unstable();
        names.dedup();
        let tag = |name: &str| IndexedTag { name: name.into(), target: target(stream, places, name) };
        Self {
            namespace: stream.metadata.namespace.as_deref().unwrap_or("default").into(),
            name: stream.metadata.name.as_str().into(),
            local: stream.spec.lookup_policy.local,
            tags: names.into_iter().map(tag).collect(),
            repository: places.repository(stream).map(Into::into),
        }
    }

    /// Namespace of the stream.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Name of the stream.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Objects of the namespace may use the stream by short name.
    #[must_use]
    pub fn local_lookup(&self) -> bool {
        self.local
    }

    /// The tag of that name, in spec or status.
    #[must_use]
    pub fn tag(&self, name: &str) -> Option<&IndexedTag> {
        let at = self.tags.binary_search_by(|tag| tag.name.as_ref().cmp(name)).ok()?;
        Some(&self.tags[at])
    }

    /// What stands in for an image that is not there yet: `<repository>:<tag>`, if there is a repository.
    #[must_use]
    pub fn pending(&self, tag: &str) -> Option<String> {
        pullspec::pending(self.repository.as_deref(), tag)
    }
}

fn target(stream: &ImageStream, places: &Places, tag: &str) -> Target {
    let events = stream.status.tag(tag);
    let newest = events.and_then(|events| events.items.first());
    match pullspec::admitted(stream, places, tag) {
        Admitted::Pinned(image) => {
            let stale = events.and_then(|events| events.failure()).map(|failure| {
                let image_created = newest.and_then(|event| event.created);
                Box::new(Stale { reason: failure.reason.as_str().into(), image_created })
            });
            Target::Pinned { image: image.into(), stale }
        }
        Admitted::Pending(_) if newest.is_some() => Target::NoDigest,
        Admitted::Pending(_) => Target::NotImported,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DIGEST: &str = "sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";

    fn stream() -> IndexedStream {
        let item = json!({"created": "2026-11-20T00:00:00Z", "dockerImageReference": "q.io/a/b:1", "image": DIGEST});
        let stream = serde_json::from_value(json!({"metadata": {"name": "app"},
            "spec": {"lookupPolicy": {"local": true}, "tags": [{"name": "asked"}, {"name": "good"}]},
            "status": {"dockerImageRepository": "r.io/default/app", "tags": [
                {"tag": "good", "items": [item]},
                {"tag": "pushed", "items": [item]},
                {"tag": "ref", "items": [{"dockerImageReference": "q.io/a/b:1"}]},
                {"tag": "stale", "items": [item], "conditions": [
                    {"type": "ImportSuccess", "status": "False", "reason": "NotFound"}]}]}}))
        .unwrap();
        IndexedStream::new(&stream, &Places::default())
    }

    #[test]
    fn tags_of_spec_and_status_are_found_with_what_they_resolve_to() {
        let stream = stream();
        let image: Box<str> = format!("q.io/a/b@{DIGEST}").into();
        let target = |name| stream.tag(name).map(|tag| &tag.target);
        assert_eq!(target("good"), Some(&Target::Pinned { image: image.clone(), stale: None }));
        assert_eq!(target("good"), target("pushed"));
        assert_eq!(target("asked"), Some(&Target::NotImported));
        assert_eq!(target("ref"), Some(&Target::NoDigest));
        assert_eq!(target("other"), None);
        let stale = Stale { reason: "NotFound".into(), image_created: "2026-11-20T00:00:00Z".parse().ok() };
        assert_eq!(target("stale"), Some(&Target::Pinned { image, stale: Some(Box::new(stale)) }));
        assert_eq!(stream.pending("x").as_deref(), Some("r.io/default/app:x"));
    }

    fn named(namespace: &str, name: &str, tags: usize) -> Arc<IndexedStream> {
        let tags: Vec<_> = (0..tags).map(|tag| json!({"name": tag.to_string()})).collect();
        let stream = json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"tags": tags}});
        Arc::new(IndexedStream::new(&serde_json::from_value(stream).unwrap(), &Places::default()))
    }

    #[test]
    fn change_to_a_clone_leaves_the_original_and_shares_other_namespaces() {
        let original = Snapshot::new([named("a", "x", 1), named("a", "y", 2), named("b", "x", 3)]);
        let mut changed = original.clone();
        changed.insert(named("a", "x", 5));
        changed.insert(named("c", "z", 1));
        changed.remove("a", "y");
        changed.remove("a", "none");
        changed.remove("none", "x");
        assert_eq!((original.stream_count(), original.tag_count()), (3, 6));
        assert_eq!((changed.stream_count(), changed.tag_count()), (3, 9));
        assert!(original.stream("a", "y").is_some() && changed.stream("a", "y").is_none());
        assert!(original.stream("a", "x").unwrap().tag("4").is_none());
        assert!(changed.stream("a", "x").unwrap().tag("4").is_some());
        assert!(Arc::ptr_eq(&original.namespaces["b"], &changed.namespaces["b"]));
    }

    #[test]
    fn last_stream_of_a_namespace_takes_it_along() {
        let mut snapshot = Snapshot::new([named("a", "x", 1)]);
        snapshot.remove("a", "x");
        assert!(snapshot.namespaces.is_empty() && snapshot.streams().next().is_none());
        assert_eq!((snapshot.stream_count(), snapshot.tag_count()), (0, 0));
    }

    #[test]
    fn snapshot_counts_and_finds_by_namespace() {
        let snapshot = Snapshot::new([Arc::new(stream()), Arc::new(stream())]);
        assert_eq!((snapshot.stream_count(), snapshot.tag_count()), (1, 5));
        assert!(snapshot.stream("default", "app").is_some());
        assert!(snapshot.stream("other", "app").is_none());
        assert!(snapshot.stream("default", "ap").is_none());
    }
}

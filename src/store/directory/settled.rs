//! Which file each stream is taken from, and the snapshot of all of them: worked out anew for the streams of files that
//! changed, and for no others.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::owners::Owners;
use super::{File, key};
use crate::index::{IndexedStream, Snapshot};
use crate::store::documents::Place;
use crate::stream::Key;

/// What is served.
#[derive(Debug, Default)]
pub(super) struct Settled {
    snapshot: Snapshot,
    /// Files with streams that other files define.
    rivals: BTreeMap<Key, BTreeSet<PathBuf>>,
}

/// A file whose streams changed, and which it had before.
#[derive(Debug)]
pub(super) struct Changed {
    pub path: PathBuf,
    pub before: Vec<Key>,
}

/// Streams that are in another file than before, or in none.
#[derive(Debug, Default)]
pub(super) struct Moves {
    pub moved: Vec<Key>,
    pub gone: Vec<Key>,
}

type Files = BTreeMap<PathBuf, File>;
type Definition<'f> = (&'f Path, &'f Arc<IndexedStream>);

impl Settled {
    /// Gives each stream that files had or have to one file: the one that had it before, else the first in byte order of
    /// the paths.
    pub(super) fn settle(&mut self, files: &Files, owners: &Owners, changed: &[Changed]) -> Moves {
        let mut touched: HashMap<Key, Vec<Definition<'_>>> = HashMap::new();
        for Changed { path, before } in changed {
            for key in before {
                touched.entry(key.clone()).or_default();
            }
            if let Some((path, file)) = files.get_key_value(path) {
                for (_, stream) in &file.streams {
                    touched.entry(key(stream)).or_default().push((path, stream));
                }
            }
        }
        let mut moves = Moves::default();
        for (key, mut definitions) in touched {
            let before = owners.read().get(&key).cloned();
            let rivals = self.rivals.remove(&key).into_iter().flatten();
            for path in rivals.chain(before.clone()) {
                if !definitions.iter().any(|(other, _)| *other == path) {
                    definitions.extend(find(files, &path, &key).map(|(path, (_, stream))| (path, stream)));
                }
            }
            definitions.sort_unstable_by_key(|(path, _)| *path);
            self.take(key, &definitions, before.as_deref(), owners, &mut moves);
        }
        moves
    }

    /// Takes a stream from one of the files that define it.
    fn take(
        &mut self,
        key: Key,
        definitions: &[Definition<'_>],
        before: Option<&Path>,
        owners: &Owners,
        moves: &mut Moves,
    ) {
        let had_it = definitions.iter().find(|(path, _)| Some(*path) == before);
        let Some((owner, stream)) = had_it.or(definitions.first()) else {
            self.snapshot.remove(&key.namespace, &key.name);
            owners.write().remove(&key);
            moves.gone.push(key);
            return;
        };
        self.snapshot.insert(Arc::clone(stream));
        let rivals: BTreeSet<_> =
            definitions.iter().filter(|(path, _)| path != owner).map(|(path, _)| (*path).to_owned()).collect();
        if !rivals.is_empty() {
            self.rivals.insert(key.clone(), rivals);
        }
        if Some(*owner) != before {
            owners.write().insert(key.clone(), (*owner).to_owned());
            moves.moved.push(key);
        }
    }

    /// All streams. What is shared with it is copied by the next change.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    /// What is wrong with files that define streams of others.
    pub(super) fn conflicts(&self, files: &Files, owners: &Owners) -> Vec<(PathBuf, String)> {
        let owners = owners.read();
        let mut conflicts = Vec::new();
        for (key, path) in self.rivals.iter().flat_map(|(key, paths)| paths.iter().map(move |path| (key, path))) {
            if let (Some((_, (place, _))), Some(owner)) = (find(files, path, key), owners.get(key)) {
                let owner = owner.display();
                let message = format!(
                    "{place}: image stream {key} is defined already in {owner}, which stays in force; remove one of them"
                );
                conflicts.push((path.clone(), message));
            }
        }
        conflicts
    }
}

/// The order in which a file keeps its streams, so that one is found quickly.
pub(super) fn order(stream: &IndexedStream, other: &IndexedStream) -> Ordering {
    (stream.namespace(), stream.name()).cmp(&(other.namespace(), other.name()))
}

/// A stream of a file.
fn find<'f>(files: &'f Files, path: &Path, key: &Key) -> Option<(&'f Path, &'f (Place, Arc<IndexedStream>))> {
    let (path, file) = files.get_key_value(path)?;
    let wanted = (&*key.namespace, &*key.name);
    let found = file.streams.binary_search_by(|(_, stream)| (stream.namespace(), stream.name()).cmp(&wanted));
    Some((path, &file.streams[found.ok()?]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::{keys, release};
    use super::*;
    use crate::stream::places::Places;

    const KEYS: [&str; 4] = ["a/x", "a/y", "b/x", "c/z"];
    const PATHS: [&str; 3] = ["1.yaml", "2.yaml", "3.yaml"];

    /// The streams of a file, each with its number of tags.
    type Content = BTreeMap<&'static str, usize>;

    fn file(content: &Content) -> File {
        let stream = |(key, tags): (&&str, &usize)| {
            let (namespace, name) = key.split_once('/').unwrap();
            let tags: Vec<_> = (0..*tags).map(|tag| json!({"name": tag.to_string()})).collect();
            let stream = json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"tags": tags}});
            let stream = IndexedStream::new(&serde_json::from_value(stream).unwrap(), &Places::default());
            (Place { document: 1, line: 1 }, Arc::new(stream))
        };
        File { streams: content.iter().map(stream).collect(), ..File::default() }
    }

    /// The rule itself, for all streams: which file each is taken from.
    fn owners_after(
        before: &BTreeMap<&str, &str>,
        files: &BTreeMap<&'static str, Content>,
    ) -> BTreeMap<&'static str, &'static str> {
        let owner = |key: &&'static str| {
            let definitions = || files.iter().filter(|(_, content)| content.contains_key(key)).map(|(path, _)| *path);
            let had_it = definitions().find(|path| before.get(key) == Some(path));
            Some((*key, had_it.or_else(|| definitions().next())?))
        };
        KEYS.iter().filter_map(owner).collect()
    }

    fn some_content() -> impl Strategy<Value = Option<Content>> {
        prop::option::weighted(0.8, prop::collection::btree_map(prop::sample::select(&KEYS[..]), 0..3_usize, 0..4))
    }

    /// Looks, each at some files that changed or are gone.
    fn some_looks() -> impl Strategy<Value = Vec<BTreeMap<&'static str, Option<Content>>>> {
        let look = prop::collection::btree_map(prop::sample::select(&PATHS[..]), some_content(), 1..3);
        prop::collection::vec(look, 1..8)
    }

    proptest! {
        #[test]
        fn what_changed_is_settled_as_if_all_were(looks in some_looks()) {
            let (mut settled, owners, mut files) = (Settled::default(), Owners::default(), Files::default());
            let (mut contents, mut expected) = (BTreeMap::new(), BTreeMap::new());
            for look in looks {
                let mut changed = Vec::new();
                for (path, content) in look {
                    let file = content.as_ref().map(file);
                    let new = file.iter().flat_map(|file| keys(&file.streams)).collect::<Vec<_>>();
                    let before = match file {
                        Some(file) => files.insert(path.into(), file),
                        None => files.remove(Path::new(path)),
                    };
                    let before = before.map(|file| keys(&file.streams)).unwrap_or_default();
                    let lost: Vec<_> = before.iter().filter(|key| !new.contains(key)).cloned().collect();
                    release(&owners, Path::new(path), &lost);
                    changed.push(Changed { path: path.into(), before });
                    match content {
                        Some(content) => contents.insert(path, content),
                        None => contents.remove(path),
                    };
                }
                let earlier = std::mem::take(&mut expected);
                expected = owners_after(&earlier, &contents);
                let moves = settled.settle(&files, &owners, &changed);

                let taken: BTreeMap<_, _> = owners.read().iter().map(|(key, path)| (key.to_string(), path.clone())).collect();
                let wanted = expected.iter().map(|(key, path)| ((*key).to_owned(), PathBuf::from(path)));
                prop_assert_eq!(taken, wanted.collect());
                let served: BTreeMap<_, _> = settled.snapshot().streams()
                    .map(|stream| (key(stream).to_string(), ["0", "1"].map(|tag| stream.tag(tag).is_some())))
                    .collect();
                let wanted = expected.iter().map(|(key, path)| ((*key).to_owned(), [0, 1].map(|tag| contents[path][key] > tag)));
                prop_assert_eq!(served, wanted.collect());
                let conflicts = settled.conflicts(&files, &owners).len();
                prop_assert_eq!(conflicts, contents.values().map(BTreeMap::len).sum::<usize>() - expected.len());
                for key in earlier.keys().filter(|key| !expected.contains_key(*key)) {
                    prop_assert!(moves.gone.iter().any(|gone| gone.to_string() == *key));
                }
                for (key, path) in &expected {
                    let is_moved = moves.moved.iter().any(|moved| moved.to_string() == *key);
                    prop_assert!(is_moved || earlier.get(key) == Some(path));
                }
            }
        }
    }
}

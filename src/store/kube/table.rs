//! The streams of a cluster as a list and a watch tell of them. Pure, and fed one object at a time.
//!
//! A stream that turns bad keeps its last good version until it is deleted or good again. Must not know how objects
//! arrive.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::index::{IndexedStream, Snapshot};
use crate::stream::Key;

/// An object that was read: reduced at once, or the reason why it cannot be.
#[derive(Debug)]
pub struct Object {
    /// Which it is.
    pub key: Key,
    /// What it says.
    pub content: Result<IndexedStream, String>,
}

/// What people should hear about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It cannot be read, or cannot be read for another reason than before.
    Bad {
        /// Which.
        key: Key,
        /// Why.
        reason: String,
        /// An earlier version of it is still in force.
        is_kept: bool,
    },
    /// It was bad, and is good again or gone.
    Solved(Key),
}

/// Every stream that is known, and every object that is bad.
#[derive(Debug, Default)]
pub struct Table {
    snapshot: Snapshot,
    problems: BTreeMap<Key, String>,
    /// What a list that is under way has brought so far.
    listed: Option<HashSet<Key>>,
    /// Something changed that was not taken yet.
    has_changed: bool,
}

impl Table {
    /// A list begins. What it brings is applied as it comes.
    pub fn begin_list(&mut self) {
        self.listed = Some(HashSet::new());
    }

    /// The list has ended: what it did not bring is gone. Says which bad objects are gone with it.
    pub fn end_list(&mut self) -> Vec<News> {
        let Some(listed) = self.listed.take() else { return Vec::new() };
        let streams = self.snapshot.streams().map(|stream| Key::new(stream.namespace(), stream.name()));
        let known: HashSet<Key> = streams.chain(self.problems.keys().cloned()).collect();
        known.difference(&listed).filter_map(|key| self.delete(key)).collect()
    }

    /// An object is there, new or changed.
    pub fn apply(&mut self, object: Object) -> Option<News> {
        let Object { key, content } = object;
        if let Some(listed) = &mut self.listed {
            listed.insert(key.clone());
        }
        let before = self.snapshot.stream(&key.namespace, &key.name);
        match content {
            Ok(stream) => {
                if before != Some(&stream) {
                    self.snapshot.insert(Arc::new(stream));
                    self.has_changed = true;
                }
                self.problems.remove(&key).map(|_| News::Solved(key))
            }
            Err(reason) => {
                let is_kept = before.is_some();
                let known = self.problems.insert(key.clone(), reason.clone());
                (known.as_ref() != Some(&reason)).then_some(News::Bad { key, reason, is_kept })
            }
        }
    }

    /// An object is gone.
    pub fn delete(&mut self, key: &Key) -> Option<News> {
        if self.snapshot.stream(&key.namespace, &key.name).is_some() {
            self.snapshot.remove(&key.namespace, &key.name);
            self.has_changed = true;
        }
        self.problems.remove(key).map(|_| News::Solved(key.clone()))
    }

    /// The streams, if they changed since they were taken last.
    pub fn take_changed(&mut self) -> Option<Snapshot> {
        std::mem::take(&mut self.has_changed).then(|| self.snapshot.clone())
    }

    /// The streams as they are.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// How many objects are bad.
    #[must_use]
    pub fn problem_count(&self) -> usize {
        self.problems.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::stream::places::Places;

    fn good(name: &str, tags: usize) -> Object {
        let tags: Vec<_> = (0..tags).map(|tag| json!({"name": tag.to_string()})).collect();
        let stream = json!({"metadata": {"namespace": "demo", "name": name}, "spec": {"tags": tags}});
        let stream = serde_json::from_value(stream).unwrap();
        Object { key: Key::new("demo", name), content: Ok(IndexedStream::new(&stream, &Places::default())) }
    }

    fn bad(name: &str, reason: &str) -> Object {
        Object { key: Key::new("demo", name), content: Err(reason.to_owned()) }
    }

    fn listed(table: &mut Table, objects: Vec<Object>) -> Vec<News> {
        table.begin_list();
        let mut news: Vec<_> = objects.into_iter().filter_map(|object| table.apply(object)).collect();
        news.extend(table.end_list());
        news
    }

    fn names(table: &Table) -> Vec<&str> {
        let mut names: Vec<_> = table.snapshot().streams().map(IndexedStream::name).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn objects_come_change_and_go() {
        let mut table = Table::default();
        assert_eq!(listed(&mut table, vec![good("a", 1), good("b", 2)]), []);
        assert_eq!(table.take_changed().map(|snapshot| snapshot.tag_count()), Some(3));

        assert_eq!(table.apply(good("b", 4)), None);
        assert_eq!(table.apply(good("c", 1)), None);
        assert_eq!(table.delete(&Key::new("demo", "a")), None);
        let changed = table.take_changed().unwrap();
        assert_eq!((changed.stream_count(), changed.tag_count()), (2, 5));
        assert_eq!(names(&table), ["b", "c"]);
    }

    #[test]
    fn what_changes_nothing_is_no_change() {
        let mut table = Table::default();
        listed(&mut table, vec![good("a", 1)]);
        table.take_changed();
        listed(&mut table, vec![good("a", 1)]);
        table.apply(good("a", 1));
        table.apply(bad("b", "wrong"));
        table.delete(&Key::new("demo", "none"));
        assert!(table.take_changed().is_none());
    }

    #[test]
    fn what_a_new_list_lacks_is_gone() {
        let mut table = Table::default();
        listed(&mut table, vec![good("a", 1), good("b", 1), bad("c", "wrong")]);
        let news = listed(&mut table, vec![good("b", 2)]);
        assert_eq!(news, [News::Solved(Key::new("demo", "c"))]);
        assert_eq!((names(&table), table.problem_count()), (vec!["b"], 0));
        assert_eq!(table.take_changed().map(|snapshot| snapshot.tag_count()), Some(2));
    }

    #[test]
    fn list_that_is_broken_off_takes_nothing_away() {
        let mut table = Table::default();
        listed(&mut table, vec![good("a", 1), good("b", 1)]);
        table.begin_list();
        table.apply(good("c", 1));
        assert_eq!(names(&table), ["a", "b", "c"]);
        assert_eq!(listed(&mut table, vec![good("a", 1), good("b", 1)]), []);
        assert_eq!(names(&table), ["a", "b"]);
    }

    #[test]
    fn stream_that_turns_bad_keeps_its_last_good_version_until_it_is_deleted() {
        let mut table = Table::default();
        listed(&mut table, vec![good("a", 3)]);
        let reason = || "wrong".to_owned();
        let news = News::Bad { key: Key::new("demo", "a"), reason: reason(), is_kept: true };
        assert_eq!(table.apply(bad("a", "wrong")), Some(news));
        assert_eq!((table.snapshot().tag_count(), table.problem_count()), (3, 1));
        assert_eq!(table.apply(bad("a", "wrong")), None, "said once");
        assert_eq!(listed(&mut table, vec![bad("a", "wrong")]), []);
        assert_eq!((table.snapshot().tag_count(), table.problem_count()), (3, 1));

        assert_eq!(table.apply(good("a", 2)), Some(News::Solved(Key::new("demo", "a"))));
        assert_eq!((table.snapshot().tag_count(), table.problem_count()), (2, 0));
        table.apply(bad("a", "worse"));
        assert_eq!(table.delete(&Key::new("demo", "a")), Some(News::Solved(Key::new("demo", "a"))));
        assert_eq!((table.snapshot().stream_count(), table.problem_count()), (0, 0));
    }

    /// What is told of streams `s0` to `s5`.
    #[derive(Clone, Debug)]
    enum Step {
        Good(u8, u8),
        Bad(u8, u8),
        Delete(u8),
        BeginList,
        EndList,
        Take,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..6_u8, 0..4_u8).prop_map(|(stream, tags)| Step::Good(stream, tags)),
            2 => (0..6_u8, 0..2_u8).prop_map(|(stream, reason)| Step::Bad(stream, reason)),
            2 => (0..6_u8).prop_map(Step::Delete),
            1 => Just(Step::BeginList),
            1 => Just(Step::EndList),
            2 => Just(Step::Take),
        ]
    }

    /// The streams and how many tags they have.
    fn told(snapshot: &Snapshot) -> BTreeMap<String, usize> {
        let streams: BTreeMap<_, _> = snapshot
            .streams()
            .map(|stream| {
                (stream.name().to_owned(), (0..9).filter(|tag| stream.tag(&tag.to_string()).is_some()).count())
            })
            .collect();
        assert_eq!((snapshot.stream_count(), snapshot.tag_count()), (streams.len(), streams.values().sum()));
        assert!(streams.keys().all(|name| snapshot.stream("demo", name).is_some_and(|stream| stream.name() == name)));
        streams
    }

    proptest! {
        /// `PROPTEST_CASES=100000` runs as many orders of events.
        #[test]
        fn model_of_good_and_bad_streams_says_the_same(steps in prop::collection::vec(step(), 1..40)) {
            let mut table = Table::default();
            let (mut streams, mut problems) = (BTreeMap::<String, usize>::new(), BTreeMap::<String, String>::new());
            let (mut listed, mut taken) = (None::<HashSet<String>>, BTreeMap::new());
            let mut published: Vec<(Snapshot, BTreeMap<String, usize>)> = Vec::new();
            for step in steps {
                let name = |stream: u8| format!("s{stream}");
                if let (Step::Good(stream, _) | Step::Bad(stream, _), Some(listed)) = (&step, &mut listed) {
                    listed.insert(name(*stream));
                }
                match step {
                    Step::Good(stream, tags) => {
                        table.apply(good(&name(stream), tags.into()));
                        streams.insert(name(stream), tags.into());
                        problems.remove(&name(stream));
                    }
                    Step::Bad(stream, reason) => {
                        table.apply(bad(&name(stream), &reason.to_string()));
                        problems.insert(name(stream), reason.to_string());
                    }
                    Step::Delete(stream) => {
                        table.delete(&Key::new("demo", &name(stream)));
                        streams.remove(&name(stream));
                        problems.remove(&name(stream));
                    }
                    Step::BeginList => {
                        table.begin_list();
                        listed = Some(HashSet::new());
                    }
                    Step::EndList => {
                        table.end_list();
                        if let Some(listed) = listed.take() {
                            streams.retain(|name, _| listed.contains(name));
                            problems.retain(|name, _| listed.contains(name));
                        }
                    }
                    Step::Take => {
                        if let Some(snapshot) = table.take_changed() {
                            taken = streams.clone();
                            published.push((snapshot, taken.clone()));
                        }
                        prop_assert_eq!(&streams, &taken);
                    }
                }
                prop_assert_eq!(&told(table.snapshot()), &streams);
                prop_assert_eq!(table.problem_count(), problems.len());
            }
            // Whoever resolves by an older one sees it as it was.
            for (snapshot, streams) in published {
                prop_assert_eq!(told(&snapshot), streams);
            }
        }
    }

    #[test]
    fn object_that_was_never_good_is_named_and_left_out() {
        let mut table = Table::default();
        let news = listed(&mut table, vec![bad("a", "wrong"), good("b", 1)]);
        assert_eq!(news, [News::Bad { key: Key::new("demo", "a"), reason: "wrong".to_owned(), is_kept: false }]);
        assert_eq!(names(&table), ["b"]);
        let worse = News::Bad { key: Key::new("demo", "a"), reason: "worse".to_owned(), is_kept: false };
        assert_eq!(table.apply(bad("a", "worse")), Some(worse));
    }
}

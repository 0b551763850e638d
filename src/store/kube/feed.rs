//! The streams of a cluster as whole objects, handed on one by one to whoever works with them. Holds only their keys.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use kube::Client;
use tokio::sync::mpsc::UnboundedSender;

use super::objects::Item;
use super::watch::{Preference, Sink, Subject, WatchError, Watched};
use crate::metrics::SourceMetrics;
use crate::store::home::Change;
use crate::stream::Key;

/// Who is handed the changes, and what was.
pub struct Feed {
    changes: UnboundedSender<Change>,
    known: HashSet<Key>,
    /// What a list that is under way has brought so far.
    listed: Option<HashSet<Key>>,
    /// Objects that cannot be read, and why.
    problems: BTreeMap<Key, String>,
    metrics: SourceMetrics,
    /// The last try failed.
    has_failed: bool,
    /// Something was told that was not counted as a change yet.
    has_changed: bool,
}

impl Watched<Feed> {
    /// Hands on the streams of a cluster.
    #[must_use]
    pub fn feed(
        client: Client,
        preference: Preference,
        changes: UnboundedSender<Change>,
        metrics: SourceMetrics,
    ) -> Self {
        metrics.is_sought();
        let (known, problems) = (HashSet::new(), BTreeMap::new());
        let feed = Feed { changes, known, listed: None, problems, metrics, has_failed: false, has_changed: false };
        Self::of(client, Subject::Streams(preference), feed)
    }
}

impl Feed {
    /// Whoever does not listen any more need not be told.
    fn tell(&mut self, change: Change) {
        self.has_changed = true;
        let _ = self.changes.send(change);
    }
}

impl Sink for Feed {
    fn begin_list(&mut self) {
        self.listed = Some(HashSet::new());
    }

    fn end_list(&mut self) {
        let listed = self.listed.take().unwrap_or_default();
        self.problems.retain(|key, _| listed.contains(key));
        let gone: Vec<_> = self.known.difference(&listed).cloned().collect();
        for key in gone {
            self.delete(&key);
        }
        self.tell(Change::Listed);
    }

    fn apply(&mut self, item: Item) {
        let key = item.key();
        if let Some(listed) = &mut self.listed {
            listed.insert(key.clone());
        }
        match item.parse() {
            Ok(stream) => {
                self.problems.remove(&key);
                self.known.insert(key);
                self.tell(Change::Applied(Box::new(stream)));
            }
            Err(reason) => {
                if self.problems.get(&key) != Some(&reason) {
                    tracing::warn!(stream = %key, reason, "image stream cannot be read and is not imported");
                    self.problems.insert(key, reason);
                }
            }
        }
    }

    fn delete(&mut self, key: &Key) {
        self.known.remove(key);
        self.problems.remove(key);
        self.tell(Change::Deleted(key.clone()));
    }

    fn flush(&mut self) {
        if std::mem::take(&mut self.has_changed) {
            self.metrics.changed();
        }
        self.metrics.problems(self.problems.len());
    }

    fn is_current(&mut self) {
        self.metrics.is_current();
        if std::mem::take(&mut self.has_failed) {
            let _ = self.changes.send(Change::Back);
        }
    }

    fn is_lost(&mut self, since: Instant) {
        self.metrics.is_lost(since);
    }

    fn has_failed(&mut self, _error: &WatchError) {
        self.has_failed = true;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::metrics::Metrics;
    use crate::store::kube::watch::script::{Answer, End, bookmark, page, refusal, server};

    #[tokio::test(start_paused = true)]
    async fn importer_hears_that_the_api_server_is_back_once_it_was_away() {
        let up = || Answer::Events(vec![bookmark("8")], End::Open);
        let (client, requests) = server(vec![page(&[], "7", ""), up(), refusal(503), Answer::Broken, up()]);
        let (sender, mut changes) = mpsc::unbounded_channel();
        let metrics = Metrics::new().unwrap().source;
        tokio::select! {
            () = Watched::feed(client, Preference::Pinstream, sender, metrics).keep() => {}
            () = requests.are_over() => {}
        }
        let told: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok()).collect();
        assert!(matches!(told[..], [Change::Listed, Change::Back]), "{told:?}");
    }
}

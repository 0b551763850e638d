//! The streams of a cluster, reduced and published as they change.

use std::sync::Arc;
use std::time::Instant;

use kube::Client;

use super::objects::Item;
use super::table::{News, Table};
use super::watch::{Preference, Sink, Subject, Watched};
use crate::metrics::Metrics;
use crate::store::Streams;
use crate::store::publish::Publisher;
use crate::stream::Key;
use crate::stream::places::Places;

/// The streams as a table, and the way to those who resolve.
pub struct Published {
    places: Places,
    publisher: Publisher,
    table: Table,
    is_listed: bool,
}

impl Watched<Published> {
    /// Publishes the streams of a cluster, whose images can be pulled from these places.
    #[must_use]
    pub fn published(
        client: Client,
        preference: Preference,
        places: Places,
        streams: Arc<Streams>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (publisher, table) = (Publisher::new(streams, metrics), Table::default());
        Self::of(client, Subject::Streams(preference), Published { places, publisher, table, is_listed: false })
    }
}

impl Sink for Published {
    fn begin_list(&mut self) {
        self.table.begin_list();
    }

    fn end_list(&mut self) {
        self.table.end_list().iter().for_each(tell);
        self.is_listed = false;
    }

    fn apply(&mut self, item: Item) {
        let news = self.table.apply(item.read(&self.places));
        news.iter().for_each(tell);
    }

    fn delete(&mut self, key: &Key) {
        self.table.delete(key).iter().for_each(tell);
    }

    /// A list is published even if it changed nothing: it may be the first, and empty.
    fn flush(&mut self) {
        self.publisher.problems(self.table.problem_count());
        let changed = self.table.take_changed();
        let listed = (!self.is_listed).then(|| self.table.snapshot().clone());
        if let Some(snapshot) = changed.or(listed) {
            tracing::debug!(streams = snapshot.stream_count(), tags = snapshot.tag_count(), "image streams changed");
            self.publisher.publish(snapshot);
            self.is_listed = true;
        }
    }

    fn is_current(&mut self) {
        self.publisher.is_current();
    }

    fn is_lost(&mut self, since: Instant) {
        self.publisher.is_lost(since);
    }
}

fn tell(news: &News) {
    match news {
        News::Bad { key, reason, is_kept: true } => {
            tracing::warn!(stream = %key, reason, "image stream cannot be read, its last good version stays in force");
        }
        News::Bad { key, reason, is_kept: false } => {
            tracing::warn!(stream = %key, reason, "image stream cannot be read and is passed over");
        }
        News::Solved(key) => tracing::info!(stream = %key, "image stream can be read again, or is gone"),
    }
}

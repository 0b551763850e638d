//! What every store does once it has streams: publish a snapshot and say how good it is.

use std::sync::Arc;
use std::time::Instant;

use super::Streams;
use crate::index::Snapshot;
use crate::metrics::Metrics;

/// The way from a store to those who resolve, and to the metrics of the source.
#[derive(Clone, Debug)]
pub struct Publisher {
    streams: Arc<Streams>,
    metrics: Arc<Metrics>,
}

impl Publisher {
    /// Publishes to `streams` and reports to `metrics`.
    #[must_use]
    pub fn new(streams: Arc<Streams>, metrics: Arc<Metrics>) -> Self {
        metrics.source.is_sought();
        Self { streams, metrics }
    }

    /// Makes a snapshot the current one.
    pub fn publish(&self, snapshot: Snapshot) {
        self.metrics.streams.set(gauge(snapshot.stream_count()));
        self.metrics.tags.set(gauge(snapshot.tag_count()));
        self.metrics.source.changed();
        self.streams.publish(snapshot);
    }

    /// The source can be read: what is published is as new as it can be.
    pub fn is_current(&self) {
        self.metrics.source.is_current();
    }

    /// The source cannot be read; what is published is as old as `since`, or older if it was lost before.
    pub fn is_lost(&self, since: Instant) {
        self.metrics.source.is_lost(since);
    }

    /// How many parts of the source something is wrong with.
    pub fn problems(&self, count: usize) {
        self.metrics.source.problems(count);
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

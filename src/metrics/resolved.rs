//! By which image streams images were resolved. Only so many are named, so that what users write adds no series without end.

use std::collections::HashSet;
use std::sync::{Mutex, OnceLock, PoisonError};

use prometheus::{IntCounterVec, Opts, Registry};

use super::{OTHERS, added};
use crate::stream::Key;

/// What each stream was used for.
#[derive(Debug)]
pub struct ResolvedMetrics {
    slots: IntCounterVec,
    /// How many streams are named. Nothing is counted before that is said.
    most: OnceLock<usize>,
    named: Mutex<HashSet<Key>>,
}

impl ResolvedMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let options = Opts::new(
            "pinstream_admission_stream_slots_total",
            "Image slots that were pinned, by image stream; only with --metrics-streams.",
        );
        let slots = added(registry, IntCounterVec::new(options, &["stream_namespace", "stream"])?)?;
        Ok(Self { slots, most: OnceLock::new(), named: Mutex::default() })
    }

    /// Counts from now on, and names the first `most` streams that are used. What was said first stays.
    pub fn name(&self, most: usize) {
        let _ = self.most.set(most);
    }

    /// An image of a namespace, as its object has it, was pinned.
    pub fn pinned(&self, namespace: &str, image: &str) {
        let Some(most) = self.most.get() else { return };
        let stream = image.split_once(':').map_or(image, |(stream, _)| stream);
        let key = Key::new(namespace, stream);
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let is_named = named.contains(&key) || (named.len() < *most && named.insert(key));
        drop(named);
        let labels = if is_named { [namespace, stream] } else { [OTHERS; 2] };
        self.slots.with_label_values(&labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(metrics: &ResolvedMetrics) -> Vec<u64> {
        let of = |labels: [&str; 2]| metrics.slots.with_label_values(&labels).get();
        vec![of(["a", "app"]), of(["b", "app"]), of([OTHERS; 2])]
    }

    #[test]
    fn first_streams_are_named_and_the_rest_counts_together() {
        let metrics = ResolvedMetrics::new(&Registry::new()).unwrap();
        metrics.pinned("a", "app:1");
        assert_eq!(counts(&metrics), [0, 0, 0]);
        metrics.name(2);
        for (namespace, image) in
            [("a", "app:1"), ("a", "app"), ("b", "app:2"), ("a", "other:1"), ("c", "app"), ("a", "app:3")]
        {
            metrics.pinned(namespace, image);
        }
        assert_eq!(counts(&metrics), [3, 1, 2]);
    }
}

//! What the storage of the pull-through registry counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::added;

/// What the storage counts.
#[derive(Clone, Debug)]
pub struct StorageMetrics {
    /// Bytes that are kept, in a directory.
    pub bytes: IntGauge,
    /// Blobs and manifests that are kept, in a directory.
    pub objects: IntGauge,
    /// What was taken out to make room.
    pub evictions: IntCounter,
    /// How many bytes that was.
    pub evicted_bytes: IntCounter,
    /// What could not be kept, by reason.
    keep_failures: IntCounterVec,
    /// What was found not to be what its digest says, and thrown away.
    pub corrupt: IntCounter,
}

impl StorageMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| added(registry, IntCounter::new(name, help)?);
        let gauge = |name: &str, help: &str| added(registry, IntGauge::new(name, help)?);
        let keep_failures =
            Opts::new("pinstream_storage_keep_failures_total", "What was pulled and could not be kept, by reason.");
        let metrics = Self {
            bytes: gauge("pinstream_storage_bytes", "Bytes of images that a directory keeps.")?,
            objects: gauge("pinstream_storage_objects", "Blobs and manifests that a directory keeps.")?,
            evictions: counter(
                "pinstream_storage_evictions_total",
                "Blobs and manifests that were taken out to make room.",
            )?,
            evicted_bytes: counter("pinstream_storage_evicted_bytes_total", "Bytes that were taken out to make room.")?,
            keep_failures: added(registry, IntCounterVec::new(keep_failures, &["reason"])?)?,
            corrupt: counter(
                "pinstream_storage_corrupt_total",
                "Blobs and manifests that no longer were what their digest says, and were thrown away.",
            )?,
        };
        for reason in ["full", "error"] {
            metrics.keep_failures.with_label_values(&[reason]);
        }
        Ok(metrics)
    }

    /// Counts something that could not be kept: because there is no room, or for another reason.
    pub fn not_kept(&self, for_room: bool) {
        self.keep_failures.with_label_values(&[if for_room { "full" } else { "error" }]).inc();
    }
}

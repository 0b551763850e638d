//! What the pull-through registry counts of what it has and of what it fetches.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::added;

/// Where what is pulled comes from.
#[derive(Clone, Debug)]
pub struct UpstreamMetrics {
    /// What was asked for, by kind and by whether it was there.
    content: IntCounterVec,
    /// What was not got from a registry, by reason.
    errors: IntCounterVec,
    /// Bytes of blobs that were fetched.
    pub bytes: IntCounter,
    /// Blobs that are being fetched.
    pub fetches: IntGauge,
}

impl UpstreamMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let content = Opts::new(
            "pinstream_upstream_content_total",
            "Manifests and blobs that were pulled, by whether they were there already.",
        );
        let errors = Opts::new(
            "pinstream_upstream_errors_total",
            "Manifests and blobs that could not be fetched from a repository, by reason.",
        );
        let metrics = Self {
            content: added(registry, IntCounterVec::new(content, &["what", "result"])?)?,
            errors: added(registry, IntCounterVec::new(errors, &["reason"])?)?,
            bytes: added(
                registry,
                IntCounter::new("pinstream_upstream_bytes_total", "Bytes of blobs that were fetched.")?,
            )?,
            fetches: added(registry, IntGauge::new("pinstream_upstream_fetches", "Blobs that are being fetched.")?)?,
        };
        for (what, result) in
            [("manifest", "hit"), ("manifest", "miss"), ("blob", "hit"), ("blob", "miss"), ("blob", "shared")]
        {
            metrics.content.with_label_values(&[what, result]);
        }
        metrics.errors.with_label_values(&["NotFound"]);
        Ok(metrics)
    }

    /// It was there already.
    pub fn hit(&self, what: &str) {
        self.content.with_label_values(&[what, "hit"]).inc();
    }

    /// It is fetched.
    pub fn missed(&self, what: &str) {
        self.content.with_label_values(&[what, "miss"]).inc();
    }

    /// It is being fetched already.
    pub fn shared(&self, what: &str) {
        self.content.with_label_values(&[what, "shared"]).inc();
    }

    /// It could not be fetched from a repository.
    pub fn failed(&self, reason: &str) {
        self.errors.with_label_values(&[reason]).inc();
    }
}

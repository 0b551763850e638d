//! What the HTTP side of the pull-through registry counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::added;

/// The HTTP side of the pull-through registry.
#[derive(Clone, Debug)]
pub struct PullMetrics {
    /// Requests by method, by what they asked for, and by class of answer.
    requests: IntCounterVec,
    /// Decisions on who may pull.
    pub access: IntCounterVec,
    /// Bytes of blobs that were sent.
    pub bytes: IntCounter,
    /// Blobs that are being sent.
    pub transfers: IntGauge,
}

impl PullMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let requests =
            Opts::new("pinstream_pull_requests_total", "Requests to the pull-through registry, by class of answer.");
        let access = Opts::new("pinstream_pull_access_total", "Decisions on who may pull, by decision.");
        let metrics = Self {
            requests: added(registry, IntCounterVec::new(requests, &["method", "what", "class"])?)?,
            access: added(registry, IntCounterVec::new(access, &["decision"])?)?,
            bytes: added(registry, IntCounter::new("pinstream_pull_bytes_total", "Bytes of blobs that were sent.")?)?,
            transfers: added(
                registry,
                IntGauge::new("pinstream_pull_transfers", "Blobs that are being sent to clients.")?,
            )?,
        };
        metrics.requests.with_label_values(&["GET", "manifest", "2xx"]);
        for decision in ["allowed", "anonymous", "no_credentials", "bad_credentials", "denied", "unavailable"] {
            metrics.access.with_label_values(&[decision]);
        }
        Ok(metrics)
    }

    /// Counts a request that was answered.
    pub fn answered(&self, method: &str, what: &str, status: u16) {
        let class = match status {
            401 => "401",
            404 => "404",
            429 => "429",
            100..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[method, what, class]).inc();
    }
}

//! Every metric that Pinstream has, in one registry. `docs/metrics.md` explains them; a test compares the two.
//!
//! Labels take values of closed sets, or name only so many of what users write.

mod audit;
mod policy;
mod pull;
mod resolved;
mod source;
mod storage;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use tokio::runtime::Handle;

pub use audit::AuditMetrics;
pub use policy::PolicyMetrics;
pub use pull::PullMetrics;
pub use resolved::ResolvedMetrics;
pub use source::SourceMetrics;
pub use storage::StorageMetrics;
pub use upstream::UpstreamMetrics;

use crate::admission::decide::Outcome;

/// Upper bounds in seconds, from 1 µs to 2.5 s.
const BUCKETS: [f64; 20] = [
    1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5,
    1.0, 2.5,
];

/// Upper bounds in seconds, from 1 ms to 2 min.
const IMPORT_BUCKETS: [f64; 11] = [1e-3, 5e-3, 2.5e-2, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 120.0];

/// The label of all that have none of their own, because only so many are named. No object can have that name.
const OTHERS: &str = "(other)";

/// What tags are to the importer.
const TAG_STATES: [&str; 4] = ["pending", "failed", "scheduled", "imported"];

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// What became of admission requests, by operation, kind and outcome.
    pub requests: IntCounterVec,
    /// What became of slots, by outcome.
    pub slots: IntCounterVec,
    /// By which streams they were pinned.
    pub resolved: ResolvedMetrics,
    /// From the bytes of a review to the bytes of its answer.
    pub decision_seconds: Histogram,
    /// From the head of a request to its answer, the body's arrival included.
    pub request_seconds: Histogram,
    /// What the policy found.
    pub policy: PolicyMetrics,
    /// Streams that can be resolved.
    pub streams: IntGauge,
    /// Tags of these streams.
    pub tags: IntGauge,
    /// Whether the streams can be read.
    pub source: SourceMetrics,
    /// The importer's own.
    pub import: ImportMetrics,
    /// How far what runs is from its streams.
    pub audit: AuditMetrics,
    /// The server's own.
    pub server: ServerMetrics,
    /// The pull-through registry's own, its HTTP side.
    pub pull: PullMetrics,
    /// The storage's own.
    pub storage: StorageMetrics,
    /// Where what is pulled comes from.
    pub upstream: UpstreamMetrics,
    /// Asynchronous tasks that have not ended.
    tasks: IntGauge,
}

/// What the importer counts.
#[derive(Clone, Debug)]
pub struct ImportMetrics {
    /// Imports of tags that ended, by result and reason.
    imports: IntCounterVec,
    /// How long each took.
    seconds: Histogram,
    /// Tags that are due and wait.
    pub queue: IntGauge,
    /// Importable tags, by state.
    pub tags: IntGaugeVec,
    /// For how long the scheduled import that waits longest has been due, in seconds.
    pub overdue: Gauge,
    /// Scheduled tags that have been due for longer than their interval.
    pub overdue_tags: IntGauge,
    /// 1 while this process is the one that imports.
    pub leader: IntGauge,
    /// Requests to registries, by class of answer.
    pub registry_requests: IntCounterVec,
}

impl ImportMetrics {
    /// Another one imports: what is still to be done is its to tell.
    pub fn is_left(&self) {
        for state in TAG_STATES {
            self.tags.with_label_values(&[state]).set(0);
        }
        self.queue.set(0);
        self.overdue_tags.set(0);
        self.overdue.set(0.0);
    }
}

impl ImportMetrics {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let opts = |name: &str, help: &str| Opts::new(name, help);
        let seconds =
            HistogramOpts::new("pinstream_import_duration_seconds", "From the first request for a tag to its answer.");
        Ok(Self {
            imports: added(
                registry,
                IntCounterVec::new(
                    opts("pinstream_imports_total", "Imports of tags by result and reason."),
                    &["result", "reason"],
                )?,
            )?,
            seconds: added(registry, Histogram::with_opts(seconds.buckets(IMPORT_BUCKETS.to_vec()))?)?,
            queue: added(
                registry,
                IntGauge::new("pinstream_import_queue_length", "Tags whose import is due and has not begun.")?,
            )?,
            tags: added(
                registry,
                IntGaugeVec::new(
                    opts("pinstream_import_tags", "Tags that come from an image in a registry, by state."),
                    &["state"],
                )?,
            )?,
            overdue: added(
                registry,
                Gauge::new(
                    "pinstream_import_overdue_seconds",
                    "For how long the scheduled import that waits longest has been due.",
                )?,
            )?,
            overdue_tags: added(
                registry,
                IntGauge::new(
                    "pinstream_import_overdue_tags",
                    "Scheduled tags that have been due for longer than their interval.",
                )?,
            )?,
            registry_requests: added(
                registry,
                IntCounterVec::new(
                    opts("pinstream_registry_requests_total", "Requests to registries by class of answer."),
                    &["class"],
                )?,
            )?,
            leader: added(
                registry,
                IntGauge::new("pinstream_leader", "1 while this process is the one that imports.")?,
            )?,
        })
    }

    /// Counts an import that ended, with the reason if it failed.
    pub fn imported(&self, failure: Option<&str>, took: Duration) {
        let result = if failure.is_some() { "failed" } else { "imported" };
        self.imports.with_label_values(&[result, failure.unwrap_or_default()]).inc();
        self.seconds.observe(took.as_secs_f64());
    }
}

/// What the server counts.
#[derive(Clone, Debug)]
pub struct ServerMetrics {
    /// Connections that are open.
    pub connections: IntGauge,
    /// Connections that were closed at once because there were too many.
    pub connections_refused: IntCounter,
    /// Connections whose TLS handshake failed or took too long.
    pub handshake_failures: IntCounter,
    /// When the certificate in use expires, in seconds since 1970.
    pub certificate_expiry: Gauge,
    /// Certificates that were looked at because their files changed, by result.
    pub certificate_reloads: IntCounterVec,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Only if two metrics have one name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let all = &registry;
        let histogram = |name: &str, help: &str| {
            added(all, Histogram::with_opts(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()))?)
        };
        let counters =
            |name: &str, help: &str, labels: &[&str]| added(all, IntCounterVec::new(Opts::new(name, help), labels)?);
        let counter = |name: &str, help: &str| added(all, IntCounter::new(name, help)?);
        let integer = |name: &str, help: &str| added(all, IntGauge::new(name, help)?);
        let gauge = |name: &str, help: &str| added(all, Gauge::new(name, help)?);

        let build = Opts::new("pinstream_build_info", "The running version; always 1.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        added(all, IntGauge::with_opts(build)?)?.set(1);
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let metrics = Self {
            requests: counters(
                "pinstream_admission_requests_total",
                "Admission requests by operation, kind and outcome.",
                &["operation", "kind", "outcome"],
            )?,
            slots: counters("pinstream_admission_slots_total", "Image slots by outcome.", &["outcome"])?,
            resolved: ResolvedMetrics::new(all)?,
            decision_seconds: histogram(
                "pinstream_admission_decision_duration_seconds",
                "From the bytes of a review to the bytes of its answer.",
            )?,
            request_seconds: histogram(
                "pinstream_admission_request_duration_seconds",
                "From the head of a request to its answer, the arrival of its body included.",
            )?,
            policy: PolicyMetrics::new(all)?,
            streams: integer("pinstream_index_streams", "Image streams that can be resolved.")?,
            tags: integer("pinstream_index_tags", "Tags of the image streams that can be resolved.")?,
            source: SourceMetrics::new(all)?,
            import: ImportMetrics::new(all)?,
            audit: AuditMetrics::new(all)?,
            storage: StorageMetrics::new(all)?,
            upstream: UpstreamMetrics::new(all)?,
            server: ServerMetrics {
                connections: integer(
                    "pinstream_connections",
                    "Connections of the webhook and the pull-through registry that are open.",
                )?,
                connections_refused: counter(
                    "pinstream_connections_refused_total",
                    "Connections closed at once because there were too many.",
                )?,
                handshake_failures: counter(
                    "pinstream_tls_handshake_failures_total",
                    "Connections whose TLS handshake failed or took too long.",
                )?,
                certificate_expiry: gauge(
                    "pinstream_tls_certificate_expiry_timestamp_seconds",
                    "When the certificate in use expires, in seconds since 1970.",
                )?,
                certificate_reloads: counters(
                    "pinstream_tls_certificate_reloads_total",
                    "Changed certificate files that were read, by result.",
                    &["result"],
                )?,
            },
            pull: PullMetrics::new(all)?,
            tasks: integer("pinstream_tasks", "Asynchronous tasks of the process.")?,
            registry,
        };
        for state in TAG_STATES {
            metrics.import.tags.with_label_values(&[state]);
        }
        metrics.import.imports.with_label_values(&["imported", ""]);
        metrics.import.registry_requests.with_label_values(&["2xx"]);
        for outcome in Outcome::LABELS {
            metrics.slots.with_label_values(&[outcome]);
        }
        for result in ["loaded", "refused"] {
            metrics.server.certificate_reloads.with_label_values(&[result]);
        }
        Ok(metrics)
    }

    /// Counts one admission request and its time.
    pub fn request(&self, operation: &str, kind: &str, outcome: &str, decision: Duration) {
        self.requests.with_label_values(&[operation, kind, outcome]).inc();
        self.decision_seconds.observe(decision.as_secs_f64());
    }

    fn encode(&self) -> Response {
        if let Ok(runtime) = Handle::try_current() {
            self.tasks.set(i64::try_from(runtime.metrics().num_alive_tasks()).unwrap_or(i64::MAX));
        }
        let encoder = TextEncoder::new();
        let mut text = Vec::new();
        match encoder.encode(&self.registry.gather(), &mut text) {
            Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        }
    }
}

/// `/metrics`: everything in Prometheus' text format.
pub fn router(metrics: Arc<Metrics>) -> Router {
    Router::new().route("/metrics", get(async move || metrics.encode()))
}

/// Registers a metric and gives it back.
fn added<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> prometheus::Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

//! What is counted of an audit: containers and Pods by namespace and state, streams, tags.
//!
//! Namespaces are written by users, so only so many of them are labels; the rest counts together. The label is not called
//! `namespace`, which is what Prometheus calls the namespace that a process is scraped in.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{Gauge, GaugeVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::{OTHERS, added};
use crate::audit::{Audit, Standing, Sums};

/// What the audit counts.
#[derive(Clone, Debug)]
pub struct AuditMetrics {
    /// Namespaces that have a label.
    named: Arc<Mutex<BTreeSet<String>>>,
    containers: IntGaugeVec,
    pods: IntGaugeVec,
    behind_steps: IntGaugeVec,
    behind_seconds: GaugeVec,
    streams: IntGauge,
    unused: IntGauge,
    failing: IntGauge,
    pending: IntGauge,
    /// 1 while the Pods are known and watched.
    pub synced: IntGauge,
}

impl AuditMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| added(registry, IntGauge::new(name, help)?);
        let by =
            |name: &str, help: &str, labels: &[&str]| added(registry, IntGaugeVec::new(Opts::new(name, help), labels)?);
        let behind = Opts::new(
            "pinstream_audit_behind_seconds",
            "For how long a newer image has been there for the container that is behind longest, by namespace.",
        );
        let metrics = Self {
            named: Arc::default(),
            containers: by(
                "pinstream_audit_containers",
                "Containers by namespace and state of their image.",
                &["pod_namespace", "state"],
            )?,
            pods: by(
                "pinstream_audit_pods",
                "Pods by namespace and the worst state of their images.",
                &["pod_namespace", "state"],
            )?,
            behind_steps: by(
                "pinstream_audit_behind_steps",
                "How many images the container that is furthest behind is behind, by namespace.",
                &["pod_namespace"],
            )?,
            behind_seconds: added(registry, GaugeVec::new(behind, &["pod_namespace"])?)?,
            streams: gauge("pinstream_audit_streams", "Image streams that are audited.")?,
            unused: gauge("pinstream_audit_unused_streams", "Image streams of whose images no container runs one.")?,
            failing: gauge("pinstream_audit_failing_tags", "Tags whose newest import failed.")?,
            pending: gauge("pinstream_audit_pending_tags", "Tags that were asked for and not imported yet.")?,
            synced: gauge("pinstream_audit_synced", "1 while the Pods of the cluster are known and watched.")?,
        };
        metrics.clear();
        Ok(metrics)
    }

    /// Takes the figures of an audit, at a time in seconds since 1970. The namespaces with the most containers get a label.
    pub fn measure(&self, audit: &Audit, namespaces: usize, now: i64) {
        let mut sums: Vec<_> = audit.sums().collect();
        sums.sort_unstable_by(|(one, a), (other, b)| b.total().cmp(&a.total()).then_with(|| one.cmp(other)));
        let (named, rest) = sums.split_at(namespaces.min(sums.len()));
        let mut others = Sums::default();
        for (_, sums) in rest {
            others.add(sums);
        }
        self.forget_all_but(named.iter().map(|(namespace, _)| (*namespace).to_owned()).collect());
        for (namespace, sums) in named.iter().chain([&(OTHERS, others)]) {
            self.of_namespace(namespace, sums, now);
        }
        let stock = audit.stock();
        self.streams.set(whole(stock.streams));
        self.unused.set(whole(stock.unused));
        self.failing.set(whole(stock.failing));
        self.pending.set(whole(stock.pending));
    }

    /// Nothing is known, or another replica tells it.
    pub fn clear(&self) {
        self.measure(&Audit::default(), 0, 0);
        self.synced.set(0);
    }

    /// Only what is gone is taken out, so that whoever reads meanwhile misses nothing.
    fn forget_all_but(&self, named: BTreeSet<String>) {
        let mut known = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        for namespace in known.difference(&named) {
            // What is not there need not be taken out.
            for state in Standing::STATES {
                let _ = self.containers.remove_label_values(&[namespace, state]);
                let _ = self.pods.remove_label_values(&[namespace, state]);
            }
            let _ = self.behind_steps.remove_label_values(&[namespace]);
            let _ = self.behind_seconds.remove_label_values(&[namespace]);
        }
        *known = named;
    }

    fn of_namespace(&self, namespace: &str, sums: &Sums, now: i64) {
        for (gauges, counts) in [(&self.containers, sums.containers), (&self.pods, sums.pods)] {
            for (state, count) in Standing::STATES.iter().zip(counts) {
                gauges.with_label_values(&[namespace, state]).set(whole(count));
            }
        }
        self.behind_steps.with_label_values(&[namespace]).set(whole(sums.steps));
        let seconds = sums.behind_since.map_or(0, |since| now.saturating_sub(since.as_second()).max(0));
        let gauge: Gauge = self.behind_seconds.with_label_values(&[namespace]);
        #[expect(clippy::cast_precision_loss, reason = "seconds of centuries are exact in a float")]
        gauge.set(seconds as f64);
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Key;

    #[test]
    fn namespaces_with_the_most_containers_are_named_and_the_rest_counts_together() {
        let metrics = AuditMetrics::new(&Registry::new()).unwrap();
        let mut audit = Audit::default();
        for (namespace, count) in [("a", 1), ("b", 3), ("c", 2), ("d", 1)] {
            audit.apply_pod(&Key::new(namespace, "pod"), std::iter::repeat_n("q.io/a/b:1", count));
        }
        metrics.measure(&audit, 2, 0);
        let count = |namespace: &str| metrics.containers.with_label_values(&[namespace, "mutable"]).get();
        assert_eq!((count("b"), count("c"), count(OTHERS)), (3, 2, 2));
        let pods = |namespace: &str| metrics.pods.with_label_values(&[namespace, "mutable"]).get();
        assert_eq!((pods("b"), pods("c"), pods(OTHERS)), (1, 1, 2));
        metrics.clear();
        assert_eq!((count("b"), count(OTHERS)), (0, 0));
    }
}

//! Pods and pod templates: their images are pinned, and what became of them is counted and logged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Answer, log_malformed, operation};
use crate::admission::decide::Decision;
use crate::admission::review::{self, Asked, NoReview, Verdict};
use crate::metrics::Metrics;
use crate::store::Streams;
use crate::workload::Kinds;

/// The most changes that a log line names.
const NAMED_MAX: usize = 20;

/// What images are pinned with.
#[derive(Debug)]
pub struct Webhook {
    /// The streams to resolve by.
    pub streams: Arc<Streams>,
    /// The kinds to resolve in.
    pub kinds: Kinds,
    /// Where to count.
    pub metrics: Arc<Metrics>,
}

impl Answer for Webhook {
    fn is_ready(&self) -> bool {
        self.streams.is_loaded()
    }

    fn answer(&self, body: &[u8]) -> Result<Vec<u8>, NoReview> {
        let started = Instant::now();
        let snapshot = self.streams.snapshot();
        review::answer(body, &snapshot, &self.kinds, |asked, verdict| {
            self.count(asked, verdict, started.elapsed());
            log(asked, verdict);
        })
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

impl Webhook {
    /// The same for Pods alone.
    pub(super) fn only_pods(&self) -> Self {
        Self { streams: Arc::clone(&self.streams), kinds: self.kinds.only_pods(), metrics: Arc::clone(&self.metrics) }
    }

    fn count(&self, asked: Option<&Asked<'_>>, verdict: &Verdict<'_>, took: Duration) {
        let kind = asked.and_then(|asked| self.kinds.find(&asked.kind.group, &asked.kind.kind));
        let outcome = match verdict {
            Verdict::Ignored => "ignored",
            Verdict::Malformed(_) => "malformed",
            Verdict::Decided(_, decision) => {
                for slot in &decision.slots {
                    self.metrics.slots.with_label_values(&[slot.outcome.label()]).inc();
                }
                let namespace = asked.map_or("", |asked| &*asked.namespace);
                for (slot, _) in decision.rewrites() {
                    self.metrics.resolved.pinned(namespace, &slot.image);
                }
                if decision.rewrites().next().is_some() { "patched" } else { "unchanged" }
            }
        };
        self.metrics.request(operation(asked), kind.map_or("other", |kind| &kind.kind), outcome, took);
    }
}

/// One line for an admission that changes something, and one for a review that cannot be read.
fn log(asked: Option<&Asked<'_>>, verdict: &Verdict<'_>) {
    match (asked, verdict) {
        (Some(asked), Verdict::Decided(object, decision)) => {
            let changes = changes(decision);
            if changes.is_empty() {
                return;
            }
            tracing::info!(
                uid = &*asked.uid,
                operation = &*asked.operation,
                kind = &*asked.kind.kind,
                namespace = &*asked.namespace,
                name = &*object.name,
                %changes,
                "images pinned"
            );
        }
        (_, Verdict::Malformed(reason)) => log_malformed(asked, reason),
        _ => {}
    }
}

/// The first changes, and how many more there are.
fn changes(decision: &Decision<'_>) -> String {
    // Nothing but references that were parsed, so there is nothing in it to escape.
    let mut changes = String::new();
    for (slot, image) in decision.rewrites().take(NAMED_MAX) {
        let separator = if changes.is_empty() { "" } else { ", " };
        let index = slot.index.to_string();
        changes.extend([separator, slot.list.field(), "/", &index, ": ", &slot.image, " -> ", image]);
    }
    if let Some(more) = decision.rewrites().count().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        changes.extend([" and ", &more.to_string(), " more"]);
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::decide::{Decided, Outcome};
    use crate::workload::{List, Slot};

    #[test]
    fn a_line_names_some_changes_and_counts_the_rest() {
        let slots: Vec<_> = (0..50_000)
            .map(|index| Slot { list: List::Containers, index, name: "".into(), image: "app:1".into() })
            .collect();
        let pinned = |slot| Decided { slot, outcome: Outcome::Pinned { image: "q.io/app@sha256:12", stale: None } };
        let line = |count| changes(&Decision { slots: slots[..count].iter().map(pinned).collect() });
        assert_eq!(line(0), "");
        assert_eq!(line(2), "containers/0: app:1 -> q.io/app@sha256:12, containers/1: app:1 -> q.io/app@sha256:12");
        assert!(!line(NAMED_MAX).contains("more") && line(NAMED_MAX + 1).ends_with(" and 1 more"));
        assert_eq!(line(50_000), line(NAMED_MAX) + &format!(" and {} more", 50_000 - NAMED_MAX));
    }
}

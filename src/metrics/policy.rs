//! What the policy found of objects and their images.

use prometheus::{IntCounterVec, Opts, Registry};

use super::added;
use crate::admission::judge::{Finding, Judgement};
use crate::policy::Level;

/// What the policy counts.
#[derive(Clone, Debug)]
pub struct PolicyMetrics {
    /// Objects that were judged, by level, operation, kind and result.
    objects: IntCounterVec,
    /// Image slots that were judged, by level and finding.
    slots: IntCounterVec,
}

impl PolicyMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            objects: added(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "pinstream_policy_objects_total",
                        "Objects held to the policy by level, operation, kind and result.",
                    ),
                    &["level", "operation", "kind", "result"],
                )?,
            )?,
            slots: added(
                registry,
                IntCounterVec::new(
                    Opts::new("pinstream_policy_slots_total", "Image slots held to the policy by level and finding."),
                    &["level", "finding"],
                )?,
            )?,
        };
        for level in Level::ALL {
            for finding in Finding::ALL {
                metrics.slots.with_label_values(&[level.label(), finding.label()]);
            }
        }
        // Alerts need a beginning to count from.
        metrics.objects.with_label_values(&[Level::Enforce.label(), "CREATE", "Pod", "refused"]);
        Ok(metrics)
    }

    /// Counts an object and its slots.
    pub fn judged(&self, operation: &str, kind: &str, judgement: &Judgement<'_>) {
        let level = judgement.level.label();
        self.objects.with_label_values(&[level, operation, kind, judgement.result()]).inc();
        for slot in &judgement.slots {
            self.slots.with_label_values(&[level, slot.finding.label()]).inc();
        }
    }
}

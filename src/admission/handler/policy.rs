//! Pods and pod templates, held to the policy: what was found is counted, logged and recorded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;

use super::{Answer, log_malformed, operation};
use crate::admission::decide::shorten;
use crate::admission::judge::{Judgement, NAMED_MAX};
use crate::admission::review::{self, Asked, Judged, NoReview, Policy};
use crate::metrics::Metrics;
use crate::policy::Exceptions;
use crate::store::kube::Refused;
use crate::store::levels::CurrentLevels;
use crate::workload::{Kinds, Workload};

/// What objects are held to.
#[derive(Debug)]
pub struct PolicyWebhook {
    /// The level of each namespace.
    pub levels: Arc<CurrentLevels>,
    /// What need not be pinned.
    pub exceptions: Arc<Exceptions>,
    /// The kinds with images.
    pub kinds: Kinds,
    /// Who writes events of refusals, if someone does.
    pub refusals: Option<Sender<Refused>>,
    /// Where to count.
    pub metrics: Arc<Metrics>,
}

impl Answer for PolicyWebhook {
    /// It answers by what is in the review. A namespace that is not known yet has the level of those that say none.
    fn is_ready(&self) -> bool {
        true
    }

    fn answer(&self, body: &[u8]) -> Result<Vec<u8>, NoReview> {
        let started = Instant::now();
        let levels = self.levels.get();
        let policy = Policy { levels: &levels, exceptions: &self.exceptions };
        review::validate(body, &policy, &self.kinds, |asked, judged| {
            self.count(asked, judged, started.elapsed());
            match (asked, judged) {
                (Some(asked), Judged::Object(object, judgement, refusal)) => {
                    log(asked, object, judgement, *refusal);
                    self.record(body, *refusal);
                }
                (_, Judged::Malformed(reason)) => log_malformed(asked, reason),
                _ => {}
            }
        })
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

impl PolicyWebhook {
    /// The same for Pods alone.
    pub(super) fn only_pods(&self) -> Self {
        Self {
            levels: Arc::clone(&self.levels),
            exceptions: Arc::clone(&self.exceptions),
            kinds: self.kinds.only_pods(),
            refusals: self.refusals.clone(),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// Whoever writes events may fall behind, and need not be told everything then.
    fn record(&self, body: &[u8], refusal: Option<&str>) {
        let Some((refusals, message)) = self.refusals.as_ref().zip(refusal) else { return };
        if let Some(refused) = Refused::of_review(body, message) {
            let _ = refusals.try_send(refused);
        }
    }

    fn count(&self, asked: Option<&Asked<'_>>, judged: &Judged<'_>, took: Duration) {
        let kind = asked.and_then(|asked| self.kinds.find(&asked.kind.group, &asked.kind.kind));
        let (operation, kind) = (operation(asked), kind.map_or("other", |kind| &kind.kind));
        let outcome = match judged {
            Judged::Ignored => "ignored",
            Judged::Malformed(_) => "malformed",
            Judged::Object(_, judgement, refusal) => {
                self.metrics.policy.judged(operation, kind, judgement);
                if refusal.is_some() { "refused" } else { "unchanged" }
            }
        };
        self.metrics.request(operation, kind, outcome, took);
    }
}

/// One line for an object with images that should be pinned and are not.
fn log(asked: &Asked<'_>, object: &Workload<'_>, judgement: &Judgement<'_>, refusal: Option<&str>) {
    let mut images: Vec<_> = judgement.unpinned().take(NAMED_MAX).map(|slot| shorten(slot.image.to_string())).collect();
    if images.is_empty() {
        return;
    }
    if let Some(more) = judgement.unpinned().count().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        images.push(format!("and {more} more"));
    }
    let message = if refusal.is_some() { "object refused by the policy" } else { "images are not pinned" };
    // Users wrote the images, so they are escaped.
    tracing::info!(
        uid = &*asked.uid,
        level = judgement.level.label(),
        operation = &*asked.operation,
        kind = &*asked.kind.kind,
        namespace = &*asked.namespace,
        name = &*object.name,
        ?images,
        "{message}"
    );
}

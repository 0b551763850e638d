//! Image streams: they are completed or refused, and what became of them is counted and logged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Answer, log_malformed, operation};
use crate::admission::decide::shorten;
use crate::admission::review::{Asked, NoReview};
use crate::admission::streams::{self, Decision, Rules, Verdict};
use crate::metrics::Metrics;
use crate::reference::Reference;
use crate::registry::{Address, Registries};
use crate::stream::types::{ImportMode, KIND};

/// How many changes or errors a log line tells at most.
const TOLD_MAX: usize = 10;

/// What image streams are completed and refused by.
#[derive(Debug)]
pub struct StreamWebhook {
    /// Import mode of tags that do not say one.
    pub default_mode: ImportMode,
    /// Where images may come from.
    pub registries: Registries,
    /// Where to count.
    pub metrics: Arc<Metrics>,
}

impl Answer for StreamWebhook {
    /// It answers by what is in the review.
    fn is_ready(&self) -> bool {
        true
    }

    fn answer(&self, body: &[u8]) -> Result<Vec<u8>, NoReview> {
        let started = Instant::now();
        let permits = |reference: &Reference<'_>| self.permits(reference);
        let rules = Rules { default_mode: self.default_mode, permits: &permits };
        streams::answer(body, &rules, |asked, verdict| {
            self.count(asked, verdict, started.elapsed());
            log(asked, verdict);
        })
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

impl StreamWebhook {
    /// Whether that image may be imported. One that cannot be, wherever it is, is left to the importer to tell.
    fn permits(&self, reference: &Reference<'_>) -> bool {
        match Address::of(&reference.to_string()) {
            Ok(address) => self.registries.permit(&address.registry),
            Err(_) => true,
        }
    }

    fn count(&self, asked: Option<&Asked<'_>>, verdict: &Verdict<'_>, took: Duration) {
        let kind = if asked.is_some_and(streams::is_stream) { KIND } else { "other" };
        let outcome = match verdict {
            Verdict::Ignored => "ignored",
            Verdict::Malformed(_) => "malformed",
            Verdict::Decided(Decision::Refused(_)) => "refused",
            Verdict::Decided(Decision::Allowed { changes, .. }) if changes.is_empty() => "unchanged",
            Verdict::Decided(Decision::Allowed { .. }) => "patched",
        };
        self.metrics.request(operation(asked), kind, outcome, took);
    }
}

/// One line for a stream that is changed or refused, and one for a review that cannot be read.
fn log(asked: Option<&Asked<'_>>, verdict: &Verdict<'_>) {
    let (message, told, count) = match verdict {
        Verdict::Ignored => return,
        Verdict::Malformed(reason) => return log_malformed(asked, reason),
        Verdict::Decided(Decision::Allowed { changes, .. }) if changes.is_empty() => return,
        Verdict::Decided(Decision::Allowed { changes, .. }) => ("image stream completed", told(changes), changes.len()),
        Verdict::Decided(Decision::Refused(invalid)) => {
            ("image stream refused", told(&invalid.errors), invalid.errors.len())
        }
    };
    let Some(asked) = asked else { return };
    // Users wrote some of it, so it is escaped.
    tracing::info!(
        uid = &*asked.uid,
        operation = &*asked.operation,
        namespace = &*asked.namespace,
        name = &*asked.name,
        count,
        ?told,
        "{message}"
    );
}

/// The first of several things in one line.
fn told(things: &[impl ToString]) -> String {
    let told: Vec<_> = things.iter().take(TOLD_MAX).map(|thing| shorten(thing.to_string())).collect();
    told.join(", ")
}

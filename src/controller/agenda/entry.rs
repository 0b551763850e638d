//! One tag on the agenda: when it comes, and for how long it waits after what happened. Pure.

use std::time::Duration;

use super::Verdict;
use crate::stream::plan::Need;

/// The first wait after a failure.
pub(super) const RETRY_FIRST: Duration = Duration::from_secs(30);
/// The longest wait after a failure.
pub(super) const RETRY_LONGEST: Duration = Duration::from_mins(15);
/// The first wait for a home that is away.
const HOME_FIRST: Duration = Duration::from_millis(300);
/// The longest wait for one. Each try may ask a registry for what cannot be written.
pub(super) const HOME_LONGEST: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct Entry {
    /// `None`: not before the tag is changed, or has a number.
    pub(super) at: Option<Duration>,
    pub(super) need: Need,
    pub(super) generation: i64,
    /// How often in a row the registry failed.
    tries: u32,
    /// How often in a row the home did, or was faster.
    pub(super) home_tries: u32,
    /// It waits for the home, until then at least.
    home: Option<Duration>,
}

impl Entry {
    /// Of what was not known yet. What has no number is not asked for: it would have another one when the answer comes.
    pub(super) fn new(need: Need, generation: i64, interval: Duration, now: Duration, random: u64) -> Self {
        let (at, tries) = match need {
            Need::Asked => (now, 0),
            // It failed before this process knew of it.
            Need::Failed => (now + retry(0, random), 1),
            // Nobody knows when it was looked at last; all of them together should not be looked at now.
            Need::Scheduled => (now + share(interval, random), 0),
        };
        Self { at: (generation != 0).then_some(at), need, generation, tries, home_tries: 0, home: None }
    }

    /// Of the stream itself.
    pub(super) fn of_stream(now: Duration) -> Self {
        Self { at: Some(now), need: Need::Asked, generation: 0, tries: 0, home_tries: 0, home: None }
    }

    /// The same, for another reason.
    pub(super) fn with(self, need: Need) -> Self {
        Self { need, ..self }
    }

    /// It was tried, and is not over.
    pub(super) fn end(&mut self, verdict: Verdict, now: Duration, interval: Duration, random: u64) {
        let least = match verdict {
            Verdict::Away(least) | Verdict::Later(least) => least.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let wait = match verdict {
            Verdict::Done => Some(around(interval, random)),
            Verdict::Never => None,
            Verdict::Next => Some(Duration::ZERO),
            Verdict::Later(_) => Some(retry(self.tries, random).max(least)),
            Verdict::Refused => Some(retry(self.home_tries, random)),
            Verdict::Again | Verdict::Away(_) => Some(soon(self.home_tries, random).max(least)),
        };
        self.at = wait.map(|wait| now + wait);
        self.home = matches!(verdict, Verdict::Away(_) | Verdict::Refused).then_some(now + least);
        // Whatever the home did says nothing of the registry.
        (self.tries, self.home_tries) = match verdict {
            Verdict::Done => (0, 0),
            Verdict::Never | Verdict::Next => (self.tries, 0),
            Verdict::Later(_) => (self.tries + 1, 0),
            Verdict::Again | Verdict::Away(_) | Verdict::Refused => (self.tries, self.home_tries + 1),
        };
    }

    /// What waits for the home need not wait any more, and what is tried just now will not have to wait for long.
    pub(super) fn home_is_back(&mut self, now: Duration) {
        self.home_tries = 0;
        if let Some(least) = self.home.take() {
            self.at = self.at.map(|at| at.min(least.max(now)));
        }
    }
}

/// The wait after so many tries that failed before.
fn retry(tries: u32, random: u64) -> Duration {
    doubled(RETRY_FIRST, RETRY_LONGEST, tries, random)
}

/// The same, if it is the home's matter.
fn soon(tries: u32, random: u64) -> Duration {
    doubled(HOME_FIRST, HOME_LONGEST, tries, random)
}

fn doubled(first: Duration, longest: Duration, tries: u32, random: u64) -> Duration {
    around(first.saturating_mul(2_u32.saturating_pow(tries)).min(longest), random).min(longest)
}

/// Nine to eleven tenths of it.
fn around(duration: Duration, random: u64) -> Duration {
    duration * 9 / 10 + share(duration / 5, random)
}

/// Something between nothing and all of it.
fn share(duration: Duration, random: u64) -> Duration {
    duration.mul_f64(f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX))
}

/// Another number for each of several.
pub(super) fn spread(random: u64, number: usize) -> u64 {
    let number = u64::try_from(number).unwrap_or_default();
    random.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

//! Politeness: how many requests a registry gets at a time and in a second, and when it wants none.
//!
//! Each registry has a lane of its own, so that one that limits holds up nobody else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::kept::{Kept, Lasting};
use super::keyring::Identity;

/// A registry that wants to be left alone for longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it is remembered when a registry was asked last.
const REMEMBERED: Duration = Duration::from_mins(1);
/// After how long the turn is looked at again at the latest, however low the rate is.
const WAIT_MAX: Duration = Duration::from_hours(1);
/// For how many credentials a registry is left alone at a time; if it wants more, those that were tried least lately are.
const IDENTITIES_MAX: usize = 1000;
/// How much of a second's requests may come at once.
const BURST: f64 = 1.0;

/// The lanes of all registries.
#[derive(Debug)]
pub(super) struct Lanes {
    concurrency: usize,
    rate: f64,
    by_host: Mutex<HashMap<String, Arc<Lane>>>,
}

/// The way to one registry.
#[derive(Debug)]
pub(super) struct Lane {
    requests: Arc<Semaphore>,
    rate: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests that may be sent now.
    budget: f64,
    refilled: Instant,
    /// Before, nobody asks.
    not_before: Instant,
    /// Before, those credentials are not shown.
    not_before_as: Kept<Identity, Instant>,
    /// The latest of all these times.
    last: Instant,
}

impl Lanes {
    /// So many requests at a time and in a second for each registry; 0 means no limit.
    pub(super) fn new(concurrency: usize, rate: f64) -> Self {
        Self { concurrency, rate, by_host: Mutex::default() }
    }

    /// The way to that host.
    pub(super) fn lane(&self, host: &str) -> Arc<Lane> {
        let mut lanes = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(host) {
            return Arc::clone(lane);
        }
        // What nobody uses and nothing is known of can be made again.
        lanes.retain(|_, lane| Arc::strong_count(lane) > 1 || lane.is_in_use());
        let concurrency = if self.concurrency == 0 { Semaphore::MAX_PERMITS } else { self.concurrency };
        let now = Instant::now();
        let lane = Arc::new(Lane {
            requests: Arc::new(Semaphore::new(concurrency)),
            rate: self.rate,
            state: Mutex::new(State {
                budget: (self.rate * BURST).max(1.0),
                refilled: now,
                not_before: now,
                not_before_as: Kept::new(IDENTITIES_MAX),
                last: now,
            }),
        });
        lanes.insert(host.to_owned(), Arc::clone(&lane));
        lane
    }
}

impl Lane {
    /// Waits for the right to send a request, with those credentials if there are some.
    ///
    /// # Errors
    /// For how long the registry wants to be left alone, if that is longer than one waits.
    pub(super) async fn enter(&self, shown: Option<&Identity>) -> Result<Option<OwnedSemaphorePermit>, Duration> {
        // Whoever waits here is in nobody's way.
        self.rest(shown).await?;
        let permit = Arc::clone(&self.requests).acquire_owned().await.ok();
        loop {
            self.rest(shown).await?;
            let wait = self.wait();
            if wait.is_zero() {
                return Ok(permit);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Waits for as long as the registry wants to be left alone.
    ///
    /// # Errors
    /// For how long, if that is longer than one waits.
    pub(super) async fn rest(&self, shown: Option<&Identity>) -> Result<(), Duration> {
        loop {
            let wait = self.locked().rest(shown, Instant::now());
            if wait > PATIENCE {
                return Err(wait);
            }
            if wait.is_zero() {
                return Ok(());
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// The registry wants no requests for so long: none with those credentials, or none at all if it was shown none.
    pub(super) fn leave_alone(&self, shown: Option<&Identity>, wait: Duration) {
        let mut state = self.locked();
        let now = Instant::now();
        let until = now + wait.max(state.rest(shown, now));
        state.last = state.last.max(until);
        match shown {
            None => state.not_before = until,
            Some(shown) => {
                state.not_before_as.put(shown.clone(), Lasting { value: until, weight: 1, until }, now);
            }
        }
    }

    /// How long to wait for the next request at the rate of this lane. None means that it may be sent, and counts as sent.
    fn wait(&self) -> Duration {
        let mut state = self.locked();
        let now = Instant::now();
        if self.rate <= 0.0 {
            return Duration::ZERO;
        }
        let gained = now.duration_since(state.refilled).as_secs_f64() * self.rate;
        state.budget = (state.budget + gained).min((self.rate * BURST).max(1.0));
        state.refilled = now;
        if state.budget < 1.0 {
            let wait = ((1.0 - state.budget) / self.rate).min(WAIT_MAX.as_secs_f64());
            return Duration::from_secs_f64(wait);
        }
        state.budget -= 1.0;
        Duration::ZERO
    }

    /// A request is under way, was sent a moment ago, or is not wanted for a while.
    fn is_in_use(&self) -> bool {
        let state = self.locked();
        let now = Instant::now();
        Arc::strong_count(&self.requests) > 1 || state.last > now || now < state.refilled + REMEMBERED
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// For how long the registry wants no requests with those credentials.
    fn rest(&mut self, shown: Option<&Identity>, now: Instant) -> Duration {
        let of_these = shown.and_then(|shown| self.not_before_as.get(shown, now).copied());
        self.not_before.max(of_these.unwrap_or(now)).saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Credential;

    #[tokio::test(start_paused = true)]
    async fn requests_of_a_second_are_counted() {
        let lanes = Lanes::new(0, 10.0);
        let lane = lanes.lane("a");
        let began = Instant::now();
        for _ in 0..30 {
            lane.enter(None).await.unwrap();
        }
        let took = began.elapsed().as_secs_f64();
        assert!((1.9..2.2).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn lowest_rate_is_waited_for_without_a_panic() {
        let lane = Lanes::new(0, f64::MIN_POSITIVE).lane("a");
        lane.enter(None).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_hours(24), lane.enter(None)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn requests_at_a_time_are_counted_for_each_registry() {
        let lanes = Lanes::new(1, 0.0);
        let held = lanes.lane("a").enter(None).await.unwrap();
        assert!(lanes.lane("b").enter(None).await.is_ok());
        let waiting = lanes.lane("a");
        let second = waiting.enter(None);
        tokio::pin!(second);
        assert!(tokio::time::timeout(Duration::from_mins(1), &mut second).await.is_err());
        drop(held);
        assert!(second.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn registry_that_wants_to_be_left_alone_is() {
        let lanes = Lanes::new(0, 0.0);
        let lane = lanes.lane("a");
        lane.leave_alone(None, Duration::from_secs(2));
        let began = Instant::now();
        lane.enter(None).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 2);
        lane.leave_alone(None, Duration::from_mins(10));
        assert!(lane.enter(None).await.unwrap_err() > Duration::from_mins(9));
        assert!(lanes.lane("b").enter(None).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_that_are_limited_close_the_registry_to_no_others() {
        let lane = Lanes::new(0, 0.0).lane("a");
        let [loud, quiet] = ["loud", "quiet"].map(|user| Credential::new(user, "p").identity());
        lane.leave_alone(Some(&loud), Duration::from_mins(10));
        assert!(lane.enter(Some(&loud)).await.unwrap_err() > Duration::from_mins(9));
        assert!(lane.enter(Some(&quiet)).await.is_ok() && lane.enter(None).await.is_ok());
        assert!(lane.is_in_use());
        lane.leave_alone(None, Duration::from_mins(20));
        assert!(lane.enter(Some(&loud)).await.unwrap_err() > Duration::from_mins(19));
        assert!(lane.enter(Some(&quiet)).await.is_err() && lane.enter(None).await.is_err());
        tokio::time::advance(Duration::from_mins(20)).await;
        assert!(lane.enter(Some(&loud)).await.is_ok() && !lane.is_in_use());
    }
}

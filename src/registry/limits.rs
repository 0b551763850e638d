//! Politeness: how many requests a registry gets at a time and in a second, and when it wants none.
//!
//! Each registry has a lane of its own, so that one that limits holds up nobody else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// A registry that wants to be left alone for longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it is remembered when a registry was asked last.
const REMEMBERED: Duration = Duration::from_mins(1);
/// After how long the turn is looked at again at the latest, however low the rate is.
const WAIT_MAX: Duration = Duration::from_hours(1);
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
    not_before: Instant,
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
            state: Mutex::new(State { budget: (self.rate * BURST).max(1.0), refilled: now, not_before: now }),
        });
        lanes.insert(host.to_owned(), Arc::clone(&lane));
        lane
    }
}

impl Lane {
    /// Waits for the right to send a request.
    ///
    /// # Errors
    /// For how long the registry wants to be left alone, if that is longer than one waits.
    pub(super) async fn enter(&self) -> Result<Option<OwnedSemaphorePermit>, Duration> {
        let permit = Arc::clone(&self.requests).acquire_owned().await.ok();
        loop {
            let (wait, is_forbidden) = self.wait();
            if is_forbidden && wait > PATIENCE {
                return Err(wait);
            }
            if wait.is_zero() {
                return Ok(permit);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// The registry wants no requests for so long.
    pub(super) fn leave_alone(&self, wait: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.not_before = state.not_before.max(Instant::now() + wait);
    }

    /// How long to wait for the next request, and whether because the registry wants it. None means that it may be sent,
    /// and counts as sent.
    fn wait(&self) -> (Duration, bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.not_before > now {
            return (state.not_before - now, true);
        }
        if self.rate <= 0.0 {
            return (Duration::ZERO, false);
        }
        let gained = now.duration_since(state.refilled).as_secs_f64() * self.rate;
        state.budget = (state.budget + gained).min((self.rate * BURST).max(1.0));
        state.refilled = now;
        if state.budget < 1.0 {
            let wait = ((1.0 - state.budget) / self.rate).min(WAIT_MAX.as_secs_f64());
            return (Duration::from_secs_f64(wait), false);
        }
        state.budget -= 1.0;
        (Duration::ZERO, false)
    }

    /// A request is under way, was sent a moment ago, or is not wanted for a while.
    fn is_in_use(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        Arc::strong_count(&self.requests) > 1 || state.not_before > now || now < state.refilled + REMEMBERED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_of_a_second_are_counted() {
        let lanes = Lanes::new(0, 10.0);
        let lane = lanes.lane("a");
        let began = Instant::now();
        for _ in 0..30 {
            lane.enter().await.unwrap();
        }
        let took = began.elapsed().as_secs_f64();
        assert!((1.9..2.2).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn lowest_rate_is_waited_for_without_a_panic() {
        let lane = Lanes::new(0, f64::MIN_POSITIVE).lane("a");
        lane.enter().await.unwrap();
        assert!(tokio::time::timeout(Duration::from_hours(24), lane.enter()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn requests_at_a_time_are_counted_for_each_registry() {
        let lanes = Lanes::new(1, 0.0);
        let held = lanes.lane("a").enter().await.unwrap();
        assert!(lanes.lane("b").enter().await.is_ok());
        let waiting = lanes.lane("a");
        let second = waiting.enter();
        tokio::pin!(second);
        assert!(tokio::time::timeout(Duration::from_mins(1), &mut second).await.is_err());
        drop(held);
        assert!(second.await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn registry_that_wants_to_be_left_alone_is() {
        let lanes = Lanes::new(0, 0.0);
        let lane = lanes.lane("a");
        lane.leave_alone(Duration::from_secs(2));
        let began = Instant::now();
        lane.enter().await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 2);
        lane.leave_alone(Duration::from_mins(10));
        assert!(lane.enter().await.unwrap_err() > Duration::from_mins(9));
        assert!(lanes.lane("b").enter().await.is_ok());
    }
}

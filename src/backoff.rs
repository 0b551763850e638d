//! How long to wait before the next try. Pure: randomness comes in as an argument.

use std::time::Duration;

/// The first wait, at most.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(30);

/// Waits that double from try to try up to a limit, each shortened by chance by up to a half, so that replicas that
/// lost an API server together do not come back together.
#[derive(Debug, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next wait. `random` is any number.
    pub fn next(&mut self, random: u64) -> Duration {
        let full = FIRST.saturating_mul(2_u32.saturating_pow(self.tries)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        let half = full / 2;
        let share = u32::try_from(random % 1000).unwrap_or_default();
        half + half * share / 1000
    }

    /// The same where somebody asked for more patience: that much at least, and by chance up to a tenth more.
    pub fn next_after(&mut self, least: Option<Duration>, random: u64) -> Duration {
        let own = self.next(random);
        let share = u32::try_from(random % 1000).unwrap_or_default();
        own.max(least.map_or(Duration::ZERO, |least| least + least / 10 * share / 1000))
    }

    /// It worked: the next wait is a first one.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_begin_again() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..100).map(|_| backoff.next(999)).collect();
        assert!(waits[0] <= FIRST && waits[1] > waits[0] && waits[2] > waits[1]);
        assert!(waits.iter().all(|wait| *wait <= LONGEST) && waits[99] > LONGEST / 2);
        backoff.reset();
        assert_eq!(backoff.next(999), waits[0]);
    }

    #[test]
    fn whoever_asks_for_patience_gets_it_and_waits_grow_meanwhile() {
        let mut backoff = Backoff::default();
        let asked = Duration::from_secs(4);
        let waits: Vec<_> = (0..8).map(|_| backoff.next_after(Some(asked), 999)).collect();
        assert!(waits[..3].iter().all(|wait| *wait >= asked && *wait <= asked * 11 / 10), "{waits:?}");
        assert!(waits[7] > LONGEST / 2, "{waits:?}");
        assert_eq!(Backoff::default().next_after(Some(asked), 0), asked);
        assert_eq!(Backoff::default().next_after(None, 7), Backoff::default().next(7));
    }

    #[test]
    fn chance_shortens_by_half_at_most() {
        for random in [0, 1, 500, 999, 1000, u64::MAX] {
            let wait = Backoff::default().next(random);
            assert!(wait >= FIRST / 2 && wait <= FIRST, "{wait:?}");
        }
    }
}

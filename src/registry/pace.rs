//! How long is waited for what comes piece by piece: every piece buys time, and no more than there was at first. Pure.

use std::time::Duration;

/// How long may still be waited.
pub(super) struct Pace {
    most: Duration,
    left: Duration,
    /// In a second.
    least_bytes: u64,
}

impl Pace {
    /// Nothing has come yet.
    pub(super) fn new(most: Duration, least_bytes: u64) -> Self {
        Self { most, left: most, least_bytes }
    }

    pub(super) fn left(&self) -> Duration {
        self.left
    }

    /// What the reader takes for itself does not count.
    pub(super) fn waited(&mut self, waited: Duration) {
        self.left = self.left.saturating_sub(waited);
    }

    pub(super) fn received(&mut self, bytes: u64) {
        let bought = Duration::from_millis(bytes.saturating_mul(1000) / self.least_bytes);
        self.left = self.left.saturating_add(bought).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_buys_time_and_not_too_much() {
        const SPEED: u64 = 8 << 10;
        let mut pace = Pace::new(Duration::from_secs(10), SPEED);
        pace.waited(Duration::from_secs(9));
        assert_eq!(pace.left(), Duration::from_secs(1));
        pace.received(SPEED * 3);
        assert_eq!(pace.left(), Duration::from_secs(4));
        pace.received(1 << 40);
        assert_eq!(pace.left(), Duration::from_secs(10), "who was fast is not waited for any longer");
        pace.waited(Duration::from_mins(1));
        assert_eq!(pace.left(), Duration::ZERO);
    }
}

//! Says of something that happens again and again that it did, but not each time.

use std::time::Duration;

use tokio::time::Instant;

/// When it was last said, and how often it has happened since.
#[derive(Debug)]
pub struct Seldom {
    quiet: Duration,
    said: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// Says nothing for so long after it was said.
    #[must_use]
    pub fn every(quiet: Duration) -> Self {
        Self { quiet, said: None, unsaid: 0 }
    }

    /// It happened. Gives how often since it was last said, if it is to be said now.
    pub fn happened(&mut self) -> Option<u64> {
        self.unsaid += 1;
        if self.said.is_some_and(|said| said.elapsed() < self.quiet) {
            return None;
        }
        self.said = Some(Instant::now());
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_happens_often_is_said_at_once_and_then_seldom() {
        let mut seldom = Seldom::every(Duration::from_secs(10));
        let mut said = Vec::new();
        for _ in 0..250 {
            said.extend(seldom.happened());
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(said, [1, 100, 100]);
    }
}

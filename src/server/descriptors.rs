//! File descriptors: as many as the system lets the process have, and few words about it when they run out.

use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::time::Instant;

/// How long to say nothing after saying that a connection cannot be accepted.
const QUIET: Duration = Duration::from_secs(10);

/// Lets the process open as many files as its hard limit says. Usual soft limits are from the time of `select`, and lower
/// than the number of connections that a server takes.
pub fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let before = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => tracing::debug!(?before, now = ?limit.current, "limit of open files raised"),
        Err(error) => tracing::warn!(%error, limit = ?before, "limit of open files cannot be raised"),
    }
}

/// Says of something that happens again and again that it did, but not each time.
#[derive(Debug, Default)]
pub struct Seldom {
    said: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// It happened. Gives how often since it was last said, if it is to be said now.
    pub fn happened(&mut self) -> Option<u64> {
        self.unsaid += 1;
        if self.said.is_some_and(|said| said.elapsed() < QUIET) {
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
        let mut seldom = Seldom::default();
        let mut said = Vec::new();
        for _ in 0..250 {
            said.extend(seldom.happened());
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(said, [1, 100, 100]);
    }
}

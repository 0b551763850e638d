//! Drives the directory store: looks when it has to, publishes, reports. Decides nothing about streams.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;

use super::Streams;
use super::directory::{Directory, GATHERING, Look, POLL_INTERVAL, Told, Watches};
use super::publish::Publisher;
use crate::metrics::Metrics;

/// How long it is not looked if nothing is told, at least and at most: nothing is said of some changes, such as another file
/// system that is mounted.
const UNASKED: [Duration; 2] = [Duration::from_secs(30), Duration::from_mins(10)];
/// Looks without a reason take one part in so many of the time.
const UNASKED_SHARE: u32 = 2_000;

/// A directory whose streams are published as they change.
#[derive(Debug)]
pub struct Polled {
    directory: Directory,
    publisher: Publisher,
    /// Rings when something may have changed.
    alarm: Option<Alarm>,
    /// When the last look was over.
    looked: Instant,
    /// How long it took.
    took: Duration,
}

impl Polled {
    /// Reads the directory for the first time and publishes its streams.
    ///
    /// # Errors
    /// If the directory itself cannot be read. Broken files are reported and passed over.
    pub async fn load(directory: Directory, streams: Arc<Streams>, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let untold = |error: &io::Error| {
            tracing::info!(%error, "changes are not told, so the streams are looked at twice a second");
        };
        let directory = match Watches::new().inspect_err(untold) {
            Ok(watches) => directory.watched(watches),
            Err(_) => directory,
        };
        let alarm = directory.told().and_then(|told| Alarm::new(told).inspect_err(untold).ok());
        let began = Instant::now();
        let (directory, look) = look_at(directory).await;
        anyhow::ensure!(
            directory.is_readable(),
            "the streams cannot be read: {}: {}",
            directory.root().display(),
            look.new_problems.first().map(|(_, problem)| problem.as_str()).unwrap_or_default()
        );
        let publisher = Publisher::new(streams, metrics);
        let polled = Self { directory, publisher, alarm, looked: Instant::now(), took: began.elapsed() };
        polled.publish(look);
        Ok(polled)
    }

    /// Looks again and again. Never ends.
    pub async fn keep(mut self) {
        loop {
            self.pause().await;
            if let Some(alarm) = &self.alarm {
                let _ = alarm.told.take();
            }
            let began = Instant::now();
            let (directory, look) = look_at(self.directory).await;
            (self.directory, self.looked, self.took) = (directory, Instant::now(), began.elapsed());
            self.publish(look);
        }
    }

    /// Until it is to be looked again.
    async fn pause(&self) {
        let next = self.looked + POLL_INTERVAL;
        let Some(alarm) = self.alarm.as_ref().filter(|_| self.directory.is_told()) else {
            return tokio::time::sleep_until(next).await;
        };
        tokio::select! {
            () = alarm.rung() => tokio::time::sleep_until(next.max(Instant::now() + GATHERING)).await,
            () = tokio::time::sleep(unasked(self.took)) => {}
        }
    }

    fn publish(&self, look: Look) {
        for (path, problem) in &look.new_problems {
            tracing::error!(path = %path.display(), %problem, "streams cannot be read from here, the last good ones stay");
        }
        for path in &look.solved {
            tracing::info!(path = %path.display(), "streams can be read from here again");
        }
        for (path, place, what) in &look.ignored {
            tracing::debug!(path = %path.display(), %place, %what, "object passed over, it is no image stream");
        }
        if self.directory.is_readable() {
            self.publisher.is_current();
        } else {
            self.publisher.is_lost(Instant::now().into_std());
        }
        self.publisher.problems(self.directory.problem_count());
        let Some(snapshot) = look.snapshot else { return };
        let (streams, tags) = (snapshot.stream_count(), snapshot.tag_count());
        self.publisher.publish(snapshot);
        tracing::info!(streams, tags, "image streams loaded");
    }
}

/// How long it is not looked after a look that took so long, if nothing is told.
fn unasked(took: Duration) -> Duration {
    let [least, most] = UNASKED;
    took.saturating_mul(UNASKED_SHARE).clamp(least, most)
}

/// Rings when something is told.
#[derive(Debug)]
struct Alarm {
    told: Told,
    ready: Receiver,
}

impl Alarm {
    fn new(told: Told) -> io::Result<Self> {
        // It is read like a pipe: never blocking, and an end of its own.
        let ready = Receiver::from_owned_fd_unchecked(told.descriptor()?)?;
        Ok(Self { told, ready })
    }

    async fn rung(&self) {
        loop {
            if self.ready.readable().await.is_err() {
                // The runtime ends.
                return std::future::pending().await;
            }
            let take = || if self.told.take() { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) };
            if self.ready.try_io(take).is_ok() {
                return;
            }
        }
    }
}

async fn look_at(mut directory: Directory) -> (Directory, Look) {
    let task = tokio::task::spawn_blocking(move || {
        let look = directory.look(SystemTime::now());
        (directory, look)
    });
    task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::stream::places::Places;

    #[tokio::test]
    async fn alarm_rings_when_something_is_told_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let mut directory =
            Directory::new(folder.path().to_owned(), Places::default()).watched(Watches::new().unwrap());
        directory.look(SystemTime::now());
        assert!(directory.is_told());
        let alarm = Alarm::new(directory.told().unwrap()).unwrap();
        for round in 0..3 {
            // Polled once, which is enough if it has rung.
            assert!(alarm.rung().now_or_never().is_none());
            std::fs::write(folder.path().join(round.to_string()), "").unwrap();
            alarm.rung().await;
        }
    }

    #[test]
    fn looks_without_a_reason_take_next_to_nothing() {
        let milliseconds = |took| unasked(Duration::from_millis(took)).as_secs();
        assert_eq!([0, 1, 15, 40, 300, 60_000].map(milliseconds), [30, 30, 30, 80, 600, 600]);
    }
}

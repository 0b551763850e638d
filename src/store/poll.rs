//! Drives the directory store: looks, publishes, reports. Decides nothing about streams.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::Streams;
use super::directory::{Directory, Look, POLL_INTERVAL};
use super::publish::Publisher;
use crate::metrics::Metrics;

/// A directory whose streams are published as they change.
#[derive(Debug)]
pub struct Polled {
    directory: Directory,
    publisher: Publisher,
}

impl Polled {
    /// Reads the directory for the first time and publishes its streams.
    ///
    /// # Errors
    /// If the directory itself cannot be read. Broken files are reported and passed over.
    pub async fn load(directory: Directory, streams: Arc<Streams>, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let (directory, look) = look_at(directory).await;
        anyhow::ensure!(
            directory.is_readable(),
            "the streams cannot be read: {}: {}",
            directory.root().display(),
            look.new_problems.first().map(|(_, problem)| problem.as_str()).unwrap_or_default()
        );
        let polled = Self { directory, publisher: Publisher::new(streams, metrics) };
        polled.publish(look);
        Ok(polled)
    }

    /// Looks again and again. Never ends.
    pub async fn keep(mut self) {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let (directory, look) = look_at(self.directory).await;
            self.directory = directory;
            self.publish(look);
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
            self.publisher.is_lost(Instant::now());
        }
        self.publisher.problems(self.directory.problem_count());
        let Some(snapshot) = look.snapshot else { return };
        let (streams, tags) = (snapshot.stream_count(), snapshot.tag_count());
        self.publisher.publish(snapshot);
        tracing::info!(streams, tags, "image streams loaded");
    }
}

async fn look_at(mut directory: Directory) -> (Directory, Look) {
    let task = tokio::task::spawn_blocking(move || {
        let look = directory.look(SystemTime::now());
        (directory, look)
    });
    task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

//! The streams of a directory as whole objects, numbered, handed on one by one to whoever imports them.

use tokio::sync::mpsc::UnboundedSender;

use super::home::DirectoryHome;
use crate::store::home::Change;
use crate::stream::{ImageStream, Key};

/// Who is handed the streams.
#[derive(Debug)]
pub struct Feed {
    home: DirectoryHome,
    changes: UnboundedSender<Change>,
}

impl Feed {
    /// Hands on to `changes`.
    #[must_use]
    pub fn new(home: DirectoryHome, changes: UnboundedSender<Change>) -> Self {
        Self { home, changes }
    }

    /// Whoever does not listen any more need not be told.
    fn tell(&self, change: Change) {
        let _ = self.changes.send(change);
    }

    /// Gives a stream its numbers, and says whether it is valid. One that is not keeps those that it has.
    pub(super) fn number(&self, stream: &mut ImageStream) -> bool {
        match self.home.number(stream) {
            Ok(numbered) => {
                *stream = numbered;
                true
            }
            Err(error) => {
                tracing::error!(stream = %stream.key(), %error, "image stream is not imported until it is put right");
                false
            }
        }
    }

    /// A stream is there, new or changed.
    pub(super) fn applied(&self, stream: ImageStream) {
        self.tell(Change::Applied(Box::new(stream)));
    }

    /// Another file defines the stream now.
    pub(super) fn moved(&self, key: &Key) {
        match self.home.find(key) {
            Ok(Some(stream)) => self.applied(stream),
            // Seen by the next look.
            Ok(None) => {}
            Err(error) => tracing::warn!(stream = %key, %error, "image stream is not imported"),
        }
    }

    /// The stream is gone, or is not to be imported.
    pub(super) fn gone(&self, key: Key) {
        self.tell(Change::Deleted(key));
    }

    /// Every stream that is there was told.
    pub(super) fn listed(&self) {
        self.tell(Change::Listed);
    }
}

//! The streams of a directory as whole objects, handed on one by one: numbered to whoever imports them, and as they stand
//! to whoever only reads.

use tokio::sync::mpsc::UnboundedSender;

use super::home::DirectoryHome;
use crate::store::home::Change;
use crate::stream::{ImageStream, Key};

/// Who is handed the streams.
#[derive(Debug)]
pub struct Feed {
    home: DirectoryHome,
    importer: Option<UnboundedSender<Change>>,
    readers: Vec<UnboundedSender<Change>>,
}

impl Feed {
    /// Hands on to `importer` what is valid.
    #[must_use]
    pub fn new(home: DirectoryHome, importer: UnboundedSender<Change>) -> Self {
        Self { home, importer: Some(importer), readers: Vec::new() }
    }

    /// Nobody imports: nothing is numbered, and nothing written.
    #[must_use]
    pub fn to_read(home: DirectoryHome) -> Self {
        Self { home, importer: None, readers: Vec::new() }
    }

    /// Hands on to `reader` too, also what is not valid.
    #[must_use]
    pub fn and(mut self, reader: UnboundedSender<Change>) -> Self {
        self.readers.push(reader);
        self
    }

    /// Whoever does not listen any more need not be told.
    fn tell(&self, change: Change) {
        self.tell_readers(&change);
        self.tell_importer(change);
    }

    fn tell_readers(&self, change: &Change) {
        for reader in &self.readers {
            let _ = reader.send(change.clone());
        }
    }

    fn tell_importer(&self, change: Change) {
        if let Some(importer) = &self.importer {
            let _ = importer.send(change);
        }
    }

    /// Gives a stream its numbers, and says whether it is valid. One that is not keeps those that it has.
    pub(super) fn number(&self, stream: &mut ImageStream) -> bool {
        if self.importer.is_none() {
            return true;
        }
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

    /// A stream is there that is not to be imported until it is put right.
    pub(super) fn invalid(&self, stream: ImageStream) {
        self.tell_importer(Change::Deleted(stream.key()));
        self.tell_readers(&Change::Applied(Box::new(stream)));
    }

    /// Another file defines the stream now.
    pub(super) fn moved(&self, key: &Key) {
        let written = || self.home.find_written(key);
        let found = if self.importer.is_some() { self.home.find(key) } else { written() };
        match found {
            Ok(Some(stream)) => self.applied(stream),
            // Seen by the next look.
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(stream = %key, %error, "image stream is not imported");
                if let Ok(Some(stream)) = written() {
                    self.tell_readers(&Change::Applied(Box::new(stream)));
                }
            }
        }
    }

    /// The stream is gone.
    pub(super) fn gone(&self, key: Key) {
        self.tell(Change::Deleted(key));
    }

    /// Every stream that is there was told.
    pub(super) fn listed(&self) {
        self.tell(Change::Listed);
    }
}

//! What goes wrong with a storage, in words that name it and the next step, and no secrets.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use crate::digest::Digest;

/// What is wrong with the storage.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// It cannot be told where it is.
    #[error("{written:?} is no place to keep images: {reason}")]
    Place {
        /// What was said, without secrets.
        written: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be used at all.
    #[error(
        "images cannot be kept in {place}: {reason}; look whether it is there, and may be read and written with the credentials that \
         this process has"
    )]
    Open {
        /// Where.
        place: String,
        /// Why.
        reason: Reason,
    },
    /// A folder that is needed cannot be used.
    #[error("{path}: {reason}; look whether it is there, may be written, and has room")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: Reason,
    },
    /// Something cannot be read.
    #[error("{digest} cannot be read from {place}: {reason}")]
    Read {
        /// What.
        digest: Digest,
        /// From where.
        place: String,
        /// Why.
        reason: Reason,
    },
    /// What is there cannot be listed, or not be deleted.
    #[error("{place}: {reason}")]
    Manage {
        /// Where.
        place: String,
        /// Why.
        reason: Reason,
    },
    /// Something cannot be written.
    #[error("{digest} cannot be kept in {place}: {reason}")]
    Write {
        /// What.
        digest: Digest,
        /// Where.
        place: String,
        /// Why.
        reason: Reason,
    },
    /// There is no room for it, and nothing that may be taken out.
    #[error(
        "{digest} is not kept: {place} may have {budget} bytes, and what is there is needed; give it a larger budget, or allow \
         to take out what current tags need"
    )]
    Full {
        /// What.
        digest: Digest,
        /// Where.
        place: String,
        /// How many bytes there may be.
        budget: u64,
    },
    /// It is too large to be read at once.
    #[error("{digest} has {size} bytes, more than the {limit} that it may have")]
    TooLarge {
        /// What.
        digest: Digest,
        /// How large it is.
        size: u64,
        /// How large it may be.
        limit: usize,
    },
    /// It is shorter than that.
    #[error("{digest} has {size} bytes, no such range")]
    Range {
        /// What.
        digest: Digest,
        /// How large it is.
        size: u64,
    },
    /// It is not what its digest says.
    #[error("these {size} bytes are not {digest}")]
    Digest {
        /// What it should be.
        digest: Digest,
        /// How large it is.
        size: usize,
    },
}

/// Why something went wrong: what was tried, and what stopped it in the end.
#[derive(Debug)]
pub struct Reason(Box<dyn Error + Send + Sync>);

impl<E: Error + Send + Sync + 'static> From<E> for Reason {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tried = self.0.to_string();
        let mut root: &dyn Error = &*self.0;
        while let Some(source) = root.source() {
            root = source;
        }
        let stopped = root.to_string();
        if tried.contains(&stopped) { f.write_str(&tried) } else { write!(f, "{tried}: {stopped}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(&'static str, #[source] std::io::Error);

    #[test]
    fn what_stopped_it_is_said_once() {
        let root = || std::io::Error::other("connection refused");
        assert_eq!(Reason::from(Outer("request failed", root())).to_string(), "request failed: connection refused");
        assert_eq!(Reason::from(Outer("oh: connection refused", root())).to_string(), "oh: connection refused");
        assert_eq!(Reason::from(root()).to_string(), "connection refused");
    }
}

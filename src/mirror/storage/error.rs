//! What goes wrong with a storage, in words that name it and the next step, and no secrets.

use std::io;
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
    #[error("images cannot be kept in {place}: {source}; look whether it is there and may be read and written")]
    Open {
        /// Where.
        place: String,
        /// Why.
        source: object_store::Error,
    },
    /// A folder that is needed cannot be used.
    #[error("{path}: {source}; look whether it is there and may be written")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something cannot be read.
    #[error("{digest} cannot be read from {place}: {source}")]
    Read {
        /// What.
        digest: Digest,
        /// From where.
        place: String,
        /// Why.
        source: object_store::Error,
    },
    /// What is there cannot be listed, or not be deleted.
    #[error("{place}: {source}")]
    Manage {
        /// Where.
        place: String,
        /// Why.
        source: object_store::Error,
    },
    /// Something cannot be written.
    #[error("{digest} cannot be kept in {place}: {source}")]
    Write {
        /// What.
        digest: Digest,
        /// Where.
        place: String,
        /// Why.
        source: object_store::Error,
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

//! The pull-through registry, server side: images of streams with reference policy `Local` are pulled through it.
//!
//! What a stream's history names can be pulled, and nothing else. What is not there yet is fetched from where the stream
//! says the image came from, checked, and kept. Tags come from the streams, not from what is kept.

pub mod access;
pub mod catalogue;
pub mod content;
pub mod handler;
pub mod storage;

use std::future::Future;
use std::io;
use std::ops::Range;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::stream::BoxStream;

use crate::digest::Digest;
use crate::stream::Key;

/// Which manifest of a stream is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// The newest image of a tag.
    Tag(String),
    /// That one.
    Digest(Digest),
}

/// A manifest whose digest was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// It itself.
    pub bytes: Bytes,
}

/// The part of a blob that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// From a byte on, to the end.
    From(u64),
    /// From a byte to another, both included.
    Between(u64, u64),
    /// That many bytes at the end.
    Last(u64),
}

impl Part {
    /// Which bytes these are of so many. `None` if there are none.
    #[must_use]
    pub fn of(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::Whole => return Some(0..size),
            Self::From(first) => first..size,
            Self::Between(first, last) => first..size.min(last.saturating_add(1)),
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        (!range.is_empty()).then_some(range)
    }
}

/// A blob, or a part of it.
pub struct Blob {
    /// Bytes of the whole blob.
    pub size: u64,
    /// Which of them the body has.
    pub range: Range<u64>,
    /// They themselves. It ends early with an error if what arrives is not what the digest says; the last bytes are not
    /// sent before that is known.
    pub body: BoxStream<'static, io::Result<Bytes>>,
}

/// Why something cannot be pulled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PullError {
    /// The streams are not known yet.
    #[error("the image streams are not loaded yet; try again later")]
    NotLoaded,
    /// There is no such stream.
    #[error("there is no image stream {0}")]
    NameUnknown(Key),
    /// The stream has no such tag, or no such image in its history.
    #[error("{0}")]
    ManifestUnknown(String),
    /// No image of the stream has such a blob.
    #[error("{0}")]
    BlobUnknown(String),
    /// The blob is shorter than that.
    #[error("the blob has {0} bytes, no such range")]
    Range(u64),
    /// Where it comes from wants to be asked later, or too much is under way here.
    #[error("{message}")]
    TooManyRequests {
        /// A sentence for people.
        message: String,
        /// How long to wait.
        after: Option<Duration>,
    },
    /// Where it comes from does not give it.
    #[error("{0}")]
    Upstream(String),
    /// It cannot be read or kept here.
    #[error("{0}")]
    Storage(String),
}

/// What can be pulled.
pub trait Contents: Send + Sync + 'static {
    /// The tags of a stream that have an image, sorted.
    ///
    /// # Errors
    /// If there is no such stream.
    fn tags(&self, stream: &Key) -> Result<Vec<String>, PullError>;

    /// A manifest.
    fn manifest(&self, stream: &Key, version: &Version) -> impl Future<Output = Result<Manifest, PullError>> + Send;

    /// A blob, or a part of it.
    fn blob(&self, stream: &Key, digest: &Digest, part: Part) -> impl Future<Output = Result<Blob, PullError>> + Send;

    /// How many bytes a blob has. Fetches no blob for that.
    fn size(&self, stream: &Key, digest: &Digest) -> impl Future<Output = Result<u64, PullError>> + Send;
}

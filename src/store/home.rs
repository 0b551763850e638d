//! Where streams are written: one object at a time, and never over a change that was not seen.
//!
//! One trait for a cluster and a directory; whoever writes streams writes through it. Must not decide what is written.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use crate::image::Image;
use crate::registry::Keyring;
pub use crate::stream::outcome::News;
use crate::stream::{ImageStream, Key};

/// A stream as it is stored now.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The whole object, its namespace filled in.
    pub stream: ImageStream,
    /// Which version of it this is, in the store's own words. Equal versions have equal content.
    pub version: String,
}

impl Stored {
    /// Which stream it is.
    #[must_use]
    pub fn key(&self) -> Key {
        self.stream.key()
    }
}

/// Why something was not read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HomeError {
    /// The object was changed since it was read: read it again and decide again.
    #[error("{0} was changed meanwhile")]
    Conflict(Key),
    /// There is such an object already.
    #[error("there is an image stream {0} already")]
    Exists(Key),
    /// The object is not there, or not any more.
    #[error("there is no image stream {0}")]
    Gone(Key),
    /// The store refuses, and will again: what is written is wrong, or a right is missing.
    #[error("{0}")]
    Refused(String),
    /// The store asks to be left alone for so long.
    #[error("{0}")]
    Busy(String, Duration),
    /// The store does not answer, or cannot write now. Later it may.
    #[error("{0}")]
    Unavailable(String),
}

/// A change of the streams, in the order in which the store saw them.
#[derive(Clone, Debug)]
pub enum Change {
    /// A stream is there, new or changed. At the start, every stream there is.
    Applied(Box<ImageStream>),
    /// A stream is gone.
    Deleted(Key),
    /// All streams there are have been told: those not told since the last `Listed` are gone.
    Listed,
    /// The store can be read again after it could not.
    Back,
}

/// Where streams are read one by one and written.
pub trait Home: Send + Sync + 'static {
    /// The stream as it is now, `None` if there is none.
    fn read(&self, key: &Key) -> impl Future<Output = Result<Option<Stored>, HomeError>> + Send;

    /// Writes what differs between `before` and `after`, spec or status or both, if `before` is still what is stored.
    ///
    /// If both differ and the second of two writes fails, the first stays: the caller reads again and goes on.
    fn write(&self, before: &Stored, after: &ImageStream) -> impl Future<Output = Result<Stored, HomeError>> + Send;

    /// Keeps what is known of images. Those that are kept already stay as they are.
    fn keep_images(&self, images: &[Image]) -> impl Future<Output = Result<(), HomeError>> + Send;

    /// The credentials with which images of this namespace are imported, and no other namespace's.
    fn keyring(&self, namespace: &str) -> impl Future<Output = Result<Keyring, HomeError>> + Send;

    /// A registry refused the credentials of this namespace: they are to be read anew soon.
    fn keyring_was_refused(&self, _namespace: &str) {}

    /// Digests of images that run in the namespace; none where that may not be known.
    fn images_in_use(&self, namespace: &str) -> impl Future<Output = Result<BTreeSet<String>, HomeError>> + Send;

    /// Tells the owner of a stream what happened to it. Never fails: who cannot be told is not.
    fn tell(&self, stream: &Stored, news: &[News]) -> impl Future<Output = ()> + Send;
}

/// What commands need of a home beside what importing needs.
pub trait Catalogue: Home {
    /// All streams of a namespace, or of all, in the order of their names.
    fn list(&self, namespace: Option<&str>) -> impl Future<Output = Result<Vec<Stored>, HomeError>> + Send;

    /// Stores a new stream.
    fn create(&self, stream: &ImageStream) -> impl Future<Output = Result<Stored, HomeError>> + Send;

    /// Deletes a stream, whatever it is by now.
    fn delete(&self, key: &Key) -> impl Future<Output = Result<(), HomeError>> + Send;

    /// What is known of an image.
    fn image(&self, digest: &str) -> impl Future<Output = Result<Option<Image>, HomeError>> + Send;
}

//! What an image stream is and what its tags mean. Pure: no clock, no I/O, no cluster.

pub mod history;
pub mod outcome;
pub mod plan;
pub mod pullspec;
pub mod types;
pub mod write;

use std::fmt;

pub use types::ImageStream;

/// What identifies a stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Namespace.
    pub namespace: Box<str>,
    /// Name.
    pub name: Box<str>,
}

impl Key {
    /// The key of a namespace and a name.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

//! What an image stream is and what its tags mean. Pure: no clock, no I/O, no cluster.

pub mod history;
#[cfg(test)]
mod model;
pub mod outcome;
pub mod places;
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

impl ImageStream {
    /// Which stream it is. One that says no namespace is in `default`.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::new(self.metadata.namespace.as_deref().unwrap_or("default"), &self.metadata.name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

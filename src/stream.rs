//! What an image stream is and what its tags mean. Pure: no clock, no I/O, no cluster.

pub mod history;
pub mod pullspec;
pub mod types;

pub use types::ImageStream;

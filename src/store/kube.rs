//! The cluster store: image streams of the Kubernetes API, listed once and watched from then on.
//!
//! The only place that speaks to an API server about streams. Reads only. Each object is reduced as it arrives, so
//! memory holds no objects; one that cannot be read is named in the log and passed over.

mod client;
mod objects;
mod table;
mod watch;

pub use client::{Access, ConnectError, connect};
pub use watch::{Preference, Watched};

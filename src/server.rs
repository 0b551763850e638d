//! HTTP and HTTPS: listeners, connections, certificates, health, and how they end.
//!
//! Is given routers and knows nothing of what they do.

pub mod authority;
pub mod certificate;
mod connection;
pub mod descriptors;
pub mod development;
pub mod health;
mod issue;
pub mod listener;
mod places;

use tokio::sync::watch;

/// How far a server is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything is accepted.
    Serving,
    /// Not ready any more, but still serving: clients are on their way to other replicas.
    Leaving,
    /// Nothing new is accepted; what is under way is finished.
    Draining,
}

/// Where a server learns its phase.
pub type Phases = watch::Receiver<Phase>;

//! Work that happens by itself on a cluster, and what Pinstream writes there.

pub mod agenda;
pub mod certificate;

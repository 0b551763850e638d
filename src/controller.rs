//! Work that happens by itself on a cluster, and what Pinstream writes there.

pub mod agenda;
pub mod audit;
pub mod certificate;
pub mod import;
pub mod leader;
pub mod local;
pub mod queue;
pub mod settle;
pub mod work;

//! Image streams for any Kubernetes: short names in, pinned digests out.
//!
//! A map of the house. Imports run one way, and `tests/integration/walls.rs` keeps it so:
//!
//! * pure, without clock, I/O and async: [`mod@reference`] (an image reference exactly as written) ← [`stream`] (what an
//!   image stream is), [`workload`] (where images stand in an object) ← [`index`] (what resolving reads) ←
//!   [`admission::decide`] and [`admission::review`] (a question and its answer); [`policy`] (which images may run)
//! * [`json`]: JSON of which little is read. Pure too
//! * [`audit`]: how far what runs is from its streams. Pure too
//! * [`store`]: where streams live, and the current snapshot
//! * [`admission::handler`]: the webhook
//! * [`controller`]: what happens by itself on a cluster, and is written there
//! * [`mirror`]: the pull-through registry
//! * [`server`]: listeners, certificates, health; is given routers
//! * [`metrics`], [`logging`], [`supervisor`], [`backoff`], `fair`, `files`, `seldom`: what the whole process shares
//! * [`config`], [`cli`]: flags, and the wiring

pub mod admission;
pub mod audit;
pub mod backoff;
pub mod cli;
pub mod config;
pub mod controller;
pub mod crd;
pub mod digest;
mod fair;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod glob;
pub mod image;
pub mod index;
pub mod json;
pub mod logging;
pub mod metrics;
pub mod mirror;
pub mod policy;
pub mod reference;
pub mod registry;
mod seldom;
pub mod server;
pub mod store;
pub mod stream;
pub mod supervisor;
pub mod workload;

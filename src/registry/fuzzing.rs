//! Targets of what registries and token servers answer, and of files with credentials.

mod answer;
mod challenge;
mod credentials;

pub(crate) use answer::answer;
pub(crate) use challenge::challenge;
pub(crate) use challenge::realm;
pub(crate) use credentials::credentials;

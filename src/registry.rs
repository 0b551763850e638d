//! The client of remote registries.

/// The credentials of one tenant.
#[derive(Clone, Debug, Default)]
pub struct Keyring {}

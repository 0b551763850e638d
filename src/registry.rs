//! The client of remote registries.

use std::fmt;
use std::time::Duration;

use crate::image::Image;

/// The credentials of one tenant.
#[derive(Clone, Debug, Default)]
pub struct Keyring {}

/// An image that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    /// Digest.
    pub digest: String,
    /// Pull spec.
    pub pull_spec: String,
    /// The image, then its children.
    pub images: Vec<Image>,
}

/// Why an image was not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchError {
    /// One word for programs.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
    /// When to try again.
    pub retry: Retry,
}

/// One word for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Not there.
    NotFound,
    /// Else.
    InternalError,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// When to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not before something changes.
    Never,
    /// After a while.
    Later,
    /// After that time.
    After(Duration),
}

impl Keyring {
    /// Of a Secret.
    ///
    /// # Errors
    /// Unreadable.
    pub fn from_docker_config_json(_bytes: &[u8]) -> Result<Self, String> {
        Ok(Self {})
    }
    /// Of a Secret.
    ///
    /// # Errors
    /// Unreadable.
    pub fn from_dockercfg(_bytes: &[u8]) -> Result<Self, String> {
        Ok(Self {})
    }
    /// Both.
    pub fn merge(&mut self, _other: Self) {}
}

/// Settings.
#[derive(Clone, Debug, Default)]
pub struct Settings {}
/// Client.
pub struct Client {}
impl Client {
    /// New.
    ///
    /// # Errors
    /// TLS.
    pub fn new(_settings: Settings) -> Result<Self, std::io::Error> {
        Ok(Self {})
    }
}
impl crate::controller::import::Remote for Client {
    async fn fetch(
        &self,
        _wanted: &crate::stream::plan::Wanted,
        _known: Option<&str>,
        _keyring: &Keyring,
    ) -> Result<Fetched, FetchError> {
        Err(FetchError { reason: Reason::InternalError, message: String::new(), retry: Retry::Never })
    }
    async fn tags(&self, _repository: &str, _insecure: bool, _keyring: &Keyring) -> Result<Vec<String>, FetchError> {
        Err(FetchError { reason: Reason::InternalError, message: String::new(), retry: Retry::Never })
    }
}

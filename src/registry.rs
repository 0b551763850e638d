//! The client of remote registries: what an image's digest is, and what is known of the image.
//!
//! Speaks OCI distribution and Docker v2. Every answer is bounded and checked against its digest; a registry that is slow,
//! limits or lies costs only those who ask it. Credentials come with each call: nothing that one tenant's credentials
//! brought is ever used for another. Must not know what a stream is made of.

mod address;
mod addresses;
mod answer;
mod challenge;
mod client;
mod connection;
mod docker;
mod download;
mod failure;
pub(crate) mod flights;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod helper;
mod kept;
mod keyring;
mod large;
mod limits;
pub mod manifest;
mod pace;
mod patience;
mod tokens;
mod transport;

use std::fmt;
use std::time::Duration;

pub use address::{Address, Registries};
pub use addresses::Addresses;
pub use client::Client;
pub use connection::SetupError;
pub use docker::{DockerConfig, DockerConfigError};
pub use download::{Delivery, Download, Form};
pub use keyring::{Credential, Keyring, KeyringError};

use crate::image::Image;

/// The most characters of what people are told: it becomes a condition of a stream, and registries choose a part of it.
const MESSAGE_MAX: usize = 1000;
/// The most characters of what a registry or a program says itself.
const SAID_MAX: usize = 200;

/// How registries are asked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Further CAs, PEM: of one registry's host, or of all.
    pub extra_cas: Vec<(Option<String>, Vec<u8>)>,
    /// Which registries may be asked.
    pub registries: Registries,
    /// At which addresses.
    pub addresses: Addresses,
    /// Requests to one registry at a time; 0 means no limit.
    pub concurrency: usize,
    /// Requests to one registry in a second; 0 means no limit.
    pub rate: f64,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long a registry may be silent.
    pub silence_timeout: Duration,
    /// How long registries may take over all of one image. Waiting for one's turn is not counted, nor are downloads of
    /// layers, which have a least speed instead.
    pub total_timeout: Duration,
    /// The wait before a request is sent again that failed for a reason that passes, shortened by chance by up to a half.
    /// The next is twice as long.
    pub retry_wait: Duration,
    /// The proxies of the environment are used: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
    pub environment_proxies: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            extra_cas: Vec::new(),
            registries: Registries::default(),
            addresses: Addresses::default(),
            concurrency: 8,
            rate: 20.0,
            connect_timeout: Duration::from_secs(10),
            silence_timeout: Duration::from_secs(20),
            total_timeout: Duration::from_mins(2),
            retry_wait: Duration::from_millis(400),
            environment_proxies: true,
        }
    }
}

/// Which image is wanted, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wanted<'a> {
    /// The image as the user wrote it.
    pub reference: &'a str,
    /// An index is wanted as it is; else the image of one platform in it.
    pub whole_index: bool,
    /// Bad TLS and plain HTTP are accepted.
    pub insecure: bool,
    /// Preferred operating system in an index.
    pub system: Option<&'a str>,
    /// Preferred architecture in an index.
    pub architecture: Option<&'a str>,
    /// A digest whose image is known already: only another one is of interest.
    pub known: Option<&'a str>,
}

/// An image that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    /// Digest of the image, or of the index if that is wanted.
    pub digest: String,
    /// The user's spelling with the digest in place of the tag.
    pub pull_spec: String,
    /// The image, then the images of an index. Empty if it is the one that is known.
    pub images: Vec<Image>,
}

/// Why an image was not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FetchError {
    /// One word for programs.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
    /// When to try again.
    pub retry: Retry,
}

impl FetchError {
    fn new(reason: Reason, retry: Retry, message: impl Into<String>) -> Self {
        Self { reason, message: line(&message.into(), MESSAGE_MAX), retry }
    }
}

/// A text of others as people are told it: one line, an ellipsis in place of what is beyond so many characters.
fn line(text: &str, length: usize) -> String {
    let mut characters = text.chars().filter(|character| !character.is_control());
    let mut line: String = characters.by_ref().take(length).collect();
    if characters.next().is_some() {
        line.push('…');
    }
    line
}

/// One word for programs, as the Kubernetes API has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The reference cannot be read, or what the registry has is of no use.
    Invalid,
    /// It is not there.
    NotFound,
    /// The registry wants other credentials.
    Unauthorized,
    /// The registry may not be asked, or refuses.
    Forbidden,
    /// The registry wants to be asked later.
    TooManyRequests,
    /// The registry did not answer in time.
    Timeout,
    /// The registry cannot be reached.
    ServiceUnavailable,
    /// Everything else.
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
    /// Not before something is changed.
    Never,
    /// After a while.
    Later,
    /// After that time.
    After(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_are_told_is_a_line_whatever_a_registry_says() {
        let told = |text: &str| FetchError::new(Reason::Invalid, Retry::Later, text).message;
        assert_eq!(told("its index names no digest: ä"), "its index names no digest: ä");
        assert_eq!(told("one\r\n\ttwo"), "onetwo");
        assert_eq!(told(&"ä".repeat(1000)), "ä".repeat(1000));
        assert_eq!(told(&"ä".repeat(1_000_000)), format!("{}…", "ä".repeat(1000)));
    }
}

//! What goes wrong below HTTP, and how people are told.

use std::error::Error as _;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use super::{FetchError, Reason, Retry};

/// Words in the causes of errors that only TLS has.
const TLS_WORDS: [&str; 6] = ["certificate", "HandshakeFailure", "InvalidContentType", "corrupt message", "tls", "TLS"];

/// What is said of an address that may not be asked.
const BLOCKED: &str = "is one that registries may not have; --registry-allow-address says otherwise";

/// What went wrong below HTTP.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing was reached, or the connection broke.
    Broken(String),
    /// The answer broke off.
    Cut(String),
    /// No TLS could be agreed on.
    Handshake(String),
    /// It took too long.
    Slow(String),
    /// The answer was too large.
    Large(usize),
    /// A host, there or where it leads, has an address that may not be asked. Which one is said if the host is written as
    /// one: who asks for a name is not to hear what names of the cluster stand for.
    Blocked(String, Option<IpAddr>),
    /// It is of no use to try.
    Refused(String),
    /// The host wants to be left alone.
    Limited(Duration),
}

impl Failure {
    /// For people: `who` is `the registry` or another server, at that host.
    pub(super) fn told(self, host: &str, who: &str) -> FetchError {
        let later = |reason, text| FetchError::new(reason, Retry::Later, text);
        match self {
            Self::Broken(cause) => {
                later(Reason::ServiceUnavailable, format!("{who} {host} cannot be reached: {cause}"))
            }
            Self::Cut(cause) => {
                later(Reason::ServiceUnavailable, format!("{who} {host} broke off its answer: {cause}"))
            }
            Self::Handshake(cause) => later(
                Reason::ServiceUnavailable,
                format!(
                    "{who} {host} cannot be trusted or speaks no TLS: {cause}; give its CA with --registry-ca, or set importPolicy.insecure on the tag"
                ),
            ),
            Self::Slow(cause) => later(Reason::Timeout, format!("{who} {host} does not answer in time: {cause}")),
            Self::Large(limit) => {
                later(Reason::Invalid, format!("{who} {host} answers with more than {} KiB", limit >> 10))
            }
            Self::Blocked(target, address) => {
                let way = if target == host { String::new() } else { format!(" leads to {target}, which") };
                let which = address.map_or_else(String::new, |address| format!(" {address}"));
                later(Reason::Forbidden, format!("{who} {host}{way} is not asked: its address{which} {BLOCKED}"))
            }
            Self::Refused(cause) => later(Reason::InternalError, format!("{who} {host} {cause}")),
            // Without the time, which would make another condition of each try.
            Self::Limited(wait) => FetchError::new(
                Reason::TooManyRequests,
                Retry::After(wait),
                format!("{who} {host} wants fewer requests, and is asked again when it allows that"),
            ),
        }
    }
}

impl From<reqwest::Error> for Failure {
    /// Without the URL: a redirect's may have a secret in it.
    fn from(error: reqwest::Error) -> Self {
        let mut text = String::new();
        let mut source = error.source();
        while let Some(cause) = source {
            let separator = if text.is_empty() { "" } else { ": " };
            let _ = write!(text, "{separator}{cause}");
            source = cause.source();
        }
        if text.is_empty() {
            text.push_str(if error.is_timeout() { "time is up" } else { "it ended too early" });
        }
        if error.is_timeout() {
            Self::Slow(text)
        } else if error.is_connect() && TLS_WORDS.iter().any(|word| text.contains(word)) {
            Self::Handshake(text)
        } else if error.is_body() || error.is_decode() {
            Self::Cut(text)
        } else {
            Self::Broken(text)
        }
    }
}

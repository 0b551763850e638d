//! Content as registries have it, for those who keep it: manifests byte for byte, and blobs piece by piece.
//!
//! Whether a blob is what its digest says is seen by whoever reads it to its end.

use hyper::body::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::answer::{good, header};
use super::client::Client;
use super::connection::{Answer, Take};
use super::failure::Failure;
use super::keyring::Keyring;
use super::manifest;
use super::pace::Pace;
use super::transport::{Ask, Session, Wish};
use super::{FetchError, Reason, Retry};
use crate::digest::Digest;

/// A blob has to come with this many bytes a second: whoever was fast before is not waited for any longer.
const LEAST_SPEED: u64 = 8 << 10;

/// A blob that is under way. It has a place among the downloads from its host until it is dropped.
pub struct Download {
    /// Bytes of the whole blob, if the registry says.
    pub size: Option<u64>,
    /// Which byte comes first: the one that was asked for, or 0 if the registry knows no ranges.
    pub offset: u64,
    /// The registry gives it to everybody: no credentials were shown.
    pub is_public: bool,
    response: Response,
    host: String,
    pace: Pace,
    _held: Option<OwnedSemaphorePermit>,
}

/// A manifest as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// It itself.
    pub bytes: Bytes,
    /// The registry gives it to everybody: no credentials were shown.
    pub is_public: bool,
}

/// What something is that a registry is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// A manifest.
    Manifest,
    /// A blob.
    Blob,
}

impl Client {
    /// A manifest byte for byte. It has that digest.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn manifest_bytes(
        &self,
        repository: &str,
        digest: &Digest,
        insecure: bool,
        keyring: &Keyring,
    ) -> Result<Delivery, FetchError> {
        let address = self.address(&format!("{repository}@{digest}"))?;
        let shown = keyring.shown(&address.registry, &address.repository).await;
        let session = Session::new(shown, self.total_timeout);
        let ask = Ask { address: &address, insecure, session: &session };
        let (_, answer) = self.manifest_answer(ask, &address.version).await?;
        Ok(Delivery { is_public: answer.is_public, bytes: answer.body.into() })
    }

    /// Whether the registry would give something of that size, without that it does: `Some(true)` if to everybody,
    /// `Some(false)` if with these credentials, `None` if it says another size or none.
    ///
    /// # Errors
    /// [`FetchError`] if it would not.
    pub async fn would_give(
        &self,
        (repository, insecure): (&str, bool),
        form: Form,
        (digest, size): (&Digest, u64),
        keyring: &Keyring,
    ) -> Result<Option<bool>, FetchError> {
        let address = self.address(&format!("{repository}@{digest}"))?;
        let shown = keyring.shown(&address.registry, &address.repository).await;
        let session = Session::new(shown, self.total_timeout);
        let ask = Ask { address: &address, insecure, session: &session };
        let (path, accept) = match form {
            Form::Manifest => (format!("manifests/{digest}"), manifest::ACCEPT),
            Form::Blob => (format!("blobs/{digest}"), "*/*"),
        };
        let wish = Wish { method: &Method::HEAD, path: &path, accept, take: Take::Head(0) };
        let answer = good(ask, self.transport.send(ask, wish).await?)?;
        let said = header(&answer, CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok());
        Ok((said == Some(size)).then_some(answer.is_public))
    }

    /// A blob from a byte on. Waits for a place among the downloads from its host.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn open_blob(
        &self,
        repository: &str,
        digest: &Digest,
        offset: u64,
        insecure: bool,
        keyring: &Keyring,
    ) -> Result<Download, FetchError> {
        let address = self.address(&format!("{repository}@{digest}"))?;
        let held = self.transport.place(&address.host).await;
        let shown = keyring.shown(&address.registry, &address.repository).await;
        let session = Session::new(shown, self.total_timeout);
        let ask = Ask { address: &address, insecure, session: &session };
        let path = format!("blobs/{digest}");
        let wish = Wish { method: &Method::GET, path: &path, accept: "*/*", take: Take::Head(offset) };
        let mut answer = good(ask, self.transport.send(ask, wish).await?)?;
        let wrong = |what: &str| Failure::Refused(what.to_owned()).told(&address.host, "the registry");
        let response = answer.rest.take().ok_or_else(|| wrong("sends no blob"))?;
        let (offset, size) = extent(&answer, offset).ok_or_else(|| wrong("sends another part of a blob"))?;
        let pace = Pace::new(self.total_timeout, LEAST_SPEED);
        let (host, is_public) = (address.host.clone(), answer.is_public);
        Ok(Download { size, offset, is_public, response, host, pace, _held: held })
    }

    /// Waits before a download is resumed that broke off for the `attempt`th time, from 1.
    pub async fn pause(&self, attempt: u32) {
        self.transport.pause(attempt).await;
    }
}

impl Download {
    /// The next piece. `None` if there is none.
    ///
    /// # Errors
    /// If the registry breaks off or is too slow.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        let began = Instant::now();
        let chunk = tokio::time::timeout(self.pace.left(), self.response.chunk()).await;
        self.pace.waited(began.elapsed());
        let told = |failure: Failure| failure.told(&self.host, "the registry");
        let chunk = chunk.map_err(|_| told(Failure::Slow("the blob comes too slowly".to_owned())))?;
        let chunk = chunk.map_err(|error| told(error.into()))?;
        self.pace.received(chunk.as_ref().map_or(0, |chunk| chunk.len() as u64));
        Ok(chunk)
    }
}

impl FetchError {
    /// It may be otherwise if the rest is asked for at once.
    #[must_use]
    pub fn is_broken_off(&self) -> bool {
        matches!(self.reason, Reason::ServiceUnavailable | Reason::Timeout) && self.retry == Retry::Later
    }
}

/// First byte and size of the whole, as the answer says. `None` if it does not begin where it should.
pub(super) fn extent(answer: &Answer, wanted: u64) -> Option<(u64, Option<u64>)> {
    if answer.status != StatusCode::PARTIAL_CONTENT {
        return Some((0, header(answer, CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok())));
    }
    let (range, size) = header(answer, CONTENT_RANGE.as_str())?.strip_prefix("bytes ")?.split_once('/')?;
    let from: u64 = range.split_once('-')?.0.parse().ok()?;
    (from == wanted).then(|| (from, size.parse().ok()))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::whole(200, &[("content-length", "7")], 0, Some((0, Some(7))))]
    #[case::no_ranges(200, &[("content-length", "7")], 5, Some((0, Some(7))))]
    #[case::no_length(200, &[], 5, Some((0, None)))]
    #[case::rest(206, &[("content-range", "bytes 5-6/7"), ("content-length", "2")], 5, Some((5, Some(7))))]
    #[case::unknown_size(206, &[("content-range", "bytes 5-6/*")], 5, Some((5, None)))]
    #[case::other_part(206, &[("content-range", "bytes 4-6/7")], 5, None)]
    #[case::unsaid(206, &[], 5, None)]
    #[case::nonsense(206, &[("content-range", "5")], 5, None)]
    fn part_that_is_sent_is_known(
        #[case] status: u16,
        #[case] headers: &[(&'static str, &'static str)],
        #[case] wanted: u64,
        #[case] expected: Option<(u64, Option<u64>)>,
    ) {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: Vec::new(),
            rest: None,
            is_public: false,
        };
        assert_eq!(extent(&answer, wanted), expected);
    }
}

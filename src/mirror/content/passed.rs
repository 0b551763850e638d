//! A blob that cannot be written down here, or not to its end: it comes straight from a registry, to each who wants it by
//! itself and with the credentials of its own namespace.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;

use super::fetches::lie;
use super::upstream::{Source, Upstream, nowhere, worse};
use crate::digest::Digest;
use crate::metrics::UpstreamMetrics;
use crate::mirror::catalogue::Origin;
use crate::mirror::storage::{Beginning, SpoolReader, checked};
use crate::mirror::{Blob, Part, PullError};
use crate::registry::{Download, FetchError, Keyring};
use crate::store::home::Home;

/// Whoever takes less than so many bytes a second, after some time, gives up the place among the downloads of the registry,
/// of which there are few.
const LEAST: u64 = 32 << 10;
const GRACE: Duration = Duration::from_mins(1);

/// From where a blob comes to one namespace, if it cannot be written down.
pub(super) struct Passage<H> {
    pub(super) upstream: Arc<Upstream<H>>,
    pub(super) source: Source,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

type Body = BoxStream<'static, io::Result<Bytes>>;

impl<H: Home> Passage<H> {
    /// A part of the blob from the first repository that gives it. All of it is fetched, whatever the part is, so that its last
    /// byte is held back until the digest was found right.
    pub(super) async fn part(&self, part: Part) -> Result<Blob, PullError> {
        let range = part.of(self.size).ok_or(PullError::Range(self.size))?;
        let body = self.rest(Beginning::none(&self.digest)).await?;
        Ok(Blob { size: self.size, range: range.clone(), body: cut(body, 0, range) })
    }

    /// A part of a download. If that cannot be written down to its end, the rest comes from a repository.
    pub(super) fn complete(self, blob: Blob, reader: SpoolReader) -> Blob {
        let Blob { size, range, body } = blob;
        let rest = move |wanted| Some(self.following(&reader, reader.beginning()?, wanted));
        Blob { size, range: range.clone(), body: completed(body, range, rest) }
    }

    /// What is wanted of a blob of which only the beginning is written down.
    fn following(self, reader: &SpoolReader, beginning: Beginning, wanted: Range<u64>) -> io::Result<Body> {
        let at = wanted.start.min(beginning.length);
        let begun = reader.read_beginning(at..beginning.length)?;
        // It is not asked for before it is its turn, and has no place among the downloads until then.
        let rest = async move { self.rest(beginning).await.map_err(|error| io::Error::other(error.message)) };
        Ok(cut(begun.chain(stream::once(rest).try_flatten()).boxed(), at, wanted))
    }

    /// What follows a beginning, from the first repository that gives it.
    async fn rest(&self, beginning: Beginning) -> Result<Body, FetchError> {
        let keyring = self.upstream.keyring(&self.source.namespace).await?;
        let mut trouble = None;
        for origin in self.upstream.in_order(&self.source.origins, &self.digest) {
            match self.open(&origin, beginning.clone(), &keyring).await {
                Ok(body) => return Ok(body),
                Err(error) => {
                    self.upstream.failed(&self.source.namespace, &error);
                    trouble = Some(worse(trouble, error));
                }
            }
        }
        Err(trouble.unwrap_or_else(|| nowhere(&self.digest)))
    }

    /// What a repository sends after a beginning. Its last piece comes when the digest of the whole was found right.
    async fn open(&self, origin: &Origin, beginning: Beginning, keyring: &Keyring) -> Result<Body, FetchError> {
        let Self { upstream, digest, size, .. } = self;
        let at = beginning.length;
        let download = upstream.client.open_blob(&origin.repository, digest, at, origin.insecure, keyring).await?;
        if let Some(said) = download.size.filter(|said| said != size) {
            return Err(lie(origin, &format!("says that {digest} has {said} bytes, its manifest says {size}")));
        }
        let (judge, wanted, repository) = (Arc::clone(upstream), digest.clone(), origin.repository.clone());
        let end = move |is_right: bool| {
            // Of a blob that came from two it is not known who sent something else.
            if !is_right && at == 0 {
                judge.distrust([repository].into(), &wanted);
            }
            std::future::ready(()).boxed()
        };
        // A registry that knows no ranges begins anew.
        let known = at - download.offset;
        let body = without(pieces(download, upstream.metrics.clone()), known);
        Ok(checked(body, (digest, *size), beginning, end))
    }
}

/// What comes from a registry.
fn pieces(download: Download, metrics: UpstreamMetrics) -> Body {
    let step = async |(mut download, metrics, began, came): (Download, UpstreamMetrics, Instant, u64)| {
        let piece = download.chunk().await.map_err(|error| io::Error::other(error.message)).transpose()?;
        let length = piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
        metrics.bytes.inc_by(length);
        let came = came + length;
        let is_slow = is_too_slow(began.elapsed(), came);
        let piece = if is_slow { Err(io::Error::other("it is taken too slowly to be passed on")) } else { piece };
        Some((piece, (download, metrics, began, came)))
    };
    stream::unfold((download, metrics, Instant::now(), 0), step).boxed()
}

/// What comes after so many bytes.
fn without(body: Body, mut count: u64) -> Body {
    let rest = move |piece: Bytes| {
        let known = usize::try_from(count).unwrap_or(usize::MAX).min(piece.len());
        count -= known as u64;
        piece.slice(known..)
    };
    body.map_ok(rest).boxed()
}

/// Whether so many bytes after so long are too few, whoever it is that takes or gives them.
fn is_too_slow(after: Duration, came: u64) -> bool {
    after.saturating_sub(GRACE).as_secs() > came / LEAST
}

/// A range of something. If it breaks off, `rest` is asked once for what is missing; if it has nothing, that was the end.
fn completed(
    body: Body,
    wanted: Range<u64>,
    rest: impl FnOnce(Range<u64>) -> Option<io::Result<Body>> + Send + 'static,
) -> Body {
    let completed = Completed { body, wanted, rest: Some(rest) };
    stream::unfold(completed, async |mut completed| completed.next().await.map(|piece| (piece, completed))).boxed()
}

struct Completed<F> {
    body: Body,
    /// What did not come yet.
    wanted: Range<u64>,
    rest: Option<F>,
}

impl<F: FnOnce(Range<u64>) -> Option<io::Result<Body>>> Completed<F> {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            let error = match self.body.next().await? {
                Ok(piece) => {
                    self.wanted.start += piece.len() as u64;
                    return Some(Ok(piece));
                }
                Err(error) => error,
            };
            match self.rest.take().and_then(|rest| rest(self.wanted.clone())) {
                Some(Ok(body)) => self.body = body,
                Some(Err(error)) => return Some(Err(error)),
                None => return Some(Err(error)),
            }
        }
    }
}

/// A range of what comes from a byte on. Its last piece is held back until all came, and nothing was wrong.
fn cut(body: Body, at: u64, range: Range<u64>) -> Body {
    let cut = Cut { body: body.fuse().boxed(), at, range, held: None };
    stream::unfold(cut, async |mut cut| cut.next().await.map(|piece| (piece, cut))).boxed()
}

struct Cut {
    body: Body,
    /// Which byte comes next.
    at: u64,
    range: Range<u64>,
    held: Option<Bytes>,
}

impl Cut {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            match self.body.next().await {
                Some(Ok(piece)) => {
                    let wanted = self.wanted(&piece);
                    if !wanted.is_empty()
                        && let Some(before) = self.held.replace(wanted)
                    {
                        return Some(Ok(before));
                    }
                }
                Some(Err(error)) => {
                    self.held = None;
                    return Some(Err(error));
                }
                None => return self.held.take().map(Ok),
            }
        }
    }

    /// What is wanted of the next piece.
    fn wanted(&mut self, piece: &Bytes) -> Bytes {
        let length = piece.len();
        let within = |byte: u64| usize::try_from(byte.saturating_sub(self.at)).map_or(length, |at| at.min(length));
        let (from, to) = (within(self.range.start), within(self.range.end));
        self.at += length as u64;
        piece.slice(from..to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parts(range: Range<u64>, end: Option<io::Error>) -> (Vec<Bytes>, bool) {
        let pieces = ["abc", "", "de", "fgh"].map(|piece| Ok(Bytes::from(piece)));
        let mut body = cut(stream::iter(pieces.into_iter().chain(end.map(Err))).boxed(), 0, range);
        let mut parts = Vec::new();
        loop {
            match body.try_next().await {
                Ok(Some(part)) => parts.push(part),
                ended => return (parts, ended.is_ok()),
            }
        }
    }

    fn body(pieces: &'static [&str], end: Option<&'static str>) -> Body {
        let pieces = pieces.iter().map(|piece| Ok(Bytes::from(*piece)));
        stream::iter(pieces.chain(end.map(|end| Err(io::Error::other(end))))).boxed()
    }

    /// All that comes, or why it breaks off.
    async fn all(body: Body) -> Result<String, String> {
        let pieces: Result<Vec<_>, _> = body.try_collect().await;
        pieces.map(|pieces| String::from_utf8(pieces.concat()).unwrap()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn what_breaks_off_is_completed_once_with_what_is_missing() {
        let begun = || body(&["bc", "d"], Some("full"));
        let rest = |wanted| Some(Ok(cut(body(&["abcd", "e", "fgh"], None), 0, wanted)));
        assert_eq!(all(completed(begun(), 1..7, rest)).await, Ok("bcdefg".to_owned()));
        assert_eq!(all(completed(body(&["bcd"], None), 1..4, |_| unreachable!())).await, Ok("bcd".to_owned()));
        assert_eq!(all(completed(begun(), 1..7, |_| None)).await, Err("full".to_owned()));
        let failed = |_| Some(Err(io::Error::other("unreadable")));
        assert_eq!(all(completed(begun(), 1..7, failed)).await, Err("unreadable".to_owned()));
        let broken = |wanted| Some(Ok(cut(body(&["abcdefg"], Some("wrong")), 0, wanted)));
        assert_eq!(all(completed(begun(), 1..7, broken)).await, Err("wrong".to_owned()));
    }

    #[tokio::test]
    async fn what_was_there_before_is_left_out() {
        for (count, expected) in [(0, "abcdef"), (2, "cdef"), (4, "ef"), (6, "")] {
            assert_eq!(all(without(body(&["ab", "cde", "f"], None), count)).await, Ok(expected.to_owned()));
        }
    }

    #[test]
    fn whoever_is_too_slow_gives_up_the_place() {
        let minutes = |minutes: u64| Duration::from_mins(minutes);
        assert!(!is_too_slow(minutes(1), 0) && is_too_slow(minutes(2), 0));
        assert!(!is_too_slow(minutes(61), 3600 * LEAST) && is_too_slow(minutes(61), 3599 * LEAST));
    }

    #[tokio::test]
    async fn a_part_has_its_bytes_and_the_last_come_when_all_are_there() {
        let whole = (vec!["abc".into(), "de".into(), "fgh".into()], true);
        assert_eq!(parts(0..8, None).await, whole);
        assert_eq!(parts(1..4, None).await, (vec!["bc".into(), "d".into()], true));
        assert_eq!(parts(3..5, None).await, (vec!["de".into()], true));
        assert_eq!(parts(3..5, Some(io::Error::other("wrong"))).await, (vec![], false));
        assert_eq!(parts(0..8, Some(io::Error::other("wrong"))).await, (vec!["abc".into(), "de".into()], false));
    }
}

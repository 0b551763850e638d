//! A blob that cannot be written down here: it comes straight from a registry, to each who wants it by itself and with the
//! credentials of its own namespace.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::time::Instant;

use super::fetches::lie;
use super::upstream::{Source, Upstream, nowhere, worse};
use crate::digest::Digest;
use crate::metrics::UpstreamMetrics;
use crate::mirror::catalogue::Origin;
use crate::mirror::storage::checked;
use crate::mirror::{Blob, Part, PullError};
use crate::registry::{Download, FetchError, Keyring};
use crate::store::home::Home;

/// Whoever takes less than so many bytes a second, after some time, gives up the place among the downloads of the registry,
/// of which there are few.
const LEAST: u64 = 32 << 10;
const GRACE: Duration = Duration::from_mins(1);

/// A part of a blob from the first of these repositories that gives it. All of it is fetched, whatever the part is, so that
/// its last byte is held back until the digest was found right.
pub(super) async fn pass_on<H: Home>(
    upstream: &Arc<Upstream<H>>,
    source: &Source,
    (digest, size): (&Digest, u64),
    part: Part,
) -> Result<Blob, PullError> {
    let range = part.of(size).ok_or(PullError::Range(size))?;
    let keyring = upstream.keyring(&source.namespace).await?;
    let mut trouble = None;
    for origin in upstream.in_order(&source.origins, digest) {
        match open(upstream, &origin, (digest, size), &keyring).await {
            Ok(body) => return Ok(Blob { size, range: range.clone(), body: cut(body, range) }),
            Err(error) => {
                upstream.failed(&source.namespace, &error);
                trouble = Some(worse(trouble, error));
            }
        }
    }
    Err(trouble.unwrap_or_else(|| nowhere(digest)).into())
}

/// What a repository sends, whose last piece comes when its digest was found right.
async fn open<H: Home>(
    upstream: &Arc<Upstream<H>>,
    origin: &Origin,
    (digest, size): (&Digest, u64),
    keyring: &Keyring,
) -> Result<BoxStream<'static, io::Result<Bytes>>, FetchError> {
    let download = upstream.client.open_blob(&origin.repository, digest, 0, origin.insecure, keyring).await?;
    if let Some(said) = download.size.filter(|said| *said != size) {
        return Err(lie(origin, &format!("says that {digest} has {said} bytes, its manifest says {size}")));
    }
    let (judge, wanted, repository) = (Arc::clone(upstream), digest.clone(), origin.repository.clone());
    let end = move |is_right: bool| {
        if !is_right {
            judge.distrust([repository].into(), &wanted);
        }
        std::future::ready(()).boxed()
    };
    Ok(checked(pieces(download, upstream.metrics.clone()), digest, size, end))
}

/// What comes from a registry.
fn pieces(download: Download, metrics: UpstreamMetrics) -> BoxStream<'static, io::Result<Bytes>> {
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

/// Whether so many bytes after so long are too few, whoever it is that takes or gives them.
fn is_too_slow(after: Duration, came: u64) -> bool {
    after.saturating_sub(GRACE).as_secs() > came / LEAST
}

/// A part of what comes. Its last piece is held back until all came, and nothing was wrong.
fn cut(body: BoxStream<'static, io::Result<Bytes>>, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
    let cut = Cut { body: body.fuse().boxed(), at: 0, range, held: None };
    stream::unfold(cut, async |mut cut| cut.next().await.map(|piece| (piece, cut))).boxed()
}

struct Cut {
    body: BoxStream<'static, io::Result<Bytes>>,
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
    use futures_util::stream::TryStreamExt as _;

    use super::*;

    async fn parts(range: Range<u64>, end: Option<io::Error>) -> (Vec<Bytes>, bool) {
        let pieces = ["abc", "", "de", "fgh"].map(|piece| Ok(Bytes::from(piece)));
        let mut body = cut(stream::iter(pieces.into_iter().chain(end.map(Err))).boxed(), range);
        let mut parts = Vec::new();
        loop {
            match body.try_next().await {
                Ok(Some(part)) => parts.push(part),
                ended => return (parts, ended.is_ok()),
            }
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

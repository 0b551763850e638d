//! Files and objects read piece by piece, one piece ahead, and checked against their digest.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use axum::body::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::digest::{Digest, Hasher};

/// How much is read at once. A client holds about four of them: the one that is read ahead, and what waits to be sent.
pub(super) const PIECE: u64 = 128 * 1024;

/// Bytes of a file at once. Blocks.
pub(super) fn read(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}

/// Bytes of a file. While one piece is sent the next is read.
pub(super) fn of_file(file: File, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
    let ahead = Ahead { file: Arc::new(file), range, reading: None };
    stream::unfold(ahead, async |mut ahead| ahead.next().await.map(|piece| (piece, ahead))).boxed()
}

struct Ahead {
    file: Arc<File>,
    /// What was not asked for yet.
    range: Range<u64>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Ahead {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let reading = self.reading.take().or_else(|| self.ask())?;
        let piece = reading.await.unwrap_or_else(|error| Err(error.into()));
        if piece.is_ok() {
            self.reading = self.ask();
        } else {
            self.range = 0..0;
        }
        Some(piece)
    }

    fn ask(&mut self) -> Option<JoinHandle<io::Result<Bytes>>> {
        if self.range.is_empty() {
            return None;
        }
        let piece = self.range.start..self.range.end.min(self.range.start.saturating_add(PIECE));
        self.range.start = piece.end;
        let file = Arc::clone(&self.file);
        Some(spawn_blocking(move || read(&file, piece)))
    }
}

/// The beginning of something whose rest is elsewhere.
#[derive(Clone)]
pub(in crate::mirror) struct Beginning {
    /// Its digest, as far as it is worked out.
    pub(in crate::mirror) hasher: Hasher,
    /// How many bytes it has.
    pub(in crate::mirror) length: u64,
}

impl Beginning {
    /// Nothing is there yet.
    pub(in crate::mirror) fn none(digest: &Digest) -> Self {
        Self { hasher: digest.hasher(), length: 0 }
    }
}

/// Hands on what follows a beginning, if that makes something of that digest and size; the last piece waits until that is
/// known. `end` is told whether it does.
pub(in crate::mirror) fn checked(
    body: BoxStream<'static, io::Result<Bytes>>,
    (digest, size): (&Digest, u64),
    Beginning { hasher, length }: Beginning,
    end: impl FnOnce(bool) -> BoxFuture<'static, ()> + Send + 'static,
) -> BoxStream<'static, io::Result<Bytes>> {
    let check = Check { body, digest: digest.clone(), hasher, left: size.saturating_sub(length), end: Some(end) };
    stream::unfold(check, async |mut check| check.next().await.map(|piece| (piece, check))).boxed()
}

struct Check<F> {
    body: BoxStream<'static, io::Result<Bytes>>,
    digest: Digest,
    hasher: Hasher,
    /// Bytes that are still to come.
    left: u64,
    /// Taken when it is over.
    end: Option<F>,
}

impl<F: FnOnce(bool) -> BoxFuture<'static, ()>> Check<F> {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        self.end.as_ref()?;
        if self.left == 0 {
            // Something without bytes has a digest too.
            return self.judge().await.err().map(Err);
        }
        let piece = match self.body.next().await {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Some(Err(self.broken(error))),
            None => return Some(Err(self.broken(io::ErrorKind::UnexpectedEof.into()))),
        };
        let Some(left) = self.left.checked_sub(piece.len() as u64) else {
            return Some(Err(self.broken(io::Error::other(format!("{} is longer than it was", self.digest)))));
        };
        self.left = left;
        self.hasher.update(&piece);
        if left == 0 {
            return Some(self.judge().await.map(|()| piece));
        }
        Some(Ok(piece))
    }

    /// Compares the digests.
    async fn judge(&mut self) -> io::Result<()> {
        let is_right = std::mem::take(&mut self.hasher).finish() == self.digest;
        if let Some(end) = self.end.take() {
            end(is_right).await;
        }
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, format!("what came is not {}", self.digest));
        is_right.then_some(()).ok_or_else(wrong)
    }

    /// It ends early, and nothing is known of its digest.
    fn broken(&mut self, error: io::Error) -> io::Error {
        self.end = None;
        error
    }
}

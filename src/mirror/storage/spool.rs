//! A spool: the file that a download is written into. Others read it while it grows, but never to its end before its
//! digest was found right. It goes away with its last reader, unless it was kept.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use rustix::io::Errno;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use super::pieces::{self, Beginning, PIECE, read};
use crate::digest::{Digest, Hasher};

/// A leftover is not younger than this: between making a file and locking it there is a moment.
const YOUNG: Duration = Duration::from_mins(1);
/// A leftover whose lock cannot be tried is as old as this.
const OLD: Duration = Duration::from_hours(24);

/// What a download is written into. While a piece is written down the next may come.
pub struct Spool {
    digest: Digest,
    file: Arc<SpoolFile>,
    /// Of what is written down, if nothing is being written.
    hasher: Hasher,
    writing: Option<JoinHandle<(Hasher, io::Result<()>)>>,
    given: u64,
    progress: Arc<watch::Sender<Progress>>,
}

/// A spool whose content is whole and has the right digest.
pub struct Checked {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) file: Arc<SpoolFile>,
}

/// Reads a spool while it grows. Clones are cheap.
#[derive(Clone)]
pub struct SpoolReader {
    file: Arc<SpoolFile>,
    progress: watch::Receiver<Progress>,
}

/// Why a download is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// The digest is another.
    #[error("what was downloaded as {expected} is {found}")]
    Digest {
        /// The one that was asked for.
        expected: Digest,
        /// That of what came.
        found: Digest,
    },
    /// It could not be written down.
    #[error("it cannot be written down: {0}")]
    Write(Arc<str>),
}

/// How far a download is.
#[derive(Clone, Default)]
struct Progress {
    written: u64,
    end: Option<Result<(), Arc<str>>>,
    /// What there is of one that cannot be written down to its end.
    beginning: Option<Beginning>,
}

/// A file that is removed when nobody has it any more, and locked as long as somebody does.
pub(super) struct SpoolFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        // One that was kept is not there any more.
        let _ = fs::remove_file(&self.path);
    }
}

impl Spool {
    /// Makes one in a folder that has room for so many bytes. None of it is taken before they come: whoever announces much
    /// and sends nothing holds nothing. Blocks.
    pub(super) fn create(folder: &Path, digest: &Digest, size: u64) -> io::Result<Self> {
        let file = SpoolFile::create(folder, digest)?;
        file.look_for_room(size)?;
        let (progress, hasher) = (Arc::new(watch::Sender::new(Progress::default())), digest.hasher());
        Ok(Self { digest: digest.clone(), file: Arc::new(file), hasher, writing: None, given: 0, progress })
    }

    /// What it is to become.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// How many bytes it was given.
    #[must_use]
    pub fn given(&self) -> u64 {
        self.given
    }

    /// Puts bytes at its end. Readers see them as soon as they are written down, which this does not wait for; the next one
    /// does. After an error nothing more can be written.
    ///
    /// # Errors
    /// If the bytes before these cannot be written: no space is left, for example.
    pub async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.flush().await?;
        let (file, progress, at) = (Arc::clone(&self.file), Arc::clone(&self.progress), self.given);
        let mut hasher = std::mem::take(&mut self.hasher);
        self.given += bytes.len() as u64;
        let written = move || {
            let written = file.file.write_all_at(&bytes, at);
            if written.is_ok() {
                hasher.update(&bytes);
                progress.send_modify(|progress| progress.written = at + bytes.len() as u64);
            }
            (hasher, written)
        };
        self.writing = Some(spawn_blocking(written));
        Ok(())
    }

    /// Waits until everything is written down that was given.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn flush(&mut self) -> io::Result<()> {
        if let Some(writing) = self.writing.take() {
            let (hasher, written) = writing.await?;
            self.hasher = hasher;
            return written;
        }
        Ok(())
    }

    /// A reader of it. There can be many.
    #[must_use]
    pub fn reader(&self) -> SpoolReader {
        SpoolReader { file: Arc::clone(&self.file), progress: self.progress.subscribe() }
    }

    /// Ends the download: looks whether it is what it should be. Readers get the rest, or an error.
    ///
    /// # Errors
    /// If it is something else, or cannot be written.
    pub async fn finish(mut self) -> Result<Checked, SpoolError> {
        if let Err(error) = self.flush().await {
            let error = SpoolError::Write(error.to_string().into());
            self.fail(&error.to_string());
            return Err(error);
        }
        let found = std::mem::take(&mut self.hasher).finish();
        if found != self.digest {
            let error = SpoolError::Digest { expected: self.digest.clone(), found };
            self.fail(&error.to_string());
            return Err(error);
        }
        self.progress.send_modify(|progress| progress.end = Some(Ok(())));
        Ok(Checked { digest: self.digest, size: self.given, file: self.file })
    }

    /// Ends the download without success. Readers get an error that says why. One that is dropped ends so too.
    pub fn fail(self, why: &str) {
        self.progress.send_modify(|progress| progress.end = Some(Err(why.into())));
    }

    /// Ends the download, of which no more can be written down. Readers get an error, and the beginning of it, if they
    /// can have the rest from elsewhere.
    pub fn stop(self, why: &str) {
        self.progress.send_modify(|progress| {
            progress.beginning = Some(Beginning { hasher: self.hasher, length: progress.written });
            progress.end = Some(Err(why.into()));
        });
    }
}

impl Checked {
    /// How many bytes it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl SpoolReader {
    /// Bytes of it, as they come. The last byte of all comes after the digest was found right; before, or if it was not,
    /// whoever waits for it gets an error.
    #[must_use]
    pub fn read(&self, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        let step = async |(mut reader, range): (Self, Range<u64>)| match reader.next(range.clone()).await {
            Ok(None) => None,
            Ok(Some(bytes)) => {
                let rest = range.start + bytes.len() as u64..range.end;
                Some((Ok(bytes), (reader, rest)))
            }
            Err(error) => Some((Err(error), (reader, 0..0))),
        };
        stream::unfold((self.clone(), range), step).boxed()
    }

    /// What there is of a download that could not be written down to its end.
    pub(in crate::mirror) fn beginning(&self) -> Option<Beginning> {
        self.progress.borrow().beginning.clone()
    }

    /// Bytes of the beginning. They are there for as long as they are read.
    pub(in crate::mirror) fn read_beginning(
        &self,
        range: Range<u64>,
    ) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
        Ok(pieces::of_file(self.file.file.try_clone()?, range))
    }

    /// The next bytes of a range, as soon as there are some.
    async fn next(&mut self, range: Range<u64>) -> io::Result<Option<Bytes>> {
        if range.is_empty() {
            return Ok(None);
        }
        let is_worth_it = |progress: &Progress| progress.end.is_some() || progress.readable() > range.start;
        let progress = match self.progress.wait_for(is_worth_it).await {
            Ok(progress) => progress.clone(),
            Err(_) => return Err(io::Error::other("the download was given up")),
        };
        if let Some(Err(why)) = &progress.end {
            return Err(io::Error::other(why.to_string()));
        }
        let end = range.end.min(progress.readable()).min(range.start.saturating_add(PIECE));
        if end <= range.start {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the download has fewer bytes than was said"));
        }
        let file = Arc::clone(&self.file);
        Ok(Some(spawn_blocking(move || read(&file.file, range.start..end)).await??))
    }
}

impl Progress {
    /// How many bytes may be read: all but one while it is not known whether they are right.
    fn readable(&self) -> u64 {
        if matches!(self.end, Some(Ok(()))) { self.written } else { self.written.saturating_sub(1) }
    }
}

impl SpoolFile {
    fn create(folder: &Path, digest: &Digest) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let name = format!("{}-{}-{:016x}", digest.algorithm(), digest.hex(), random()?);
        let path = folder.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        // Where there are no locks, leftovers are told by their age.
        let _ = file.try_lock();
        Ok(Self { file, path })
    }
}

impl SpoolFile {
    /// Whether there is room now. What file systems say that do not know is not believed.
    fn look_for_room(&self, size: u64) -> io::Result<()> {
        let Ok(system) = rustix::fs::fstatvfs(&self.file) else { return Ok(()) };
        let is_full = system.f_blocks > 0 && system.f_bavail.saturating_mul(system.f_frsize) < size;
        if is_full { Err(Errno::NOSPC.into()) } else { Ok(()) }
    }
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("there are no random numbers"))?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Removes the spools of processes that are not there any more, and gives how many these were. Blocks.
pub(super) fn sweep(folder: &Path, now: SystemTime) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && is_left(&entry.path(), now).unwrap_or_default() && fs::remove_file(entry.path()).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

/// Nobody writes or reads this spool any more.
fn is_left(path: &Path, now: SystemTime) -> io::Result<bool> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let age = now.duration_since(file.metadata()?.modified()?).unwrap_or_default();
    Ok(match file.try_lock() {
        Ok(()) => age >= YOUNG,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => age >= OLD,
    })
}

#[cfg(test)]
mod tests;

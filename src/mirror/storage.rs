//! What was pulled, by digest: in a directory or a bucket that all replicas share. Something is there whole or not at all.
//!
//! It knows nothing of streams, and asks nobody. What it has is checked against its digest when it comes in, and again
//! when it is read; what no longer is what it should be is thrown away, and is as if it had never been there.

mod directory;
mod error;
pub mod garbage;
mod given;
mod layout;
mod ledger;
mod manage;
mod pieces;
mod place;
mod spool;
mod unkept;
mod upload;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, ObjectStore, ObjectStoreExt as _};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

pub use self::error::{Reason, StorageError};
pub use self::given::{Grant, Grants};
pub use self::manage::Kept;
pub(super) use self::pieces::{Beginning, checked};
pub use self::place::Place;
pub use self::spool::{Checked, Spool, SpoolError, SpoolReader};

use self::directory::Directory;
use self::place::Kind;
use self::unkept::Unkept;
use super::{Blob, Part};
use crate::digest::Digest;
use crate::files;
use crate::metrics::StorageMetrics;

/// Below it stands what is kept.
const BLOBS: &str = "blobs";
/// Below it, in a directory, stands what is being downloaded.
const SPOOLS: &str = "spool";
/// How often what others did to the directory is looked at.
const LOOK: Duration = Duration::from_mins(10);
/// How many uploads to a bucket there are at a time.
const UPLOADS: usize = 4;

/// Blobs and manifests by digest. Clones are cheap.
#[derive(Clone)]
pub struct Storage {
    inner: Arc<Inner>,
}

struct Inner {
    /// How it is called in messages.
    name: String,
    store: Arc<dyn ObjectStore>,
    /// Where in the store it begins.
    root: Path,
    /// The folder that it is, for what other stores do not have: folders.
    folder: Option<PathBuf>,
    spools: PathBuf,
    /// What only a directory has: a budget, and files.
    directory: Option<Arc<Directory>>,
    uploads: Semaphore,
    metrics: StorageMetrics,
    unkept: Unkept,
}

/// Who knows what current tags need.
pub trait Needed: Send + Sync + 'static {
    /// A current tag needs it, so that it is not taken out for other things.
    fn is_needed(&self, digest: &Digest) -> bool;
}

impl<F: Fn(&Digest) -> bool + Send + Sync + 'static> Needed for F {
    fn is_needed(&self, digest: &Digest) -> bool {
        self(digest)
    }
}

impl Storage {
    /// Opens it, and looks whether it can be used. What dead processes were downloading into it is removed.
    ///
    /// # Errors
    /// If it cannot be used.
    pub async fn open(place: &Place, needed: Arc<dyn Needed>, metrics: StorageMetrics) -> Result<Self, StorageError> {
        let storage = match place.kind() {
            Kind::Directory(root) => {
                let (directory, store) = Directory::open(root, place, needed, metrics.clone())?;
                let spools = root.join(SPOOLS);
                Self::over(place, (store, Path::default()), spools, Some(Arc::new(directory)), metrics)
            }
            Kind::Bucket(url) => {
                let (store, root) = place.bucket(url)?;
                let spools = place.spool.clone().unwrap_or_else(|| std::env::temp_dir().join("pinstream-spool"));
                Self::over(place, (store, root), spools, None, metrics)
            }
        };
        storage.check().await?;
        storage.tidy().await?;
        Ok(storage)
    }

    fn over(
        place: &Place,
        (store, root): (Arc<dyn ObjectStore>, Path),
        spools: PathBuf,
        directory: Option<Arc<Directory>>,
        metrics: StorageMetrics,
    ) -> Self {
        let folder = match place.kind() {
            Kind::Directory(root) => Some(root.clone()),
            Kind::Bucket(_) => None,
        };
        let inner = Inner {
            name: place.to_string(),
            store,
            root,
            folder,
            spools,
            directory,
            uploads: Semaphore::new(UPLOADS),
            unkept: Unkept::new(metrics.clone()),
            metrics,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Looks whether it can be reached.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn check(&self) -> Result<(), StorageError> {
        let first = self.inner.store.list(Some(&self.blobs())).next().await;
        let error = match first {
            None | Some(Ok(_) | Err(object_store::Error::NotFound { .. })) => return Ok(()),
            Some(Err(error)) => error,
        };
        Err(StorageError::Open { place: self.inner.name.clone(), reason: error.into() })
    }

    /// How many bytes something has. `None` if it is not kept.
    ///
    /// # Errors
    /// If that cannot be found out.
    pub async fn size(&self, digest: &Digest) -> Result<Option<u64>, StorageError> {
        let meta = found(self.inner.store.head(&self.path(digest)).await);
        Ok(meta.map_err(|error| self.unreadable(digest, error))?.map(|meta| meta.size))
    }

    /// Something, or a part of it. `None` if it is not kept.
    ///
    /// # Errors
    /// If it cannot be read, or has no such part.
    pub async fn read(&self, digest: &Digest, part: Part) -> Result<Option<Blob>, StorageError> {
        let Some((result, range)) = self.get(digest, part).await? else { return Ok(None) };
        let size = result.meta.size;
        let is_known = match (&self.inner.directory, &result.payload) {
            (Some(directory), GetResultPayload::File(file, _)) => directory.used(digest, file),
            _ => false,
        };
        let body = body(result, range.clone());
        let is_whole = range == (0..size);
        if !is_whole || is_known {
            return Ok(Some(Blob { size, range, body }));
        }
        let (storage, judged) = (self.clone(), digest.clone());
        let end = move |is_right| async move { storage.judged(&judged, is_right).await }.boxed();
        Ok(Some(Blob { size, range, body: checked(body, (digest, size), Beginning::none(digest), end) }))
    }

    /// Something small at once. `None` if it is not kept.
    ///
    /// # Errors
    /// If it cannot be read, or is larger than `limit`.
    pub async fn bytes(&self, digest: &Digest, limit: usize) -> Result<Option<Bytes>, StorageError> {
        let Some((bytes, file)) = self.look(digest, limit).await? else { return Ok(None) };
        if !digest.is_of(&bytes) {
            self.judged(digest, false).await;
            return Ok(None);
        }
        if let (Some(directory), Some(file)) = (&self.inner.directory, &file) {
            directory.used(digest, file);
        }
        Ok(Some(bytes))
    }

    /// A file to download something into, on the machine itself, where there is room for so many bytes.
    ///
    /// # Errors
    /// If there can be none, or there lately was no room for one. That is counted and, now and then, logged here.
    pub async fn spool(&self, digest: &Digest, size: u64) -> Result<Spool, StorageError> {
        if let Some(why) = self.inner.unkept.lately() {
            return Err(self.inner.unkept.tell(self.no_folder(io::Error::other(why)), false));
        }
        let (folder, digest) = (self.inner.spools.clone(), digest.clone());
        let spool = spawn_blocking(move || Spool::create(&folder, &digest, size)).await.map_err(io::Error::from);
        // Where there is no room for this one there may be for another.
        spool.flatten().map_err(|error| self.unwritten(error))
    }

    /// What was downloaded cannot be written down: for a while nothing more is. That is counted and, now and then, logged
    /// here.
    #[must_use]
    pub fn unspooled(&self, error: io::Error) -> StorageError {
        self.inner.unkept.begins(error.to_string());
        self.unwritten(error)
    }

    fn unwritten(&self, error: io::Error) -> StorageError {
        let is_full = files::is_full(&error);
        self.inner.unkept.tell(self.no_folder(error), is_full)
    }

    /// Keeps what was downloaded, so that all replicas have it.
    ///
    /// # Errors
    /// If there is no room for it, or it cannot be written. That is counted and, now and then, logged here.
    pub async fn keep(&self, checked: Checked) -> Result<(), StorageError> {
        let kept = match &self.inner.directory {
            Some(directory) => Arc::clone(directory).keep(checked).await,
            None => self.upload(&checked).await,
        };
        kept.map_err(|error| {
            let is_full = matches!(error, StorageError::Full { .. });
            self.inner.unkept.tell(error, is_full)
        })
    }

    /// Keeps something small.
    ///
    /// # Errors
    /// If it is something else, there is no room for it, or it cannot be written.
    pub async fn keep_bytes(&self, digest: &Digest, bytes: Bytes) -> Result<(), StorageError> {
        let size = bytes.len();
        let mut spool = self.spool(digest, size as u64).await?;
        spool.write(bytes).await.map_err(|error| self.unspooled(error))?;
        spool.flush().await.map_err(|error| self.unspooled(error))?;
        let checked = spool.finish().await.map_err(|_| StorageError::Digest { digest: digest.clone(), size })?;
        self.keep(checked).await
    }

    /// Looks now and then what others did to the directory, without end. Whoever opens the storage to serve from it runs
    /// this beside.
    ///
    /// # Errors
    /// None: what goes wrong is logged, and done again.
    pub async fn tend(self) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.tidy().await {
                tracing::warn!(%error, "the storage cannot be looked after");
            }
        }
    }

    /// Removes what dead processes left, and learns what others did.
    async fn tidy(&self) -> Result<(), StorageError> {
        let (directory, spools) = (self.inner.directory.clone(), self.inner.spools.clone());
        let tidied = move || {
            let left = directory::sweep(&spools)?;
            if left > 0 {
                tracing::info!(files = left, folder = %spools.display(), "removed what dead processes were downloading");
            }
            directory.map_or(Ok(()), |directory| directory.look())
        };
        spawn_blocking(tidied).await.map_err(|error| self.no_folder(error))?
    }

    /// Something small, whatever it is by now. It does not count as used.
    async fn look(&self, digest: &Digest, limit: usize) -> Result<Option<(Bytes, Option<File>)>, StorageError> {
        let Some((result, range)) = self.get(digest, Part::Whole).await? else { return Ok(None) };
        let size = result.meta.size;
        if size > limit as u64 {
            return Err(StorageError::TooLarge { digest: digest.clone(), size, limit });
        }
        let file = match &result.payload {
            GetResultPayload::File(file, _) => file.try_clone().ok(),
            GetResultPayload::Stream(_) => None,
        };
        let pieces: Vec<_> = body(result, range).try_collect().await.map_err(|error| self.unreadable(digest, error))?;
        Ok(Some((pieces.concat().into(), file)))
    }

    /// Finds something, and which bytes of it are asked for.
    async fn get(&self, digest: &Digest, part: Part) -> Result<Option<(GetResult, Range<u64>)>, StorageError> {
        let mut options = GetOptions::new();
        if part != Part::Whole {
            let Some(size) = self.size(digest).await? else { return Ok(None) };
            let range = part.of(size).ok_or_else(|| StorageError::Range { digest: digest.clone(), size })?;
            options = options.with_range(Some(GetRange::Bounded(range)));
        }
        let result = found(self.inner.store.get_opts(&self.path(digest), options).await);
        let result = result.map_err(|error| self.unreadable(digest, error))?;
        Ok(result.map(|result| {
            let range = result.range.clone();
            (result, range)
        }))
    }

    async fn upload(&self, checked: &Checked) -> Result<(), StorageError> {
        let _turn = self.inner.uploads.acquire().await;
        let sent = upload::upload(self.inner.store.as_ref(), &self.path(&checked.digest), checked).await;
        let failed = |error: object_store::Error| StorageError::Write {
            digest: checked.digest.clone(),
            place: self.inner.name.clone(),
            reason: error.into(),
        };
        sent.map_err(failed)
    }

    /// Its digest was worked out. What is not right is thrown away.
    async fn judged(&self, digest: &Digest, is_right: bool) {
        if is_right {
            if let Some(directory) = &self.inner.directory {
                directory.checked(digest);
            }
            return;
        }
        self.inner.metrics.corrupt.inc();
        tracing::error!(%digest, place = self.inner.name, "corrupt in storage; thrown away, to be fetched again");
        if let Err(error) = self.delete(digest).await {
            tracing::error!(%error, "what is corrupt stays");
        }
    }

    fn blobs(&self) -> Path {
        self.inner.root.clone().join(BLOBS)
    }

    fn path(&self, digest: &Digest) -> Path {
        layout::parts(digest).iter().fold(self.blobs(), |path, part| path.join(*part))
    }

    fn unreadable(&self, digest: &Digest, error: impl Into<Reason>) -> StorageError {
        StorageError::Read { digest: digest.clone(), place: self.inner.name.clone(), reason: error.into() }
    }

    fn no_folder(&self, error: impl Into<Reason>) -> StorageError {
        StorageError::Folder { path: self.inner.spools.clone(), reason: error.into() }
    }
}

/// The bytes of an answer.
fn body(result: GetResult, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
    match result.payload {
        GetResultPayload::File(file, _) => pieces::of_file(file, range),
        GetResultPayload::Stream(stream) => stream.map_err(io::Error::other).boxed(),
    }
}

/// `None` for what is not there.
fn found<T>(result: object_store::Result<T>) -> object_store::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;

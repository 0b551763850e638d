//! What a directory has beyond what every store can: files that are renamed into place, a record of their use in their
//! times of change, and a budget. Other replicas may write into it as well.

use std::fs::{self, File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use tokio::task::spawn_blocking;

use super::given;
use super::layout;
use super::ledger::{Found, Ledger, Shortage};
use super::spool::{self, Checked, SpoolFile};
use super::{BLOBS, Needed, Place, SPOOLS, StorageError};
use crate::digest::Digest;
use crate::metrics::StorageMetrics;

/// How often room is made for one thing; others use what was to be taken out, or take the room.
const TRIES: usize = 5;

/// A directory.
pub(super) struct Directory {
    root: PathBuf,
    budget: Option<u64>,
    evict_needed: bool,
    needed: Arc<dyn Needed>,
    ledger: Mutex<Ledger>,
    metrics: StorageMetrics,
}

impl Directory {
    /// Makes its folders.
    pub(super) fn open(
        root: &Path,
        place: &Place,
        needed: Arc<dyn Needed>,
        metrics: StorageMetrics,
    ) -> Result<(Self, Arc<dyn ObjectStore>), StorageError> {
        for folder in [BLOBS, SPOOLS].map(|name| root.join(name)) {
            fs::create_dir_all(&folder).map_err(|error| StorageError::Folder { path: folder, reason: error.into() })?;
        }
        let failed = |error: object_store::Error| StorageError::Open { place: place.to_string(), reason: error.into() };
        let store = LocalFileSystem::new_with_prefix(root).map_err(failed)?;
        let (budget, evict_needed) = (place.budget, place.evict_needed);
        let root = root.to_owned();
        Ok((Self { root, budget, evict_needed, needed, ledger: Mutex::default(), metrics }, Arc::new(store)))
    }

    /// Puts it in its place.
    pub(super) async fn keep(self: Arc<Self>, checked: Checked) -> Result<(), StorageError> {
        let digest = checked.digest.clone();
        let failed = |source: io::Error| self.unwritable(&digest, source);
        let directory = Arc::clone(&self);
        spawn_blocking(move || directory.keep_now(&checked)).await.map_err(|error| failed(error.into()))?
    }

    fn keep_now(&self, checked: &Checked) -> Result<(), StorageError> {
        self.make_room(&checked.digest, checked.size)?;
        let moved = move_into(&checked.file, &self.path(&checked.digest));
        self.ledger().settle(&checked.digest, moved.is_ok(), SystemTime::now());
        self.count();
        moved.map_err(|source| self.unwritable(&checked.digest, source))
    }

    /// Takes out what is not needed until there is room, and reserves it.
    fn make_room(&self, digest: &Digest, size: u64) -> Result<(), StorageError> {
        for _ in 0..TRIES {
            let (shortage, candidates) = {
                let mut ledger = self.ledger();
                let Some(shortage) = self.budget.and_then(|budget| ledger.shortage(digest, size, budget)) else {
                    ledger.reserve(digest, size, SystemTime::now());
                    return Ok(());
                };
                (shortage, ledger.candidates())
            };
            let Some(victims) = self.victims(shortage, candidates) else { break };
            self.evict(&victims);
        }
        let (place, budget) = (self.root.display().to_string(), self.budget.unwrap_or_default());
        Err(StorageError::Full { digest: digest.clone(), place, budget })
    }

    /// Takes out what is too much, as far as that may be.
    fn shrink(&self) {
        let (shortage, candidates) = {
            let ledger = self.ledger();
            let Some(shortage) = self.budget.and_then(|budget| ledger.excess(budget)) else { return };
            (shortage, ledger.candidates())
        };
        if let Some(victims) = self.victims(shortage, candidates) {
            self.evict(&victims);
        }
    }

    fn victims(&self, shortage: Shortage, candidates: Vec<Found>) -> Option<Vec<Found>> {
        shortage.victims(candidates, |digest| self.needed.is_needed(digest), self.evict_needed)
    }

    /// Takes these out, but for those that another replica used meanwhile.
    fn evict(&self, victims: &[Found]) {
        for Found { digest, size, .. } in victims {
            let path = self.path(digest);
            let used = fs::metadata(&path).and_then(|metadata| metadata.modified());
            let mut ledger = self.ledger();
            if used.is_ok_and(|used| ledger.used_elsewhere(digest, used)) || !ledger.is_idle(digest) {
                continue;
            }
            match fs::remove_file(&path) {
                Ok(()) => {
                    self.metrics.evictions.inc();
                    self.metrics.evicted_bytes.inc_by(*size);
                    tracing::debug!(%digest, bytes = size, "taken out of storage to make room");
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot be taken out of storage");
                    continue;
                }
            }
            ledger.forget(digest);
            if let Err(error) = given::remove(&self.root, digest) {
                tracing::warn!(%digest, %error, "it stays written to whom it was given that is not there any more");
            }
        }
        self.count();
    }

    /// It is read. Gives whether its digest is known to be right.
    pub(super) fn used(&self, digest: &Digest, file: &File) -> bool {
        let now = SystemTime::now();
        let used = self.ledger().use_of(digest, now);
        if used.touch {
            // Whoever may not do that evicts by when things came.
            let _ = file.set_times(FileTimes::new().set_modified(now));
        }
        used.is_known
    }

    /// Its digest was found right. It may be another replica's, and gone meanwhile.
    pub(super) fn checked(&self, digest: &Digest) {
        let mut ledger = self.ledger();
        if let Ok(metadata) = fs::metadata(self.path(digest)) {
            ledger.checked(digest, metadata.len(), SystemTime::now());
        }
        drop(ledger);
        self.count();
    }

    /// It was deleted.
    pub(super) fn forget(&self, digest: &Digest) {
        self.ledger().forget(digest);
        self.count();
    }

    /// Looks what others did, and holds to the budget. Blocks.
    pub(super) fn look(&self) -> Result<(), StorageError> {
        self.ledger().begin_look();
        let found = self.found();
        match found {
            Ok(found) => self.ledger().end_look(found),
            Err(error) => {
                return Err(StorageError::Folder { path: self.root.join(BLOBS), reason: error.into() });
            }
        }
        self.shrink();
        self.count();
        Ok(())
    }

    /// Everything that is there.
    fn found(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for folder in folders(&self.root.join(BLOBS))? {
            for folder in folders(&folder)? {
                for entry in fs::read_dir(folder)? {
                    found.extend(self.found_in(&entry?)?);
                }
            }
        }
        Ok(found)
    }

    /// What a file is, if it is something that is kept. One that has just gone is not.
    fn found_in(&self, entry: &fs::DirEntry) -> io::Result<Option<Found>> {
        let path = entry.path();
        let parts = path.strip_prefix(self.root.join(BLOBS)).ok().and_then(Path::to_str).map(|path| path.split('/'));
        let Some(digest) = parts.and_then(layout::digest) else { return Ok(None) };
        match entry.metadata() {
            Ok(metadata) if metadata.is_file() => {
                Ok(Some(Found { digest, size: metadata.len(), used: metadata.modified()? }))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        layout::parts(digest).iter().fold(self.root.join(BLOBS), |path, part| path.join(part))
    }

    fn count(&self) {
        let ledger = self.ledger();
        self.metrics.bytes.set(i64::try_from(ledger.bytes()).unwrap_or(i64::MAX));
        self.metrics.objects.set(i64::try_from(ledger.objects()).unwrap_or(i64::MAX));
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // No step of the ledger can fail half-way.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unwritable(&self, digest: &Digest, error: io::Error) -> StorageError {
        StorageError::Write { digest: digest.clone(), place: self.root.display().to_string(), reason: error.into() }
    }
}

/// Removes what dead processes were downloading. Blocks.
pub(super) fn sweep(folder: &Path) -> Result<usize, StorageError> {
    let swept = fs::create_dir_all(folder).and_then(|()| spool::sweep(folder, SystemTime::now()));
    swept.map_err(|error| StorageError::Folder { path: folder.to_owned(), reason: error.into() })
}

/// Moves a spool to its place, so that it is there after a power failure too. What is there already is replaced.
fn move_into(spool: &SpoolFile, path: &Path) -> io::Result<()> {
    spool.file.sync_all()?;
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)?;
    fs::rename(&spool.path, path)?;
    // The name of a new folder stands in the one above.
    folder.ancestors().take(3).try_for_each(|folder| File::open(folder)?.sync_all())
}

/// The folders in a folder.
fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    Ok(folders)
}

//! A directory as the place where streams are written: the document of a stream in its file, and `.pinstream` beside it.
//!
//! A write changes the bytes of what it writes and no others, and none at all if the file changed meanwhile.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::ledger::{self, Ledger};
use super::owners::Owners;
use super::private::{Lock, Private};
use super::rewrite::{checked, edited, put};
use super::walk::{Stamp, format_of};
use crate::image::Image;
use crate::registry::{DockerConfig, Keyring};
use crate::store::documents::{self, Format, Item};
use crate::store::home::{Home, HomeError, News, Stored};
use crate::stream::pullspec::RegistryHost;
use crate::stream::types::ImportMode;
use crate::stream::write::{Context, Invalid, Source};
use crate::stream::{ImageStream, Key};

/// Between two looks for images that no stream knows any more.
const SWEEP_INTERVAL: Duration = Duration::from_hours(1);
/// An image may be this young and in no stream yet: it is written before the stream.
const SWEEP_GRACE: Duration = Duration::from_hours(1);

/// The files of a directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DirectoryHome {
    files: Arc<Files>,
}

/// The files themselves. Blocks.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) root: PathBuf,
    pub(super) private: Private,
    pub(super) owners: Arc<Owners>,
    default_mode: ImportMode,
    logins: Option<DockerConfig>,
}

/// A stream as it stands in its file.
pub(super) struct Located {
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
    pub(super) format: Format,
    pub(super) text: String,
    /// Bytes of its document.
    pub(super) document: Range<usize>,
    /// Its number in the document's `items`, if that is a list.
    pub(super) item: Option<usize>,
    /// As the file has it.
    pub(super) written: ImageStream,
}

/// The same with what is kept beside it.
pub(super) struct Opened {
    pub(super) at: Located,
    /// With its numbers.
    pub(super) stream: ImageStream,
    /// The ledger on the disk, and the one to keep.
    kept: Option<Ledger>,
    ledger: Ledger,
}

impl DirectoryHome {
    /// The home of the streams of `root`, found by `owners`. `default_mode` is the import mode of tags without one;
    /// `logins` are the credentials for registries, the same for all namespaces.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub fn open(
        root: &Path,
        owners: Arc<Owners>,
        default_mode: ImportMode,
        logins: Option<DockerConfig>,
    ) -> io::Result<Self> {
        let private = Private::open(root)?;
        Ok(Self { files: Arc::new(Files { root: root.to_owned(), private, owners, default_mode, logins }) })
    }

    /// Like [`DirectoryHome::open`], for those who only read: nothing is made there, and nothing need be writable.
    #[must_use]
    pub fn open_to_read(
        root: &Path,
        owners: Arc<Owners>,
        default_mode: ImportMode,
        logins: Option<DockerConfig>,
    ) -> Self {
        let private = Private::open_to_read(root);
        Self { files: Arc::new(Files { root: root.to_owned(), private, owners, default_mode, logins }) }
    }

    /// Deletes what is known of images that no stream refers to, again and again. Never ends.
    pub async fn keep_clean(self) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            match self.on_files(|files| files.sweep(SystemTime::now(), SWEEP_GRACE)).await {
                Ok(0) => {}
                Ok(deleted) => tracing::info!(deleted, "images deleted that no stream refers to"),
                Err(error) => tracing::warn!(%error, "images that no stream refers to could not be deleted"),
            }
        }
    }

    /// The stream with its numbers, which are kept. Blocks.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn number(&self, stream: &ImageStream) -> Result<ImageStream, Invalid> {
        let key = stream.key();
        let files = &self.files;
        let kept = files.private.lock().and_then(|lock| Ok((lock, files.private.ledger(&key)?)));
        let (_lock, before) = match kept {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(stream = %key, %error, "numbers of the stream's tags cannot be read, they begin anew");
                return Ok(files.numbered(stream, None)?.0);
            }
        };
        let (numbered, ledger) = files.numbered(stream, before.clone())?;
        if before.as_ref() != Some(&ledger)
            && let Err(error) = files.private.keep_ledger(&key, &ledger)
        {
            not_kept(&key, &error);
        }
        Ok(numbered)
    }

    /// The stream with its numbers, which are kept, read from its file. `None` if it is not there. Blocks.
    pub(super) fn find(&self, key: &Key) -> Result<Option<ImageStream>, HomeError> {
        let lock = self.files.lock()?;
        let Some(opened) = self.files.find(key, &lock)? else { return Ok(None) };
        if opened.kept.as_ref() != Some(&opened.ledger) {
            let kept = self.files.private.keep_ledger(key, &opened.ledger);
            kept.unwrap_or_else(|error| not_kept(key, &error));
        }
        Ok(Some(opened.stream))
    }

    /// The stream as it stands in its file. `None` if it is not there. Blocks.
    pub(super) fn find_written(&self, key: &Key) -> Result<Option<ImageStream>, HomeError> {
        let lock = self.files.lock()?;
        Ok(self.files.locate(key, &lock)?.map(|located| located.written))
    }

    pub(super) async fn on_files<T: Send + 'static>(&self, work: impl FnOnce(&Files) -> T + Send + 'static) -> T {
        let files = Arc::clone(&self.files);
        let task = tokio::task::spawn_blocking(move || work(&files));
        task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

impl Home for DirectoryHome {
    async fn read(&self, key: &Key) -> Result<Option<Stored>, HomeError> {
        let key = key.clone();
        self.on_files(move |files| {
            let lock = files.lock()?;
            Ok(files.find(&key, &lock)?.map(|opened| stored(opened.stream)))
        })
        .await
    }

    async fn write(&self, before: &Stored, after: &ImageStream) -> Result<Stored, HomeError> {
        let (before, after) = (before.clone(), after.clone());
        self.on_files(move |files| files.write(&before, &after)).await
    }

    async fn keep_images(&self, images: &[Image]) -> Result<(), HomeError> {
        let images = images.to_vec();
        self.on_files(move |files| {
            images.iter().try_for_each(|image| files.private.keep_image(image)).map_err(|error| unwritable(&error))
        })
        .await
    }

    async fn keyring(&self, _namespace: &str) -> Result<Keyring, HomeError> {
        let Some(logins) = &self.files.logins else { return Ok(Keyring::default()) };
        // It stays broken until somebody repairs it, so there is no use in trying again and again at once.
        logins.keyring().await.map_err(|error| HomeError::Refused(error.to_string()))
    }

    async fn images_in_use(&self, _namespace: &str) -> Result<BTreeSet<String>, HomeError> {
        Ok(BTreeSet::new())
    }

    async fn tell(&self, stream: &Stored, news: &[News]) {
        for news in news {
            let (kind, reason, message) = news.as_event();
            let stream = stream.key();
            if kind == "Normal" {
                tracing::info!(%stream, reason, "{message}");
            } else {
                tracing::warn!(%stream, reason, "{message}");
            }
        }
    }
}

impl Files {
    pub(super) fn lock(&self) -> Result<Lock, HomeError> {
        self.private.lock().map_err(|error| unwritable(&error))
    }

    /// A stream with its numbers and its namespace, and its new ledger.
    pub(super) fn numbered(
        &self,
        stream: &ImageStream,
        ledger: Option<Ledger>,
    ) -> Result<(ImageStream, Ledger), Invalid> {
        let context = Context {
            now: Timestamp::now(),
            registry_host: &RegistryHost::Unknown,
            default_mode: self.default_mode,
            permits: &|_| true,
            source: &|_| Source::Unknown,
        };
        let (mut stream, ledger) = ledger::numbered(stream, ledger, &context)?;
        stream.metadata.namespace = Some(stream.key().namespace.into());
        Ok((stream, ledger))
    }

    /// The stream in its file. `None` if it is not there. The lock keeps two writers apart.
    pub(super) fn locate(&self, key: &Key, _lock: &Lock) -> Result<Option<Located>, HomeError> {
        let Some(path) = self.owners.read().get(key).cloned() else { return Ok(None) };
        let unreadable = |error: &dyn fmt::Display| HomeError::Unavailable(format!("{}: {error}", path.display()));
        let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        // What is written to is the file itself, not a link to it.
        let real = match fs::canonicalize(&path) {
            Err(error) if is_gone(&error) => return Ok(None),
            path => path.map_err(|error| unreadable(&error))?,
        };
        let stamp = fs::metadata(&real).map(|metadata| Stamp::of(&metadata)).map_err(|error| unreadable(&error))?;
        let text = fs::read(&real).map_err(|error| unreadable(&error))?;
        let text = String::from_utf8(text).map_err(|_| unreadable(&"the file is not UTF-8"))?;
        // By the name that the walk knows: what a link leads to may be named otherwise.
        let format = format_of(&path).unwrap_or(Format::Yaml);
        let found = documents::find(&text, format, |stream| stream.key() == *key)
            .map_err(|error| HomeError::Refused(format!("{}: {error}", path.display())))?;
        let Some(documents::Found { document, item, stream }) = found else { return Ok(None) };
        Ok(Some(Located { path: real, stamp, format, text, document, item, written: *stream }))
    }

    /// The stream with its numbers. The lock keeps the two parts of it together, file and ledger.
    fn find(&self, key: &Key, lock: &Lock) -> Result<Option<Opened>, HomeError> {
        let Some(at) = self.locate(key, lock)? else { return Ok(None) };
        let unreadable = |error: io::Error| HomeError::Unavailable(format!("{}: {error}", at.path.display()));
        let kept = self.private.ledger(key).map_err(unreadable)?;
        let invalid = |invalid: Invalid| HomeError::Refused(format!("{}: {invalid}", at.path.display()));
        let (stream, ledger) = self.numbered(&at.written, kept.clone()).map_err(invalid)?;
        Ok(Some(Opened { at, stream, kept, ledger }))
    }

    fn write(&self, before: &Stored, after: &ImageStream) -> Result<Stored, HomeError> {
        let key = before.key();
        let lock = self.lock()?;
        let opened = self.find(&key, &lock)?.ok_or_else(|| HomeError::Gone(key.clone()))?;
        if version(&opened.stream) != before.version {
            return Err(HomeError::Conflict(key));
        }
        let refused = |reason: &dyn fmt::Display| refused(&opened.at.path, &key, reason);
        let edited = edited(&opened, after).map_err(|error| refused(&error))?;
        let written = checked(&opened, &edited, after).map_err(|error| refused(&error))?;
        let mut numbered = after.clone();
        if written.spec != opened.at.written.spec && after.metadata.generation == opened.stream.metadata.generation {
            numbered.metadata.generation = after.metadata.generation.map(|generation| generation + 1);
        }
        let ledger = Ledger::of(&written, &numbered);
        let keep_ledger = || {
            if opened.kept.as_ref() == Some(&ledger) {
                return Ok(());
            }
            self.private.keep_ledger(&key, &ledger)
        };
        // Whatever is lost between the two writes, what is left wants at most one import too many.
        if written.spec == opened.at.written.spec {
            keep_ledger().map_err(|error| unwritable(&error))?;
            put(&opened, &edited, &key)?;
        } else {
            put(&opened, &edited, &key)?;
            // It is written: that is not undone by what is not there to begin with if the folder is lost.
            keep_ledger().unwrap_or_else(|error| not_kept(&key, &error));
        }
        let (stream, _) = self.numbered(&written, Some(ledger)).map_err(|error| refused(&error))?;
        Ok(stored(stream))
    }

    /// Deletes images and ledgers that no stream refers to and that are older than `grace`. Gives the number of images.
    fn sweep(&self, now: SystemTime, grace: Duration) -> io::Result<usize> {
        let owners = self.owners.read().clone();
        let mut images = HashSet::new();
        for path in owners.values().collect::<HashSet<_>>() {
            let text = fs::read(path)?;
            // What a file says that cannot be read is not known, so nothing may go.
            documents::read(&text, format_of(path).unwrap_or(Format::Yaml), |item, _| {
                if let Item::Stream(stream) = item {
                    images.extend(
                        stream.status.tags.into_iter().flat_map(|events| events.items).map(|event| event.image),
                    );
                }
            })
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        }
        self.private.sweep(&owners.keys().cloned().collect(), &images, now, grace)
    }
}

/// The stream cannot be written into its file.
pub(super) fn refused(path: &Path, key: &Key, reason: &dyn fmt::Display) -> HomeError {
    HomeError::Refused(format!("{}: image stream {key} cannot be written here: {reason}", path.display()))
}

/// The numbers of a stream's tags are not written down. They are made anew, or written down the next time.
pub(super) fn not_kept(key: &Key, error: &io::Error) {
    tracing::warn!(stream = %key, %error, "numbers of the stream's tags cannot be kept");
}

pub(super) fn unwritable(error: &io::Error) -> HomeError {
    HomeError::Unavailable(error.to_string())
}

pub(super) fn stored(stream: ImageStream) -> Stored {
    Stored { version: version(&stream), stream }
}

/// Tells one content of a stream from another.
fn version(stream: &ImageStream) -> String {
    let mut hasher = DefaultHasher::new();
    // Types that are all of strings and numbers can be written.
    serde_json::to_vec(stream).unwrap_or_default().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests;

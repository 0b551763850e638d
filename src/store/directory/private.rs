//! The folder `.pinstream` in a directory of streams: what is kept beside the streams, in files of its own.
//!
//! Hidden, so that nobody takes it for streams. What is in it can be lost: it is made again.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::ledger::Ledger;
use crate::files::{self, replace};
use crate::image::Image;
use crate::stream::Key;

/// Name of the folder.
const NAME: &str = ".pinstream";

/// The folder.
#[derive(Debug)]
pub(super) struct Private {
    folder: PathBuf,
    /// Nothing is written, so that the folder need not be there.
    is_only_read: bool,
}

/// Held by whoever changes a stream. Others wait.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Option<File>,
}

impl Private {
    /// Makes the folder if it is not there. The directory that it is in must be. That there is no room passes: then it is
    /// made when there is some.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let private = Self { folder: root.join(NAME), is_only_read: false };
        // Tells a folder that can be written to from one that cannot.
        match private.make().and_then(|()| private.lock()) {
            Err(error) if files::is_full(&error) => {
                tracing::warn!(%error, "there is no room beside the streams, nothing can be written until there is");
            }
            lock => drop(lock?),
        }
        Ok(private)
    }

    fn make(&self) -> io::Result<()> {
        for folder in [&self.folder, &self.folder.join("images"), &self.folder.join("streams")] {
            match fs::create_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(files::unwritten(folder, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The folder for those who only read, whether it is there or not.
    pub(super) fn open_to_read(root: &Path) -> Self {
        Self { folder: root.join(NAME), is_only_read: true }
    }

    /// Waits until nobody else, of whatever process, changes a stream.
    pub(super) fn lock(&self) -> io::Result<Lock> {
        let path = self.folder.join("lock");
        let file = if self.is_only_read {
            match File::open(path) {
                // Nobody has written here yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lock { _file: None }),
                file => file?,
            }
        } else {
            self.lock_file(&path)?
        };
        file.lock()?;
        Ok(Lock { _file: Some(file) })
    }

    fn lock_file(&self, path: &Path) -> io::Result<File> {
        let open = || File::options().create(true).write(true).truncate(false).open(path);
        let file = open().or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => self.make().and_then(|()| open()),
            _ => Err(error),
        });
        file.map_err(|error| files::unwritten(path, &error))
    }

    fn ledger_file(&self, key: &Key) -> PathBuf {
        self.folder.join("streams").join(file_name(&key.namespace)).join(format!("{}.json", file_name(&key.name)))
    }

    /// The ledger of a stream. `None` if there is none, or none that can be read.
    pub(super) fn ledger(&self, key: &Key) -> io::Result<Option<Ledger>> {
        match fs::read(self.ledger_file(key)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps the ledger of a stream.
    pub(super) fn keep_ledger(&self, key: &Key, ledger: &Ledger) -> io::Result<()> {
        let path = self.ledger_file(key);
        if let Some(folder) = path.parent() {
            files::make_folder(folder)?;
        }
        replace(&path, &serde_json::to_vec(ledger)?, false)
    }

    /// Forgets the ledger of a stream.
    pub(super) fn forget(&self, key: &Key) -> io::Result<()> {
        match fs::remove_file(self.ledger_file(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// An image that is kept. `None` if there is none, or none that can be read.
    pub(super) fn image(&self, digest: &str) -> io::Result<Option<Image>> {
        match fs::read(self.image_file(digest)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps an image if it is not kept.
    pub(super) fn keep_image(&self, image: &Image) -> io::Result<()> {
        let path = self.image_file(&image.metadata.name);
        if path.exists() {
            return Ok(());
        }
        replace(&path, &serde_json::to_vec_pretty(image)?, false)
    }

    fn image_file(&self, digest: &str) -> PathBuf {
        self.folder.join("images").join(format!("{}.json", file_name(&Image::resource_name(digest))))
    }

    /// Deletes what is older than `grace` and belongs to none of these streams and images. Gives the number of images.
    pub(super) fn sweep(
        &self,
        streams: &HashSet<Key>,
        images: &HashSet<String>,
        now: SystemTime,
        grace: Duration,
    ) -> io::Result<usize> {
        let mut wanted: HashSet<PathBuf> = HashSet::new();
        for image in images {
            let path = self.image_file(image);
            if let Some(image) = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Image>(&bytes).ok()) {
                wanted.extend(image.docker_image_manifests.iter().map(|child| self.image_file(&child.digest)));
            }
            wanted.insert(path);
        }
        let deleted = delete_others(&self.folder.join("images"), &wanted, now, grace)?;
        let wanted = streams.iter().map(|key| self.ledger_file(key)).collect();
        for namespace in fs::read_dir(self.folder.join("streams"))? {
            delete_others(&namespace?.path(), &wanted, now, grace)?;
        }
        Ok(deleted)
    }
}

/// Deletes files that are not wanted and older than `grace`. Gives their number.
fn delete_others(folder: &Path, wanted: &HashSet<PathBuf>, now: SystemTime, grace: Duration) -> io::Result<usize> {
    let mut deleted = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let age = now.duration_since(entry.metadata()?.modified()?).unwrap_or_default();
        if age > grace && !wanted.contains(&entry.path()) {
            fs::remove_file(entry.path())?;
            deleted += 1;
        }
    }
    Ok(deleted)
}

/// A name as a file name: whatever could lead elsewhere is written as its bytes.
fn file_name(name: &str) -> String {
    let digit = |digit: u8| char::from_digit(digit.into(), 16).unwrap_or_default();
    let mut file_name = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => file_name.push(char::from(byte)),
            b'.' if index > 0 => file_name.push('.'),
            byte => file_name.extend(['%', digit(byte >> 4), digit(byte & 15)]),
        }
    }
    file_name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        assert_eq!(file_name("my-app.v1"), "my-app.v1");
        assert_eq!(file_name("../a/B%"), "%2e.%2fa%2f%42%25");
        assert_eq!(file_name(".."), "%2e.");
    }

    #[test]
    fn ledger_that_cannot_be_read_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let private = Private::open(folder.path()).unwrap();
        let key = Key::new("default", "app");
        assert_eq!(private.ledger(&key).unwrap(), None);
        fs::create_dir_all(private.ledger_file(&key).parent().unwrap()).unwrap();
        fs::write(private.ledger_file(&key), "{").unwrap();
        assert_eq!(private.ledger(&key).unwrap(), None);
    }
}

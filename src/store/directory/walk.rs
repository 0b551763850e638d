//! Which manifests are under a directory, and what tells that one of them changed.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::watches::Watches;
use crate::store::documents::Format;

/// The deepest directory that is looked into, counted from the root.
const DEPTH_MAX: usize = 32;

/// What changes when the file behind a path does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// How long ago the file was written to; `None` if that is in the future.
pub(super) fn age(stamp: &Stamp, now: SystemTime) -> Option<Duration> {
    let (seconds, nanoseconds) = stamp.modified.max(stamp.changed);
    let since_epoch = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanoseconds).ok()?);
    now.duration_since(SystemTime::UNIX_EPOCH + since_epoch).ok()
}

/// How a file is written, by its name. `None` if it is no manifest.
pub(crate) fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "yaml" | "yml" => Some(Format::Yaml),
        "json" => Some(Format::Json),
        _ => None,
    }
}

/// The manifests under a directory, in the order of their paths.
///
/// # Errors
/// If anything below it cannot be read.
pub fn manifests(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut walk = Walk::default();
    walk.root(root);
    match walk.problems.pop_first() {
        Some((path, problem)) => Err(io::Error::other(format!("{}: {problem}", path.display()))),
        None => Ok(walk.files.into_keys().collect()),
    }
}

/// Collects the manifests under a directory. Hidden entries are passed over: volumes of Kubernetes keep the
/// real files there, which the visible entries link to.
#[derive(Default)]
pub(super) struct Walk<'w> {
    pub(super) files: BTreeMap<PathBuf, Stamp>,
    pub(super) problems: BTreeMap<PathBuf, String>,
    seen: HashSet<(u64, u64)>,
    /// What is come across is watched before it is looked at.
    watches: Option<&'w mut Watches>,
}

impl<'w> Walk<'w> {
    pub(super) fn watching(watches: Option<&'w mut Watches>) -> Self {
        Self { watches, ..Self::default() }
    }

    /// Everything below a directory.
    pub(super) fn root(&mut self, path: &Path) {
        if let Some(watches) = &mut self.watches {
            watches.way(path);
        }
        self.directory(path, 0);
    }

    fn directory(&mut self, path: &Path, depth: usize) {
        if let Err(error) = self.try_directory(path, depth) {
            let hint = if error.kind() == io::ErrorKind::NotFound { "; make it, or name another" } else { "" };
            self.problems.insert(path.to_owned(), format!("the directory cannot be read: {error}{hint}"));
        }
    }

    fn try_directory(&mut self, path: &Path, depth: usize) -> io::Result<()> {
        let metadata = fs::metadata(path)?;
        if depth > DEPTH_MAX || !self.seen.insert((metadata.dev(), metadata.ino())) {
            return Ok(());
        }
        if let Some(watches) = &mut self.watches {
            watches.folder(path);
        }
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let path = entry.path();
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                continue;
            }
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if let Some(watches) = self.watches.as_mut().filter(|_| is_link) {
                watches.link(&path);
            }
            let device = metadata.dev();
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                // Gone since it was listed, or a link to nowhere.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.problems.insert(path, format!("cannot be read: {error}"));
                    continue;
                }
            };
            if metadata.is_dir() {
                self.directory(&path, depth + 1);
            } else if metadata.is_file() && format_of(&path).is_some() {
                if let Some(watches) = self.watches.as_mut() {
                    if !is_link && metadata.dev() != device {
                        watches.is_untold(&path, "it is mounted");
                    } else if metadata.nlink() > 1 {
                        watches.is_untold(&path, "it has another name, by which it may change");
                    }
                }
                self.files.insert(path, Stamp::of(&metadata));
            }
        }
        Ok(())
    }
}

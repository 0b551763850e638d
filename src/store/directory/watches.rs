//! Being told that something under a directory may have changed (inotify), so that nobody has to look while nothing happens.
//!
//! Only a reason to look: what has changed, and whether anything has, is found by looking.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::statfs;
use rustix::io::Errno;

/// File systems whose every change the kernel makes itself: ext, XFS, Btrfs, tmpfs, overlayfs, ZFS, F2FS, ramfs, bcachefs.
/// Others, above all those of a network, change without its knowledge.
const LOCAL: [u64; 9] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1, 0xf2f5_2010, 0x8584_58f6, 0xca45_1a4e];
/// As many links as Linux follows on a way.
const LINKS_MAX: usize = 40;

/// The folders that are watched.
#[derive(Debug)]
pub struct Watches {
    inotify: Arc<OwnedFd>,
    /// By their numbers.
    set: HashSet<i32>,
    /// Those that the look under way has asked for.
    wanted: HashSet<i32>,
    /// Where nothing is told, and why.
    untold: Option<(PathBuf, String)>,
    /// That was logged.
    is_said: bool,
}

/// What is told.
#[derive(Clone, Debug)]
pub struct Told(Arc<OwnedFd>);

impl Told {
    /// What can be read from when there is something to take.
    ///
    /// # Errors
    /// There are no more descriptors.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }

    /// Takes what was told until now; says whether it was anything.
    #[must_use]
    pub fn take(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&*self.0, &mut buffer);
        let mut is_any = false;
        while let Ok(event) = events.next() {
            // That a folder is not watched any more is nothing new.
            is_any |= event.events() != ReadFlags::IGNORED;
        }
        is_any
    }
}

impl Watches {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// There can be no more of them, or none at all.
    pub fn new() -> io::Result<Self> {
        let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?);
        Ok(Self { inotify, set: HashSet::new(), wanted: HashSet::new(), untold: None, is_said: false })
    }

    pub(super) fn told(&self) -> Told {
        Told(Arc::clone(&self.inotify))
    }

    /// Watches a folder. To be called before anything in it is looked at.
    pub(super) fn folder(&mut self, path: &Path) {
        match self.try_folder(path) {
            Ok(watch) => {
                self.wanted.insert(watch);
            }
            Err(why) => self.is_untold(path, why),
        }
    }

    fn try_folder(&self, path: &Path) -> Result<i32, String> {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let kind = statfs(path).map_err(|error| error.to_string())?.f_type;
        if !u64::try_from(kind).is_ok_and(|kind| LOCAL.contains(&kind)) {
            return Err("its file system does not tell".to_owned());
        }
        inotify::add_watch(&*self.inotify, path, flags).map_err(|error| match error {
            Errno::NOSPC => "no more folders can be watched, raise fs.inotify.max_user_watches".to_owned(),
            error => error.to_string(),
        })
    }

    /// Watches whatever makes the path of a folder lead to another one: the folders that its links stand in. Gives where it
    /// ends.
    pub(super) fn way(&mut self, path: &Path) -> Option<PathBuf> {
        match way(path) {
            Ok((folders, end)) => {
                for folder in &folders {
                    self.folder(folder);
                }
                Some(end)
            }
            Err(error) => {
                self.is_untold(path, error.to_string());
                None
            }
        }
    }

    /// The same for a link, and the folder of what it leads to.
    pub(super) fn link(&mut self, path: &Path) {
        if let Some(end) = self.way(path) {
            self.folder(end.parent().unwrap_or(&end));
        }
    }

    /// Nothing is told of what is there.
    pub(super) fn is_untold(&mut self, path: &Path, why: impl Into<String>) {
        self.untold.get_or_insert_with(|| (path.to_owned(), why.into()));
    }

    /// A look is over: what it did not ask for is not watched any more. Says whether all changes from its beginning on are
    /// told.
    pub(super) fn finish(&mut self) -> bool {
        let wanted = std::mem::take(&mut self.wanted);
        for watch in self.set.difference(&wanted) {
            // Of a folder that is gone it is gone too.
            let _ = inotify::remove_watch(&*self.inotify, *watch);
        }
        self.set = wanted;
        let untold = self.untold.take();
        let is_said = std::mem::replace(&mut self.is_said, untold.is_some());
        if let Some((path, why)) = untold.as_ref().filter(|_| !is_said) {
            tracing::info!(path = %path.display(), %why, "changes are not told here, so the streams are looked at twice a second");
        }
        untold.is_none()
    }
}

/// The folders in which the links of a path stand, and where it ends.
fn way(path: &Path) -> io::Result<(Vec<PathBuf>, PathBuf)> {
    let mut folders = Vec::new();
    let mut at = PathBuf::new();
    let mut rest: VecDeque<OsString> = parts(&std::path::absolute(path)?);
    while let Some(part) = rest.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::RootDir) => at = PathBuf::from("/"),
            Some(Component::ParentDir) => {
                at.pop();
            }
            Some(Component::Normal(name)) => {
                let next = at.join(name);
                let Ok(target) = next.read_link() else {
                    at = next;
                    continue;
                };
                folders.push(at.clone());
                if folders.len() > LINKS_MAX {
                    return Err(Errno::LOOP.into());
                }
                for part in parts(&target).into_iter().rev() {
                    rest.push_front(part);
                }
            }
            _ => {}
        }
    }
    Ok((folders, at))
}

fn parts(path: &Path) -> VecDeque<OsString> {
    path.components().map(|part| part.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests;

//! The directory store: every manifest under a directory, read again when it changes.
//!
//! What is compared is the file that a path leads to, so that symlink swaps and renames are seen like any other change. Where
//! the kernel tells of changes it is looked when it does, elsewhere again and again. Of a file that turns bad the last good
//! streams stay.

mod catalogue;
mod feed;
mod home;
mod ledger;
mod owners;
mod private;
mod rewrite;
mod settled;
mod walk;
mod watches;
mod written;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use feed::Feed;
pub use home::DirectoryHome;
pub use owners::Owners;
pub(crate) use walk::format_of;
pub use walk::manifests;
pub use watches::{Told, Watches};

use self::settled::{Changed, Settled};
use self::walk::{Stamp, Walk, age};
use super::documents::{self, Format, Item, Place};
use crate::index::{IndexedStream, Snapshot};
use crate::stream::places::Places;
use crate::stream::{ImageStream, Key};

/// How often the directory should be looked at, so that a change is seen within two seconds.
pub const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// A file changed less than this ago may still be written to: it is read at the next look, or read again.
const SETTLING: Duration = Duration::from_millis(100);
/// How long to wait when a change was told for what comes with it; it has settled then.
pub const GATHERING: Duration = Duration::from_millis(120);

/// The streams of a directory of manifests.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    places: Places,
    files: BTreeMap<PathBuf, File>,
    /// What is wrong, by path.
    problems: BTreeMap<PathBuf, String>,
    /// Which file defines a stream.
    owners: Arc<Owners>,
    /// What is served of it.
    settled: Settled,
    /// Who is told of whole streams.
    feed: Option<Feed>,
    /// Files with streams that other files define.
    conflicts: Vec<(PathBuf, String)>,
    has_looked: bool,
    watches: Option<Watches>,
    is_told: bool,
}

/// What one look at the directory brought.
#[derive(Debug)]
pub struct Look {
    /// The streams, if they changed; always set by the first look.
    pub snapshot: Option<Snapshot>,
    /// What is wrong since this look, or wrong in another way than before: path and message.
    pub new_problems: Vec<(PathBuf, String)>,
    /// Paths with which something was wrong and nothing is any more.
    pub solved: Vec<PathBuf>,
    /// Objects of other kinds that were passed over in files read by this look: path, place and what it is.
    pub ignored: Vec<(PathBuf, Place, String)>,
}

/// What a look finds, beside what is wrong.
#[derive(Default)]
struct Read {
    ignored: Vec<(PathBuf, Place, String)>,
    changed: Vec<Changed>,
}

/// A file as it was when it was read last.
#[derive(Debug, Default)]
struct File {
    stamp: Stamp,
    /// The file may have been written to after the stamp was taken.
    unsettled: bool,
    content: u64,
    /// In [`settled::order`].
    streams: Vec<(Place, Arc<IndexedStream>)>,
    problem: Option<String>,
}

impl File {
    /// It was read as it is.
    fn is_settled(&self) -> bool {
        !self.unsettled && self.stamp != Stamp::default()
    }
}

impl Directory {
    /// A store over `root`, not read yet, whose images can be pulled from these places.
    #[must_use]
    pub fn new(root: PathBuf, places: Places) -> Self {
        Self {
            root,
            places,
            files: BTreeMap::new(),
            problems: BTreeMap::new(),
            owners: Arc::default(),
            settled: Settled::default(),
            feed: None,
            conflicts: Vec::new(),
            has_looked: false,
            watches: None,
            is_told: false,
        }
    }

    /// Has changes told through `watches`.
    #[must_use]
    pub fn watched(self, watches: Watches) -> Self {
        Self { watches: Some(watches), ..self }
    }

    /// What is told of changes, if anything is.
    #[must_use]
    pub fn told(&self) -> Option<Told> {
        self.watches.as_ref().map(Watches::told)
    }

    /// Whatever another look would find has been told since the last one began, or will be when it happens.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.is_told
    }

    /// Hands on whole streams to `feed` as they change, and takes over the numbers that it gives their tags.
    #[must_use]
    pub fn fed(self, feed: Feed) -> Self {
        Self { feed: Some(feed), ..self }
    }

    /// Which file defines a stream, kept up to date by each look.
    #[must_use]
    pub fn owners(&self) -> Arc<Owners> {
        Arc::clone(&self.owners)
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How many files and directories something is wrong with.
    #[must_use]
    pub fn problem_count(&self) -> usize {
        self.problems.len()
    }

    /// The directory itself could be listed by the last look.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        !self.problems.contains_key(&self.root)
    }

    /// Looks at the directory and reads what changed. Blocks; `now` is the time of the look.
    pub fn look(&mut self, now: SystemTime) -> Look {
        let is_first = !std::mem::replace(&mut self.has_looked, true);
        let mut walk = Walk::watching(self.watches.as_mut());
        walk.root(&self.root);
        let Walk { files, mut problems, .. } = walk;
        let is_walked = problems.is_empty();
        let mut read = Read::default();
        let is_lost = |path: &Path| problems.keys().any(|lost| path.starts_with(lost));
        let gone = self.files.extract_if(.., |path, _| !files.contains_key(path) && !is_lost(path));
        for (path, file) in gone {
            let before = keys(&file.streams);
            release(&self.owners, &path, &before);
            read.changed.push(Changed { path, before });
        }
        for (path, stamp) in files {
            let settled = age(&stamp, now).is_none_or(|age| age > SETTLING);
            self.read_if_changed(&path, stamp, settled || is_first, &mut read);
        }
        problems.extend(self.files.iter().filter_map(|(path, file)| Some((path.clone(), file.problem.clone()?))));
        let has_changed = is_first || !read.changed.is_empty();
        let snapshot = has_changed.then(|| self.settle(&read.changed));
        for (path, conflict) in &self.conflicts {
            problems.entry(path.clone()).or_insert_with(|| conflict.clone());
        }
        let new_problems = problems.iter().filter(|(path, text)| self.problems.get(*path) != Some(text));
        let new_problems = new_problems.map(|(path, text)| (path.clone(), text.clone())).collect();
        let solved = self.problems.keys().filter(|path| !problems.contains_key(*path)).cloned().collect();
        self.problems = problems;
        let is_watched = self.watches.as_mut().is_some_and(Watches::finish);
        self.is_told = is_watched && is_walked && self.files.values().all(File::is_settled);
        if let Some(feed) = self.feed.as_ref().filter(|_| is_first) {
            feed.listed();
        }
        Look { snapshot, new_problems, solved, ignored: read.ignored }
    }

    /// Works out what is served now, and tells the feed what is in another file now, or gone.
    fn settle(&mut self, changed: &[Changed]) -> Snapshot {
        let moves = self.settled.settle(&self.files, &self.owners, changed);
        self.conflicts = self.settled.conflicts(&self.files, &self.owners);
        if let Some(feed) = &self.feed {
            moves.moved.iter().for_each(|key| feed.moved(key));
            moves.gone.into_iter().for_each(|key| feed.gone(key));
        }
        self.settled.snapshot()
    }

    /// Reads a file if it is not as it was.
    fn read_if_changed(&mut self, path: &Path, stamp: Stamp, settled: bool, read: &mut Read) {
        let file = self.files.entry(path.to_owned()).or_default();
        if file.stamp == stamp && !file.unsettled {
            return;
        }
        if file.stamp != stamp && !settled && !file.unsettled {
            // Perhaps half written. It is read at the next look whether it has settled by then or not.
            file.unsettled = true;
            return;
        }
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                // The stamp is forgotten, so that the file counts as new as soon as it can be read.
                file.stamp = Stamp::default();
                file.problem = Some(format!("cannot be read: {error}"));
                return;
            }
        };
        let (content, is_new) = (hash(&bytes), file.stamp == Stamp::default());
        file.stamp = stamp;
        file.unsettled = !settled;
        if content == file.content && !is_new {
            return;
        }
        file.content = content;
        match self.parse(path, &bytes, read) {
            Ok(streams) => {
                let file = self.files.entry(path.to_owned()).or_default();
                file.problem = None;
                if file.streams != streams {
                    read.changed.push(Changed { path: path.to_owned(), before: keys(&file.streams) });
                    file.streams = streams;
                }
            }
            Err(problem) => self.files.entry(path.to_owned()).or_default().problem = Some(problem),
        }
    }

    /// The streams of a file. If all of it can be read, those that are this file's are handed on to the feed.
    fn parse(
        &mut self,
        path: &Path,
        bytes: &[u8],
        read: &mut Read,
    ) -> Result<Vec<(Place, Arc<IndexedStream>)>, String> {
        let mut streams: Vec<(Place, Arc<IndexedStream>)> = Vec::new();
        let mut places: HashMap<Key, Place> = HashMap::new();
        let (mut twice, mut fed, mut claimed) = (None, Vec::new(), Vec::new());
        let format = format_of(path).unwrap_or(Format::Yaml);
        let result = documents::read(bytes, format, |item, place| match item {
            Item::Stream(mut stream) => {
                let key = stream.key();
                if let Some(first) = places.insert(key.clone(), place) {
                    twice.get_or_insert_with(|| format!("{place}: image stream {key} is defined already in {first}"));
                }
                if let Some(feed) = self.feed.as_ref().filter(|_| self.claim(&key, path, &mut claimed)) {
                    let is_valid = feed.number(&mut stream);
                    fed.push((is_valid, (*stream).clone()));
                }
                streams.push((place, Arc::new(IndexedStream::new(&stream, &self.places))));
            }
            Item::Other { api_version, kind } => {
                read.ignored.push((path.to_owned(), place, format!("{api_version} {kind}").trim().to_owned()));
            }
        });
        if let Some(problem) = result.err().map(|error| error.to_string()).or(twice) {
            let mut owners = self.owners.write();
            for key in &claimed {
                owners.remove(key);
            }
            return Err(problem);
        }
        let mut lost = self.files.get(path).map(|file| keys(&file.streams)).unwrap_or_default();
        lost.retain(|key| !places.contains_key(key));
        release(&self.owners, path, &lost);
        for (is_valid, stream) in fed {
            self.hand_on(is_valid, stream);
        }
        streams.sort_unstable_by(|(_, stream), (_, other)| settled::order(stream, other));
        Ok(streams)
    }

    /// A stream is the file's if no other file has it. One that nobody had is claimed.
    fn claim(&self, key: &Key, path: &Path, claimed: &mut Vec<Key>) -> bool {
        let mut owners = self.owners.write();
        if let Some(owner) = owners.get(key) {
            return owner == path;
        }
        owners.insert(key.clone(), path.to_owned());
        claimed.push(key.clone());
        true
    }

    fn hand_on(&self, is_valid: bool, stream: ImageStream) {
        match &self.feed {
            Some(feed) if is_valid => feed.applied(stream),
            Some(feed) => feed.invalid(stream),
            None => {}
        }
    }
}

/// Streams that are not in a file any more can be another's.
fn release(owners: &Owners, path: &Path, lost: &[Key]) {
    let mut owners = owners.write();
    for key in lost {
        if owners.get(key).is_some_and(|owner| owner == path) {
            owners.remove(key);
        }
    }
}

fn keys(streams: &[(Place, Arc<IndexedStream>)]) -> Vec<Key> {
    streams.iter().map(|(_, stream)| key(stream)).collect()
}

fn key(stream: &IndexedStream) -> Key {
    Key::new(stream.namespace(), stream.name())
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;

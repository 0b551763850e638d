//! A directory as the place where streams are written: the document of a stream in its file, and `.pinstream` beside it.
//!
//! A write changes the bytes of what it writes and no others, and none at all if the file changed meanwhile.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::Serialize;

use super::ledger::{self, Ledger};
use super::private::{Lock, Private, replace};
use super::walk::{Stamp, format_of};
use super::written::{WrittenTag, written_tags};
use crate::image::Image;
use crate::registry::{DockerConfig, Keyring};
use crate::store::documents::{self, Format, Item};
use crate::store::edit::{self, EditError, Field};
use crate::store::home::{Home, HomeError, News, Stored};
use crate::stream::types::{ImportMode, Spec, SpecTag};
use crate::stream::write::{Context, Invalid, Source};
use crate::stream::{ImageStream, Key};

/// Which file defines each stream, as the last look found it.
pub type Owners = ArcSwap<HashMap<Key, PathBuf>>;

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
    stamp: Stamp,
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
struct Opened {
    at: Located,
    /// With its numbers.
    stream: ImageStream,
    /// The ledger on the disk.
    kept: Option<Ledger>,
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
    pub fn open_to_read(root: &Path, owners: Arc<Owners>, default_mode: ImportMode) -> Self {
        let private = Private::open_to_read(root);
        Self { files: Arc::new(Files { root: root.to_owned(), private, owners, default_mode, logins: None }) }
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
            tracing::warn!(stream = %key, %error, "numbers of the stream's tags cannot be kept");
        }
        Ok(numbered)
    }

    /// The stream with its numbers, read from its file. `None` if it is not there. Blocks.
    pub(super) fn find(&self, key: &Key) -> Result<Option<ImageStream>, HomeError> {
        let lock = self.files.lock()?;
        Ok(self.files.find(key, &lock)?.map(|opened| opened.stream))
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

    async fn images_in_use(&self, _namespace: &str) -> BTreeSet<String> {
        BTreeSet::new()
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
            registry_host: None,
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
        let Some(path) = self.owners.load().get(key).cloned() else { return Ok(None) };
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
        let (stream, _) = self.numbered(&at.written, kept.clone()).map_err(invalid)?;
        Ok(Some(Opened { at, stream, kept }))
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
            self.private.keep_ledger(&key, &ledger).map_err(|error| unwritable(&error))
        };
        // Whatever is lost between the two writes, what is left wants at most one import too many.
        if written.spec == opened.at.written.spec {
            keep_ledger()?;
            put(&opened, &edited, &key)?;
        } else {
            put(&opened, &edited, &key)?;
            keep_ledger()?;
        }
        let (stream, _) = self.numbered(&written, Some(ledger)).map_err(|error| refused(&error))?;
        Ok(stored(stream))
    }

    /// Deletes images and ledgers that no stream refers to and that are older than `grace`. Gives the number of images.
    fn sweep(&self, now: SystemTime, grace: Duration) -> io::Result<usize> {
        let owners = self.owners.load();
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

pub(super) fn unwritable(error: &io::Error) -> HomeError {
    HomeError::Unavailable(format!("nothing can be written beside the streams: {error}"))
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

/// The text of the stream's document with what differs in it.
fn edited(opened: &Opened, after: &ImageStream) -> Result<String, EditError> {
    let mut document = Document { text: opened.at.text[opened.at.document.clone()].to_owned(), opened };
    let before = &opened.stream;
    if after.metadata.annotations != before.metadata.annotations {
        document.set(Some("metadata"), "annotations", &after.metadata.annotations)?;
    }
    let (spec, spec_before) = (without_numbers(&after.spec), without_numbers(&before.spec));
    if spec.tags != spec_before.tags {
        document.set_tags(&spec_before.tags, &spec.tags)?;
    }
    if spec.lookup_policy != spec_before.lookup_policy {
        document.set(Some("spec"), "lookupPolicy", &spec.lookup_policy)?;
    }
    if spec.docker_image_repository != spec_before.docker_image_repository {
        document.set(Some("spec"), "dockerImageRepository", &spec.docker_image_repository)?;
    }
    if after.status != before.status {
        document.set(None, "status", &after.status)?;
    }
    Ok(document.text)
}

/// A document while it is edited.
struct Document<'a> {
    text: String,
    opened: &'a Opened,
}

impl Document<'_> {
    /// Writes the tags that differ, if each stands by itself in the text, else all.
    fn set_tags(&mut self, before: &[SpecTag], after: &[SpecTag]) -> Result<(), EditError> {
        match self.with_each_tag(before, after)? {
            Some(text) => self.text = text,
            None => self.set(Some("spec"), "tags", &written_tags(after))?,
        }
        Ok(())
    }

    fn with_each_tag(&self, before: &[SpecTag], after: &[SpecTag]) -> Result<Option<String>, EditError> {
        if self.opened.at.format != Format::Yaml || after.is_empty() {
            return Ok(None);
        }
        let field = Field { item: self.opened.at.item, parent: Some("spec"), name: "tags" };
        let set = after.iter().filter(|tag| !before.contains(tag)).map(|tag| (&tag.name, Some(tag)));
        let gone = before.iter().filter(|tag| after.iter().all(|kept| kept.name != tag.name));
        let mut text = self.text.clone();
        for (name, tag) in set.chain(gone.map(|tag| (&tag.name, None))) {
            let written = tag.map(WrittenTag::of);
            match edit::set_item(&text, field, name, written.as_ref())? {
                Some(edited) => text = edited,
                None => return Ok(None),
            }
        }
        Ok(Some(text))
    }

    fn set<T: Serialize>(&mut self, parent: Option<&str>, name: &str, value: &T) -> Result<(), EditError> {
        let field = Field { item: self.opened.at.item, parent, name };
        self.text = edit::set(&self.text, self.opened.at.format, field, value)?;
        Ok(())
    }
}

/// Numbers are the ledger's.
fn without_numbers(spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    for tag in &mut spec.tags {
        tag.generation = None;
    }
    spec
}

/// The stream as it stands in the edited document, if that is what was wanted and nothing else changed.
fn checked(opened: &Opened, edited: &str, after: &ImageStream) -> Result<ImageStream, String> {
    let items = |document: &str| {
        let mut items = Vec::new();
        documents::read(document.as_bytes(), opened.at.format, |item, _| items.push(item)).map(|()| items)
    };
    let before = items(&opened.at.text[opened.at.document.clone()]).map_err(|error| error.to_string())?;
    let mut items = items(edited).map_err(|error| format!("it could not be read any more: {error}"))?;
    let own = opened.at.item.unwrap_or_default();
    let mut wanted =
        ImageStream { spec: after.spec.clone(), status: after.status.clone(), ..opened.at.written.clone() };
    wanted.metadata.annotations.clone_from(&after.metadata.annotations);
    // As they are written: a time in a file has no fractions.
    let json = |stream: &ImageStream| {
        serde_json::to_value(ImageStream { spec: without_numbers(&stream.spec), ..stream.clone() }).ok()
    };
    let is_as_wanted = items.len() == before.len()
        && items.iter().zip(&before).enumerate().all(|(number, (item, before))| match item {
            Item::Stream(stream) if number == own => json(stream) == json(&wanted),
            item => item == before,
        });
    match if is_as_wanted {
        items.swap_remove(own)
    } else {
        Item::Other { api_version: String::new(), kind: String::new() }
    } {
        Item::Stream(stream) => Ok(*stream),
        Item::Other { .. } => Err("it would mean something else; give the stream a document of its own".to_owned()),
    }
}

/// Puts the edited document in the place of the one that was read, if the file is still as it was.
fn put(opened: &Opened, edited: &str, key: &Key) -> Result<(), HomeError> {
    let (before, after) = (&opened.at.text[..opened.at.document.start], &opened.at.text[opened.at.document.end..]);
    if opened.at.text[opened.at.document.clone()] == *edited {
        return Ok(());
    }
    let is_unchanged = fs::metadata(&opened.at.path).is_ok_and(|metadata| Stamp::of(&metadata) == opened.at.stamp);
    if !is_unchanged {
        return Err(HomeError::Conflict(key.clone()));
    }
    let text = [before, edited, after].concat();
    replace(&opened.at.path, text.as_bytes(), true)
        .map_err(|error| HomeError::Unavailable(format!("{} cannot be written: {error}", opened.at.path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use tempfile::TempDir;

    use super::*;
    use crate::store::directory::Directory;

    const APP: &str = "# mine\napiVersion: pinstream.dev/v1\nkind: ImageStream\nmetadata: {name: app} # app\nspec:\n  tags:\n  - name: \"1\" # one\n    from: {kind: DockerImage, name: q.io/a/b:1}\n";
    const DIGEST: &str = "sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";

    struct Place {
        folder: TempDir,
        directory: Directory,
        home: DirectoryHome,
    }

    impl Place {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            for (path, text) in files {
                fs::write(folder.path().join(path), text).unwrap();
            }
            let directory = Directory::new(folder.path().to_owned(), None);
            let home = DirectoryHome::open(folder.path(), directory.owners(), ImportMode::Legacy, None).unwrap();
            let mut place = Self { folder, directory, home };
            place.look();
            place
        }

        fn look(&mut self) {
            self.directory.look(SystemTime::now() + Duration::from_secs(1));
        }

        fn text(&self, path: &str) -> String {
            fs::read_to_string(self.folder.path().join(path)).unwrap()
        }

        async fn read(&self, name: &str) -> Stored {
            self.home.read(&Key::new("default", name)).await.unwrap().unwrap()
        }
    }

    /// The stream after an import of its tag 1.
    fn imported(stored: &Stored) -> ImageStream {
        let mut stream = stored.stream.clone();
        let generation = stream.spec.tag("1").and_then(|tag| tag.generation);
        stream.status = serde_json::from_value(serde_json::json!({"tags": [{"tag": "1", "items": [
            {"created": "2026-01-02T03:04:05Z", "dockerImageReference": format!("q.io/a/b@{DIGEST}"), "image": DIGEST,
             "generation": generation}]}]}))
        .unwrap();
        stream
    }

    #[tokio::test]
    async fn only_the_status_is_written() {
        let other = APP.replace("name: app", "name: other").replace("# mine", "# its");
        let place = Place::new(&[("a.yaml", &format!("{other}---\n{APP}---\n# the end\n"))]);
        let path = place.folder.path().join("a.yaml");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let before = place.read("app").await;
        assert_eq!(before.stream.spec.tags[0].generation, Some(1));
        let written = place.home.write(&before, &imported(&before)).await.unwrap();
        assert_eq!(written, place.read("app").await);
        let text = place.text("a.yaml");
        let status =
            text.strip_prefix(&format!("{other}---\n{APP}")).unwrap().strip_suffix("---\n# the end\n").unwrap();
        assert!(status.starts_with("status:\n"), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[tokio::test]
    async fn write_over_a_change_that_was_not_seen_is_refused() {
        let place = Place::new(&[("a.yaml", APP)]);
        let before = place.read("app").await;
        fs::write(place.folder.path().join("a.yaml"), APP.replace("b:1", "b:2")).unwrap();
        let conflict = place.home.write(&before, &imported(&before)).await;
        assert_eq!(conflict, Err(HomeError::Conflict(Key::new("default", "app"))));
        assert_eq!(place.text("a.yaml"), APP.replace("b:1", "b:2"));
        let before = place.read("app").await;
        place.home.write(&before, &imported(&before)).await.unwrap();
    }

    #[tokio::test]
    async fn change_of_a_tag_counts_though_nobody_looked() {
        let place = Place::new(&[("a.yaml", APP)]);
        let before = place.read("app").await;
        place.home.write(&before, &imported(&before)).await.unwrap();
        let changed = place.text("a.yaml").replace("b:1}", "b:2}");
        fs::write(place.folder.path().join("a.yaml"), &changed).unwrap();

        let Place { folder, .. } = place;
        let mut directory = Directory::new(folder.path().to_owned(), None);
        let home = DirectoryHome::open(folder.path(), directory.owners(), ImportMode::Legacy, None).unwrap();
        directory.look(SystemTime::now());
        let read = home.read(&Key::new("default", "app")).await.unwrap().unwrap();
        assert_eq!((read.stream.spec.tags[0].generation, read.stream.metadata.generation), (Some(2), Some(2)));
        assert_eq!(read.stream.status.tags[0].items[0].generation, 1);
    }

    #[tokio::test]
    async fn tags_that_are_added_are_written_and_numbered() {
        let place = Place::new(&[(
            "a.yaml",
            "apiVersion: pinstream.dev/v1\nkind: ImageStream\nmetadata:\n  name: app\nspec:\n  dockerImageRepository: q.io/a/b\n",
        )]);
        let before = place.read("app").await;
        let after = crate::stream::outcome::with_repository(&before.stream, vec!["1".into()], 5, Timestamp::UNIX_EPOCH);
        let written = place.home.write(&before, &after).await.unwrap();
        assert_eq!(written, place.read("app").await);
        assert_eq!(written.stream.spec.tags[0].name, "1");
        let text = place.text("a.yaml");
        assert!(
            text.contains("openshift.io/image.dockerRepositoryCheck: ") && text.contains("name: q.io/a/b:1"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn only_the_tags_that_differ_are_written() {
        let two = "  # another\n  - name: \"2\"\n    from: {kind: DockerImage, name: q.io/a/b:2} # two\n  # third\n  - {name: \"3\"} # three\n";
        let text = format!("{APP}{two}status: {{}}\n");
        let place = Place::new(&[("a.yaml", &text)]);
        let before = place.read("app").await;
        let mut after = before.stream.clone();
        after.spec.tags.remove(2);
        after.spec.tags[1].reference = true;
        after.spec.tags.push(SpecTag { name: "4".into(), ..SpecTag::default() });
        place.home.write(&before, &after).await.unwrap();
        let written = "  # another\n  - name: \"2\"\n    from:\n      kind: DockerImage\n      name: q.io/a/b:2\n    reference: true\n  # third\n  - name: \"4\"\n";
        assert_eq!(place.text("a.yaml"), text.replace(two, written));
    }

    #[tokio::test]
    async fn file_behind_a_link_is_written_and_the_link_stays() {
        let place = Place::new(&[("real", APP)]);
        let mut place = Place { ..place };
        symlink("real", place.folder.path().join("a.yaml")).unwrap();
        place.look();
        let before = place.read("app").await;
        place.home.write(&before, &imported(&before)).await.unwrap();
        assert!(place.folder.path().join("a.yaml").is_symlink() && place.text("real").contains(DIGEST));
    }

    #[tokio::test]
    async fn document_that_cannot_be_edited_alone_is_left() {
        let shared = "apiVersion: v1\nkind: List\nitems:\n- &a\n  apiVersion: pinstream.dev/v1\n  kind: ImageStream\n  metadata: {name: app}\n  status: {}\n- <<: *a\n  metadata: {name: other}\n";
        let place = Place::new(&[("a.yaml", shared)]);
        let before = place.read("app").await;
        let mut after = before.stream.clone();
        after.status.docker_image_repository = "q.io/a/b".into();
        let refused = place.home.write(&before, &after).await;
        let Err(HomeError::Refused(reason)) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("a.yaml") && reason.contains("give the stream a document of its own"), "{reason}");
        assert_eq!(place.text("a.yaml"), shared);
    }

    #[tokio::test]
    async fn streams_that_are_not_there_or_not_valid_are_told_apart() {
        let place = Place::new(&[("a.yaml", &APP.replace("q.io/a/b:1", "\"not an image\""))]);
        assert_eq!(place.home.read(&Key::new("default", "none")).await, Ok(None));
        let refused = place.home.read(&Key::new("default", "app")).await;
        let Err(HomeError::Refused(reason)) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("spec.tags[1].from.name"), "{reason}");
        fs::remove_file(place.folder.path().join("a.yaml")).unwrap();
        assert_eq!(place.home.read(&Key::new("default", "app")).await, Ok(None));
    }

    #[tokio::test]
    async fn images_stay_while_a_stream_knows_them() {
        let place = Place::new(&[("a.yaml", APP)]);
        let child = |digit: char| format!("sha256:{}", digit.to_string().repeat(64));
        let image = |digest: &str| {
            let mut image = Image::default();
            digest.clone_into(&mut image.metadata.name);
            image
        };
        let mut index = image(DIGEST);
        let children = serde_json::json!([{"digest": child('c'), "mediaType": "", "manifestSize": 1, "architecture": "", "os": ""}]);
        index.docker_image_manifests = serde_json::from_value(children).unwrap();
        let images = [index, image(&child('c')), image(&child('d'))];
        place.home.keep_images(&images).await.unwrap();
        let before = place.read("app").await;
        place.home.write(&before, &imported(&before)).await.unwrap();
        let files = &place.home.files;
        assert_eq!(files.sweep(SystemTime::now(), Duration::from_mins(1)).unwrap(), 0);
        assert_eq!(files.sweep(SystemTime::now() + Duration::from_secs(90), Duration::from_mins(1)).unwrap(), 1);
        fs::remove_file(place.folder.path().join("a.yaml")).unwrap();
    }

    #[test]
    fn directory_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("none");
        let home = DirectoryHome::open(&root, Arc::default(), ImportMode::Legacy, None);
        assert!(home.is_err() && !root.exists());
    }
}

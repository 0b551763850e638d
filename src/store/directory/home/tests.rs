//! Writes into files: what they change, what they leave, and what they refuse.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::store::directory::Directory;
use crate::store::directory::Feed;
use crate::store::home::Change;
use crate::stream::places::Places;
use crate::stream::types::SpecTag;

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
        let directory = Directory::new(folder.path().to_owned(), Places::default());
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
    let status = text.strip_prefix(&format!("{other}---\n{APP}")).unwrap().strip_suffix("---\n# the end\n").unwrap();
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
    let mut directory = Directory::new(folder.path().to_owned(), Places::default());
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
    assert!(text.contains("openshift.io/image.dockerRepositoryCheck: ") && text.contains("name: q.io/a/b:1"), "{text}");
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
    let children =
        serde_json::json!([{"digest": child('c'), "mediaType": "", "manifestSize": 1, "architecture": "", "os": ""}]);
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

/// What the importer was told since.
fn told(changes: &mut mpsc::UnboundedReceiver<Change>) -> Vec<String> {
    let tell = |change| match change {
        Change::Applied(stream) => {
            format!("{} {}", stream.key().name, stream.spec.tags[0].generation.unwrap_or_default())
        }
        Change::Deleted(key) => format!("{} gone", key.name),
        Change::Listed => "listed".to_owned(),
        Change::Back => "back".to_owned(),
    };
    std::iter::from_fn(|| changes.try_recv().ok()).map(tell).collect()
}

#[tokio::test]
async fn importer_is_told_what_is_there_moved_changed_broken_and_gone() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
    write("a.yaml", APP);
    write("b.yaml", &APP.replace("b:1", "b:2"));
    let mut directory = Directory::new(folder.path().to_owned(), Places::default());
    let home = DirectoryHome::open(folder.path(), directory.owners(), ImportMode::Legacy, None).unwrap();
    let (sender, mut changes) = mpsc::unbounded_channel();
    directory = directory.fed(Feed::new(home.clone(), sender));
    let mut look = || directory.look(SystemTime::now() + Duration::from_secs(1));
    look();
    assert_eq!(told(&mut changes), ["app 1", "listed"]);
    // What is told can be read at once.
    assert!(home.read(&Key::new("default", "app")).await.unwrap().is_some());

    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    look();
    assert_eq!(told(&mut changes), ["app 2"]);
    write("b.yaml", &APP.replace("q.io/a/b:1", "\"no image\""));
    look();
    assert_eq!(told(&mut changes), ["app gone"]);
    write("b.yaml", "kind: [");
    look();
    assert_eq!(told(&mut changes), [""; 0]);
    write("b.yaml", &APP.replace("b:1", "b:3"));
    look();
    assert_eq!(told(&mut changes), ["app 3"]);
    write("b.yaml", "# nothing\n");
    look();
    assert_eq!(told(&mut changes), ["app gone"]);
}

#[test]
fn readers_are_told_all_streams_as_they_stand_and_nothing_is_written_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
    write("a.yaml", APP);
    write("b.yaml", &APP.replace("b:1", "b:2"));
    let mut directory = Directory::new(folder.path().to_owned(), Places::default());
    let home = DirectoryHome::open_to_read(folder.path(), directory.owners(), ImportMode::Legacy, None);
    let (sender, mut changes) = mpsc::unbounded_channel();
    directory = directory.fed(Feed::to_read(home).and(sender));
    let mut look = || directory.look(SystemTime::now() + Duration::from_secs(1));
    look();
    assert_eq!(told(&mut changes), ["app 0", "listed"]);
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    look();
    assert_eq!(told(&mut changes), ["app 0"]);
    fs::remove_file(folder.path().join("b.yaml")).unwrap();
    look();
    assert_eq!(told(&mut changes), ["app gone"]);
    assert!(!folder.path().join(".pinstream").exists());
}

#[test]
fn readers_are_told_what_is_not_imported() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
    let invalid = APP.replace("q.io/a/b:1", "\"no image\"");
    write("a.yaml", &invalid);
    write("b.yaml", &invalid);
    let mut directory = Directory::new(folder.path().to_owned(), Places::default());
    let home = DirectoryHome::open(folder.path(), directory.owners(), ImportMode::Legacy, None).unwrap();
    let (sender, mut imported) = mpsc::unbounded_channel();
    let (reader, mut read) = mpsc::unbounded_channel();
    directory = directory.fed(Feed::new(home, sender).and(reader));
    let mut look = || directory.look(SystemTime::now() + Duration::from_secs(1));
    look();
    assert_eq!(told(&mut imported), ["app gone", "listed"]);
    assert_eq!(told(&mut read), ["app 0", "listed"]);
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    look();
    assert_eq!(told(&mut read), ["app 0"]);
}

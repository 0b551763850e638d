//! Tests of looks at a directory: what is read, when, and what stays of what turned bad.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

struct Store {
    folder: TempDir,
    directory: Directory,
}

impl Store {
    fn new(files: &[(&str, &str)]) -> (Self, Look) {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::new(folder.path().to_owned(), Places::default());
        let mut store = Self { folder, directory };
        for (path, text) in files {
            store.write(path, text);
        }
        let look = store.look();
        (store, look)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
    }

    /// Looks at a time at which everything has settled.
    fn look(&mut self) -> Look {
        self.directory.look(SystemTime::now() + Duration::from_secs(1))
    }
}

fn stream(name: &str, tags: &str) -> String {
    format!("apiVersion: pinstream.dev/v1\nkind: ImageStream\nmetadata: {{name: {name}}}\nspec:\n  tags: [{tags}]\n")
}

fn tag_count(look: &Look) -> Option<(usize, usize)> {
    look.snapshot.as_ref().map(|snapshot| (snapshot.stream_count(), snapshot.tag_count()))
}

#[test]
fn manifests_of_all_folders_are_read_and_others_are_not() {
    let (_store, look) = Store::new(&[
        ("a.yaml", &stream("a", "{name: x}")),
        ("deep/er/b.yml", &stream("b", "")),
        ("c.json", r#"{"apiVersion": "pinstream.dev/v1", "kind": "ImageStream", "metadata": {"name": "c"}}"#),
        ("pod.yaml", "apiVersion: v1\nkind: Pod\n"),
        ("notes.txt", &stream("d", "")),
        (".hidden/e.yaml", &stream("e", "")),
        (".f.yaml", &stream("f", "")),
    ]);
    assert_eq!(tag_count(&look), Some((3, 1)));
    let ignored: Vec<_> =
        look.ignored.iter().map(|(path, _, what)| (path.file_name().unwrap(), what.as_str())).collect();
    assert_eq!(ignored, [("pod.yaml".as_ref(), "v1 Pod")]);
    assert!(look.new_problems.is_empty());
}

#[test]
fn nothing_changes_without_a_change() {
    let (mut store, _) = Store::new(&[("a.yaml", &stream("a", ""))]);
    assert!(store.look().snapshot.is_none());
    store.write("a.yaml", &format!("# a comment\n{}", stream("a", "")));
    let look = store.look();
    assert!(look.snapshot.is_none_or(|snapshot| snapshot.stream_count() == 1));
    assert!(store.look().snapshot.is_none());
}

#[test]
fn changes_renames_swaps_and_removals_are_seen() {
    let (mut store, _) = Store::new(&[("a.yaml", &stream("a", ""))]);
    store.write("a.yaml", &stream("a", "{name: x}"));
    assert_eq!(tag_count(&store.look()), Some((1, 1)));

    store.write("new", &stream("a", "{name: y}, {name: z}"));
    fs::rename(store.path("new"), store.path("a.yaml")).unwrap();
    assert_eq!(tag_count(&store.look()), Some((1, 2)));

    for (version, tags) in [("..1", "{name: x}"), ("..2", "{name: x}, {name: y}")] {
        store.write(&format!("{version}/v.yaml"), &stream("v", tags));
    }
    symlink("..1", store.path("..data")).unwrap();
    symlink("..data/v.yaml", store.path("v.yaml")).unwrap();
    assert_eq!(tag_count(&store.look()), Some((2, 3)));
    symlink("..2", store.path("..next")).unwrap();
    fs::rename(store.path("..next"), store.path("..data")).unwrap();
    assert_eq!(tag_count(&store.look()), Some((2, 4)));

    fs::remove_file(store.path("a.yaml")).unwrap();
    assert_eq!(tag_count(&store.look()), Some((1, 2)));
}

#[test]
fn broken_file_keeps_its_last_good_streams() {
    let (mut store, _) = Store::new(&[("a.yaml", &stream("a", "{name: x}")), ("b.yaml", &stream("b", ""))]);
    store.write("a.yaml", &format!("{}---\n{}", stream("c", ""), "kind: [\n"));
    let look = store.look();
    let [(path, problem)] = look.new_problems.as_slice() else { panic!("{look:?}") };
    assert_eq!(path, &store.path("a.yaml"));
    assert!(problem.starts_with("document 2, line "), "{problem}");
    assert!(look.snapshot.is_none() && store.look().new_problems.is_empty());
    assert_eq!(store.directory.problem_count(), 1);

    store.write("b.yaml", &stream("b", "{name: x}"));
    assert_eq!(tag_count(&store.look()), Some((2, 2)));

    store.write("a.yaml", &stream("a", ""));
    let look = store.look();
    assert_eq!((tag_count(&look), look.solved), (Some((2, 1)), vec![store.path("a.yaml")]));
}

#[test]
fn stream_defined_twice_names_both_files_and_the_first_stays() {
    let (mut store, _) = Store::new(&[("b.yaml", &stream("a", "{name: x}"))]);
    store.write("a.yaml", &stream("a", ""));
    let look = store.look();
    let [(path, problem)] = look.new_problems.as_slice() else { panic!("{look:?}") };
    assert_eq!(path, &store.path("a.yaml"));
    assert!(problem.contains("image stream default/a is defined already in") && problem.contains("b.yaml"));
    assert_eq!(tag_count(&look), Some((1, 1)));

    fs::remove_file(store.path("b.yaml")).unwrap();
    let look = store.look();
    assert_eq!((tag_count(&look), look.solved.len()), (Some((1, 0)), 1));
}

#[test]
fn stream_defined_twice_in_one_file_is_a_broken_file() {
    let (store, look) = Store::new(&[("a.yaml", &format!("{}---\n{}", stream("a", ""), stream("a", "")))]);
    assert_eq!(tag_count(&look), Some((0, 0)));
    let expected = "document 2, line 6: image stream default/a is defined already in document 1, line 1";
    assert_eq!(look.new_problems, [(store.path("a.yaml"), expected.to_owned())]);
}

#[test]
fn lost_directory_keeps_its_streams() {
    let (mut store, _) = Store::new(&[("a.yaml", &stream("a", ""))]);
    let (root, aside) = (store.folder.path().to_owned(), store.folder.path().with_extension("aside"));
    fs::rename(&root, &aside).unwrap();
    let look = store.look();
    assert!(look.snapshot.is_none() && !store.directory.is_readable());
    assert!(look.new_problems[0].1.starts_with("the directory cannot be read"));
    fs::rename(&aside, &root).unwrap();
    assert_eq!(store.look().solved, [root]);
    assert!(store.directory.is_readable());
}

#[test]
fn file_that_is_being_written_is_read_one_look_later_at_most() {
    let (mut store, _) = Store::new(&[("a.yaml", &stream("a", ""))]);
    store.write("a.yaml", &stream("a", "{name: x}"));
    let just_now = |store: &mut Store| {
        let metadata = fs::metadata(store.path("a.yaml")).unwrap();
        store.directory.look(metadata.modified().unwrap() + Duration::from_millis(1))
    };
    assert!(just_now(&mut store).snapshot.is_none());
    assert_eq!(tag_count(&just_now(&mut store)), Some((1, 1)));
    assert!(store.look().snapshot.is_none());
}

#[test]
fn link_to_its_own_folder_ends() {
    let (mut store, _) = Store::new(&[("a.yaml", &stream("a", ""))]);
    symlink(".", store.path("again")).unwrap();
    assert!(store.look().new_problems.is_empty());
}

//! Whatever changes what a look finds is told, and nothing else is.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use rstest::rstest;
use tempfile::TempDir;

use super::*;
use crate::store::directory::Directory;
use crate::stream::places::Places;

const STREAM: &str = "apiVersion: pinstream.dev/v1\nkind: ImageStream\nmetadata: {name: app}\n";

/// A directory `streams` in a folder with more.
struct Watched {
    folder: TempDir,
    directory: Directory,
    told: Told,
}

impl Watched {
    fn new(prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("elsewhere")).unwrap();
        fs::create_dir_all(folder.path().join("streams")).unwrap();
        prepare(folder.path());
        let watches = Watches::new().unwrap();
        let told = watches.told();
        let directory = Directory::new(folder.path().join("streams"), Places::default()).watched(watches);
        let mut store = Self { folder, directory, told };
        assert!(store.look(), "everything is told once all has settled");
        store
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Looks until nothing is told any more, at a time at which everything has settled. Says whether changes are told.
    fn look(&mut self) -> bool {
        while self.told.take() {}
        self.directory.look(SystemTime::now() + Duration::from_secs(1));
        assert!(!self.told.take(), "a look changes nothing");
        self.directory.is_told()
    }

    /// That a change is told and that the next look finds so many files.
    fn assert_told(&mut self, files: usize, change: impl FnOnce(&Path)) {
        change(self.folder.path());
        assert!(self.told.take(), "it is told");
        assert!(self.look(), "what comes next is told too");
        assert_eq!(self.directory.files.len(), files);
    }
}

#[test]
fn every_way_to_change_a_file_is_told() {
    let mut watched = Watched::new(|_| ());
    watched.assert_told(1, |folder| fs::write(folder.join("streams/a.yaml"), STREAM).unwrap());
    watched.assert_told(1, |folder| fs::write(folder.join("streams/a.yaml"), STREAM.replace("app", "b")).unwrap());
    watched.assert_told(1, |folder| {
        fs::write(folder.join("elsewhere/new.yaml"), STREAM).unwrap();
        fs::rename(folder.join("elsewhere/new.yaml"), folder.join("streams/a.yaml")).unwrap();
    });
    watched.assert_told(2, |folder| fs::write(folder.join("streams/b.yaml"), STREAM).unwrap());
    watched.assert_told(1, |folder| fs::remove_file(folder.join("streams/b.yaml")).unwrap());
    let elsewhere = watched.path("elsewhere/other.yaml");
    fs::write(elsewhere, STREAM).unwrap();
    assert!(!watched.told.take(), "what is elsewhere is nothing");
}

#[test]
fn file_with_another_name_is_looked_for() {
    let mut watched = Watched::new(|folder| fs::write(folder.join("streams/a.yaml"), STREAM).unwrap());
    fs::hard_link(watched.path("streams/a.yaml"), watched.path("elsewhere/b.yaml")).unwrap();
    assert!(!watched.look(), "what is written by the other name is not told");
    fs::remove_file(watched.path("elsewhere/b.yaml")).unwrap();
    assert!(watched.look());
}

#[test]
fn folders_are_watched_as_they_come_and_not_when_they_are_gone() {
    let mut watched = Watched::new(|_| ());
    watched.assert_told(0, |folder| fs::create_dir_all(folder.join("streams/team/deep")).unwrap());
    watched.assert_told(1, |folder| fs::write(folder.join("streams/team/deep/a.yaml"), STREAM).unwrap());
    watched.assert_told(0, |folder| fs::rename(folder.join("streams/team"), folder.join("elsewhere/team")).unwrap());
    fs::write(watched.path("elsewhere/team/deep/b.yaml"), STREAM).unwrap();
    assert!(!watched.told.take(), "it is not in the directory any more");
    watched.assert_told(2, |folder| fs::rename(folder.join("elsewhere/team"), folder.join("streams/team")).unwrap());
}

#[test]
fn directory_that_is_gone_is_looked_for() {
    let mut watched = Watched::new(|folder| fs::write(folder.join("streams/a.yaml"), STREAM).unwrap());
    fs::rename(watched.path("streams"), watched.path("gone")).unwrap();
    assert!(watched.told.take());
    assert!(!watched.look(), "nobody tells when it is there again");
    fs::create_dir(watched.path("streams")).unwrap();
    assert!(watched.look());
    watched.assert_told(1, |folder| fs::write(folder.join("streams/b.yaml"), STREAM).unwrap());
}

#[rstest]
#[case::volume("streams/..data", "streams/..1", "streams/..2", &[("..data/a.yaml", "streams/a.yaml")])]
#[case::folder("elsewhere/current", "elsewhere/1", "elsewhere/2", &[("../elsewhere/current", "streams/team")])]
#[case::file("elsewhere/current", "elsewhere/1", "elsewhere/2", &[("../elsewhere/current/a.yaml", "streams/a.yaml")])]
#[case::directory("current", "elsewhere/1", "elsewhere/2", &[("current", "streams")])]
fn links_that_lead_to_something_else_are_told(
    #[case] link: &str,
    #[case] old: &str,
    #[case] new: &str,
    #[case] links: &[(&str, &str)],
) {
    let mut watched = Watched::new(|folder| {
        if link == "current" {
            fs::remove_dir(folder.join("streams")).unwrap();
        }
        for target in [old, new] {
            fs::create_dir(folder.join(target)).unwrap();
            fs::write(folder.join(target).join("a.yaml"), STREAM).unwrap();
        }
        symlink(folder.join(old), folder.join(link)).unwrap();
        for (target, link) in links {
            symlink(target, folder.join(link)).unwrap();
        }
    });
    watched.assert_told(1, |folder| fs::write(folder.join(old).join("a.yaml"), STREAM.replace("app", "b")).unwrap());
    watched.assert_told(1, |folder| {
        symlink(folder.join(new), folder.join("new")).unwrap();
        fs::rename(folder.join("new"), folder.join(link)).unwrap();
    });
    watched.assert_told(1, |folder| fs::write(folder.join(new).join("a.yaml"), STREAM.replace("app", "c")).unwrap());
}

#[test]
fn where_nothing_can_be_told_is_looked_at_again() {
    let mut watched = Watched::new(|_| ());
    symlink("/proc/self/nowhere/a.yaml", watched.path("streams/a.yaml")).unwrap();
    assert!(watched.told.take() && !watched.look());
    fs::remove_file(watched.path("streams/a.yaml")).unwrap();
    assert!(watched.look());
    // It may be written to without a word.
    symlink("/proc/self/status", watched.path("streams/b.yaml")).unwrap();
    assert!(!watched.look());
}

#[test]
fn file_that_may_still_be_written_to_is_looked_at_again() {
    let mut watched = Watched::new(|_| ());
    fs::write(watched.path("streams/a.yaml"), STREAM).unwrap();
    assert!(watched.told.take());
    watched.directory.look(fs::metadata(watched.path("streams/a.yaml")).unwrap().modified().unwrap());
    assert!(!watched.directory.is_told());
    assert!(watched.look());
}

#[test]
fn links_without_end_are_no_way() {
    let folder = tempfile::tempdir().unwrap();
    symlink("b", folder.path().join("a")).unwrap();
    symlink("a", folder.path().join("b")).unwrap();
    assert!(way(&folder.path().join("a")).is_err());
}

//! Files put in the place of others: whole or not at all, also where there is no room for them. It must not know what is in
//! them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What is to be in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct New<'a> {
    /// Name of the file.
    pub(crate) name: &'a str,
    pub(crate) content: &'a str,
    /// Who may read it.
    pub(crate) mode: u32,
}

/// Puts content in the place of a file, at once and with its permissions if it was there. With `durable` it survives a
/// loss of power.
///
/// # Errors
/// The file is as it was then. The error names it.
pub(crate) fn replace(path: &Path, content: &[u8], durable: bool) -> io::Result<()> {
    // The same every time, so that none is left over.
    let beside = beside(path);
    let written = (|| {
        let mut file = File::create(&beside)?;
        file.write_all(content)?;
        if let Ok(metadata) = fs::metadata(path) {
            file.set_permissions(metadata.permissions())?;
        }
        if durable {
            file.sync_all()?;
        }
        fs::rename(&beside, path)
    })();
    written.map_err(|error| {
        // What cannot be removed is overwritten the next time.
        let _ = fs::remove_file(&beside);
        unwritten(path, &error)
    })
}

/// Puts files that belong together into a folder: each is written down before the first is put in its place.
///
/// # Errors
/// What cannot be written down leaves all as they were. The error names it.
pub(crate) fn replace_all(folder: &Path, files: &[New<'_>]) -> io::Result<()> {
    let path = |new: &New<'_>| folder.join(new.name);
    let written = files
        .iter()
        .try_for_each(|new| write_beside(&beside(&path(new)), new).map_err(|error| unwritten(&path(new), &error)));
    let put = |new: &New<'_>| fs::rename(beside(&path(new)), path(new)).map_err(|error| unwritten(&path(new), &error));
    written.and_then(|()| files.iter().try_for_each(put)).inspect_err(|_| {
        for new in files {
            let _ = fs::remove_file(beside(&path(new)));
        }
    })
}

/// Nobody sees it with a mode that it is not to have.
fn write_beside(beside: &Path, new: &New<'_>) -> io::Result<()> {
    match fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(new.mode).open(beside)?;
    file.write_all(new.content.as_bytes())?;
    file.sync_all()
}

/// Hidden, so that nobody takes it for a manifest.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

/// Makes a folder, and those that it is in.
///
/// # Errors
/// The error names it.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path).map_err(|error| unwritten(path, &error))
}

/// There is no room, which may be otherwise later.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The same error with the name of what cannot be written and, if there is no room, what to do.
pub(crate) fn unwritten(path: &Path, error: &io::Error) -> io::Error {
    let next = if is_full(error) { "; make room on its file system" } else { "" };
    io::Error::new(error.kind(), format!("{} cannot be written: {error}{next}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn file_that_cannot_be_replaced_is_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::create_dir(&path).unwrap();
        let error = replace(&path, b"new", true).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{} cannot be written: ", path.display())) && path.is_dir(), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_that_belong_together_are_replaced_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let new = |name, content, mode| New { name, content, mode };
        replace_all(folder.path(), &[new("a", "1", 0o600), new("b", "1", 0o644)]).unwrap();
        assert_eq!(fs::metadata(path("a")).unwrap().permissions().mode() & 0o777, 0o600);
        // Where the second would be written is something in the way.
        fs::create_dir(path(".b.new")).unwrap();
        let error = replace_all(folder.path(), &[new("a", "2", 0o600), new("b", "2", 0o644)]).unwrap_err().to_string();
        assert!(error.contains("/b cannot be written: "), "{error}");
        assert_eq!(
            (fs::read_to_string(path("a")).unwrap(), fs::read_to_string(path("b")).unwrap()),
            ("1".into(), "1".into())
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn who_has_no_room_is_told_what_to_do() {
        let told = |kind| unwritten(Path::new("/a/b"), &io::Error::from(kind));
        let full = told(io::ErrorKind::StorageFull);
        assert_eq!(full.to_string(), "/a/b cannot be written: no storage space; make room on its file system");
        assert!(is_full(&full) && is_full(&told(io::ErrorKind::QuotaExceeded)));
        let denied = told(io::ErrorKind::PermissionDenied);
        assert_eq!(
            (denied.to_string().as_str(), is_full(&denied)),
            ("/a/b cannot be written: permission denied", false)
        );
    }
}

//! Certificates for development and trials: a CA that signs one server certificate and is then thrown away.
//!
//! The CA's key is never written, so that a machine that trusts the CA trusts nothing but this certificate.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::certificate::{Files, PairError};
use super::issue::{Ca, Validity};
use crate::files::{self, New};

/// The names that a development certificate is for.
pub const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// How long a development certificate is good for, in days.
pub const DAYS: u32 = 365;
/// With less than this left, a kept certificate is made anew at start.
const RENEW_BEFORE: Duration = Duration::from_hours(24 * 7);

/// The file of the CA certificate, which clients are told to trust.
pub const CA_FILE: &str = "ca.crt";
const CERTIFICATE_FILE: &str = "tls.crt";
const KEY_FILE: &str = "tls.key";

/// A CA certificate, a server certificate and its key, all PEM.
pub struct Made {
    ca: String,
    certificate: String,
    key: String,
}

/// Why certificates cannot be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// A name cannot stand in a certificate, or the cryptography failed.
    #[error("a certificate for {names} cannot be made: {reason}")]
    Certificate {
        /// The names asked for.
        names: String,
        /// Why.
        reason: rcgen::Error,
    },
    /// A file or folder cannot be written. The error names it.
    #[error("{0}")]
    Unwritable(io::Error),
    /// What is there already is not to be overwritten.
    #[error("{} is there already; --force overwrites it", .0.display())]
    Exists(PathBuf),
    /// What is there cannot be used.
    #[error("{0}; remove {folder} to have certificates made anew", folder = .1.display())]
    Unusable(#[source] PairError, PathBuf),
}

/// Makes certificates for DNS names and IP addresses, good from an hour ago for so many days.
///
/// # Errors
/// [`MakeError::Certificate`].
pub fn make(names: &[String], days: u32, now: Timestamp) -> Result<Made, MakeError> {
    try_make(names, days, now).map_err(|reason| MakeError::Certificate { names: names.join(", "), reason })
}

fn try_make(names: &[String], days: u32, now: Timestamp) -> Result<Made, rcgen::Error> {
    let validity = Validity { from: now - Duration::from_hours(1), until: now + Duration::from_hours(24) * days };
    let ca = Ca::make("Pinstream development CA", validity)?;
    let issued = ca.issue(names, validity)?;
    Ok(Made { ca: ca.certificate, certificate: issued.certificate, key: issued.key })
}

impl Made {
    /// Writes `ca.crt`, `tls.crt` and `tls.key` (mode 0600) into a folder, which is made if it is missing. What was there
    /// before stays unless there is room for all of them.
    ///
    /// # Errors
    /// [`MakeError::Unwritable`].
    pub fn write(&self, folder: &Path) -> Result<Files, MakeError> {
        let new = |name, content, mode| New { name, content, mode };
        let parts = [
            new(KEY_FILE, &self.key, 0o600),
            new(CERTIFICATE_FILE, &self.certificate, 0o644),
            new(CA_FILE, &self.ca, 0o644),
        ];
        files::make_folder(folder).and_then(|()| files::replace_all(folder, &parts)).map_err(MakeError::Unwritable)?;
        Ok(files_in(folder))
    }
}

fn files_in(folder: &Path) -> Files {
    Files { certificate: folder.join(CERTIFICATE_FILE), key: folder.join(KEY_FILE) }
}

/// Refuses if a folder has certificates already.
///
/// # Errors
/// [`MakeError::Exists`] with the first file that is there.
pub fn expect_none(folder: &Path) -> Result<(), MakeError> {
    let is_there = |name: &&str| folder.join(name).exists();
    match [CA_FILE, CERTIFICATE_FILE, KEY_FILE].iter().find(|name| is_there(name)) {
        Some(name) => Err(MakeError::Exists(folder.join(name))),
        None => Ok(()),
    }
}

/// The development certificates of a folder: those that are there, or new ones if there are none, or if they are
/// about to expire. Says whether they are new. If new ones cannot be written, those that are good yet are kept.
///
/// # Errors
/// [`MakeError`]; certificates that cannot be read are not overwritten.
pub fn keep_or_make(folder: &Path, now: Timestamp) -> Result<(Files, bool), MakeError> {
    let mut good_yet = None;
    if expect_none(folder).is_err() {
        let files = files_in(folder);
        let pair = files.load().map_err(|error| MakeError::Unusable(error, folder.to_owned()))?;
        let has_ca = folder.join(CA_FILE).exists();
        if pair.not_after > now + RENEW_BEFORE && has_ca {
            return Ok((files, false));
        }
        good_yet = (pair.not_after > now && has_ca).then_some(files);
    }
    match (make(&NAMES.map(str::to_owned), DAYS, now)?.write(folder), good_yet) {
        (Ok(files), _) => Ok((files, true)),
        (Err(error), Some(files)) => {
            tracing::warn!(%error, "the development certificate expires soon and cannot be renewed");
            Ok((files, false))
        }
        (Err(error), None) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn certificates_are_kept_until_shortly_before_they_expire() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, now) = (folder.path().join("certs/dev"), Timestamp::now());
        let later = |days: u64| now + Duration::from_hours(24 * days);
        let key = || fs::read(folder.join(KEY_FILE)).unwrap();

        assert!(keep_or_make(&folder, now).unwrap().1);
        let first = key();
        assert!(!keep_or_make(&folder, later(300)).unwrap().1);
        assert_eq!(key(), first);
        assert!(keep_or_make(&folder, later(359)).unwrap().1);
        assert_ne!(key(), first);
        assert_eq!(fs::metadata(folder.join(KEY_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
    }

    #[test]
    fn certificates_that_cannot_be_renewed_serve_until_they_expire() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let later = |days: u64| now + Duration::from_hours(24 * days);
        let (files, _) = keep_or_make(folder.path(), now).unwrap();
        // Something is in the way of the last file of the new ones.
        fs::create_dir(folder.path().join(".ca.crt.new")).unwrap();
        assert_eq!(keep_or_make(folder.path(), later(359)).unwrap(), (files.clone(), false));
        assert!(matches!(keep_or_make(folder.path(), later(366)), Err(MakeError::Unwritable(_))));
        files.load().unwrap();
    }

    #[test]
    fn unreadable_certificates_are_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        keep_or_make(folder.path(), Timestamp::now()).unwrap();
        fs::write(folder.path().join(KEY_FILE), "precious").unwrap();
        let error = keep_or_make(folder.path(), Timestamp::now()).unwrap_err().to_string();
        assert!(
            error.contains("tls.key has no private key") && error.contains("to have certificates made anew"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(folder.path().join(KEY_FILE)).unwrap(), "precious");
        assert!(matches!(expect_none(folder.path()), Err(MakeError::Exists(_))));
    }

    #[test]
    fn name_that_no_certificate_can_have_is_refused() {
        let error = make(&["spaß".to_owned()], 1, Timestamp::now()).err().unwrap().to_string();
        assert!(error.contains("a certificate for spaß cannot be made"), "{error}");
    }
}

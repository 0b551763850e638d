//! A file of users and passwords, as `htpasswd -B` writes it, read again when it changes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use secrecy::ExposeSecret as _;
use tokio::sync::Semaphore;

use super::credentials::fingerprint;
use super::kept::{Answer, Kept};
use super::{Credentials, Refusal};
use crate::digest::Digest;

/// How often the file is looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The largest file that is read.
const FILE_MAX: u64 = 4 << 20;
/// Passwords that are checked at a time: each takes a core for some time, which is what bcrypt is for.
const CHECKS_MAX: usize = 2;
/// bcrypt looks at no more.
const PASSWORD_MAX: usize = 72;

/// Why a file of passwords cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PasswordsError {
    /// It cannot be read.
    #[error("the password file {} cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A line is none of such a file.
    #[error("line {line} of the password file {}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Hashes by users.
type Users = HashMap<String, String>;

/// Users and their passwords.
#[derive(Clone)]
pub struct Passwords {
    users: Arc<ArcSwap<Users>>,
    kept: Arc<Kept<Digest, ()>>,
    places: Arc<Semaphore>,
}

/// Keeps [`Passwords`] as the file has them.
pub struct KeptPasswords {
    path: PathBuf,
    text: Vec<u8>,
    /// What was wrong last, so that it is logged once.
    trouble: Option<String>,
    passwords: Passwords,
}

impl Passwords {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or has a line that cannot be used.
    pub fn load(path: &Path) -> Result<(Self, KeptPasswords), PasswordsError> {
        let text = read(path)?;
        let passwords = Self {
            users: Arc::new(ArcSwap::from_pointee(parse(path, &text)?)),
            kept: Arc::default(),
            places: Arc::new(Semaphore::new(CHECKS_MAX)),
        };
        Ok((passwords.clone(), KeptPasswords { path: path.to_owned(), text, trouble: None, passwords }))
    }

    /// Whether the password is the user's.
    pub(super) async fn check(&self, shown: &Credentials) -> Result<(), Refusal> {
        let Credentials::Login(user, password) = shown else { return Err(Refusal::BadCredentials) };
        let password = password.expose_secret();
        let users = self.users.load_full();
        // Of a user who is not there somebody else's hash is tried: how long that takes does not tell who is there.
        let (is_there, hash) = match users.get(user) {
            Some(hash) => (true, hash.clone()),
            None => (false, users.values().next().cloned().ok_or(Refusal::BadCredentials)?),
        };
        if password.len() > PASSWORD_MAX {
            return Err(Refusal::BadCredentials);
        }
        // With the hash, so that a new password counts at once, and so does that a user is gone.
        let question = fingerprint(&[user, password, &hash, if is_there { "there" } else { "gone" }]);
        if let Some(answer) = self.kept.get(&question, Instant::now()) {
            return verdict(answer);
        }
        let _place = self.places.acquire().await.expect("nobody closes it");
        if let Some(answer) = self.kept.get(&question, Instant::now()) {
            return verdict(answer);
        }
        let password = password.to_owned();
        let verified = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash)).await;
        let is_right = is_there && verified.is_ok_and(|verified| verified.unwrap_or(false));
        let answer = if is_right { Answer::Yes(()) } else { Answer::No };
        self.kept.put(question, answer, Instant::now());
        verdict(answer)
    }
}

impl KeptPasswords {
    /// Reads the file whenever it changes. Never ends.
    pub async fn keep(mut self) {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            self.look();
        }
    }

    /// A file that cannot be used leaves what was before in force.
    fn look(&mut self) {
        match self.changed() {
            Ok(None) => {}
            Ok(Some((text, users))) => {
                tracing::info!(path = %self.path.display(), users = users.len(), "passwords loaded");
                self.passwords.users.store(Arc::new(users));
                (self.text, self.trouble) = (text, None);
            }
            Err(error) => {
                let error = error.to_string();
                if self.trouble.as_ref() != Some(&error) {
                    tracing::error!(error, "passwords cannot be loaded, those of before stay in force");
                    self.trouble = Some(error);
                }
            }
        }
    }

    fn changed(&self) -> Result<Option<(Vec<u8>, Users)>, PasswordsError> {
        let text = read(&self.path)?;
        if text == self.text {
            return Ok(None);
        }
        let users = parse(&self.path, &text)?;
        Ok(Some((text, users)))
    }
}

fn verdict(answer: Answer<()>) -> Result<(), Refusal> {
    match answer {
        Answer::Yes(()) => Ok(()),
        Answer::No => Err(Refusal::BadCredentials),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PasswordsError> {
    let mut text = Vec::new();
    let result = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut text));
    match result {
        Ok(_) => Ok(text),
        Err(error) => Err(PasswordsError::Unreadable { path: path.to_owned(), error }),
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<Users, PasswordsError> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let entry = |(number, line): (usize, &str)| {
        let wrong = |problem| PasswordsError::Line { path: path.to_owned(), line: number + 1, problem };
        let (user, hash) = line.split_once(':').ok_or_else(|| wrong("write USER:HASH"))?;
        if user.is_empty() {
            return Err(wrong("the user has no name"));
        }
        if !is_bcrypt(hash) {
            return Err(wrong("only bcrypt is understood; write it with: htpasswd -B -c FILE USER"));
        }
        Ok((user.to_owned(), hash.to_owned()))
    };
    lines.map(entry).collect()
}

fn is_bcrypt(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|kind| hash.starts_with(kind))
        && hash.parse::<bcrypt::HashParts>().is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rstest::rstest;

    use super::*;

    /// "pull-secret".
    const HASH: &str = "$2b$05$AXol5uJ3sUN/05Zc4teqmeKOGQGHE4g.Gjg2RpmeDUeUswkrKJW12";

    fn login(user: &str, password: &str) -> Credentials {
        Credentials::Login(user.to_owned(), password.into())
    }

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[tokio::test]
    async fn whoever_knows_the_password_is_let_in_and_nobody_else() {
        let (_folder, path) = written(&format!("# pullers\n\nann:{HASH}\nbob:{}\n", HASH.replace("$2b$", "$2y$")));
        let (passwords, _) = Passwords::load(&path).unwrap();
        for user in ["ann", "bob", "ann"] {
            assert_eq!(passwords.check(&login(user, "pull-secret")).await, Ok(()));
        }
        let long = "pull-secret".repeat(10);
        for (user, password) in [("ann", "pull"), ("ann", "pull"), ("ann", ""), ("eve", "pull-secret"), ("ann", &long)]
        {
            assert_eq!(passwords.check(&login(user, password)).await, Err(Refusal::BadCredentials));
        }
        assert_eq!(passwords.check(&Credentials::Token("pull-secret".into())).await, Err(Refusal::BadCredentials));
    }

    #[tokio::test]
    async fn changed_file_counts_and_a_bad_one_does_not() {
        let (_folder, path) = written(&format!("ann:{HASH}\n"));
        let (passwords, mut kept) = Passwords::load(&path).unwrap();
        assert_eq!(passwords.check(&login("ann", "pull-secret")).await, Ok(()));
        fs::write(&path, "bob:secret\n").unwrap();
        kept.look();
        assert_eq!(passwords.check(&login("ann", "pull-secret")).await, Ok(()));
        assert!(kept.trouble.is_some());
        fs::write(&path, format!("bob:{HASH}\n")).unwrap();
        kept.look();
        assert_eq!(passwords.check(&login("ann", "pull-secret")).await, Err(Refusal::BadCredentials));
        assert_eq!(passwords.check(&login("bob", "pull-secret")).await, Ok(()));
        fs::remove_file(&path).unwrap();
        kept.look();
        assert_eq!(passwords.check(&login("bob", "pull-secret")).await, Ok(()));
    }

    #[rstest]
    #[case::no_hash("ann", "write USER:HASH")]
    #[case::no_name(":$2b$05$", "the user has no name")]
    #[case::plain("ann:secret", "only bcrypt is understood")]
    #[case::md5("ann:$apr1$abc$def", "only bcrypt is understood")]
    #[case::sha("ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "only bcrypt is understood")]
    #[case::cut_off("ann:$2b$05$AXol5uJ3sUN", "only bcrypt is understood")]
    fn other_lines_are_refused_by_their_number(#[case] line: &str, #[case] problem: &str) {
        let (_folder, path) = written(&format!("# first\n{line}\n"));
        let error = Passwords::load(&path).err().unwrap().to_string();
        assert!(error.starts_with("line 2 of the password file ") && error.contains(problem), "{error}");
    }
}

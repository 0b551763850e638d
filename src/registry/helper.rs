//! Programs that keep credentials for Docker: `docker-credential-NAME`, asked when a registry of theirs is.
//!
//! Run without a shell, for a bounded time, with bounded output. What they answer is kept for some minutes.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::keyring::Credential;
use super::{SAID_MAX, line};

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The most bytes of its answer.
const ANSWER_MAX: u64 = 64 << 10;
/// How long a credential is used before the program is asked again; those of clouds expire within hours.
const FRESH: Duration = Duration::from_mins(5);
/// How long it is remembered that there is none.
const NONE_FRESH: Duration = Duration::from_mins(1);
/// What programs say that have nothing for a registry.
const NOT_FOUND: &str = "credentials not found";
/// The user whose secret is an identity token.
const TOKEN_USER: &str = "<token>";

type Answer = Result<Option<Credential>, String>;

/// A program that keeps credentials.
pub(super) struct Helper {
    program: PathBuf,
    /// What it said, by registry. Held while it runs, so that it runs once.
    said: Mutex<HashMap<String, (Answer, Instant)>>,
}

impl Helper {
    /// The program of that name in a folder, or wherever programs are found if the folder has no name.
    pub(super) fn new(folder: &Path, name: &str) -> Self {
        Self { program: folder.join(format!("docker-credential-{name}")), said: Mutex::default() }
    }

    /// What it has for a registry, which it knows by that name.
    ///
    /// # Errors
    /// If it cannot be run, takes too long or fails, in words for people.
    pub(super) async fn get(&self, server: &str) -> Answer {
        let mut said = self.said.lock().await;
        let now = Instant::now();
        said.retain(|_, (_, until)| *until > now);
        if let Some((answer, _)) = said.get(server) {
            return answer.clone();
        }
        let answer = self.run(server).await.map_err(|error| format!("{} {error}", self.program.display()));
        let lasts = if matches!(answer, Ok(Some(_))) { FRESH } else { NONE_FRESH };
        said.insert(server.to_owned(), (answer.clone(), Instant::now() + lasts));
        answer
    }

    async fn run(&self, server: &str) -> Answer {
        let mut command = Command::new(&self.program);
        command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().map_err(|error| format!("cannot be run: {error}"))?;
        let asked = tokio::time::timeout(LIMIT, ask(child, server)).await;
        let (is_success, output) = asked.map_err(|_| format!("does not answer within {} s", LIMIT.as_secs()))??;
        if output.len() as u64 > ANSWER_MAX {
            return Err(format!("answers with more than {} KiB", ANSWER_MAX >> 10));
        }
        if is_success { read(&output).map(Some) } else { refused(&output) }
    }
}

impl fmt::Debug for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helper").field("program", &self.program).finish_non_exhaustive()
    }
}

/// Whether the program is content, and what it prints, up to a byte more than it may.
async fn ask(mut child: Child, server: &str) -> Result<(bool, Vec<u8>), String> {
    let failed = |error: std::io::Error| format!("cannot be asked: {error}");
    if let Some(mut input) = child.stdin.take() {
        // A program that does not read its input may still answer.
        let _ = input.write_all(format!("{server}\n").as_bytes()).await;
    }
    let mut printed = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(ANSWER_MAX + 1).read_to_end(&mut printed).await.map_err(failed)?;
    }
    if printed.len() as u64 > ANSWER_MAX {
        return Ok((false, printed));
    }
    let status = child.wait().await.map_err(failed)?;
    Ok((status.success(), printed))
}

pub(super) fn read(output: &[u8]) -> Result<Credential, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Kept {
        username: String,
        secret: String,
    }
    let kept: Kept = serde_json::from_slice(output).map_err(|_| "does not answer with a credential".to_owned())?;
    if kept.username == TOKEN_USER {
        return Ok(Credential { identity_token: Some(kept.secret.into()), ..Credential::new("", "") });
    }
    Ok(Credential::new(&kept.username, &kept.secret))
}

/// Nothing, or what went wrong, shortened.
pub(super) fn refused(output: &[u8]) -> Answer {
    let said = String::from_utf8_lossy(output);
    if said.contains(NOT_FOUND) {
        return Ok(None);
    }
    Err(format!("fails: {}", line(&said, SAID_MAX)))
}

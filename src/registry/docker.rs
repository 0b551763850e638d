//! Docker's configuration file: the credentials that the user of this machine has logged in with.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use super::helper::Helper;
use super::keyring::{Keyring, KeyringError};

/// The configuration of Docker, read again whenever it is changed.
pub struct DockerConfig {
    path: PathBuf,
    /// Folder of the helper programs; without a name, they are looked for in `PATH`.
    programs: PathBuf,
    /// The file as it was read last, and what came of it.
    last: Mutex<Option<(Vec<u8>, Keyring)>>,
}

/// The configuration of Docker cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DockerConfigError {
    /// The file is there, but cannot be read.
    #[error("Docker's configuration {0} cannot be read: {1}")]
    Unreadable(PathBuf, io::Error),
    /// The file is no configuration.
    #[error("Docker's configuration {0} cannot be used: {1}; repair it, or log in again with docker login")]
    Form(PathBuf, KeyringError),
    /// The file names a helper that no program can be.
    #[error("Docker's configuration {0} names the credential helper {1:?}, which is no name of a program")]
    Helper(PathBuf, String),
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Named {
    creds_store: Option<String>,
    cred_helpers: Option<BTreeMap<String, String>>,
    auths: Option<serde_json::Map<String, serde_json::Value>>,
}

impl DockerConfig {
    /// The file at that path, which need not be there.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path, programs: PathBuf::new(), last: Mutex::default() }
    }

    /// The file that Docker itself uses: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`. `None` if there is no
    /// such place. `variable` reads the environment.
    #[must_use]
    pub fn usual(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")))?;
        Some(Self::at(folder.join("config.json")))
    }

    /// The credentials of the file as it is now. Its helpers are asked later, when a registry wants credentials of theirs.
    /// Without a file there are none.
    ///
    /// # Errors
    /// [`DockerConfigError`], which names the file.
    pub async fn keyring(&self) -> Result<Keyring, DockerConfigError> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await.map_err(io::Error::other);
        let bytes = match read.flatten() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Keyring::default().of_user()),
            Err(error) => return Err(DockerConfigError::Unreadable(self.path.clone(), error)),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, keyring)) = last.as_ref().filter(|(known, _)| *known == bytes) {
            return Ok(keyring.clone());
        }
        let keyring = self.parse(&bytes)?;
        *last = Some((bytes, keyring.clone()));
        Ok(keyring)
    }

    pub(super) fn parse(&self, bytes: &[u8]) -> Result<Keyring, DockerConfigError> {
        let form = |error| DockerConfigError::Form(self.path.clone(), error);
        let mut keyring = Keyring::from_docker_config_json(bytes).map_err(form)?.of_user();
        let named: Named = serde_json::from_slice(bytes).map_err(|_| form(KeyringError::Form))?;
        let mut helpers: BTreeMap<String, Arc<Helper>> = BTreeMap::new();
        let mut helper = |name: &str| {
            if !is_name(name) {
                return Err(DockerConfigError::Helper(self.path.clone(), name.to_owned()));
            }
            let made = helpers.entry(name.to_owned()).or_insert_with(|| Arc::new(Helper::new(&self.programs, name)));
            Ok(Arc::clone(made))
        };
        let logins: Vec<String> = named.auths.unwrap_or_default().into_iter().map(|(login, _)| login).collect();
        for (registry, name) in named.cred_helpers.unwrap_or_default() {
            keyring.add_helper(Some(&registry), helper(&name)?, &logins);
        }
        if let Some(name) = named.creds_store.filter(|name| !name.is_empty()) {
            keyring.add_helper(None, helper(&name)?, &logins);
        }
        Ok(keyring)
    }
}

impl fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerConfig").field("path", &self.path).finish_non_exhaustive()
    }
}

fn is_name(name: &str) -> bool {
    let fits = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    !name.is_empty() && name.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rstest::rstest;
    use secrecy::ExposeSecret as _;
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::super::keyring::Shown;
    use super::*;

    /// A configuration with a helper `fake` beside it.
    fn configuration(content: &Value) -> (TempDir, DockerConfig) {
        let folder = TempDir::new().unwrap();
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker/docker-credential-fake");
        std::os::unix::fs::symlink(program, folder.path().join("docker-credential-fake")).unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, content.to_string()).unwrap();
        let config = DockerConfig { programs: folder.path().to_owned(), ..DockerConfig::at(path) };
        (folder, config)
    }

    async fn shown(config: &DockerConfig, registry: &str) -> Shown {
        config.keyring().await.unwrap().shown(registry, "team/app").await
    }

    fn users(shown: &Shown) -> Vec<&str> {
        shown.credentials.iter().map(|credential| credential.user.as_str()).collect()
    }

    fn asked(folder: &TempDir) -> String {
        fs::read_to_string(folder.path().join("asked")).unwrap_or_default()
    }

    #[tokio::test]
    async fn logins_in_the_file_are_used_and_followed_when_they_change() {
        let (folder, config) = configuration(&json!({"auths": {
            "quay.io": {"auth": "bWU6cGFzcw=="}, "https://index.docker.io/v1/": {"username": "hub", "password": "p"},
            "token.example": {"identitytoken": "t"}}}));
        assert_eq!(users(&shown(&config, "quay.io").await), ["me"]);
        assert_eq!(users(&shown(&config, "docker.io").await), ["hub"]);
        assert!(shown(&config, "token.example").await.credentials[0].identity_token.is_some());
        assert_eq!(users(&shown(&config, "other.example").await), [""; 0]);
        fs::write(folder.path().join("config.json"), r#"{"auths": null}"#).unwrap();
        assert_eq!(users(&shown(&config, "quay.io").await), [""; 0]);
    }

    #[tokio::test]
    async fn helper_is_asked_once_for_the_registries_that_are_wanted() {
        let (folder, config) =
            configuration(&json!({"credsStore": "fake", "auths": {"https://index.docker.io/v1/": {}}}));
        for _ in 0..2 {
            let shown = shown(&config, "docker.io").await;
            assert_eq!(users(&shown), ["helped"]);
            assert_eq!(shown.credentials[0].password.expose_secret(), "helper-secret");
        }
        let shown = shown(&config, "unknown.example").await;
        assert_eq!((users(&shown).len(), shown.trouble), (0, None));
        assert_eq!(asked(&folder), "get https://index.docker.io/v1/\nget unknown.example\n");
    }

    #[tokio::test]
    async fn helper_of_a_registry_is_asked_in_place_of_the_common_one() {
        let (folder, config) = configuration(&json!({"credsStore": "missing", "credHelpers": {"quay.io": "fake"}}));
        assert_eq!(users(&shown(&config, "quay.io").await), ["helped"]);
        let trouble = shown(&config, "token.example").await.trouble.unwrap();
        assert!(trouble.contains("docker-credential-missing cannot be run"), "{trouble}");
        assert_eq!(asked(&folder), "get quay.io\n");
        let advice = shown(&config, "token.example").await.advice("token.example");
        assert!(advice.starts_with("log in with: docker login token.example; "), "{advice}");
    }

    #[tokio::test]
    async fn helper_may_give_an_identity_token() {
        let (_folder, config) = configuration(&json!({"credsStore": "fake"}));
        let shown = shown(&config, "token.example").await;
        assert_eq!(shown.credentials[0].identity_token.as_ref().unwrap().expose_secret(), "helper-secret");
    }

    #[rstest]
    #[case("broken.example", "does not answer with a credential")]
    #[case("failing.example", "fails: the vault is closed")]
    #[case("endless.example", "answers with more than 64 KiB")]
    #[tokio::test]
    async fn helper_that_fails_leaves_the_file_in_use_and_says_so(#[case] registry: &str, #[case] expected: &str) {
        let login = json!({"username": "me", "password": "p"});
        let (_folder, config) = configuration(&json!({"credsStore": "fake", "auths": {(registry): login}}));
        let shown = shown(&config, registry).await;
        let trouble = shown.trouble.as_deref().unwrap();
        assert!(trouble.contains(expected) && !trouble.contains("secret"), "{trouble}");
        assert_eq!(users(&shown), ["me"]);
    }

    /// Time stands still but for waits: a helper that never answers is given up at once.
    #[tokio::test(start_paused = true)]
    async fn helper_that_is_silent_is_given_up() {
        let (_folder, config) = configuration(&json!({"credsStore": "fake"}));
        let trouble = shown(&config, "silent.example").await.trouble.unwrap();
        assert!(trouble.ends_with("does not answer within 10 s"), "{trouble}");
    }

    #[tokio::test]
    async fn missing_file_is_an_empty_keyring_and_a_broken_one_is_named() {
        let (folder, config) = configuration(&json!({"auths": 7}));
        let error = config.keyring().await.unwrap_err().to_string();
        assert!(error.contains("config.json cannot be used: it is not in the form"), "{error}");
        fs::write(folder.path().join("config.json"), r#"{"credsStore": "../evil"}"#).unwrap();
        let error = config.keyring().await.unwrap_err().to_string();
        assert!(error.contains(r#"credential helper "../evil""#), "{error}");
        assert!(DockerConfig::at(folder.path().to_owned()).keyring().await.unwrap_err().to_string().contains("read"));
        fs::remove_file(folder.path().join("config.json")).unwrap();
        assert!(config.keyring().await.unwrap().is_empty());
    }

    #[test]
    fn usual_place_is_that_of_docker() {
        let place = |set: &[(&str, &str)]| {
            let found = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into());
            DockerConfig::usual(found).map(|config| config.path.display().to_string())
        };
        assert_eq!(place(&[("DOCKER_CONFIG", "/d"), ("HOME", "/h")]).as_deref(), Some("/d/config.json"));
        assert_eq!(place(&[("DOCKER_CONFIG", ""), ("HOME", "/h")]).as_deref(), Some("/h/.docker/config.json"));
        assert_eq!(place(&[]), None);
    }

    #[tokio::test]
    async fn nothing_secret_is_printed() {
        let (_folder, config) = configuration(&json!({"credsStore": "fake", "auths": {
            "quay.io": {"username": "me", "password": "file-secret"}, "token.example": {"identitytoken": "file-secret"}}}));
        for registry in ["quay.io", "token.example"] {
            let printed = format!("{config:?} {:?} {:?}", config.keyring().await, shown(&config, registry).await);
            assert!(!printed.contains("-secret"), "{printed}");
        }
    }
}

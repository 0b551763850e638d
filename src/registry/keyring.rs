//! The credentials of one tenant, and which of them a repository is shown.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::helper::Helper;
use crate::glob::glob;
use crate::reference::{HUB, is_hub};

/// As what Docker logs in to Docker Hub.
const HUB_LOGIN: &str = "https://index.docker.io/v1/";

/// The credentials of one tenant. Empty, nothing is shown to anybody.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    /// Longest first.
    entries: Vec<Entry>,
    /// Those of a single registry first.
    helpers: Vec<Keeper>,
    /// It is that of the user of this machine, and no namespace's.
    is_of_user: bool,
    tenant: Arc<str>,
}

#[derive(Clone, Debug)]
struct Entry {
    host: String,
    path: String,
    credential: Credential,
}

/// A program that keeps credentials.
#[derive(Clone, Debug)]
struct Keeper {
    /// `None`: of all registries for which there is no other.
    registry: Option<String>,
    helper: Arc<Helper>,
    /// As what registries are known to it.
    logins: Arc<[String]>,
}

/// What one repository may be shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// The best first.
    pub(super) credentials: Vec<Credential>,
    /// Why a program that may have more gives none.
    pub(super) trouble: Option<String>,
    is_of_user: bool,
    /// For whom something is asked.
    pub(super) tenant: Arc<str>,
}

/// What is shown to a registry. Its secret is not printed.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Name of the user.
    pub user: String,
    /// Password.
    pub password: SecretString,
    /// A token to get tokens with, in place of the password.
    pub identity_token: Option<SecretString>,
}

/// Why credentials cannot be read. Says nothing of what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// It is no JSON of the expected form.
    #[error("it is not in the form of Docker's configuration")]
    Form,
    /// The `auth` of an entry is not `user:password` in base64.
    #[error("the auth of an entry is not user:password in base64")]
    Auth,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: Option<BTreeMap<String, Login>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Login {
    username: Option<String>,
    password: Option<String>,
    auth: Option<String>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<String>,
}

impl Keyring {
    /// Of `.dockerconfigjson`, or of Docker's configuration file.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn from_docker_config_json(json: &[u8]) -> Result<Self, KeyringError> {
        let config: Config = serde_json::from_slice(json).map_err(|_| KeyringError::Form)?;
        Self::from_auths(config.auths.unwrap_or_default())
    }

    /// Of `.dockercfg`, which has the entries without anything around them.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn from_dockercfg(json: &[u8]) -> Result<Self, KeyringError> {
        Self::from_auths(serde_json::from_slice(json).map_err(|_| KeyringError::Form)?)
    }

    fn from_auths(auths: BTreeMap<String, Login>) -> Result<Self, KeyringError> {
        let mut keyring = Self::default();
        for (registry, auth) in auths {
            if let Some(credential) = credential(auth)? {
                keyring.add(&registry, credential);
            }
        }
        Ok(keyring)
    }

    /// Adds a credential for a registry: a host, perhaps with port, path, `*` in its labels, or a scheme before it.
    pub fn add(&mut self, registry: &str, credential: Credential) {
        let (host, path) = place(registry);
        self.entries.push(Entry { host: host.to_ascii_lowercase(), path: path.to_owned(), credential });
        self.sort();
    }

    /// It is that of the user of this machine, who logs in to registries.
    pub(super) fn of_user(self) -> Self {
        Self { is_of_user: true, ..self }
    }

    /// What is asked with it is asked for that namespace, and has its share of what is limited.
    #[must_use]
    pub fn of_tenant(self, namespace: &str) -> Self {
        Self { tenant: namespace.into(), ..self }
    }

    /// Adds a program that keeps credentials for a registry, or for all for which no other does. `logins` are the
    /// registries that it may know, as they were written at the login.
    pub(super) fn add_helper(&mut self, registry: Option<&str>, helper: Arc<Helper>, logins: &[String]) {
        let registry = registry.map(|registry| place(registry).0.to_ascii_lowercase());
        self.helpers.push(Keeper { registry, helper, logins: logins.into() });
        self.helpers.sort_by_key(|keeper| keeper.registry.is_none());
    }

    /// Takes in what another of the same tenant has. Of equal entries those that were there first come first.
    pub fn merge(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.sort();
        self.helpers.extend(other.helpers);
        self.helpers.sort_by_key(|keeper| keeper.registry.is_none());
    }

    fn sort(&mut self) {
        let has_star = |entry: &Entry| entry.host.contains(['*', '?']);
        self.entries.sort_by(|a, b| b.path.len().cmp(&a.path.len()).then_with(|| has_star(a).cmp(&has_star(b))));
    }

    /// The credentials for a repository of a registry; a program that may have some is asked for them.
    pub(super) async fn shown(&self, registry: &str, repository: &str) -> Shown {
        let registry = if is_hub(registry) { HUB } else { registry };
        let mut shown = Shown { is_of_user: self.is_of_user, tenant: Arc::clone(&self.tenant), ..Shown::default() };
        let keeps = |keeper: &&Keeper| keeper.registry.as_deref().is_none_or(|kept| kept == registry);
        if let Some(keeper) = self.helpers.iter().find(keeps) {
            match keeper.helper.get(keeper.login(registry)).await {
                Ok(credential) => shown.credentials.extend(credential),
                Err(trouble) => shown.trouble = Some(trouble),
            }
        }
        shown.credentials.extend(self.lookup(registry, repository).cloned());
        shown
    }

    /// The credentials on it for a repository of a registry, the best first.
    pub fn lookup<'a>(&'a self, registry: &'a str, repository: &'a str) -> impl Iterator<Item = &'a Credential> {
        let registry = if is_hub(registry) { HUB } else { registry };
        let fits = move |entry: &&Entry| is_host(&entry.host, registry) && repository.starts_with(&entry.path);
        self.entries.iter().filter(fits).map(|entry| &entry.credential)
    }

    /// There is nothing on it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.helpers.is_empty()
    }
}

impl Shown {
    /// What to do about a registry that wants other credentials.
    pub(super) fn advice(&self, registry: &str) -> String {
        let advice = if self.is_of_user {
            format!("log in with: docker login {registry}")
        } else {
            format!("put a pull secret for {registry} into the namespace")
        };
        self.trouble.as_ref().map_or_else(|| advice.clone(), |trouble| format!("{advice}; {trouble}"))
    }
}

impl Keeper {
    /// The name under which the program knows a registry.
    fn login<'a>(&'a self, registry: &'a str) -> &'a str {
        let unknown = if registry == HUB { HUB_LOGIN } else { registry };
        let is_it = |login: &&String| {
            let (host, path) = place(login);
            host.eq_ignore_ascii_case(registry) && path.is_empty()
        };
        self.logins.iter().find(is_it).map_or(unknown, String::as_str)
    }
}

impl Credential {
    /// A user and a password.
    #[must_use]
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: password.into(), identity_token: None }
    }

    /// `user:password` in base64, as HTTP wants it.
    pub(super) fn basic(&self) -> String {
        STANDARD.encode(format!("{}:{}", self.user, self.password.expose_secret()))
    }

    /// Tells this credential from every other; the secret is not in it.
    pub(super) fn identity(&self) -> Identity {
        use aws_lc_rs::digest::{Context, SHA256};
        let mut context = Context::new(&SHA256);
        let token = self.identity_token.as_ref().map_or("", |token| token.expose_secret());
        for part in [self.user.as_str(), self.password.expose_secret(), token] {
            context.update(&part.len().to_le_bytes());
            context.update(part.as_bytes());
        }
        Identity(context.finish().as_ref().to_vec())
    }
}

/// Tells one credential from another.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Identity(Vec<u8>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

fn credential(auth: Login) -> Result<Option<Credential>, KeyringError> {
    let identity_token = auth.identity_token.filter(|token| !token.is_empty()).map(SecretString::from);
    let (user, password) = match auth.auth.filter(|auth| !auth.is_empty()) {
        Some(encoded) => {
            let decoded = STANDARD.decode(encoded.trim()).map_err(|_| KeyringError::Auth)?;
            let decoded = String::from_utf8(decoded).map_err(|_| KeyringError::Auth)?;
            let (user, password) = decoded.split_once(':').ok_or(KeyringError::Auth)?;
            (user.to_owned(), password.trim_end_matches('\0').to_owned())
        }
        None => (auth.username.unwrap_or_default(), auth.password.unwrap_or_default()),
    };
    if user.is_empty() && identity_token.is_none() {
        return Ok(None);
    }
    Ok(Some(Credential { user, password: password.into(), identity_token }))
}

/// Host and path of a registry as logins have it: perhaps with a scheme, or the name of an API behind it.
fn place(registry: &str) -> (&str, &str) {
    let without_scheme = registry.split_once("://").map_or(registry, |(_, rest)| rest);
    let (host, path) = without_scheme.split_once('/').unwrap_or((without_scheme, ""));
    let path = path.trim_end_matches('/');
    let path = if path == "v1" || path == "v2" { "" } else { path };
    (if is_hub(host) { HUB } else { host }, path)
}

/// Label by label, ports alike: `*.example.com` is `a.example.com` and not `a.b.example.com`.
fn is_host(pattern: &str, host: &str) -> bool {
    let (pattern, pattern_port) = pattern.split_once(':').unwrap_or((pattern, ""));
    let (host, port) = host.split_once(':').unwrap_or((host, ""));
    let (patterns, labels): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), host.split('.').collect());
    pattern_port == port
        && patterns.len() == labels.len()
        && patterns.iter().zip(labels).all(|(pattern, label)| glob(pattern, label))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    /// Each entry's user is what it was added for.
    fn keyring(registries: &[&str]) -> Keyring {
        let mut keyring = Keyring::default();
        for registry in registries {
            keyring.add(registry, Credential::new(registry, "secret"));
        }
        keyring
    }

    #[rstest]
    #[case(&["quay.io"], "quay.io", "a/b", &["quay.io"])]
    #[case(&["quay.io"], "quay.io.evil.example", "a/b", &[])]
    #[case(&["quay.io"], "quay.io:443", "a/b", &[])]
    #[case(&["host:5000"], "host:5000", "a", &["host:5000"])]
    #[case(&["host:5000"], "host", "a", &[])]
    #[case(&["Quay.IO"], "quay.io", "a/b", &["Quay.IO"])]
    #[case(&["*.example.com"], "a.example.com", "x", &["*.example.com"])]
    #[case(&["*.example.com"], "a.b.example.com", "x", &[])]
    #[case(&["*.example.com"], "example.com", "x", &[])]
    #[case(&["https://index.docker.io/v1/"], "docker.io", "library/x", &["https://index.docker.io/v1/"])]
    #[case(&["quay.io", "quay.io/team", "quay.io/team/app", "*.io"], "quay.io", "team/app",
        &["quay.io/team/app", "quay.io/team", "quay.io", "*.io"])]
    #[case(&["quay.io/other"], "quay.io", "team/app", &[])]
    fn longest_match_comes_first(
        #[case] registries: &[&str],
        #[case] registry: &str,
        #[case] repository: &str,
        #[case] expected: &[&str],
    ) {
        let keyring = keyring(registries);
        let users: Vec<_> = keyring.lookup(registry, repository).map(|found| found.user.as_str()).collect();
        assert_eq!(users, expected);
    }

    #[test]
    fn both_forms_of_secrets_are_read() {
        let auths = json!({"quay.io": {"auth": STANDARD.encode("me:pass:word")},
            "empty.example": {}, "plain.example": {"username": "you", "password": "p"}});
        let modern = Keyring::from_docker_config_json(json!({"auths": auths}).to_string().as_bytes()).unwrap();
        let old = Keyring::from_dockercfg(auths.to_string().as_bytes()).unwrap();
        for keyring in [modern, old] {
            let found = keyring.lookup("quay.io", "a").next().unwrap();
            assert_eq!((found.user.as_str(), found.password.expose_secret()), ("me", "pass:word"));
            assert_eq!(keyring.lookup("plain.example", "a").count(), 1);
            assert_eq!(keyring.lookup("empty.example", "a").count(), 0);
        }
    }

    #[rstest]
    #[case("", KeyringError::Form)]
    #[case("7", KeyringError::Form)]
    #[case(r#"{"auths": {"a": {"auth": "?"}}}"#, KeyringError::Auth)]
    #[case(r#"{"auths": {"a": {"auth": "YQ=="}}}"#, KeyringError::Auth)]
    fn broken_secret_says_so_and_nothing_of_its_content(#[case] json: &str, #[case] expected: KeyringError) {
        assert_eq!(Keyring::from_docker_config_json(json.as_bytes()).unwrap_err(), expected);
    }

    #[test]
    fn secret_makes_no_program_run() {
        let config = json!({"auths": {}, "credsStore": "evil", "credHelpers": {"quay.io": "evil"}});
        assert!(Keyring::from_docker_config_json(config.to_string().as_bytes()).unwrap().is_empty());
    }

    #[test]
    fn secrets_are_not_printed_and_tell_credentials_apart() {
        let (one, two) = (Credential::new("u", "secret"), Credential::new("u", "other"));
        assert!(!format!("{one:?}").contains("secret"));
        assert!(one.identity() != two.identity() && one.identity() == one.clone().identity());
    }
}

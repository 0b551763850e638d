//! The registries that content comes from: asked one after the other, with the credentials of one namespace.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use tokio::time::Instant;

use super::recent::Recent;
use crate::digest::Digest;
use crate::metrics::UpstreamMetrics;
use crate::mirror::PullError;
use crate::mirror::catalogue::Origin;
use crate::mirror::storage::Grant;
use crate::registry::{Address, Client, FetchError, Form, Keyring, Reason, Retry};
use crate::store::home::Home;

/// How long a repository is asked last that sent something else than what was asked for.
const DISTRUST: Duration = Duration::from_mins(10);
/// How many such cases are remembered.
const DISTRUSTED_MAX: usize = 1000;

/// For whom something is fetched, and from where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source {
    pub(super) namespace: Box<str>,
    pub(super) origins: Vec<Origin>,
}

/// Which repository gave something, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Giver {
    /// By its [`identity`]; empty if several sent a part each.
    repository: Box<str>,
    /// It gives it to everybody.
    pub(super) is_public: bool,
}

/// The registries that content comes from.
pub(super) struct Upstream<H> {
    pub(super) client: Arc<Client>,
    home: Arc<H>,
    pub(super) metrics: UpstreamMetrics,
    distrusted: Recent<(Digest, Box<str>), Instant>,
}

impl<H: Home> Upstream<H> {
    pub(super) fn new(client: Arc<Client>, home: Arc<H>, metrics: UpstreamMetrics) -> Self {
        Self { client, home, metrics, distrusted: Recent::new(DISTRUSTED_MAX) }
    }

    /// The credentials of a namespace.
    pub(super) async fn keyring(&self, namespace: &str) -> Result<Keyring, FetchError> {
        let keyring = self.home.keyring(namespace).await.map(|keyring| keyring.of_tenant(namespace));
        keyring.map_err(|error| {
            let message = format!("the credentials of namespace {namespace} cannot be read: {error}");
            FetchError { reason: Reason::InternalError, message, retry: Retry::Later }
        })
    }

    /// A manifest.
    pub(super) async fn manifest(&self, source: &Source, digest: &Digest) -> Result<(Bytes, Giver), FetchError> {
        let keyring = self.keyring(&source.namespace).await?;
        let mut trouble = None;
        for origin in self.in_order(&source.origins, digest) {
            match self.client.manifest_bytes(&origin.repository, digest, origin.insecure, &keyring).await {
                Ok(sent) => return Ok((sent.bytes, Giver::new(&origin, sent.is_public))),
                Err(error) => {
                    self.failed(&source.namespace, &error);
                    trouble = Some(worse(trouble, error));
                }
            }
        }
        Err(trouble.unwrap_or_else(|| nowhere(digest)))
    }

    /// The first of these repositories that would give something of that size. One that does not say so is passed over:
    /// what it thinks is found out by whoever fetches from it.
    pub(super) async fn giver(&self, source: &Source, form: Form, content: (&Digest, u64)) -> Option<Giver> {
        let keyring = self.keyring(&source.namespace).await.ok()?;
        for origin in &source.origins {
            let repository = (&*origin.repository, origin.insecure);
            match self.client.would_give(repository, form, content, &keyring).await {
                Ok(Some(is_public)) => return Some(Giver::new(origin, is_public)),
                Ok(None) => {}
                Err(error) => tracing::debug!(digest = %content.0, %error, "it is not said that it may be had"),
            }
        }
        None
    }

    /// A repository did not give what it was asked for.
    pub(super) fn failed(&self, namespace: &str, error: &FetchError) {
        self.metrics.failed(&error.reason.to_string());
        if matches!(error.reason, Reason::Unauthorized | Reason::Forbidden) {
            self.home.keyring_was_refused(namespace);
        }
    }

    /// What these repositories sent was something else.
    pub(super) fn distrust(&self, repositories: HashSet<Box<str>>, digest: &Digest) {
        for repository in repositories {
            self.distrusted.put((digest.clone(), repository), Instant::now() + DISTRUST, 1);
        }
    }

    /// Those last that sent something else lately.
    pub(super) fn in_order(&self, origins: &[Origin], digest: &Digest) -> Vec<Origin> {
        let now = Instant::now();
        let is_distrusted = |origin: &Origin| {
            self.distrusted.get(&(digest.clone(), origin.repository.clone())).is_some_and(|until| now < until)
        };
        let mut origins = origins.to_vec();
        origins.sort_by_key(is_distrusted);
        origins
    }
}

impl Giver {
    pub(super) fn new(origin: &Origin, is_public: bool) -> Self {
        Self { repository: identity(origin).into(), is_public }
    }

    /// What is written down of it.
    pub(super) fn grant<'a>(&'a self, namespace: &'a str) -> Grant<'a> {
        if self.is_public { Grant::Public } else { Grant::To { namespace, repository: &self.repository } }
    }

    /// Both sent a part.
    pub(super) fn and(self, other: &Self) -> Self {
        let is_same = self.repository == other.repository;
        let repository = if is_same { self.repository } else { Box::default() };
        Self { repository, is_public: self.is_public && other.is_public }
    }
}

/// A repository, the same for all spellings. By an insecure way it is another, as anybody could be there.
pub(super) fn identity(origin: &Origin) -> String {
    let repository = Address::of(&origin.repository).map_or_else(
        |_| origin.repository.to_string(),
        |address| format!("{}/{}", address.registry, address.repository),
    );
    if origin.insecure { format!("{repository} insecure") } else { repository }
}

impl From<FetchError> for PullError {
    fn from(error: FetchError) -> Self {
        let message = error.message;
        match (error.reason, error.retry) {
            (Reason::TooManyRequests, Retry::After(after)) => Self::TooManyRequests { message, after: Some(after) },
            (Reason::TooManyRequests, _) => Self::TooManyRequests { message, after: None },
            _ => Self::Upstream(message),
        }
    }
}

/// No repository is known to ask.
pub(super) fn nowhere(digest: &Digest) -> FetchError {
    let message = format!("{digest} is not kept here, and no repository is known that has it");
    FetchError { reason: Reason::NotFound, message, retry: Retry::Never }
}

/// Of two that failed, what whoever asked is told: to ask later, before that something is wrong, before that it is not
/// there.
pub(super) fn worse(before: Option<FetchError>, error: FetchError) -> FetchError {
    let rank = |error: &FetchError| match error.reason {
        Reason::TooManyRequests => 0,
        Reason::NotFound => 2,
        _ => 1,
    };
    match before {
        Some(before) if rank(&before) <= rank(&error) => before,
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_is_only_what_every_part_was_and_nobody_gave_what_several_sent() {
        let origin = |repository: &str, insecure| Origin { repository: repository.into(), insecure };
        let giver = |repository, is_public| Giver::new(&origin(repository, false), is_public);
        assert_eq!(giver("q.io/a", true).and(&giver("q.io/a", false)), giver("q.io/a", false));
        assert_eq!(giver("q.io/a", true).and(&giver("q.io/b", true)), Giver { repository: "".into(), is_public: true });
        assert_eq!(giver("nginx", true), giver("docker.io/library/nginx", true));
        assert_ne!(identity(&origin("q.io/a", false)), identity(&origin("q.io/a", true)));
    }

    #[test]
    fn who_may_ask_later_is_told_so() {
        let error = |reason, retry| FetchError { reason, message: format!("{reason}"), retry };
        let absent = error(Reason::NotFound, Retry::Later);
        let broken = error(Reason::Timeout, Retry::Later);
        let limited = error(Reason::TooManyRequests, Retry::After(Duration::from_secs(7)));
        assert_eq!(worse(None, absent.clone()), absent);
        assert_eq!(worse(Some(absent.clone()), broken.clone()), broken);
        assert_eq!(worse(Some(broken.clone()), absent), broken);
        assert_eq!(worse(Some(broken), limited.clone()), limited);
        let told =
            PullError::TooManyRequests { message: "TooManyRequests".into(), after: Some(Duration::from_secs(7)) };
        assert_eq!(PullError::from(limited), told);
    }
}

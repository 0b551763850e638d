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
use crate::registry::{Client, FetchError, Keyring, Reason, Retry};
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
        self.home.keyring(namespace).await.map_err(|error| {
            let message = format!("the credentials of namespace {namespace} cannot be read: {error}");
            FetchError { reason: Reason::InternalError, message, retry: Retry::Later }
        })
    }

    /// A manifest.
    pub(super) async fn manifest(&self, source: &Source, digest: &Digest) -> Result<Bytes, FetchError> {
        let keyring = self.keyring(&source.namespace).await?;
        let mut trouble = None;
        for origin in self.in_order(&source.origins, digest) {
            match self.client.manifest_bytes(&origin.repository, digest, origin.insecure, &keyring).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => {
                    self.failed(&source.namespace, &error);
                    trouble = Some(worse(trouble, error));
                }
            }
        }
        Err(trouble.unwrap_or_else(|| nowhere(digest)))
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

//! Who may pull: everyone, those whose passwords are in a file, or those whom a cluster lets.
//!
//! Credentials are never logged and never kept; what was decided about them lately is kept by their digest.

mod anonymous;
mod cluster;
mod credentials;
mod kept;
mod passwords;

use std::fmt;

pub use anonymous::Anonymous;
pub use cluster::{Reviewer, Reviews};
pub use credentials::Credentials;
pub use passwords::{KeptPasswords, Passwords, PasswordsError};

use crate::metrics::PullMetrics;
use crate::stream::Key;

/// Why somebody may not pull.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody may pull that without saying who it is.
    #[error("authentication is required")]
    NoCredentials,
    /// Nobody is known by these.
    #[error("the credentials are not valid")]
    BadCredentials,
    /// Somebody who is known may not.
    #[error("{0} may not pull {1}: that needs the verb get on imagestreams/layers in the namespace")]
    Denied(String, Key),
    /// Nobody can decide now.
    #[error("it cannot be decided who may pull: {0}")]
    Unavailable(String),
}

/// Who decides about those who show credentials.
pub enum Judge<R: Reviewer> {
    /// Everybody may pull everything.
    Everyone,
    /// Whoever is in a file may pull everything.
    Passwords(Passwords),
    /// The cluster.
    Cluster(Box<Reviews<R>>),
}

/// How a client is told to show credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// There is no need to.
    Nothing,
    /// User and password.
    Basic,
    /// A token, which it gets for user and password.
    Token,
}

/// Who may pull.
pub struct Access<R: Reviewer> {
    anonymous: Anonymous,
    judge: Judge<R>,
    metrics: PullMetrics,
}

impl<R: Reviewer> Access<R> {
    /// Nobody is asked anything yet.
    #[must_use]
    pub fn new(anonymous: Anonymous, judge: Judge<R>, metrics: PullMetrics) -> Self {
        Self { anonymous, judge, metrics }
    }

    /// How credentials are shown.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        match self.judge {
            Judge::Everyone => Scheme::Nothing,
            Judge::Passwords(_) => Scheme::Basic,
            Judge::Cluster(_) => Scheme::Token,
        }
    }

    /// Whether the credentials are good at all.
    ///
    /// # Errors
    /// [`Refusal`], but for [`Refusal::Denied`].
    pub async fn is_known(&self, credentials: &Credentials) -> Result<(), Refusal> {
        match (&self.judge, credentials) {
            (Judge::Everyone, _) => Ok(()),
            (_, Credentials::None) => Err(Refusal::NoCredentials),
            (Judge::Passwords(passwords), shown) => passwords.check(shown).await,
            (Judge::Cluster(reviews), shown) => reviews.identify(shown).await.map(|_| ()),
        }
    }

    /// Whether a stream may be pulled with these credentials.
    ///
    /// # Errors
    /// [`Refusal`], which was logged.
    pub async fn may_pull(&self, credentials: &Credentials, stream: &Key) -> Result<(), Refusal> {
        let (decision, verdict) = if matches!(self.judge, Judge::Everyone) || self.anonymous.covers(&stream.namespace) {
            ("anonymous", Ok(()))
        } else {
            let verdict = self.decide(credentials, stream).await;
            (verdict.as_ref().map_or_else(Refusal::label, |()| "allowed"), verdict)
        };
        self.metrics.access.with_label_values(&[decision]).inc();
        if let Err(refusal) = &verdict {
            refusal.log(stream);
        }
        verdict
    }

    async fn decide(&self, credentials: &Credentials, stream: &Key) -> Result<(), Refusal> {
        match (&self.judge, credentials) {
            (Judge::Everyone, _) => Ok(()),
            (_, Credentials::None) => Err(Refusal::NoCredentials),
            (Judge::Passwords(passwords), shown) => passwords.check(shown).await,
            (Judge::Cluster(reviews), shown) => reviews.may_pull(shown, stream).await,
        }
    }
}

impl Refusal {
    /// What metrics call it.
    fn label(&self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::BadCredentials => "bad_credentials",
            Self::Denied(..) => "denied",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// One line for those who look after access. That credentials are asked for is how every pull begins.
    fn log(&self, stream: &Key) {
        match self {
            Self::NoCredentials => tracing::debug!(%stream, "pull without credentials, they are asked for"),
            Self::BadCredentials => tracing::info!(%stream, reason = %self, "pull refused"),
            Self::Denied(who, _) => tracing::warn!(%stream, who, reason = "not allowed", "pull refused"),
            Self::Unavailable(error) => tracing::warn!(%stream, error, "pull refused, nobody can decide"),
        }
    }
}

impl<R: Reviewer> fmt::Debug for Access<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("anonymous", &self.anonymous).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

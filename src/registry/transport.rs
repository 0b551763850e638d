//! Requests to registries: with which credentials, how often, over which scheme. Knows nothing of manifests.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntCounterVec;
use reqwest::header::WWW_AUTHENTICATE;
use reqwest::{Method, StatusCode, Url};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::address::Address;
use super::challenge::{self, Challenge};
use super::connection::{Answer, Budget, Connections, Request, SetupError, Take};
use super::failure::Failure;
use super::kept::{Kept, Lasting};
use super::keyring::{Credential, Shown};
use super::tokens::{Authorization, TokenKey, Tokens};
use super::{FetchError, Reason, Retry, Settings};

/// How often a request is sent that fails for a reason that passes.
const ATTEMPTS: u32 = 3;
/// How many insecure registries are remembered to speak plain HTTP.
const PLAIN_MAX: usize = 1000;
/// For how long: then one may have got TLS.
const PLAIN_LASTS: Duration = Duration::from_hours(1);

/// Whom to ask, and for whom.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) address: &'a Address,
    pub(super) insecure: bool,
    pub(super) session: &'a Session,
}

/// What the requests for one image have in common.
pub(super) struct Session {
    pub(super) shown: Shown,
    pub(super) budget: Budget,
    /// Which of the credentials was accepted last; the one behind the last means none.
    accepted: AtomicUsize,
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) method: &'a Method,
    /// Path and query behind `/v2/<repository>/`.
    pub(super) path: &'a str,
    pub(super) accept: &'a str,
    pub(super) take: Take,
}

/// The way to all registries.
pub(super) struct Transport {
    connections: Connections,
    tokens: Tokens,
    /// Insecure registries that speak plain HTTP.
    plain: Mutex<Kept<String, ()>>,
    retry_wait: Duration,
    random: RandomState,
}

impl Session {
    pub(super) fn new(shown: Shown, whole: Duration) -> Self {
        let budget = Budget::new(shown.tenant.clone(), whole);
        Self { shown, budget, accepted: AtomicUsize::new(0) }
    }
}

impl Transport {
    /// Nobody is asked yet. `requests` counts by class of answer.
    pub(super) fn new(settings: &Settings, requests: IntCounterVec) -> Result<Self, SetupError> {
        Ok(Self {
            connections: Connections::new(settings, requests)?,
            tokens: Tokens::new(),
            plain: Mutex::new(Kept::new(PLAIN_MAX)),
            retry_wait: settings.retry_wait,
            random: RandomState::new(),
        })
    }

    /// Waits for a place among the downloads from a host.
    pub(super) async fn place(&self, host: &str) -> Option<OwnedSemaphorePermit> {
        self.connections.place(host).await
    }

    /// Sends a request with the best credentials that are accepted, without any last, and reads the answer. What was
    /// accepted before comes first, so that nobody is shown again and again what was refused.
    pub(super) async fn send(&self, ask: Ask<'_>, wish: Wish<'_>) -> Result<Answer, FetchError> {
        let credentials = &ask.session.shown.credentials;
        let first = ask.session.accepted.load(Ordering::Relaxed);
        let mut refused = None;
        for index in (first..=credentials.len()).chain(0..first) {
            let answer = self.send_as(ask, wish, credentials.get(index)).await?;
            if !is_refusal(&answer) {
                ask.session.accepted.store(index, Ordering::Relaxed);
                return Ok(answer);
            }
            refused.get_or_insert(answer);
        }
        refused.ok_or_else(|| FetchError::new(Reason::InternalError, Retry::Later, "nobody was asked"))
    }

    /// Without credentials first; they are only shown to a registry that asks for them.
    async fn send_as(
        &self,
        ask: Ask<'_>,
        wish: Wish<'_>,
        credential: Option<&Credential>,
    ) -> Result<Answer, FetchError> {
        let key = TokenKey::new(ask, credential);
        let tried = self.tokens.known(&key);
        let answer = self.send_with(ask, wish, tried.as_ref()).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            // A token that was got without credentials is as good as none.
            return Ok(Answer { is_public: credential.is_none() || tried.is_none(), ..answer });
        }
        if let Some(tried) = &tried {
            self.tokens.forget(&key, tried);
        }
        // Another request may have got one meanwhile.
        let authorization = match self.tokens.known(&key) {
            Some(known) => Some(known),
            None => match challenge_of(&answer) {
                Some(challenge) => self.tokens.meet(&self.connections, ask, &challenge, credential).await?,
                None => None,
            },
        };
        let Some(authorization) = authorization else { return Ok(answer) };
        let again = self.send_with(ask, wish, Some(&authorization)).await?;
        if !is_refusal(&again) {
            self.tokens.accept(key, authorization);
        }
        Ok(Answer { is_public: credential.is_none(), ..again })
    }

    /// Sends a request with these credentials, and again if what is wrong passes.
    async fn send_with(
        &self,
        ask: Ask<'_>,
        wish: Wish<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<Answer, FetchError> {
        let mut attempt = 1;
        loop {
            let sent = self.over_any_scheme(ask, wish, authorization).await;
            let passes = match &sent {
                Ok(answer) => matches!(answer.status.as_u16(), 500 | 502 | 503 | 504) && answer.limited().is_none(),
                Err(failure) => matches!(failure, Failure::Broken(_) | Failure::Cut(_)),
            };
            if !passes || attempt == ATTEMPTS {
                return sent.map_err(|failure| failure.told(&ask.address.host, "the registry"));
            }
            self.pause(attempt).await;
            attempt += 1;
        }
    }

    /// Waits before what failed for that many times is tried again.
    pub(super) async fn pause(&self, attempt: u32) {
        let share = u32::try_from(self.random.hash_one(Instant::now()) % 1000).unwrap_or_default();
        tokio::time::sleep(self.retry_wait * 2_u32.saturating_pow(attempt - 1) * (500 + share) / 1000).await;
    }

    /// HTTPS; where that fails and an insecure way is accepted, HTTP.
    async fn over_any_scheme(
        &self,
        ask: Ask<'_>,
        wish: Wish<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<Answer, Failure> {
        let host = &ask.address.host;
        if !ask.insecure || self.plain().get(host, Instant::now()).is_none() {
            match self.over("https", ask, wish, authorization).await {
                Err(Failure::Broken(_) | Failure::Handshake(_)) if ask.insecure => {}
                sent => return sent,
            }
        }
        let sent = self.over("http", ask, wish, authorization).await;
        self.remember_plain(host, sent.is_ok());
        sent
    }

    async fn over(
        &self,
        scheme: &str,
        ask: Ask<'_>,
        wish: Wish<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<Answer, Failure> {
        let text = format!("{scheme}://{}/v2/{}/{}", ask.address.host, ask.address.repository, wish.path);
        let request = Request {
            method: wish.method.clone(),
            url: Url::parse(&text).map_err(|error| Failure::Refused(format!("has no URL, {text}: {error}")))?,
            authorization: authorization.map(Authorization::value),
            shown: authorization.and_then(Authorization::identity),
            accept: wish.accept,
            form: None,
            take: wish.take,
            insecure: ask.insecure,
        };
        self.connections.exchange(request, &ask.session.budget).await
    }

    /// A host spoke plain HTTP, or did not.
    fn remember_plain(&self, host: &str, is_plain: bool) {
        let now = Instant::now();
        let mut plain = self.plain();
        // Until an hour after it was found, however often it is used.
        if !is_plain {
            plain.remove(&host.to_owned());
        } else if plain.get(&host.to_owned(), now).is_none() {
            plain.put(host.to_owned(), Lasting { value: (), weight: 1, until: now + PLAIN_LASTS }, now);
        }
    }

    fn plain(&self) -> MutexGuard<'_, Kept<String, ()>> {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_refusal(answer: &Answer) -> bool {
    answer.status == StatusCode::UNAUTHORIZED || answer.status == StatusCode::FORBIDDEN
}

/// What the registry wants to be shown: a token rather than a password.
fn challenge_of(answer: &Answer) -> Option<Challenge> {
    let headers = answer.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let mut challenges: Vec<_> = headers.filter_map(challenge::parse).collect();
    challenges.sort_by_key(|challenge| *challenge == Challenge::Basic);
    challenges.into_iter().next()
}

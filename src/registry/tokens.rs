//! What meets the challenge of a registry: user and password, or a token from the server that the registry names.
//!
//! A token is kept for the credential with which it was got, and never shown for another.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::challenge::Challenge;
use super::connection::{Answer, Connections, Request, Take, host_of};
use super::failure::Failure;
use super::flights::Flights;
use super::kept::{Kept, Lasting};
use super::keyring::{Credential, Identity};
use super::transport::Ask;
use super::{FetchError, Reason, Retry};

/// Whom people are told of.
const TOKEN_SERVER: &str = "the token server";
/// The most bytes of a token server's answer.
const ANSWER_MAX: usize = 64 << 10;
/// The most bytes of a token: it is sent with every request, and servers take no longer headers.
const TOKEN_MAX: usize = 16 << 10;
/// The most bytes of all that was accepted and is kept.
const ACCEPTED_MAX: usize = 4 << 20;
/// What is taken beside the texts of one of those.
const BESIDE: usize = 256;
/// How long a token is used whose server does not say (as Docker's tokens).
const LASTS: Duration = Duration::from_mins(1);
/// How long any token is used.
const LASTS_MAX: Duration = Duration::from_hours(1);
/// A token is not used in its last moments.
const MARGIN: Duration = Duration::from_secs(5);
/// How long it is remembered that user and password are wanted.
const BASIC_LASTS: Duration = Duration::from_mins(10);

/// For whom a token is: host, repository, credential, and whether the way is insecure.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct TokenKey {
    host: String,
    repository: String,
    identity: Option<Identity>,
    insecure: bool,
}

/// A value for the header `Authorization`.
#[derive(Clone)]
pub(super) struct Authorization {
    value: SecretString,
    expires: Instant,
    /// With which credential it was got.
    identity: Option<Identity>,
}

type Met = Result<Option<Authorization>, FetchError>;

/// What was accepted lately.
pub(super) struct Tokens {
    accepted: Mutex<Kept<TokenKey, Authorization>>,
    asked: Flights<TokenKey, Met>,
}

impl Authorization {
    fn lasting(value: String, lasts: Duration) -> Self {
        Self { value: value.into(), expires: Instant::now() + lasts.min(LASTS_MAX), identity: None }
    }

    fn got_with(self, credential: Option<&Credential>) -> Self {
        Self { identity: credential.map(Credential::identity), ..self }
    }

    /// Whose it is; nobody's if it was got without credentials.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    pub(super) fn value(&self) -> &str {
        self.value.expose_secret()
    }
}

impl TokenKey {
    pub(super) fn new(ask: Ask<'_>, credential: Option<&Credential>) -> Self {
        Self {
            host: ask.address.host.clone(),
            repository: ask.address.repository.clone(),
            identity: credential.map(Credential::identity),
            insecure: ask.insecure,
        }
    }
}

impl Tokens {
    /// Nothing was accepted yet.
    pub(super) fn new() -> Self {
        Self { accepted: Mutex::new(Kept::new(ACCEPTED_MAX)), asked: Flights::new() }
    }

    /// What was accepted, if it is still good.
    pub(super) fn known(&self, key: &TokenKey) -> Option<Authorization> {
        self.locked().get(key, Instant::now()).cloned()
    }

    /// It was accepted.
    pub(super) fn accept(&self, key: TokenKey, authorization: Authorization) {
        // The key is kept twice.
        let weight = 2 * (key.host.len() + key.repository.len()) + authorization.value().len() + BESIDE;
        let until = authorization.expires;
        self.locked().put(key, Lasting { value: authorization, weight, until }, Instant::now());
    }

    /// It is not accepted any more.
    pub(super) fn forget(&self, key: &TokenKey, refused: &Authorization) {
        let mut accepted = self.locked();
        if accepted.get(key, Instant::now()).is_some_and(|known| known.value() == refused.value()) {
            accepted.remove(key);
        }
    }

    fn locked(&self) -> MutexGuard<'_, Kept<TokenKey, Authorization>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What meets a challenge. `None` if this credential does not.
    pub(super) async fn meet(
        &self,
        connections: &Connections,
        ask: Ask<'_>,
        challenge: &Challenge,
        credential: Option<&Credential>,
    ) -> Met {
        match (challenge, credential) {
            (Challenge::Basic, Some(credential)) => {
                let basic = Authorization::lasting(format!("Basic {}", credential.basic()), BASIC_LASTS);
                Ok(Some(basic.got_with(Some(credential))))
            }
            (Challenge::Basic, None) => Ok(None),
            (Challenge::Bearer { realm, service, scope }, _) => {
                let scope = scope.clone().unwrap_or_else(|| format!("repository:{}:pull", ask.address.repository));
                let wanted = TokenRequest { realm, service: service.as_deref(), scope: &scope, credential };
                let key = TokenKey::new(ask, credential);
                let met = self.asked.share(key, || get(connections, ask, wanted)).await?;
                Ok(met.map(|token| token.got_with(credential)))
            }
        }
    }
}

/// What a token server is asked.
#[derive(Clone, Copy)]
struct TokenRequest<'a> {
    realm: &'a str,
    service: Option<&'a str>,
    scope: &'a str,
    credential: Option<&'a Credential>,
}

/// Gets a token. `None` if the token server refuses.
async fn get(connections: &Connections, ask: Ask<'_>, wanted: TokenRequest<'_>) -> Met {
    let mut url = realm(ask, wanted.realm)?;
    let host = host_of(&url);
    let (mut form, mut basic) = (None, None);
    if let Some(identity) = wanted.credential.and_then(|credential| credential.identity_token.as_ref()) {
        form = Some(encoded(&[
            ("grant_type", "refresh_token"),
            ("client_id", "pinstream"),
            ("refresh_token", identity.expose_secret()),
            ("service", wanted.service.unwrap_or_default()),
            ("scope", wanted.scope),
        ]));
    } else {
        let service = wanted.service.map(|service| ("service", service));
        url.query_pairs_mut().extend_pairs(service).append_pair("scope", wanted.scope);
        basic = wanted.credential.map(|credential| format!("Basic {}", credential.basic()));
    }
    let identity = wanted.credential.map(Credential::identity);
    let request = Request {
        method: if form.is_some() { Method::POST } else { Method::GET },
        url,
        authorization: basic.as_deref(),
        shown: identity.as_ref(),
        accept: "application/json",
        form,
        take: Take::Whole(ANSWER_MAX),
        insecure: ask.insecure,
    };
    let answer = connections
        .exchange(request, &ask.session.budget)
        .await
        .map_err(|failure| failure.told(&host, TOKEN_SERVER))?;
    read(ask, &host, &answer)
}

/// The URL of a token server.
fn realm(ask: Ask<'_>, realm: &str) -> Result<Url, FetchError> {
    let registry = &ask.address.registry;
    let refused = |what: &str| {
        let text = format!("registry {registry} names a token server {what}: {realm:?}");
        FetchError::new(Reason::InternalError, Retry::Later, text)
    };
    let url = Url::parse(realm).map_err(|_| refused("that is no URL"))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if ask.insecure => Ok(url),
        _ => Err(refused("without TLS, which is only used with importPolicy.insecure")),
    }
}

pub(super) fn read(ask: Ask<'_>, host: &str, answer: &Answer) -> Met {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Given {
        token: String,
        access_token: String,
        expires_in: Value,
    }
    let refusals = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::BAD_REQUEST];
    if refusals.contains(&answer.status) {
        return Ok(None);
    }
    if let Some(wait) = answer.limited() {
        return Err(Failure::Limited(wait).told(host, TOKEN_SERVER));
    }
    let failed = |what: String| {
        let text = format!("token server {host} of registry {} answers {what}", ask.address.registry);
        FetchError::new(Reason::InternalError, Retry::Later, text)
    };
    if !answer.status.is_success() {
        return Err(failed(answer.status.as_str().to_owned()));
    }
    let given: Given = serde_json::from_slice(&answer.body).map_err(|_| failed("with no token".to_owned()))?;
    let text = if given.token.is_empty() { given.access_token } else { given.token };
    if text.is_empty() {
        return Err(failed("with an empty token".to_owned()));
    }
    if text.len() > TOKEN_MAX {
        return Err(failed(format!("with a token of more than {} KiB", TOKEN_MAX >> 10)));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(failed("with a token that no header can have".to_owned()));
    }
    let lasts = given.expires_in.as_u64().map_or(LASTS, Duration::from_secs);
    Ok(Some(Authorization::lasting(format!("Bearer {text}"), lasts.saturating_sub(MARGIN))))
}

fn encoded(fields: &[(&str, &str)]) -> String {
    let mut url = Url::parse("http://form").expect("a constant URL");
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

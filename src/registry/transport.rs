//! Requests to registries: connections, redirects, credentials, limits on time and size. Knows nothing of manifests.

use std::collections::{HashMap, HashSet};
use std::error::Error as _;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus::IntCounterVec;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Certificate, Method, Response, StatusCode, Url, redirect};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use tokio::time::Instant;

use super::address::Address;
use super::challenge::{self, Challenge};
use super::keyring::{Credential, Identity, Shown};
use super::limits::{Lane, Lanes};
use super::{FetchError, Reason, Retry, Settings};

/// How many redirects are followed.
const REDIRECTS_MAX: usize = 5;
/// How often a request is sent that fails for a reason that passes.
const ATTEMPTS: u32 = 3;
/// The first wait between them.
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// The most bytes of a token server's answer.
const TOKEN_MAX: usize = 1 << 20;
/// How long a token is used whose server does not say (as Docker's tokens).
const TOKEN_LASTS: Duration = Duration::from_mins(1);
/// A token is not used in its last moments.
const TOKEN_MARGIN: Duration = Duration::from_secs(5);
/// How long the way to ask is remembered that user and password are wanted.
const BASIC_LASTS: Duration = Duration::from_mins(10);
/// A registry that wants more patience gets this much.
const PATIENCE_MAX: Duration = Duration::from_hours(1);

/// The certificate of a registry cannot be checked against these CAs.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file is no PEM.
    #[error("the CA file of {0} has no certificate in PEM form")]
    Certificate(String),
    /// The HTTP client cannot be made.
    #[error("registries cannot be asked: {0}")]
    Client(#[from] reqwest::Error),
}

/// Whom to ask, and for whom.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) address: &'a Address,
    pub(super) insecure: bool,
    pub(super) shown: &'a Shown,
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) method: &'a Method,
    /// Path and query behind `/v2/<repository>/`.
    pub(super) path: &'a str,
    pub(super) accept: &'a str,
    /// The most bytes of the answer.
    pub(super) limit: usize,
}

/// An answer, read to its end.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// What went wrong below HTTP.
#[derive(Debug)]
enum Failure {
    /// Nothing was reached, or the connection broke.
    Broken(String),
    /// No TLS could be agreed on.
    Handshake(String),
    /// It took too long.
    Slow(String),
    /// The answer was too large.
    Large(usize),
    /// It is of no use to try.
    Refused(String),
    /// The registry wants to be left alone.
    Limited(Duration),
}

type TokenKey = (String, String, Option<Identity>, bool);

/// The connections to all registries.
pub(super) struct Transport {
    verified: reqwest::Client,
    /// For hosts with a CA of their own.
    special: HashMap<String, reqwest::Client>,
    unverified: reqwest::Client,
    lanes: Lanes,
    /// Authorization that was accepted, by host, repository, credential and whether the way is insecure.
    tokens: Mutex<HashMap<TokenKey, (String, Instant)>>,
    /// Insecure registries that speak plain HTTP.
    plain: Mutex<HashSet<String>>,
    requests: IntCounterVec,
    random: RandomState,
}

impl Transport {
    pub(super) fn new(settings: &Settings, requests: IntCounterVec) -> Result<Self, SetupError> {
        let mut common = system_certificates();
        let mut own: HashMap<String, Vec<Certificate>> = HashMap::new();
        for (host, pem) in &settings.extra_cas {
            let name = || host.clone().unwrap_or_else(|| "all registries".to_owned());
            let read = Certificate::from_pem_bundle(pem).map_err(|_| SetupError::Certificate(name()))?;
            if read.is_empty() {
                return Err(SetupError::Certificate(name()));
            }
            match host {
                Some(host) => own.entry(host.clone()).or_default().extend(read),
                None => common.extend(read),
            }
        }
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("pinstream/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .connect_timeout(settings.connect_timeout)
                .read_timeout(settings.silence_timeout)
                .pool_idle_timeout(Duration::from_mins(1))
        };
        let special = own.into_iter().map(|(host, own)| {
            let trusted = common.iter().cloned().chain(own);
            Ok((host, builder().tls_certs_only(trusted).build()?))
        });
        Ok(Self {
            special: special.collect::<Result<_, reqwest::Error>>()?,
            verified: builder().tls_certs_only(common.iter().cloned()).build()?,
            unverified: builder().tls_danger_accept_invalid_certs(true).build()?,
            lanes: Lanes::new(settings.concurrency, settings.rate),
            tokens: Mutex::default(),
            plain: Mutex::default(),
            requests,
            random: RandomState::new(),
        })
    }

    /// Sends a request with the best credentials that are accepted, and reads the answer.
    pub(super) async fn send(&self, ask: Ask<'_>, wish: Wish<'_>) -> Result<Answer, FetchError> {
        let mut refused = None;
        for credential in ask.shown.credentials.iter().map(Some).chain([None]) {
            let answer = self.send_as(ask, wish, credential).await?;
            if answer.status != StatusCode::UNAUTHORIZED && answer.status != StatusCode::FORBIDDEN {
                return Ok(answer);
            }
            refused.get_or_insert(answer);
        }
        refused.ok_or_else(|| FetchError::new(Reason::InternalError, Retry::Later, "nobody was asked"))
    }

    async fn send_as(
        &self,
        ask: Ask<'_>,
        wish: Wish<'_>,
        credential: Option<&Credential>,
    ) -> Result<Answer, FetchError> {
        let address = ask.address;
        let key =
            (address.host.clone(), address.repository.clone(), credential.map(Credential::identity), ask.insecure);
        let known = self.token(&key);
        let answer = self.send_with(ask, wish, known.as_deref()).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        let challenges = answer.headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<_> = challenges.filter_map(challenge::parse).collect();
        let is_bearer = |challenge: &&Challenge| matches!(challenge, Challenge::Bearer { .. });
        let Some(challenge) = challenges.iter().find(is_bearer).or(challenges.first()) else { return Ok(answer) };
        let Some((authorization, lasts)) = self.authorization(ask, challenge, credential).await? else {
            return Ok(answer);
        };
        let again = self.send_with(ask, wish, Some(&authorization)).await?;
        if again.status != StatusCode::UNAUTHORIZED && again.status != StatusCode::FORBIDDEN {
            let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            tokens.retain(|_, (_, expires)| *expires > now);
            tokens.insert(key, (authorization, now + lasts));
        }
        Ok(again)
    }

    fn token(&self, key: &TokenKey) -> Option<String> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(key).filter(|(_, expires)| *expires > Instant::now()).map(|(token, _)| token.clone())
    }

    /// What meets a challenge, and for how long. `None` if this credential does not.
    async fn authorization(
        &self,
        ask: Ask<'_>,
        challenge: &Challenge,
        credential: Option<&Credential>,
    ) -> Result<Option<(String, Duration)>, FetchError> {
        let (realm, service, scope) = match (challenge, credential) {
            (Challenge::Basic, Some(credential)) => {
                return Ok(Some((format!("Basic {}", credential.basic()), BASIC_LASTS)));
            }
            (Challenge::Basic, None) => return Ok(None),
            (Challenge::Bearer { realm, service, scope }, _) => (realm, service, scope),
        };
        let invalid = || {
            let text = format!("registry {} names a token server that is no URL: {realm:?}", ask.address.registry);
            FetchError::new(Reason::InternalError, Retry::Later, text)
        };
        let mut url = Url::parse(realm).map_err(|_| invalid())?;
        if url.scheme() != "https" && !(url.scheme() == "http" && ask.insecure) {
            return Err(FetchError::new(
                Reason::InternalError,
                Retry::Later,
                format!(
                    "registry {} names a token server without TLS, which is only used with importPolicy.insecure: {realm}",
                    ask.address.registry
                ),
            ));
        }
        let scope = scope.clone().unwrap_or_else(|| format!("repository:{}:pull", ask.address.repository));
        let identity = credential.and_then(|credential| credential.identity_token.as_ref());
        let token = if let Some(identity) = identity {
            let form = form(&[
                ("grant_type", "refresh_token"),
                ("client_id", "pinstream"),
                ("refresh_token", identity.expose_secret()),
                ("service", service.as_deref().unwrap_or_default()),
                ("scope", &scope),
            ]);
            self.token_answer(ask, url, Some(form), None).await?
        } else {
            let service = service.iter().map(|service| ("service", service));
            url.query_pairs_mut().extend_pairs(service).append_pair("scope", &scope);
            let basic = credential.map(|credential| format!("Basic {}", credential.basic()));
            self.token_answer(ask, url, None, basic.as_deref()).await?
        };
        Ok(token.map(|token| (format!("Bearer {}", token.0), token.1)))
    }

    /// `None` if the token server refuses.
    async fn token_answer(
        &self,
        ask: Ask<'_>,
        url: Url,
        form: Option<String>,
        authorization: Option<&str>,
    ) -> Result<Option<(String, Duration)>, FetchError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Given {
            token: String,
            access_token: String,
            expires_in: Option<u64>,
        }
        let host = host_of(&url);
        let method = if form.is_some() { Method::POST } else { Method::GET };
        let lane = self.lanes.lane(&host);
        let sent = self.once(&lane, ask.insecure, &method, url, authorization, None, form, TOKEN_MAX).await;
        let answer = sent.map_err(|failure| failure.told(&host, "the token server"))?;
        if answer.status == StatusCode::UNAUTHORIZED
            || answer.status == StatusCode::FORBIDDEN
            || answer.status == StatusCode::BAD_REQUEST
        {
            return Ok(None);
        }
        let failed = |what: String| {
            let text = format!("token server {host} of registry {} {what}", ask.address.registry);
            FetchError::new(Reason::InternalError, Retry::Later, text)
        };
        if let Some(wait) = limited(&answer) {
            return Err(FetchError::new(
                Reason::TooManyRequests,
                Retry::After(wait),
                format!("token server {host} wants fewer requests"),
            ));
        }
        if !answer.status.is_success() {
            return Err(failed(format!("answers {}", answer.status)));
        }
        let token: Given =
            serde_json::from_slice(&answer.body).map_err(|_| failed("answers with no token".to_owned()))?;
        let text = if token.token.is_empty() { token.access_token } else { token.token };
        if text.is_empty() {
            return Err(failed("answers with an empty token".to_owned()));
        }
        let lasts = token.expires_in.map_or(TOKEN_LASTS, Duration::from_secs);
        Ok(Some((text, lasts.saturating_sub(TOKEN_MARGIN))))
    }

    /// Sends a request with these credentials, and again if what is wrong passes.
    async fn send_with(&self, ask: Ask<'_>, wish: Wish<'_>, authorization: Option<&str>) -> Result<Answer, FetchError> {
        let host = &ask.address.host;
        let mut attempt = 1;
        loop {
            let sent = self.over_any_scheme(ask, wish, authorization).await;
            let passes = match &sent {
                Ok(answer) => matches!(answer.status.as_u16(), 500 | 502 | 503 | 504) && limited(answer).is_none(),
                Err(failure) => matches!(failure, Failure::Broken(_)),
            };
            if !passes || attempt == ATTEMPTS {
                return sent.map_err(|failure| failure.told(host, "the registry"));
            }
            let share = u32::try_from(self.random.hash_one(Instant::now()) % 1000).unwrap_or_default();
            tokio::time::sleep(RETRY_FIRST * 2_u32.pow(attempt - 1) * (500 + share) / 1000).await;
            attempt += 1;
        }
    }

    /// HTTPS; where that fails and an insecure way is accepted, HTTP.
    async fn over_any_scheme(
        &self,
        ask: Ask<'_>,
        wish: Wish<'_>,
        authorization: Option<&str>,
    ) -> Result<Answer, Failure> {
        let host = &ask.address.host;
        let url = |scheme: &str| {
            let text = format!("{scheme}://{host}/v2/{}/{}", ask.address.repository, wish.path);
            Url::parse(&text).map_err(|error| Failure::Refused(format!("{text} is no URL: {error}")))
        };
        let lane = self.lanes.lane(host);
        let is_plain = ask.insecure && self.plain.lock().unwrap_or_else(PoisonError::into_inner).contains(host);
        if !is_plain {
            let sent = self.once(
                &lane,
                ask.insecure,
                wish.method,
                url("https")?,
                authorization,
                Some(wish.accept),
                None,
                wish.limit,
            );
            match sent.await {
                Err(Failure::Broken(_) | Failure::Handshake(_)) if ask.insecure => {}
                sent => return sent,
            }
        }
        let sent =
            self.once(&lane, true, wish.method, url("http")?, authorization, Some(wish.accept), None, wish.limit).await;
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.is_ok() {
            plain.insert(host.clone())
        } else {
            plain.remove(host)
        };
        drop(plain);
        sent
    }

    /// One request and the redirects that follow from it.
    #[expect(clippy::too_many_arguments, reason = "they are what a request is made of")]
    async fn once(
        &self,
        lane: &Lane,
        insecure: bool,
        method: &Method,
        mut url: Url,
        authorization: Option<&str>,
        accept: Option<&str>,
        form: Option<String>,
        limit: usize,
    ) -> Result<Answer, Failure> {
        let _permit = lane.enter().await.map_err(Failure::Limited)?;
        let mut authorization = authorization;
        for _ in 0..=REDIRECTS_MAX {
            let host = host_of(&url);
            let client = if insecure { &self.unverified } else { self.special.get(&host).unwrap_or(&self.verified) };
            let mut request = client.request(method.clone(), url.clone());
            if let Some(authorization) = authorization {
                request = request.header(AUTHORIZATION, authorization);
            }
            if let Some(accept) = accept {
                request = request.header(ACCEPT, accept);
            }
            if let Some(form) = &form {
                request = request.header("content-type", "application/x-www-form-urlencoded").body(form.clone());
            }
            let sent = request.send().await;
            self.requests.with_label_values(&[class(sent.as_ref().ok())]).inc();
            let response = sent.map_err(|error| failure(&error))?;
            let Some(next) = redirected(&response, &url) else { return self.read(lane, response, limit).await };
            let next = next?;
            if next.scheme() != "https" && !(insecure && next.scheme() == "http") {
                return Err(Failure::Refused(format!("redirects to {}, which is not HTTPS", next.scheme())));
            }
            if host_of(&next) != host || next.scheme() != url.scheme() {
                authorization = None;
            }
            url = next;
        }
        Err(Failure::Refused(format!("redirects more than {REDIRECTS_MAX} times")))
    }

    async fn read(&self, lane: &Lane, mut response: Response, limit: usize) -> Result<Answer, Failure> {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
            if body.len() + chunk.len() > limit {
                return Err(Failure::Large(limit));
            }
            body.extend_from_slice(&chunk);
        }
        let answer = Answer { status, headers, body };
        if let Some(wait) = limited(&answer).or_else(|| used_up(&answer.headers)) {
            lane.leave_alone(wait);
        }
        Ok(answer)
    }
}

impl Failure {
    fn told(self, host: &str, who: &str) -> FetchError {
        let later = |reason, text| FetchError::new(reason, Retry::Later, text);
        match self {
            Self::Broken(cause) => {
                later(Reason::ServiceUnavailable, format!("{who} {host} cannot be reached: {cause}"))
            }
            Self::Handshake(cause) => later(
                Reason::ServiceUnavailable,
                format!(
                    "{who} {host} cannot be trusted or speaks no TLS: {cause}; give its CA with --registry-ca, or set importPolicy.insecure on the tag"
                ),
            ),
            Self::Slow(cause) => later(Reason::Timeout, format!("{who} {host} does not answer in time: {cause}")),
            Self::Large(limit) => {
                later(Reason::Invalid, format!("{who} {host} answers with more than {} KiB", limit >> 10))
            }
            Self::Refused(cause) => later(Reason::InternalError, format!("{who} {host} {cause}")),
            Self::Limited(wait) => FetchError::new(
                Reason::TooManyRequests,
                Retry::After(wait),
                format!("{who} {host} wants no requests for {} s", wait.as_secs()),
            ),
        }
    }
}

/// Where a response leads, if it does.
fn redirected(response: &Response, from: &Url) -> Option<Result<Url, Failure>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let next = location.and_then(|location| from.join(location).ok());
    Some(next.ok_or_else(|| Failure::Refused("redirects to nowhere".to_owned())))
}

/// How long the registry wants to be left alone, if it refused for that reason.
pub(super) fn limited(answer: &Answer) -> Option<Duration> {
    let said = retry_after(&answer.headers, Timestamp::now());
    match answer.status.as_u16() {
        429 => Some(said.unwrap_or(Duration::from_secs(30)).min(PATIENCE_MAX)),
        503 => said.map(|wait| wait.min(PATIENCE_MAX)),
        _ => None,
    }
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// How long until there are requests again, if this was the last: `RateLimit-Remaining` and `RateLimit-Reset`.
fn used_up(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        value.split(';').next()?.trim().parse::<u64>().ok()
    };
    if number("ratelimit-remaining")? > 0 {
        return None;
    }
    number("ratelimit-reset").map(|seconds| Duration::from_secs(seconds).min(PATIENCE_MAX))
}

fn failure(error: &reqwest::Error) -> Failure {
    let mut text = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let separator = if text.is_empty() { "" } else { ": " };
        let _ = write!(text, "{separator}{cause}");
        source = cause.source();
    }
    if text.is_empty() {
        // Without the URL: a redirect's may have a secret in it.
        let _ = write!(text, "{}", if error.is_timeout() { "time is up" } else { "the answer broke off" });
    }
    let is_tls = ["certificate", "HandshakeFailure", "InvalidContentType", "corrupt message", "tls", "TLS"]
        .iter()
        .any(|word| text.contains(word));
    if error.is_timeout() {
        Failure::Slow(text)
    } else if error.is_connect() && is_tls {
        Failure::Handshake(text)
    } else {
        Failure::Broken(text)
    }
}

fn class(response: Option<&Response>) -> &'static str {
    match response.map(|response| response.status().as_u16()) {
        None => "error",
        Some(401) => "401",
        Some(404) => "404",
        Some(429) => "429",
        Some(200..=299) => "2xx",
        Some(300..=399) => "3xx",
        Some(400..=499) => "4xx",
        Some(_) => "5xx",
    }
}

fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn form(fields: &[(&str, &str)]) -> String {
    let mut url = Url::parse("http://form").expect("a constant URL");
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

/// The CAs of the system; where there are none, those that browsers trust.
fn system_certificates() -> Vec<Certificate> {
    let system = rustls_native_certs::load_native_certs();
    let found: Vec<_> = system.certs.iter().filter_map(|der| Certificate::from_der(der).ok()).collect();
    if !found.is_empty() {
        return found;
    }
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().filter_map(|der| Certificate::from_der(der).ok()).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[rstest]
    #[case("120", Some(120))]
    #[case("Tue, 24 Nov 2026 12:01:00 GMT", Some(60))]
    #[case("Tue, 24 Nov 2026 11:00:00 GMT", Some(0))]
    #[case("soon", None)]
    fn patience_is_read_in_both_forms(#[case] value: &'static str, #[case] seconds: Option<u64>) {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        assert_eq!(retry_after(&headers(&[("retry-after", value)]), now), seconds.map(Duration::from_secs));
    }

    #[rstest]
    #[case(&[("ratelimit-remaining", "0;w=21600"), ("ratelimit-reset", "60")], Some(60))]
    #[case(&[("ratelimit-remaining", "5;w=21600"), ("ratelimit-reset", "60")], None)]
    #[case(&[("ratelimit-remaining", "0")], None)]
    #[case(&[], None)]
    fn last_request_of_a_window_is_seen(#[case] pairs: &[(&'static str, &'static str)], #[case] seconds: Option<u64>) {
        assert_eq!(used_up(&headers(pairs)), seconds.map(Duration::from_secs));
    }
}

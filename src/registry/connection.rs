//! One request to one host and the redirects that follow from it: TLS, time, size.
//!
//! Of credentials it knows only that no other host gets them, of registries only how patient to be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Bytes;
use jiff::Timestamp;
use prometheus::IntCounterVec;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, LOCATION, RANGE};
use reqwest::{Certificate, Method, Response, StatusCode, Url, redirect};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::address::server;
use super::addresses::{Addresses, Blocked, Lookup};
use super::failure::Failure;
use super::keyring::Identity;
use super::large::{Large, Permit};
use super::limits::Lanes;
use super::{Settings, patience};

/// How many redirects are followed.
const REDIRECTS_MAX: usize = 5;
/// The most bytes of an answer that is taken in whatever else is.
const SMALL: usize = 128 << 10;
/// The most bytes of an answer that says no where the body is what was asked for.
const REFUSAL_MAX: usize = 64 << 10;

/// What is trusted cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file is no PEM.
    #[error("the CA file of {0} has no certificate in PEM form")]
    Certificate(String),
    /// The HTTP client cannot be made.
    #[error("registries cannot be asked: {0}")]
    Client(#[from] reqwest::Error),
}

/// One request.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    /// For the host of the URL and no other.
    pub(super) authorization: Option<&'a str>,
    /// Whose credentials are shown, there or in the form.
    pub(super) shown: Option<&'a Identity>,
    pub(super) accept: &'a str,
    /// A form with secrets: it is sent once, wherever a redirect leads.
    pub(super) form: Option<String>,
    pub(super) take: Take,
    /// Bad TLS and plain HTTP are accepted.
    pub(super) insecure: bool,
}

/// What is read of an answer.
#[derive(Clone, Copy)]
pub(super) enum Take {
    /// All of it, of at most so many bytes.
    Whole(usize),
    /// If it says yes, only its head: the body, from that byte on, is read by whoever asked.
    Head(u64),
}

/// An answer, read to its end but for what is left to whoever asked.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) rest: Option<Response>,
    /// No credential was shown for it, nor a token that was got with one. Said by who knows.
    pub(super) is_public: bool,
}

/// How long registries may take over what belongs together, and for which tenant they do. Waiting for one's turn is not
/// counted.
pub(super) struct Budget {
    tenant: Arc<str>,
    left: Mutex<Duration>,
}

/// The connections to all hosts.
pub(super) struct Connections {
    verified: reqwest::Client,
    /// For hosts with a CA of their own.
    special: HashMap<String, reqwest::Client>,
    unverified: reqwest::Client,
    addresses: Addresses,
    lanes: Lanes,
    /// A download takes long: it holds a place of its own rather than one of those for requests.
    downloads: Lanes,
    large: Large,
    requests: IntCounterVec,
}

impl Budget {
    pub(super) fn new(tenant: Arc<str>, whole: Duration) -> Self {
        Self { tenant, left: Mutex::new(whole) }
    }

    /// Does some work, if there is enough left for it.
    async fn spend<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let left = *self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        let result = tokio::time::timeout(left, work).await;
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.saturating_sub(began.elapsed());
        result.unwrap_or_else(|_| Err(Failure::Slow("the time for all of it is up".to_owned())))
    }
}

impl Connections {
    /// Nobody is asked yet. `requests` counts by class of answer.
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
                Some(host) => own.entry(server(host)).or_default().extend(read),
                None => common.extend(read),
            }
        }
        let builder = || {
            let builder = reqwest::Client::builder();
            let builder = if settings.environment_proxies { builder } else { builder.no_proxy() };
            builder
                .dns_resolver(Lookup(settings.addresses.clone()))
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
            addresses: settings.addresses.clone(),
            lanes: Lanes::new(settings.concurrency, settings.rate),
            downloads: Lanes::new(settings.concurrency, 0.0),
            large: Large::new(),
            requests,
        })
    }

    /// Waits for a place among the downloads from a host. It is held for as long as the download takes.
    pub(super) async fn place(&self, host: &str) -> Option<OwnedSemaphorePermit> {
        self.downloads.lane(host).enter(None).await.ok().flatten()
    }

    /// Sends a request when it is its turn, and reads the answer.
    pub(super) async fn exchange(&self, request: Request<'_>, budget: &Budget) -> Result<Answer, Failure> {
        let lane = self.lanes.lane(&host_of(&request.url));
        let place = lane.enter(request.shown).await.map_err(Failure::Limited)?;
        let take = request.take;
        // In a box, as it is large and others have it in theirs.
        let response = budget.spend(Box::pin(self.follow(request))).await?;
        self.read(response, take, budget, place).await
    }

    /// Leaves a host alone that says so: for those credentials, if some were shown.
    fn heed(&self, host: &str, shown: Option<&Identity>, response: &Response) {
        let now = Timestamp::now();
        let wait = patience::limited(response.status(), response.headers(), now);
        if let Some(wait) = wait.or_else(|| patience::used_up(response.headers(), now)) {
            self.lanes.lane(host).leave_alone(shown, wait);
        }
    }

    /// The first response that is no redirect.
    async fn follow(&self, request: Request<'_>) -> Result<Response, Failure> {
        let Request { method, mut url, mut authorization, mut shown, accept, form, insecure, take } = request;
        for _ in 0..=REDIRECTS_MAX {
            let host = host_of(&url);
            self.addresses.check(&url).map_err(|Blocked(address)| Failure::Blocked(host.clone(), Some(address)))?;
            let client = if insecure { &self.unverified } else { self.special.get(&host).unwrap_or(&self.verified) };
            let mut asked = client.request(method.clone(), url.clone()).header(ACCEPT, accept);
            if let Some(authorization) = authorization {
                asked = asked.header(AUTHORIZATION, authorization);
            }
            if let Take::Head(from @ 1..) = take {
                asked = asked.header(RANGE, format!("bytes={from}-"));
            }
            if let Some(form) = &form {
                asked = asked.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form.clone());
            }
            let sent = asked.send().await;
            self.requests.with_label_values(&[class(sent.as_ref().ok())]).inc();
            let response = sent.map_err(|error| unsent(error, &host))?;
            let Some(next) = redirected(&response, &url) else {
                self.heed(&host, shown, &response);
                return Ok(response);
            };
            let next = next?;
            if form.is_some() {
                return Err(Failure::Refused("redirects a request with a secret in it".to_owned()));
            }
            if next.scheme() != "https" && !(insecure && next.scheme() == "http") {
                return Err(Failure::Refused(format!("redirects to {}, which is not HTTPS", next.scheme())));
            }
            if host_of(&next) != host || next.scheme() != url.scheme() {
                (authorization, shown) = (None, None);
            }
            self.lanes.lane(&host_of(&next)).rest(shown).await.map_err(Failure::Limited)?;
            url = next;
        }
        Err(Failure::Refused(format!("redirects more than {REDIRECTS_MAX} times")))
    }

    /// Reads a response. The place at its registry is kept while it comes, unless it is large: what is large may have to
    /// wait for others, which have nothing to do with that registry.
    async fn read(
        &self,
        mut response: Response,
        take: Take,
        budget: &Budget,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<Answer, Failure> {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        let limit = match take {
            Take::Whole(limit) => limit,
            Take::Head(_) if status.is_success() => {
                return Ok(Answer { status, headers, body, rest: Some(response), is_public: false });
            }
            Take::Head(_) => REFUSAL_MAX,
        };
        let (mut place, mut permit) = (place, None);
        if response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(Failure::Large(limit));
        }
        while let Some(chunk) = budget.spend(next(&mut response, permit.as_mut())).await? {
            let size = body.len() + chunk.len();
            if size > limit {
                return Err(Failure::Large(limit));
            }
            if size > SMALL && permit.is_none() {
                drop(place.take());
                permit = Some(self.large.enter(&budget.tenant, &host_of(response.url())).await);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body, rest: None, is_public: false })
    }
}

impl Answer {
    /// How long the registry wants to be left alone, if it refused for that reason.
    pub(super) fn limited(&self) -> Option<Duration> {
        patience::limited(self.status, &self.headers, Timestamp::now())
    }
}

/// The next piece of a body; of a large one it has to come fast enough.
async fn next(response: &mut Response, permit: Option<&mut Permit<'_>>) -> Result<Option<Bytes>, Failure> {
    let Some(Permit { pace, .. }) = permit else { return Ok(response.chunk().await?) };
    let began = Instant::now();
    let chunk = tokio::time::timeout(pace.left(), response.chunk()).await;
    let chunk = chunk.map_err(|_| Failure::Slow("a large answer comes too slowly".to_owned()))??;
    pace.waited(began.elapsed());
    pace.received(chunk.as_ref().map_or(0, |chunk| chunk.len() as u64));
    Ok(chunk)
}

/// Why a request was not answered. The address of a name that is blocked is told in the log only.
fn unsent(error: reqwest::Error, host: &str) -> Failure {
    let Some(Blocked(address)) = Blocked::cause_of(&error) else { return error.into() };
    tracing::info!(host, %address, "registry is not asked: its address is blocked");
    Failure::Blocked(host.to_owned(), None)
}

/// Where a response leads, if it does.
pub(super) fn redirected(response: &Response, from: &Url) -> Option<Result<Url, Failure>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let next = location.and_then(|location| from.join(location).ok());
    Some(next.ok_or_else(|| Failure::Refused("redirects to nowhere".to_owned())))
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

/// Host, and port if it is not that of the scheme.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
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

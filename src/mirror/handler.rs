//! The HTTP side of the pull-through registry: the pull category of the OCI distribution specification, read only.
//!
//! A request is read first, then its sender is judged, and only then are contents asked. A manifest is served as it is,
//! whatever `Accept` says: it is what the digest stands for.

mod challenge;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod path;
mod problem;
mod range;
mod tags;
mod token;
mod transfer;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use self::challenge::Front;
use self::path::Asked;
use self::problem::Problem;
use self::transfer::Transfers;
use super::access::{Access, Credentials, Refusal, Reviewer};
use super::{Blob, Contents, Part, Version};
use crate::digest::Digest;
use crate::metrics::PullMetrics;
use crate::stream::Key;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Characters of a path, or of what is wrong with it, that are logged.
const LOGGED: usize = 200;
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// How the registry looks to its clients.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether clients come by HTTPS.
    pub is_secure: bool,
    /// The host that clients are sent to for tokens, if they do not say to which they came.
    pub host: Option<String>,
    /// Blobs that are sent at a time.
    pub transfers: usize,
}

/// What answers.
struct Edge<C, R: Reviewer> {
    contents: Arc<C>,
    access: Access<R>,
    front: Front,
    transfers: Transfers,
    metrics: PullMetrics,
}

/// The routes of the registry.
pub fn router<C: Contents, R: Reviewer>(
    contents: Arc<C>,
    access: Access<R>,
    settings: Settings,
    metrics: PullMetrics,
) -> Router {
    let transfers = Transfers::new(settings.transfers, metrics.clone());
    let front = Front { is_secure: settings.is_secure, host: settings.host };
    let edge = Edge { contents, access, front, transfers, metrics };
    Router::new().fallback(respond::<C, R>).with_state(Arc::new(edge))
}

async fn respond<C: Contents, R: Reviewer>(State(edge): State<Arc<Edge<C, R>>>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let asked = Asked::read(head.uri.path());
    let what = asked.as_ref().map_or("other", Asked::label);
    let method = match head.method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        _ => "other",
    };
    let mut response = match edge.answer(asked, &head).await {
        Ok(response) => response,
        Err(problem) => {
            log(&problem, method, &head);
            edge.refuse(problem, &head)
        }
    };
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    edge.metrics.answered(method, what, response.status().as_u16());
    if head.method == Method::HEAD { without_body(response) } else { response }
}

/// One line for what is refused, as far as nobody else says it. Paths come from strangers: they are quoted, and cut off.
fn log(problem: &Problem, method: &str, request: &Parts) {
    if !matches!(problem, Problem::Refused(_)) {
        let path = cut(request.uri.path());
        let (status, error) = (problem.status().as_u16(), problem.to_string());
        tracing::info!(method, ?path, status, code = problem.code(), error = ?cut(&error), "request refused");
    }
}

/// No more of a text than a line of a log has room for.
fn cut(text: &str) -> &str {
    text.char_indices().nth(LOGGED).map_or(text, |(end, _)| &text[..end])
}

impl<C: Contents, R: Reviewer> Edge<C, R> {
    async fn answer(&self, asked: Result<Asked, Problem>, request: &Parts) -> Result<Response, Problem> {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return Err(Problem::ReadOnly);
        }
        let asked = asked?;
        let credentials = Credentials::read(request.headers.get(header::AUTHORIZATION))?;
        if let Some(stream) = asked.stream() {
            self.access.may_pull(&credentials, stream).await?;
        }
        match asked {
            Asked::Base => self.base(&credentials).await,
            Asked::Token => token::answer(&self.access, &credentials).await,
            Asked::Tags(stream) => tags::answer(&stream, &self.contents.tags(&stream)?, &request.uri),
            Asked::Manifest(stream, version) => self.manifest(&stream, &version, &request.headers).await,
            Asked::Blob(stream, digest) => self.blob(&stream, &digest, request).await,
        }
    }

    /// A client begins here: it learns whether and how it is to show credentials.
    async fn base(&self, credentials: &Credentials) -> Result<Response, Problem> {
        self.access.is_known(credentials).await?;
        Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], "{}").into_response())
    }

    async fn manifest(&self, stream: &Key, version: &Version, headers: &HeaderMap) -> Result<Response, Problem> {
        let manifest = self.contents.manifest(stream, version).await?;
        if is_known(headers, &manifest.digest) {
            return Ok(not_modified(&manifest.digest));
        }
        // A media type that is no header's value comes from whoever made the image.
        let media_type = HeaderValue::try_from(manifest.media_type).unwrap_or(OCTETS);
        let mut response = ([(header::CONTENT_TYPE, media_type)], manifest.bytes).into_response();
        identify(response.headers_mut(), &manifest.digest);
        Ok(response)
    }

    async fn blob(&self, stream: &Key, digest: &Digest, request: &Parts) -> Result<Response, Problem> {
        let headers = &request.headers;
        let is_known = is_known(headers, digest);
        if is_known || request.method == Method::HEAD {
            let size = self.contents.size(stream, digest).await?;
            return Ok(if is_known { not_modified(digest) } else { blob_response(digest, size, Body::empty()) });
        }
        let part = range::of(headers, &etag(digest));
        let place = self.transfers.begin()?;
        let Blob { size, range, body } = self.contents.blob(stream, digest, part).await?;
        let mut response = blob_response(digest, range.end - range.start, place.send(body));
        if part != Part::Whole {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let sent = format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1));
            response.headers_mut().insert(header::CONTENT_RANGE, plain(sent));
        }
        Ok(response)
    }

    /// Whoever is to show credentials is told how.
    fn refuse(&self, problem: Problem, request: &Parts) -> Response {
        let is_unknown = matches!(problem, Problem::Refused(Refusal::NoCredentials | Refusal::BadCredentials));
        let mut response = problem.into_response();
        if is_unknown {
            let asked = Asked::read(request.uri.path()).ok();
            if let Some(challenge) = self.front.challenge(self.access.scheme(), asked.as_ref(), request) {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
        }
        response
    }
}

fn blob_response(digest: &Digest, length: u64, body: Body) -> Response {
    let mut response = ([(header::CONTENT_TYPE, OCTETS)], body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    identify(headers, digest);
    response
}

fn not_modified(digest: &Digest) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    identify(response.headers_mut(), digest);
    response
}

fn identify(headers: &mut HeaderMap, digest: &Digest) {
    headers.insert(CONTENT_DIGEST, plain(digest.to_string()));
    headers.insert(header::ETAG, plain(etag(digest)));
}

fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

fn plain(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digests and numbers are plain text")
}

/// The client has it already (`If-None-Match`).
fn is_known(headers: &HeaderMap, digest: &Digest) -> bool {
    let etag = etag(digest);
    let values = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
    tags.any(|tag| tag == "*" || tag == etag)
}

/// The answer to a HEAD: the head of what a GET would be answered.
fn without_body(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact()
        && !head.headers.contains_key(header::CONTENT_LENGTH)
        && head.status != StatusCode::NOT_MODIFIED
    {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, Body::empty())
}

#[cfg(test)]
mod tests;

//! The HTTP side of the webhook: what may come in, and when to give up.

mod pods;
mod policy;
mod streams;

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use http_body_util::LengthLimitError;
use jiff::SignedDuration;

pub use pods::Webhook;
pub use policy::PolicyWebhook;
pub use streams::StreamWebhook;

use super::review::{Asked, NoReview};
use crate::metrics::Metrics;

/// The path of the webhook that pins pod templates and Pods.
pub const PATH: &str = "/mutate";
/// The path of the webhook that pins only Pods.
pub const POD_PATH: &str = "/mutate/pod";
/// The path of the webhook that completes and checks image streams.
pub const STREAMS_PATH: &str = "/mutate/imagestreams";
/// The path of the webhook that holds pod templates and Pods to the policy.
pub const POLICY_PATH: &str = "/validate";
/// The path of the webhook that holds only Pods to the policy.
pub const POLICY_POD_PATH: &str = "/validate/pod";
/// The most bytes of a review: an update carries two objects of up to 3 MiB.
pub const BODY_MAX: usize = 7 << 20;
/// The longest that Kubernetes lets a webhook take, and how long a request may take that does not say.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// What stands behind a path.
trait Answer: Send + Sync + 'static {
    /// What it answers by is known.
    fn is_ready(&self) -> bool;

    /// The bytes of a review → the bytes of a review.
    fn answer(&self, body: &[u8]) -> Result<Vec<u8>, NoReview>;

    /// Where to count.
    fn metrics(&self) -> &Metrics;
}

/// The routes of the webhook: one for each pin mode, one for writes of image streams, and the policy for each pin mode.
pub fn router(webhook: Arc<Webhook>, streams: Arc<StreamWebhook>, policy: Arc<PolicyWebhook>) -> Router {
    let only_pods = Arc::new(webhook.only_pods());
    let policy_of_pods = Arc::new(policy.only_pods());
    Router::new()
        .route(PATH, posted(webhook))
        .route(POD_PATH, posted(only_pods))
        .route(STREAMS_PATH, posted(streams))
        .route(POLICY_PATH, posted(policy))
        .route(POLICY_POD_PATH, posted(policy_of_pods))
        .fallback(wrong_path)
}

fn posted<A: Answer>(answerer: Arc<A>) -> MethodRouter {
    post(review::<A>).fallback(wrong_method).with_state(answerer)
}

/// A refusal that is no review: a status and one line.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the image streams are not loaded yet; try again later")]
    NotLoaded,
    #[error("the content type is {0}; send an AdmissionReview as application/json")]
    ContentType(String),
    #[error("the body is larger than {} MiB", BODY_MAX >> 20)]
    TooLarge,
    #[error("the body did not arrive within {} s", .0.as_secs_f32())]
    TooSlow(Duration),
    #[error("the body did not arrive: {0}")]
    Broken(axum::Error),
    #[error("{0}")]
    NoReview(#[from] NoReview),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NotLoaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::ContentType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Broken(_) | Self::NoReview(_) => StatusCode::BAD_REQUEST,
        };
        tracing::debug!(status = status.as_u16(), reason = %self, "request refused");
        line(status, &self.to_string())
    }
}

fn line(status: StatusCode, text: &str) -> Response {
    (status, format!("{text}\n")).into_response()
}

async fn wrong_method(method: Method) -> Response {
    let text = format!("{method} is not possible here: POST an AdmissionReview");
    line(StatusCode::METHOD_NOT_ALLOWED, &text)
}

async fn wrong_path(uri: Uri) -> Response {
    let path = uri.path();
    let text = format!(
        "there is nothing at {path}: the webhook is at {PATH}, {POD_PATH}, {STREAMS_PATH}, {POLICY_PATH} and {POLICY_POD_PATH}"
    );
    line(StatusCode::NOT_FOUND, &text)
}

async fn review<A: Answer>(
    State(answerer): State<Arc<A>>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Refusal> {
    let started = Instant::now();
    if !answerer.is_ready() {
        return Err(Refusal::NotLoaded);
    }
    expect_json(request.headers())?;
    let limit = timeout_of(query.as_deref());
    let body = match tokio::time::timeout(limit, read_body(request.into_body())).await {
        Ok(body) => body?,
        Err(_) => return Err(Refusal::TooSlow(limit)),
    };
    let answer = answerer.answer(&body)?;
    answerer.metrics().request_seconds.observe(started.elapsed().as_secs_f64());
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], answer).into_response())
}

fn expect_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let written = headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let essence = written.as_deref().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Refusal::ContentType(written.map_or_else(|| "missing".to_owned(), |written| format!("{written:?}"))))
}

/// The query's `timeout`, a duration as Go writes it. What cannot be read does not limit.
fn timeout_of(query: Option<&str>) -> Duration {
    let written = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("timeout=")));
    let parsed = written.and_then(|written| written.parse::<SignedDuration>().ok());
    let asked = parsed.and_then(|asked| Duration::try_from(asked).ok()).filter(|asked| !asked.is_zero());
    asked.map_or(TIMEOUT_MAX, |asked| asked.min(TIMEOUT_MAX))
}

async fn read_body(body: Body) -> Result<Bytes, Refusal> {
    axum::body::to_bytes(body, BODY_MAX).await.map_err(|error| {
        let is_too_large = error.source().is_some_and(<dyn std::error::Error>::is::<LengthLimitError>);
        if is_too_large { Refusal::TooLarge } else { Refusal::Broken(error) }
    })
}

/// The operation as metrics name it.
fn operation(asked: Option<&Asked<'_>>) -> &'static str {
    match asked.map(|asked| asked.operation.as_ref()) {
        Some("CREATE") => "CREATE",
        Some("UPDATE") => "UPDATE",
        Some("DELETE") => "DELETE",
        Some("CONNECT") => "CONNECT",
        _ => "other",
    }
}

/// One line for a review that cannot be read.
fn log_malformed(asked: Option<&Asked<'_>>, reason: &str) {
    let uid = asked.map(|asked| asked.uid.as_ref()).unwrap_or_default();
    tracing::warn!(uid, reason, "review cannot be read, its object was allowed as it is");
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(None, 30_000)]
    #[case(Some("timeout=10s"), 10_000)]
    #[case(Some("a=b&timeout=1m0s"), 30_000)]
    #[case(Some("timeout=500ms"), 500)]
    #[case(Some("timeout=1.5s"), 1_500)]
    #[case(Some("timeout=soon"), 30_000)]
    #[case(Some("timeout=-1s"), 30_000)]
    #[case(Some("timeout=0s"), 30_000)]
    #[case(Some("timeout="), 30_000)]
    fn timeout_is_read_as_go_writes_it(#[case] query: Option<&str>, #[case] milliseconds: u64) {
        assert_eq!(timeout_of(query), Duration::from_millis(milliseconds));
    }
}

//! The HTTP side of the webhook: what may come in, what is counted and logged, and when to give up.

use std::error::Error as _;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_body_util::LengthLimitError;
use jiff::SignedDuration;

use super::review::{self, Asked, Verdict};
use crate::metrics::Metrics;
use crate::store::Streams;
use crate::workload::Kinds;

/// The path of the webhook that pins pod templates and Pods.
pub const PATH: &str = "/mutate";
/// The path of the webhook that pins only Pods.
pub const POD_PATH: &str = "/mutate/pod";
/// The most bytes of a review: an update carries two objects of up to 3 MiB.
pub const BODY_MAX: usize = 7 << 20;
/// The longest that Kubernetes lets a webhook take, and how long a request may take that does not say.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// What the webhook works with.
#[derive(Debug)]
pub struct Webhook {
    /// The streams to resolve by.
    pub streams: Arc<Streams>,
    /// The kinds to resolve in.
    pub kinds: Kinds,
    /// Where to count.
    pub metrics: Arc<Metrics>,
}

/// The routes of the webhook: one for each pin mode.
pub fn router(webhook: Arc<Webhook>) -> Router {
    let only_pods = Webhook {
        streams: Arc::clone(&webhook.streams),
        kinds: webhook.kinds.only_pods(),
        metrics: Arc::clone(&webhook.metrics),
    };
    let pinning = |webhook| post(mutate).fallback(wrong_method).with_state(webhook);
    Router::new().route(PATH, pinning(webhook)).route(POD_PATH, pinning(Arc::new(only_pods))).fallback(wrong_path)
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
    NoReview(#[from] review::NoReview),
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
    line(StatusCode::NOT_FOUND, &format!("there is nothing at {}: the webhook is at {PATH} and {POD_PATH}", uri.path()))
}

async fn mutate(
    State(webhook): State<Arc<Webhook>>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Refusal> {
    let started = Instant::now();
    if !webhook.streams.is_loaded() {
        return Err(Refusal::NotLoaded);
    }
    expect_json(request.headers())?;
    let limit = timeout_of(query.as_deref());
    let body = match tokio::time::timeout(limit, read_body(request.into_body())).await {
        Ok(body) => body?,
        Err(_) => return Err(Refusal::TooSlow(limit)),
    };
    let answer = webhook.answer(&body)?;
    webhook.metrics.request_seconds.observe(started.elapsed().as_secs_f64());
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

impl Webhook {
    fn answer(&self, body: &[u8]) -> Result<Vec<u8>, review::NoReview> {
        let started = Instant::now();
        let snapshot = self.streams.snapshot();
        review::answer(body, &snapshot, &self.kinds, |asked, verdict| {
            self.count(asked, verdict, started.elapsed());
            log(asked, verdict);
        })
    }

    fn count(&self, asked: Option<&Asked<'_>>, verdict: &Verdict<'_>, took: Duration) {
        let operation = match asked.map(|asked| asked.operation.as_ref()) {
            Some("CREATE") => "CREATE",
            Some("UPDATE") => "UPDATE",
            Some("DELETE") => "DELETE",
            Some("CONNECT") => "CONNECT",
            _ => "other",
        };
        let kind = asked.and_then(|asked| self.kinds.find(&asked.kind.group, &asked.kind.kind));
        let outcome = match verdict {
            Verdict::Ignored => "ignored",
            Verdict::Malformed(_) => "malformed",
            Verdict::Decided(_, decision) => {
                for slot in &decision.slots {
                    self.metrics.slots.with_label_values(&[slot.outcome.label()]).inc();
                }
                if decision.rewrites().next().is_some() { "patched" } else { "unchanged" }
            }
        };
        self.metrics.request(operation, kind.map_or("other", |kind| &kind.kind), outcome, took);
    }
}

/// One line for an admission that changes something, and one for a review that cannot be read.
fn log(asked: Option<&Asked<'_>>, verdict: &Verdict<'_>) {
    match (asked, verdict) {
        (Some(asked), Verdict::Decided(object, decision)) => {
            // Nothing but references that were parsed, so there is nothing in it to escape.
            let mut changes = String::new();
            for (slot, image) in decision.rewrites() {
                let separator = if changes.is_empty() { "" } else { ", " };
                let (list, index) = (slot.list.field(), slot.index);
                let _ = write!(changes, "{separator}{list}/{index}: {} -> {image}", slot.image);
            }
            if changes.is_empty() {
                return;
            }
            tracing::info!(
                uid = &*asked.uid,
                operation = &*asked.operation,
                kind = &*asked.kind.kind,
                namespace = &*asked.namespace,
                name = &*object.name,
                %changes,
                "images pinned"
            );
        }
        (_, Verdict::Malformed(reason)) => {
            let uid = asked.map(|asked| asked.uid.as_ref()).unwrap_or_default();
            tracing::warn!(uid, reason, "review cannot be read, its object was allowed as it is");
        }
        _ => {}
    }
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

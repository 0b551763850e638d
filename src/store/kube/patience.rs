//! How long an API server wants to be left alone, as its refusals say.
//!
//! It says so in a header (`Retry-After`), which kube's client does not hand on, and only some refusals say it in their
//! body as well: API Priority and Fairness, and an API server that is about to end, send a line of text. So each refusal
//! is given what its header says on the way in, in one place for all who ask. Nobody is made to wait here: when to ask
//! again is known by whoever asked.

use std::time::Duration;

use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Bytes};
use hyper::header::{CONTENT_LENGTH, RETRY_AFTER};
use hyper::{Response, StatusCode};
use kube::core::Status;
use kube::core::response::StatusDetails;
use tower::BoxError;

/// An API server that wants more patience gets this much.
const PATIENCE_MAX: Duration = Duration::from_mins(1);

/// For how long, if the API server refused and said so.
#[must_use]
pub fn patience(error: &kube::Error) -> Option<Duration> {
    match error {
        kube::Error::Api(status) => patience_of(status),
        _ => None,
    }
}

pub(super) fn patience_of(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0 && asks_for_patience(status.code)).then(|| Duration::from_secs(seconds.into()).min(PATIENCE_MAX))
}

fn asks_for_patience(code: u16) -> bool {
    code == 429 || code >= 500
}

/// The answer, its header written into its body if it is a refusal that has one. A layer of the client.
///
/// # Errors
/// If the body of a refusal breaks off.
pub(super) async fn noted<B>(answer: Response<B>) -> Result<Response<Either<B, Full<Bytes>>>, BoxError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let Some(seconds) = said(&answer) else { return Ok(answer.map(Either::Left)) };
    let (mut head, body) = answer.into_parts();
    let body = body.collect().await.map_err(Into::into)?.to_bytes();
    let body = serde_json::to_vec(&with_patience(&body, head.status, seconds))?;
    head.headers.remove(CONTENT_LENGTH);
    Ok(Response::from_parts(head, Either::Right(Full::new(body.into()))))
}

/// API servers say seconds, never a date.
fn said<B>(answer: &Response<B>) -> Option<u32> {
    let header = answer.headers().get(RETRY_AFTER).filter(|_| asks_for_patience(answer.status().as_u16()))?;
    header.to_str().ok()?.trim().parse().ok()
}

fn with_patience(body: &[u8], code: StatusCode, seconds: u32) -> Status {
    let text = || String::from_utf8_lossy(body).trim().to_owned();
    let mut status: Status = serde_json::from_slice(body)
        .unwrap_or_else(|_| Status::failure(&text(), code.canonical_reason().unwrap_or("")));
    status.code = code.as_u16();
    status.details.get_or_insert_with(nothing).retry_after_seconds = seconds;
    status
}

fn nothing() -> StatusDetails {
    let [name, group, kind, uid] = [(); 4].map(|()| String::new());
    StatusDetails { name, group, kind, uid, causes: Vec::new(), retry_after_seconds: 0 }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::store::kube::watch::script::{Answer, server, status};

    async fn asked(answer: Answer) -> kube::Error {
        let (client, _) = server(vec![answer]);
        let request = hyper::Request::get("/version").body(Vec::new()).unwrap();
        client.request::<serde_json::Value>(request).await.unwrap_err()
    }

    fn refusal(code: u16, body: &str, seconds: &'static str) -> Answer {
        Answer::Patient(code, body.to_owned(), seconds)
    }

    #[rstest]
    #[case::as_priority_and_fairness_refuses(429, "Too many requests, please try again later.\n", "2", Some(2))]
    #[case::as_one_that_ends_refuses(429, "The apiserver is shutting down, please try again later.\n", "5", Some(5))]
    #[case::in_the_header_only(503, &status(503).to_string(), "7", Some(7))]
    #[case::bounded(503, "", "4294967295", Some(60))]
    #[case::none(429, "", "0", None)]
    #[case::a_date(429, "", "Wed, 21 Oct 2015 07:28:00 GMT", None)]
    #[case::more_than_a_number(429, "", "99999999999999999999", None)]
    #[case::less_than_nothing(429, "", "-1", None)]
    #[case::no_reason_to_wait(404, "", "9", None)]
    #[tokio::test]
    async fn refusal_says_for_how_long(
        #[case] code: u16,
        #[case] body: &str,
        #[case] header: &'static str,
        #[case] seconds: Option<u64>,
    ) {
        let error = asked(refusal(code, body, header)).await;
        assert_eq!(patience(&error), seconds.map(Duration::from_secs));
        let kube::Error::Api(found) = error else { panic!("{error}") };
        assert_eq!(found.code, code);
        let message = if body.starts_with('{') { "because" } else { body.trim() };
        assert_eq!(found.message, message);
    }

    #[tokio::test]
    async fn what_a_body_says_beside_it_stays() {
        let body = r#"{"kind":"Status","message":"wait","code":429,"details":{"name":"app","retryAfterSeconds":30}}"#;
        let kube::Error::Api(found) = asked(refusal(429, body, "4")).await else { panic!("no refusal") };
        let details = found.details.clone().unwrap();
        assert_eq!((details.name.as_str(), details.retry_after_seconds), ("app", 4));
        let kube::Error::Api(found) = asked(Answer::Object(429, serde_json::from_str(body).unwrap())).await else {
            panic!("no refusal")
        };
        assert_eq!(patience_of(&found), Some(Duration::from_secs(30)));
    }
}

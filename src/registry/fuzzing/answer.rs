//! Whole answers: status, headers, body.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{StatusCode, Url};
use secrecy::ExposeSecret as _;

use super::super::address::Address;
use super::super::answer::{CONTENT_DIGEST, checked, good};
use super::super::client::next_query;
use super::super::connection::{Answer, redirected};
use super::super::download::extent;
use super::super::keyring::Shown;
use super::super::transport::{Ask, Session};
use super::super::{FetchError, Retry, helper, patience, tokens};
use crate::digest::Digest;

/// The longest time that a registry may want to be left alone.
const PATIENCE_MAX: Duration = Duration::from_hours(1);

/// An answer as HTTP has it: a status, headers, an empty line, a body. Whatever is read of it is bounded: what people are
/// told, how long is waited. A token can be shown, the next page is one of the same registry, a digest is that of the body.
pub(crate) fn answer(input: &[u8]) {
    let Some(answer) = read(input) else { return };
    let now = Timestamp::UNIX_EPOCH;
    let waits = [patience::limited(answer.status, &answer.headers, now), patience::used_up(&answer.headers, now)];
    assert!(waits.into_iter().flatten().all(|wait| wait <= PATIENCE_MAX));
    let value = |name: &HeaderName| answer.headers.get(name)?.to_str().ok();
    if let Some(query) = answer.headers.get("link").and_then(|link| next_query(link.to_str().ok()?)) {
        let page = format!("https://r.io/v2/a/b/tags/list?{query}");
        let url = Url::parse(&page).expect("a query of a URL is one of another");
        assert_eq!((url.host_str(), url.path(), url.fragment()), (Some("r.io"), "/v2/a/b/tags/list", None));
    }
    if let (Some((offset, Some(size))), Some(range)) = (extent(&answer, 5), value(&CONTENT_RANGE))
        && answer.status == StatusCode::PARTIAL_CONTENT
    {
        assert!(offset == 5 && range.starts_with("bytes 5-") && range.ends_with(&size.to_string()));
    }
    if let Some(Ok(next)) = value(&LOCATION).and_then(|_| leads_to(&answer)) {
        assert!(Url::parse(next.as_str()).is_ok());
    }
    helped(&answer.body);
    asked(answer);
}

/// What is made of it by who has asked for something.
fn asked(answer: Answer) {
    let address = Address::of("r.io/a/b:1").expect("a reference");
    let session = Session::new(Shown::default(), Duration::from_secs(1));
    let ask = Ask { address: &address, insecure: false, session: &session };
    match tokens::read(ask, "auth.io", &answer) {
        Ok(Some(token)) => assert!(HeaderValue::from_str(token.value()).is_ok(), "{:?}", token.value()),
        Ok(None) => {}
        Err(error) => assert_told(&error),
    }
    match checked(&address, &answer, None) {
        Ok(digest) => {
            assert!(digest.parse::<Digest>().is_ok_and(|digest| digest.is_of(&answer.body)));
            let said = answer.headers.get(CONTENT_DIGEST).and_then(|said| said.to_str().ok());
            assert!(said.is_none_or(|said| said == digest));
        }
        Err(error) => assert_told(&error),
    }
    let is_success = answer.status.is_success();
    match good(ask, answer) {
        Ok(_) => assert!(is_success),
        Err(error) => assert_told(&error),
    }
}

/// Whatever a registry says, people get a line.
fn assert_told(error: &FetchError) {
    assert!(
        error.message.chars().count() <= 1001 && !error.message.chars().any(char::is_control),
        "{:?}",
        error.message
    );
    assert!(!matches!(error.retry, Retry::After(wait) if wait > PATIENCE_MAX));
}

/// The body as what a credential helper prints.
fn helped(body: &[u8]) {
    if let Ok(credential) = helper::read(body) {
        let secret = credential.identity_token.as_ref().unwrap_or(&credential.password).expose_secret();
        // What is skipped need not be text; of a list, fields are taken in their order.
        let kept = serde_json::from_slice::<serde_json::Value>(body).ok();
        let kept = kept.as_ref().and_then(|kept| kept.get("Secret"));
        assert!(kept.is_none_or(|kept| kept == secret));
    }
    if let Err(told) = helper::refused(body) {
        assert!(told.chars().count() < 300 && !told.chars().any(char::is_control), "{told:?}");
    }
}

fn leads_to(answer: &Answer) -> Option<Result<Url, super::super::failure::Failure>> {
    let mut response = hyper::Response::new("");
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers.clone();
    redirected(&response.into(), &Url::parse("https://r.io/v2/").expect("a constant URL"))
}

fn read(input: &[u8]) -> Option<Answer> {
    let head = input.windows(2).position(|end| end == b"\n\n").unwrap_or(input.len());
    let body = input.get(head + 2..).unwrap_or_default().to_vec();
    let mut lines = input[..head].split(|byte| *byte == b'\n');
    let status = StatusCode::from_bytes(lines.next()?).ok()?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        headers.append(name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?);
    }
    Some(Answer { status, headers, body, rest: None, is_public: false })
}

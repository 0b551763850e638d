//! The target of requests to the registry: path, query and headers.

use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, Uri, header};

use super::challenge::Front;
use super::path::Asked;
use super::{etag, is_known, range, tags};
use crate::digest::Digest;
use crate::mirror::access::{Credentials, Scheme};
use crate::mirror::{Part, Version};
use crate::registry::fuzzing::realm;
use crate::stream::Key;

/// A request as HTTP has it: a path with a query, then headers, a line each. What is asked for is what was written, and can
/// be part of a path; a range is in the blob, and where the standard leaves no choice a second reader finds the same; pages
/// have every tag once; the challenge is one that clients read, and sends them nowhere else.
pub(crate) fn pull(input: &[u8]) {
    let Some(request) = read(input) else { return };
    let path = request.uri.path();
    let asked = Asked::read(path).ok();
    if let Some(asked) = &asked {
        assert_eq!(written(asked), path.strip_suffix('/').filter(|path| *path == "/v2").unwrap_or(path));
    }
    let digest = Digest::of(b"");
    for size in [0, 1, 1000, u64::MAX] {
        let part = range::of(&request.headers, &etag(&digest));
        let bytes = part.of(size);
        assert!(bytes.clone().is_none_or(|bytes| bytes.start <= bytes.end && bytes.end <= size));
        assert_range(&request, part, size);
    }
    let _ = is_known(&request.headers, &digest);
    if let Ok(credentials) = Credentials::read(request.headers.get(header::AUTHORIZATION)) {
        assert!(HeaderValue::from_str(credentials.secret()).is_ok() || matches!(credentials, Credentials::Login(..)));
    }
    assert_challenge(&request, asked.as_ref());
    assert_pages(&request.uri);
}

fn written(asked: &Asked) -> String {
    match asked {
        Asked::Base => "/v2".to_owned(),
        Asked::Token => Asked::TOKEN_PATH.to_owned(),
        Asked::Tags(stream) => format!("/v2/{}/tags/list", plain(stream)),
        Asked::Manifest(stream, Version::Tag(tag)) => {
            assert!(!tag.starts_with('.'));
            format!("/v2/{}/manifests/{tag}", plain(stream))
        }
        Asked::Manifest(stream, Version::Digest(digest)) => format!("/v2/{}/manifests/{digest}", plain(stream)),
        Asked::Blob(stream, digest) => format!("/v2/{}/blobs/{digest}", plain(stream)),
    }
}

/// The name of a stream, of which nothing could mean something else in a path.
fn plain(stream: &Key) -> &Key {
    for part in [&stream.namespace, &stream.name] {
        let is_plain = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
        assert!(!part.is_empty() && part.chars().all(is_plain) && !part.contains("..") && !part.starts_with('.'));
    }
    stream
}

/// `bytes=A-B`, `bytes=A-` and `bytes=-N` as RFC 9110 (14.1.2) has them.
fn assert_range(request: &Parts, part: Part, size: u64) {
    let Some(range) = request.headers.get(header::RANGE).filter(|_| !request.headers.contains_key(header::IF_RANGE))
    else {
        return assert!(part == Part::Whole || request.headers.contains_key(header::RANGE));
    };
    let number = |digits: &str| digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'));
    let Some((first, last)) = range.to_str().ok().and_then(|range| range.strip_prefix("bytes=")?.split_once('-'))
    else {
        return;
    };
    let expected = match (first, number(first), number(last)) {
        (_, Some(first), Some(last)) if first <= last => {
            (first < size).then(|| first..last.saturating_add(1).min(size))
        }
        (_, Some(first), None) if last.is_empty() => (first < size).then_some(first..size),
        ("", None, Some(count)) => (count > 0 && size > 0).then(|| size.saturating_sub(count)..size),
        _ => return,
    };
    assert_eq!(part.of(size), expected);
}

/// Whoever is sent somewhere for a token is sent to where it came.
fn assert_challenge(request: &Parts, asked: Option<&Asked>) {
    let front = Front { is_secure: true, host: Some("registry.example".to_owned()) };
    for scheme in [Scheme::Nothing, Scheme::Basic, Scheme::Token] {
        let Some(challenge) = front.challenge(scheme, asked, request) else { continue };
        let challenge = challenge.to_str().expect("it is plain text");
        if scheme == Scheme::Token && asked != Some(&Asked::Token) {
            let realm = realm(challenge).expect("clients can read it");
            let host = realm.strip_prefix("https://").and_then(|rest| rest.strip_suffix(Asked::TOKEN_PATH));
            let host = host.expect("tokens are given at one path");
            let came_to = request.uri.authority().map(|authority| authority.as_str().to_owned());
            let named = request.headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
            assert!([came_to, named, front.host.clone()].into_iter().flatten().any(|known| known == host), "{host}");
        } else {
            assert_eq!(challenge, "Basic realm=\"pinstream\"");
        }
    }
}

/// Whoever follows from a page to the next comes to every tag behind it that can be pulled, once.
fn assert_pages(uri: &Uri) {
    let tags = ["%41", "1", "1.0", "a b", "a&b", "a+b", "a_b", "latest", "v1-x", "\u{e4}"].map(str::to_owned);
    let (mut page, mut seen) = (tags::page(&tags, uri).ok(), Vec::new());
    while let Some((shown, next)) = page {
        seen.extend(shown);
        assert!(seen.len() <= tags.len(), "{seen:?}");
        page = next.map(|query| {
            let uri = format!("/v2/demo/app/tags/list?{query}").parse().expect("a page has a path");
            tags::page(&tags, &uri).expect("a page that a page leads to")
        });
    }
    let pullable = ["1", "1.0", "a_b", "latest", "v1-x"];
    // None are asked for.
    assert!(seen.is_empty() || pullable.ends_with(&seen), "{seen:?}");
}

fn read(input: &[u8]) -> Option<Parts> {
    let mut lines = input.split(|byte| *byte == b'\n');
    let mut request = Request::builder().uri(lines.next()?);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    Some(request.body(()).ok()?.into_parts().0)
}

//! What a registry's answer is worth: what it refuses, in words for people, and whether the bytes are what they are called.

use serde::Deserialize;

use super::address::Address;
use super::connection::Answer;
use super::failure::Failure;
use super::transport::Ask;
use super::{FetchError, Reason, Retry, SAID_MAX, line};
use crate::digest::Hasher;

/// Header with the digest of what is answered.
pub(super) const CONTENT_DIGEST: &str = "docker-content-digest";

pub(super) fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).and_then(|value| value.to_str().ok())
}

/// The image as people know it.
pub(super) fn named(address: &Address) -> String {
    let separator = if address.digest().is_some() { '@' } else { ':' };
    format!("{}/{}{separator}{}", address.registry, address.repository, address.version)
}

/// An answer that says yes, or what it says instead.
pub(super) fn good(ask: Ask<'_>, answer: Answer) -> Result<Answer, FetchError> {
    let address = ask.address;
    if answer.status.is_success() {
        return Ok(answer);
    }
    let (name, registry) = (named(address), &address.registry);
    if let Some(wait) = answer.limited() {
        return Err(Failure::Limited(wait).told(&address.host, "the registry"));
    }
    let said = said(&answer.body);
    let advice = || ask.session.shown.advice(registry);
    let (reason, text) = match answer.status.as_u16() {
        401 => (
            Reason::Unauthorized,
            format!("registry {registry} wants other credentials for {name}{said}; {}", advice()),
        ),
        403 => (Reason::Forbidden, format!("registry {registry} refuses {name}{said}; {}", advice())),
        404 => (Reason::NotFound, format!("there is no {name}{said}")),
        code => (Reason::InternalError, format!("registry {registry} answers {code} for {name}{said}")),
    };
    Err(FetchError::new(reason, Retry::Later, text))
}

/// What a registry's error says, shortened.
fn said(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Error>,
    }
    #[derive(Deserialize)]
    struct Error {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let errors: Option<Errors> = serde_json::from_slice(body).ok();
    let first = errors.and_then(|errors| errors.errors.into_iter().next());
    first.map_or_else(String::new, |error| {
        let text = format!("{}: {}", error.code, error.message);
        format!(" ({})", line(&text, SAID_MAX))
    })
}

/// The digest of an answer. It must be the one that is wanted, and the one that the registry says.
pub(super) fn checked(address: &Address, answer: &Answer, wanted: Option<&str>) -> Result<String, FetchError> {
    let mut digests = Vec::new();
    for expected in wanted.into_iter().chain(header(answer, CONTENT_DIGEST)) {
        let algorithm = expected.split(':').next().unwrap_or_default();
        let found = digest_of(algorithm, &answer.body).ok_or_else(|| {
            let text = format!("{}: digests of the kind {algorithm:?} are not known", named(address));
            FetchError::new(Reason::Invalid, Retry::Later, text)
        })?;
        if expected != found {
            let text =
                format!("{}: the registry sent something else than {expected}: its digest is {found}", named(address));
            return Err(FetchError::new(Reason::InternalError, Retry::Later, text));
        }
        digests.push(found);
    }
    let own = || digest_of("sha256", &answer.body).expect("SHA-256 is known");
    Ok(digests.into_iter().next().unwrap_or_else(own))
}

fn digest_of(algorithm: &str, bytes: &[u8]) -> Option<String> {
    let mut hasher = Hasher::new(algorithm)?;
    hasher.update(bytes);
    Some(hasher.finish().to_string())
}

//! What a client shows of itself: the header `Authorization`, read.

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};

use super::Refusal;
use crate::digest::Digest;

/// The longest header that is read. Tokens of ServiceAccounts have about 1,000 characters.
const HEADER_MAX: usize = 16 << 10;
/// The token of whoever has none, as OpenShift's registry gives it.
pub(super) const ANONYMOUS: &str = "anonymous";

/// What a client shows.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Nothing.
    None,
    /// A token.
    Token(SecretString),
    /// User and password.
    Login(String, SecretString),
}

impl Credentials {
    /// Reads the header.
    ///
    /// # Errors
    /// [`Refusal::BadCredentials`] if it is none that is known.
    pub fn read(header: Option<&HeaderValue>) -> Result<Self, Refusal> {
        let Some(header) = header else { return Ok(Self::None) };
        let text = header.to_str().ok().filter(|text| text.len() <= HEADER_MAX).ok_or(Refusal::BadCredentials)?;
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Self::token(rest);
        }
        if scheme.eq_ignore_ascii_case("basic") {
            return Self::login(rest).ok_or(Refusal::BadCredentials);
        }
        Err(Refusal::BadCredentials)
    }

    /// The token to show from now on, whichever way it was shown now: a cluster's token is a password as well.
    #[must_use]
    pub fn secret(&self) -> &str {
        match self {
            Self::None => ANONYMOUS,
            Self::Token(secret) | Self::Login(_, secret) => secret.expose_secret(),
        }
    }

    fn token(written: &str) -> Result<Self, Refusal> {
        match written {
            ANONYMOUS => Ok(Self::None),
            token if is_word(token) => Ok(Self::Token(token.into())),
            _ => Err(Refusal::BadCredentials),
        }
    }

    fn login(written: &str) -> Option<Self> {
        let decoded = String::from_utf8(STANDARD.decode(written).ok()?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        // Clients that have no credentials send empty ones.
        let is_nobody = user.is_empty() && password.is_empty();
        Some(if is_nobody { Self::None } else { Self::Login(user.to_owned(), password.into()) })
    }
}

/// No blanks, nothing that could not stand in a header.
pub(super) fn is_word(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What is kept in place of something secret.
pub(super) fn fingerprint(parts: &[&str]) -> Digest {
    let lengths = parts.iter().map(|part| format!("{}.", part.len()));
    Digest::of(lengths.chain(parts.iter().map(ToString::to_string)).collect::<String>().as_bytes())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// `Basic`, user and password, or what became of it.
    fn read(header: &str) -> String {
        match Credentials::read(Some(&HeaderValue::from_str(header).unwrap())) {
            Ok(Credentials::None) => "nobody".to_owned(),
            Ok(Credentials::Token(token)) => format!("token {}", token.expose_secret()),
            Ok(Credentials::Login(user, password)) => format!("{user} with {}", password.expose_secret()),
            Err(refusal) => refusal.to_string(),
        }
    }

    const BAD: &str = "the credentials are not valid";

    #[rstest]
    #[case("Bearer abc.def", "token abc.def")]
    #[case("bearer   abc", "token abc")]
    #[case("Bearer anonymous", "nobody")]
    #[case("Bearer a b", BAD)]
    #[case("Bearer", BAD)]
    #[case("Basic YW55OmE6Yg==", "any with a:b")]
    #[case("BASIC YW55OmE6Yg==", "any with a:b")]
    #[case("Basic Og==", "nobody")]
    #[case("Basic YW55", BAD)]
    #[case("Basic !", BAD)]
    #[case("Basic", BAD)]
    #[case("Digest username=a", BAD)]
    #[case("", BAD)]
    fn header_is_read(#[case] header: &str, #[case] expected: &str) {
        assert_eq!(read(header), expected);
    }

    #[test]
    fn long_headers_are_not_read_and_secrets_not_printed() {
        assert_eq!(read(&format!("Bearer {}", "a".repeat(HEADER_MAX))), BAD);
        let shown = Credentials::read(Some(&HeaderValue::from_static("Bearer secret"))).unwrap();
        assert!(!format!("{shown:?}").contains("secret\""), "{shown:?}");
        assert_eq!((shown.secret(), Credentials::None.secret()), ("secret", "anonymous"));
    }

    #[test]
    fn fingerprints_tell_apart_what_only_looks_the_same() {
        assert_ne!(fingerprint(&["a", "bc"]), fingerprint(&["ab", "c"]));
        assert_eq!(fingerprint(&["a", "bc"]), fingerprint(&["a", "bc"]));
    }
}

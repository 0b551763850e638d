//! Digests of content: `sha256:<hex>`, read strictly and worked out. Pure.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;

/// A digest, as OCI has it. Nothing but letters, digits and one colon is in it, so it can be part of a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Box<str>);

/// What is no digest that can be checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Of an algorithm that is not known.
    #[error("digests of the kind {0:?} are not known")]
    Algorithm(String),
    /// The algorithm is known, what follows is no hash of it.
    #[error("{0:?} is no digest")]
    Malformed(String),
}

/// Works out a digest, piece by piece.
#[derive(Clone)]
pub struct Hasher {
    algorithm: &'static str,
    context: digest::Context,
}

/// The algorithms: name, how it is done.
const ALGORITHMS: &[(&str, &digest::Algorithm)] =
    &[("sha256", &digest::SHA256), ("sha384", &digest::SHA384), ("sha512", &digest::SHA512)];

impl Digest {
    /// The digest as text, `sha256:…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the colon.
    #[must_use]
    pub fn algorithm(&self) -> &str {
        self.split().0
    }

    /// What stands behind the colon: lower-case hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.split().1
    }

    /// Works out a digest of the same kind, to compare.
    #[must_use]
    pub fn hasher(&self) -> Hasher {
        Hasher::new(self.algorithm()).unwrap_or_default()
    }

    /// The SHA-256 of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Whether it is the digest of these bytes.
    #[must_use]
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish() == *self
    }

    fn split(&self) -> (&str, &str) {
        self.0.split_once(':').unwrap_or_default()
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(written: &str) -> Result<Self, DigestError> {
        let (name, hex) = written.split_once(':').ok_or_else(|| DigestError::Malformed(written.to_owned()))?;
        let algorithm = algorithm(name).ok_or_else(|| DigestError::Algorithm(name.to_owned()))?;
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if hex.len() == algorithm.1.output_len() * 2 && hex.bytes().all(is_hex) {
            Ok(Self(written.into()))
        } else {
            Err(DigestError::Malformed(written.to_owned()))
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self { algorithm: "sha256", context: digest::Context::new(&digest::SHA256) }
    }
}

impl Hasher {
    /// `None` if the algorithm is not known.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let (algorithm, how) = algorithm(name)?;
        Some(Self { algorithm, context: digest::Context::new(how) })
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// The digest of all bytes.
    #[must_use]
    pub fn finish(self) -> Digest {
        let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
        let mut text = format!("{}:", self.algorithm);
        for byte in self.context.finish().as_ref() {
            text.extend([digit(byte >> 4), digit(byte & 15)]);
        }
        Digest(text.into())
    }
}

fn algorithm(name: &str) -> Option<(&'static str, &'static digest::Algorithm)> {
    ALGORITHMS.iter().copied().find(|(known, _)| *known == name)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digests_are_written_as_registries_do() {
        assert_eq!(Digest::of(b"").as_str(), EMPTY);
        let digest: Digest = EMPTY.parse().unwrap();
        assert_eq!((digest.algorithm(), digest.hex()), ("sha256", &EMPTY[7..]));
        assert!(digest.is_of(b"") && !digest.is_of(b"a"));
        let long = Hasher::new("sha512").unwrap().finish();
        assert_eq!(long.as_str().parse(), Ok(long.clone()));
        assert!(long.is_of(b""));
    }

    #[rstest]
    #[case::nothing("")]
    #[case::no_colon("sha256")]
    #[case::no_hash("sha256:")]
    #[case::short("sha256:e3b0c442")]
    #[case::upper_case("sha256:E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    #[case::long("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8555")]
    #[case::path("sha256:../c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/x")]
    #[case::unknown("md5:d41d8cd98f00b204e9800998ecf8427e")]
    fn what_is_no_digest_is_refused(#[case] written: &str) {
        assert!(written.parse::<Digest>().is_err());
    }
}

//! An image of a container as far as auditing tells images apart. Pure.

use crate::digest::Digest;
use crate::reference::Reference;

/// What is to be known of a container's image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Image {
    /// It has a digest.
    Pinned {
        digest: DigestKey,
        /// What stands before the digest and the tag.
        repository: Box<str>,
    },
    /// It has a registry or a namespace, and no digest.
    Mutable,
    /// It is a short name without a digest, or no reference.
    Unresolved,
}

/// A digest in little room: the SHA-256 itself, of other digests that of their text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct DigestKey([u8; 32]);

impl DigestKey {
    pub(super) fn of(digest: &str) -> Self {
        let hex = digest.strip_prefix("sha256:").and_then(bytes);
        let other = || bytes(Digest::of(digest.as_bytes()).hex()).unwrap_or_default();
        Self(hex.unwrap_or_else(other))
    }
}

fn bytes(hex: &str) -> Option<[u8; 32]> {
    let digits = hex.as_bytes();
    let value = |digit: u8| u8::try_from(char::from(digit).to_digit(16)?).ok();
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

impl Image {
    /// Reads an image as it is written.
    pub(super) fn read(written: &str) -> Self {
        let Ok(reference) = Reference::parse(written) else { return Self::Unresolved };
        match reference.digest {
            Some(digest) => {
                let repository = Reference { tag: None, digest: None, ..reference }.to_string().into();
                Self::Pinned { digest: DigestKey::of(digest), repository }
            }
            None if reference.is_short() => Self::Unresolved,
            None => Self::Mutable,
        }
    }

    /// Namespace and name of the stream that it is of if a registry of streams serves it, and its repository.
    pub(super) fn home(&self) -> Option<(&str, &str, &str)> {
        let Self::Pinned { repository, .. } = self else { return None };
        let (rest, stream) = repository.rsplit_once('/')?;
        let (_, namespace) = rest.rsplit_once('/')?;
        Some((namespace, stream, repository))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_told_apart_by_what_can_change() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        let pinned = Image::read(&format!("r.io:5000/demo/app:1@{digest}"));
        let repository = "r.io:5000/demo/app".into();
        assert_eq!(pinned, Image::Pinned { digest: DigestKey([0x0f; 32]), repository });
        assert_eq!(pinned.home(), Some(("demo", "app", "r.io:5000/demo/app")));
        for (written, expected) in [("q.io/a/b:1", Image::Mutable), ("a/b", Image::Mutable)] {
            assert_eq!(Image::read(written), expected);
        }
        for written in ["app", "app:1", "App", ""] {
            assert_eq!(Image::read(written), Image::Unresolved, "{written}");
        }
    }

    #[test]
    fn digests_of_other_kinds_differ_too() {
        let (one, other) = (format!("sha512:{}", "a".repeat(128)), format!("sha512:{}b", "a".repeat(127)));
        assert_ne!(DigestKey::of(&one), DigestKey::of(&other));
        assert_eq!(DigestKey::of(&one), DigestKey::of(&one));
    }
}

//! What a path of the registry asks for. Pure.
//!
//! Paths are read as they were sent. Nothing that a name can have needs to be escaped, so whatever is escaped is no name.

use super::problem::Problem;
use crate::digest::{Digest, DigestError};
use crate::mirror::Version;
use crate::reference;
use crate::stream::Key;

/// The longest path that is looked at: a name has 255 characters at most, a digest of SHA-512 135.
const PATH_MAX: usize = 512;
/// The longest name, as the clients have it.
const NAME_MAX: usize = 255;
/// The longest name of a namespace.
const NAMESPACE_MAX: usize = 63;
/// Where tokens are given, below `/v2/`.
const TOKEN: &str = "token";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Whether this is a registry, and whether the credentials are good.
    Base,
    /// A token for the credentials.
    Token,
    /// The tags of a stream.
    Tags(Key),
    /// A manifest.
    Manifest(Key, Version),
    /// A blob.
    Blob(Key, Digest),
}

impl Asked {
    /// The path where tokens are given.
    pub(super) const TOKEN_PATH: &str = "/v2/token";

    /// Reads a path.
    pub(super) fn read(path: &str) -> Result<Self, Problem> {
        if path.len() > PATH_MAX {
            return Err(Problem::NameInvalid(format!("the path has {} characters", path.len())));
        }
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Base),
            Some(rest) if rest.starts_with('/') => &rest[1..],
            _ => return Err(Problem::Nowhere(path.to_owned())),
        };
        if rest == TOKEN {
            return Ok(Self::Token);
        }
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Ok(Self::Tags(key(name)?));
        }
        let Some((front, last)) = rest.rsplit_once('/') else { return Err(Problem::Nowhere(path.to_owned())) };
        match front.rsplit_once('/') {
            Some((name, "manifests")) => Ok(Self::Manifest(key(name)?, version(last)?)),
            Some((name, "blobs")) => Ok(Self::Blob(key(name)?, digest(last)?)),
            Some((name, "referrers")) => {
                let _ = (key(name)?, digest(last)?);
                Err(Problem::NoReferrers)
            }
            _ => Err(Problem::Nowhere(path.to_owned())),
        }
    }

    /// The stream that it is about.
    pub(super) fn stream(&self) -> Option<&Key> {
        match self {
            Self::Base | Self::Token => None,
            Self::Tags(stream) | Self::Manifest(stream, _) | Self::Blob(stream, _) => Some(stream),
        }
    }

    /// What metrics call it.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Token => "token",
            Self::Tags(_) => "tags",
            Self::Manifest(..) => "manifest",
            Self::Blob(..) => "blob",
        }
    }
}

/// A name that registries can have is `NAMESPACE/STREAM`, or nobody's.
fn key(name: &str) -> Result<Key, Problem> {
    if name.len() > NAME_MAX || !name.split('/').all(reference::is_component) {
        return Err(Problem::NameInvalid("a name is lower-case letters, digits and . _ - between them".to_owned()));
    }
    match name.split_once('/') {
        Some((namespace, stream)) if namespace.len() <= NAMESPACE_MAX && !stream.contains('/') => {
            Ok(Key::new(namespace, stream))
        }
        _ => Err(Problem::NameUnknown(format!("{name:?} is no image stream; write NAMESPACE/STREAM"))),
    }
}

/// What can be neither tag nor digest is a manifest that is not there, as the specification's tests have it.
fn version(written: &str) -> Result<Version, Problem> {
    if written.contains(':') {
        return digest(written).map(Version::Digest);
    }
    if reference::is_tag(written) {
        return Ok(Version::Tag(written.to_owned()));
    }
    Err(Problem::ManifestUnknown("what is asked for is neither a tag nor a digest".to_owned()))
}

fn digest(written: &str) -> Result<Digest, Problem> {
    written.parse().map_err(|error: DigestError| Problem::DigestInvalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn code(path: &str) -> (u16, &'static str) {
        let problem = Asked::read(path).unwrap_err();
        (problem.status().as_u16(), problem.code())
    }

    #[test]
    fn paths_of_the_specification_are_read() {
        let (stream, digest) = (Key::new("demo", "app"), DIGEST.parse::<Digest>().unwrap());
        let paths = [
            ("/v2".to_owned(), Asked::Base),
            ("/v2/".to_owned(), Asked::Base),
            ("/v2/token".to_owned(), Asked::Token),
            ("/v2/demo/app/tags/list".to_owned(), Asked::Tags(stream.clone())),
            (
                "/v2/demo/app/manifests/v1.0_x".to_owned(),
                Asked::Manifest(stream.clone(), Version::Tag("v1.0_x".to_owned())),
            ),
            (
                format!("/v2/demo/app/manifests/{DIGEST}"),
                Asked::Manifest(stream.clone(), Version::Digest(digest.clone())),
            ),
            (format!("/v2/demo/app/blobs/{DIGEST}"), Asked::Blob(stream.clone(), digest.clone())),
            // Names that are words of paths.
            (format!("/v2/blobs/manifests/blobs/{DIGEST}"), Asked::Blob(Key::new("blobs", "manifests"), digest)),
            ("/v2/tags/list/tags/list".to_owned(), Asked::Tags(Key::new("tags", "list"))),
        ];
        for (path, asked) in paths {
            assert_eq!(Asked::read(&path).ok(), Some(asked), "{path}");
        }
    }

    #[rstest]
    #[case::elsewhere("/", 404, "UNSUPPORTED")]
    #[case::first_version("/v1/", 404, "UNSUPPORTED")]
    #[case::no_boundary("/v2x/demo/app/tags/list", 404, "UNSUPPORTED")]
    #[case::catalogue("/v2/_catalog", 404, "UNSUPPORTED")]
    #[case::no_name("/v2/tags/list", 404, "UNSUPPORTED")]
    #[case::one_part("/v2/app/tags/list", 404, "NAME_UNKNOWN")]
    #[case::three_parts("/v2/a/b/c/tags/list", 404, "NAME_UNKNOWN")]
    #[case::parent("/v2/demo/../tags/list", 400, "NAME_INVALID")]
    #[case::parents("/v2/../../etc/manifests/latest", 400, "NAME_INVALID")]
    #[case::escaped_parent("/v2/demo/%2e%2e/tags/list", 400, "NAME_INVALID")]
    #[case::escaped_slash("/v2/demo%2fapp/tags/list", 400, "NAME_INVALID")]
    #[case::escaped_twice("/v2/demo/%252e%252e/tags/list", 400, "NAME_INVALID")]
    #[case::escaped_letter("/v2/demo/%61pp/tags/list", 400, "NAME_INVALID")]
    #[case::nul("/v2/demo/a%00pp/tags/list", 400, "NAME_INVALID")]
    #[case::upper_case("/v2/Demo/app/tags/list", 400, "NAME_INVALID")]
    #[case::unicode("/v2/demo/äpp/tags/list", 400, "NAME_INVALID")]
    #[case::fullwidth("/v2/demo/ａpp/tags/list", 400, "NAME_INVALID")]
    #[case::empty_part("/v2/demo//tags/list", 400, "NAME_INVALID")]
    #[case::empty_parts("/v2///manifests/latest", 400, "NAME_INVALID")]
    #[case::backslash("/v2/demo\\app/tags/list", 400, "NAME_INVALID")]
    #[case::dash_first("/v2/-demo/app/tags/list", 400, "NAME_INVALID")]
    #[case::no_tag("/v2/demo/app/manifests/", 404, "MANIFEST_UNKNOWN")]
    #[case::tag_with_dot_first("/v2/demo/app/manifests/.INVALID_MANIFEST_NAME", 404, "MANIFEST_UNKNOWN")]
    #[case::tag_is_parent("/v2/demo/app/manifests/..", 404, "MANIFEST_UNKNOWN")]
    #[case::escaped_tag("/v2/demo/app/manifests/%2e%2e", 404, "MANIFEST_UNKNOWN")]
    #[case::short_digest("/v2/demo/app/manifests/sha256:e3b0", 400, "DIGEST_INVALID")]
    #[case::unknown_digest("/v2/demo/app/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", 400, "DIGEST_INVALID")]
    #[case::tag_of_a_blob("/v2/demo/app/blobs/latest", 400, "DIGEST_INVALID")]
    #[case::digest_is_parent("/v2/demo/app/blobs/..", 400, "DIGEST_INVALID")]
    #[case::referrers_of_no_digest("/v2/demo/app/referrers/latest", 400, "DIGEST_INVALID")]
    #[case::uploads("/v2/demo/app/blobs/uploads/", 404, "UNSUPPORTED")]
    fn what_is_no_name_is_refused(#[case] path: &str, #[case] status: u16, #[case] problem: &str) {
        assert_eq!(code(path), (status, problem));
    }

    #[test]
    fn long_paths_and_names_are_refused() {
        let (long, tag) = ("a".repeat(10_000), "a".repeat(129));
        assert_eq!(code(&format!("/v2/demo/{long}/tags/list")), (400, "NAME_INVALID"));
        assert_eq!(code(&format!("/v2/demo/{}/tags/list", &long[..251])), (400, "NAME_INVALID"));
        assert_eq!(code(&format!("/v2/{}/app/tags/list", &long[..64])), (404, "NAME_UNKNOWN"));
        assert_eq!(code(&format!("/v2/demo/app/manifests/{tag}")), (404, "MANIFEST_UNKNOWN"));
        assert_eq!(code(&format!("/v2/demo/app/referrers/{DIGEST}")), (404, "UNSUPPORTED"));
    }

    proptest! {
        /// Whatever is taken for the name of a stream can be part of a path, and is written as it was asked for.
        #[test]
        fn names_have_nothing_special_in_them(path in "/v2/[a-z%./\\\\A-Z0-9 _:@ä-]{0,40}(/tags/list|/manifests/[a-z.%:]{1,9})?") {
            let asked = Asked::read(&path).ok();
            if let Some(stream) = asked.as_ref().and_then(Asked::stream) {
                let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
                for part in [&stream.namespace, &stream.name] {
                    prop_assert!(!part.contains("..") && !part.is_empty() && part.chars().all(is_plain));
                }
                prop_assert!(path.starts_with(&format!("/v2/{stream}/")), "{path}");
            }
        }

        #[test]
        fn no_path_is_a_panic(path in ".{0,600}") {
            let _ = Asked::read(&path);
            let _ = Asked::read(&format!("/v2/{path}"));
        }
    }
}

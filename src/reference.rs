//! An image reference exactly as it was written: parse, parts, print.
//!
//! Nothing is normalised unasked: `app:prod` and `docker.io/library/app:prod` stay different. Must not know
//! what a stream or a workload is.

use std::fmt;

/// The registry that Docker means by none.
pub const HUB: &str = "docker.io";
/// Where Docker Hub is asked.
pub const HUB_HOST: &str = "registry-1.docker.io";
/// The most bytes a name (all before tag and digest) may have.
const NAME_MAX: usize = 255;
/// The most bytes a tag may have.
const TAG_MAX: usize = 128;
/// The fewest hex digits a digest may have.
const DIGEST_HEX_MIN: usize = 32;

/// A parsed image reference that borrows the string it was read from.
///
/// The parts are those that OpenShift's look-up uses: a first component with a `.` or a `:`, or
/// `localhost`, is the registry; of what remains the first component is the namespace and everything
/// after it the name. A lone component that has a dot or starts with `localhost` counts as a registry
/// without a name. Printing gives back the bytes that were parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference<'a> {
    /// Host and port, or the whole string if it is only a registry.
    pub registry: Option<&'a str>,
    /// The first path component behind the registry, if there are two or more.
    pub namespace: Option<&'a str>,
    /// The rest of the path; empty if the string is only a registry.
    pub name: &'a str,
    /// What stands behind `:`.
    pub tag: Option<&'a str>,
    /// What stands behind `@`: `algorithm:hex`.
    pub digest: Option<&'a str>,
}

/// Why a string is no image reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing was written.
    #[error("an image reference may not be empty")]
    Empty,
    /// The part before tag and digest breaks the grammar.
    #[error(
        "invalid reference format: a name is lower-case letters and digits, separated by '.', '_', '__', '-' or '/'"
    )]
    Name,
    /// The part before tag and digest is too long.
    #[error("invalid reference format: a name has at most 255 characters")]
    NameLength,
    /// The part behind `:` breaks the grammar.
    #[error("invalid reference format: a tag is a letter, digit or '_', then at most 127 of these, '.' or '-'")]
    Tag,
    /// No URL can have the registry.
    #[error("invalid reference format: a registry is the name of a host or an IPv4 address, and a port up to 65535")]
    Registry,
    /// The part behind `@` breaks the grammar, or has the wrong length for its algorithm.
    #[error(
        "invalid reference format: a digest is an algorithm, ':' and its hex digits (64 for sha256, 96 for sha384, 128 for sha512)"
    )]
    Digest,
}

impl<'a> Reference<'a> {
    /// Parses a reference by the grammar of OCI references, as OpenShift reads it.
    ///
    /// # Errors
    /// The part of the grammar that was broken.
    pub fn parse(written: &'a str) -> Result<Self, ReferenceError> {
        if written.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (rest, digest) = split_at_byte(written, written.find('@'));
        let colon = rest.rfind(':').filter(|&colon| !rest[colon..].contains('/'));
        let (path, tag) = split_at_byte(rest, colon);
        if !is_path(path) {
            return Err(ReferenceError::Name);
        }
        if path.len() > NAME_MAX {
            return Err(ReferenceError::NameLength);
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag);
        }
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err(ReferenceError::Digest);
        }
        Ok(Self::from_parts(written, path, tag, digest))
    }

    fn from_parts(written: &'a str, path: &'a str, tag: Option<&'a str>, digest: Option<&'a str>) -> Self {
        let nameless = Self { registry: None, namespace: None, name: path, tag, digest };
        let Some((first, rest)) = path.split_once('/') else {
            if path.contains('.') || path.starts_with("localhost") {
                return Self { registry: Some(written), namespace: None, name: "", tag: None, digest: None };
            }
            return nameless;
        };
        let is_registry = first.contains(['.', ':']) || first == "localhost";
        let (registry, below) = if is_registry { (Some(first), rest) } else { (None, path) };
        match below.split_once('/') {
            Some((namespace, name)) => Self { registry, namespace: Some(namespace), name, ..nameless },
            None => Self { registry, name: below, ..nameless },
        }
    }

    /// A short name: no registry, no namespace. Only these are looked up in image streams.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.registry.is_none() && self.namespace.is_none()
    }

    /// Registry and repository, with what Docker fills in: `mysql` is `library/mysql` of `docker.io`.
    ///
    /// `None` if the string is only a registry.
    #[must_use]
    pub fn with_defaults(&self) -> Option<(String, String)> {
        if self.name.is_empty() {
            return None;
        }
        let registry = self.registry.map_or_else(|| HUB.to_owned(), registry_name);
        let repository = match self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None if registry == HUB => format!("library/{}", self.name),
            None => self.name.to_owned(),
        };
        Some((registry, repository))
    }

    /// The same repository at a digest, without a tag: what a pinned slot says.
    ///
    /// `None` if the string is only a registry, or `digest` is no digest.
    #[must_use]
    pub fn at_digest(&self, digest: &str) -> Option<String> {
        if self.name.is_empty() || !is_digest(digest) {
            return None;
        }
        Some(Reference { tag: None, digest: Some(digest), ..*self }.to_string())
    }

    /// The same repository at a tag. `None` if the string is only a registry, or `tag` is no tag.
    #[must_use]
    pub fn at_tag(&self, tag: &str) -> Option<String> {
        if self.name.is_empty() || !is_tag(tag) {
            return None;
        }
        Some(Reference { tag: Some(tag), digest: None, ..*self }.to_string())
    }
}

/// A registry in lower case, without a dot at the end of its host and zeros at the beginning of its port, Docker Hub by its
/// one name.
#[must_use]
pub fn registry_name(registry: &str) -> String {
    let registry = registry.to_ascii_lowercase();
    let (host, port) = split_at_byte(&registry, registry.find(':'));
    let host = host.trim_end_matches('.');
    let registry = match port.map(|port| (port, port.trim_start_matches('0'))) {
        None => host.to_owned(),
        Some((port, "")) => format!("{host}:{}", &port[..port.len().min(1)]),
        Some((_, port)) => format!("{host}:{port}"),
    };
    if is_hub(registry.strip_suffix(":443").unwrap_or(&registry)) { HUB.to_owned() } else { registry }
}

/// One of the names of Docker Hub.
#[must_use]
pub fn is_hub(host: &str) -> bool {
    matches!(host, HUB | "index.docker.io" | HUB_HOST)
}

impl fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = |f: &mut fmt::Formatter<'_>, part: Option<&str>| match part {
            Some(part) if self.name.is_empty() => f.write_str(part),
            Some(part) => write!(f, "{part}/"),
            None => Ok(()),
        };
        slash(f, self.registry)?;
        slash(f, self.namespace)?;
        f.write_str(self.name)?;
        if let Some(tag) = self.tag {
            write!(f, ":{tag}")?;
        }
        match self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// Splits around one ASCII byte; the second half is behind it.
fn split_at_byte(text: &str, at: Option<usize>) -> (&str, Option<&str>) {
    match at {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// `[domain[:port]/]component[/component…]`.
fn is_path(path: &str) -> bool {
    match path.split_once('/') {
        None => is_component(path),
        Some((first, rest)) => (is_component(first) || is_domain(first)) && rest.split('/').all(is_component),
    }
}

/// Lower-case letters and digits, with single `.`, one or two `_`, or any number of `-` between them.
pub(crate) fn is_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    is_plain(first)
        && is_plain(last)
        && bytes
            .chunk_by(|a, b| is_plain(a) == is_plain(b))
            .all(|run| is_plain(&run[0]) || matches!(run, b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-'))
}

/// `host[:port]`, upper case allowed.
fn is_domain(domain: &str) -> bool {
    let (host, port) = split_at_byte(domain, domain.find(':'));
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(is_label)
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

pub(crate) fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let is_algorithm = algorithm.split(['-', '_', '+', '.']).all(|part| {
        part.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    let length_fits = match algorithm {
        "sha256" => hex.len() == 64,
        "sha384" => hex.len() == 96,
        "sha512" => hex.len() == 128,
        _ => hex.len() >= DIGEST_HEX_MIN,
    };
    is_algorithm && length_fits && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const HEX: &str = "87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";

    type Parts<'a> = (Option<&'a str>, Option<&'a str>, &'a str, Option<&'a str>);

    #[rstest]
    #[case("foo", (None, None, "foo", None))]
    #[case("foo:tag", (None, None, "foo", Some("tag")))]
    #[case("bar/foo/baz:tag", (None, Some("bar"), "foo/baz", Some("tag")))]
    #[case("bar:5000/baz", (Some("bar:5000"), None, "baz", None))]
    #[case("docker.io/user/project/myapp", (Some("docker.io"), Some("user"), "project/myapp", None))]
    #[case("wildfly:15.0", (None, None, "wildfly", Some("15.0")))]
    #[case("localhost/app", (Some("localhost"), None, "app", None))]
    #[case("localhost:5000/a/b", (Some("localhost:5000"), Some("a"), "b", None))]
    #[case("my.app:1", (Some("my.app:1"), None, "", None))]
    #[case("localhost-x:1", (Some("localhost-x:1"), None, "", None))]
    #[case("localhosts/app", (None, Some("localhosts"), "app", None))]
    #[case("Upper/app", (None, Some("Upper"), "app", None))]
    #[case("a__b--c.d/e", (Some("a__b--c.d"), None, "e", None))]
    #[case("5000", (None, None, "5000", None))]
    fn parts_are_those_of_openshift(#[case] written: &str, #[case] parts: Parts<'_>) {
        let parsed = Reference::parse(written).unwrap();
        assert_eq!((parsed.registry, parsed.namespace, parsed.name, parsed.tag), parts);
        assert_eq!(parsed.digest, None);
        assert_eq!(parsed.to_string(), written);
    }

    #[test]
    fn bare_digest_string_is_a_name_with_a_tag() {
        let written = format!("sha256:{HEX}");
        let parsed = Reference::parse(&written).unwrap();
        assert_eq!((parsed.name, parsed.tag, parsed.digest), ("sha256", Some(HEX), None));
    }

    #[test]
    fn tag_and_digest_are_both_kept() {
        let written = format!("keycloak:20.0@sha256:{HEX}");
        let parsed = Reference::parse(&written).unwrap();
        assert_eq!((parsed.tag, parsed.digest), (Some("20.0"), Some(&written[14..])));
        assert!(parsed.is_short());
        assert_eq!(parsed.to_string(), written);
    }

    #[rstest]
    #[case("", ReferenceError::Empty)]
    #[case("Keycloak:1", ReferenceError::Name)]
    #[case("a b", ReferenceError::Name)]
    #[case("keycloak:20.0 ", ReferenceError::Tag)]
    #[case("keycloak:", ReferenceError::Tag)]
    #[case("keycloak::20.0", ReferenceError::Name)]
    #[case("keycloak@sha256:abc", ReferenceError::Digest)]
    #[case("a@", ReferenceError::Digest)]
    #[case("/a", ReferenceError::Name)]
    #[case("a/", ReferenceError::Name)]
    #[case("a//b", ReferenceError::Name)]
    #[case("a..b", ReferenceError::Name)]
    #[case("a___b", ReferenceError::Name)]
    #[case("a._b", ReferenceError::Name)]
    #[case("-a", ReferenceError::Name)]
    #[case("a-", ReferenceError::Name)]
    #[case("host:port/a", ReferenceError::Name)]
    #[case("host:/a", ReferenceError::Name)]
    #[case("ä", ReferenceError::Name)]
    #[case("a:ä", ReferenceError::Tag)]
    #[case("a:.b", ReferenceError::Tag)]
    fn broken_grammar_is_named(#[case] written: &str, #[case] error: ReferenceError) {
        assert_eq!(Reference::parse(written), Err(error));
    }

    #[test]
    fn lengths_are_bounded() {
        assert!(Reference::parse(&"a".repeat(255)).is_ok());
        assert_eq!(Reference::parse(&"a".repeat(256)), Err(ReferenceError::NameLength));
        assert!(Reference::parse(&format!("a:{}", "b".repeat(128))).is_ok());
        assert_eq!(Reference::parse(&format!("a:{}", "b".repeat(129))), Err(ReferenceError::Tag));
        assert_eq!(Reference::parse(&format!("a@sha256:{HEX}0")), Err(ReferenceError::Digest));
        assert!(Reference::parse(&format!("a@blake3:{HEX}")).is_ok());
    }

    #[rstest]
    #[case("quay.io/keycloak/keycloak:20.0", Some("quay.io/keycloak/keycloak"))]
    #[case("mysql", Some("mysql"))]
    #[case("my.app", None)]
    fn at_digest_drops_the_tag(#[case] written: &str, #[case] repository: Option<&str>) {
        let digest = format!("sha256:{HEX}");
        let expected = repository.map(|repository| format!("{repository}@{digest}"));
        assert_eq!(Reference::parse(written).unwrap().at_digest(&digest), expected);
        assert_eq!(Reference::parse(written).unwrap().at_digest("latest"), None);
    }

    proptest! {
        #[test]
        fn any_string_is_parsed_or_refused_and_round_trips(written in ".{0,64}") {
            if let Ok(parsed) = Reference::parse(&written) {
                prop_assert_eq!(parsed.to_string(), written);
            }
        }

        #[test]
        fn every_string_of_the_grammar_round_trips(
            written in "(([a-zA-Z0-9]([a-zA-Z0-9-]{0,5}[a-zA-Z0-9])?)(\\.[a-z0-9]{1,4}){0,2}(:[0-9]{1,5})?/)?[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,6}){0,3}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})?(@sha256:[0-9a-f]{64})?"
        ) {
            prop_assert_eq!(Reference::parse(&written).map(|parsed| parsed.to_string()), Ok(written.clone()));
        }
    }
}

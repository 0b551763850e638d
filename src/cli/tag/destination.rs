//! DEST of `pinstream tag`: a tag of a stream of this or another namespace. Pure.

use std::fmt;

use crate::cli::name::{TagName, namespace, stream_name};
use crate::stream::Key;

/// A tag that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    /// If it was said.
    pub namespace: Option<String>,
    pub name: TagName,
}

impl Destination {
    /// Reads a DEST.
    pub(super) fn parse(written: &str) -> Result<Self, String> {
        let (namespace, name) = split(written)?;
        let name = name.parse()?;
        Ok(Self { namespace, name })
    }

    /// Reads a DEST that is to be deleted: its tag may be what no new one may.
    pub(super) fn parse_any(written: &str) -> Result<Self, String> {
        let (namespace, name) = split(written)?;
        let parts = name.split_once(':').filter(|(_, tag)| !tag.is_empty());
        let (stream, tag) =
            parts.ok_or_else(|| format!("{written:?} names no tag; write NAME:TAG, such as keycloak:20.0"))?;
        Ok(Self { namespace, name: TagName { stream: stream_name(stream)?, tag: tag.to_owned() } })
    }

    pub(super) fn key(&self, current: &str) -> Key {
        Key::new(self.namespace.as_deref().unwrap_or(current), &self.name.stream)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

/// The namespace before the slash, unless it is a word for the resource.
fn split(written: &str) -> Result<(Option<String>, &str), String> {
    Ok(match written.split_once('/') {
        Some(("is" | "istag" | "imagestream" | "imagestreamtag", name)) => (None, name),
        Some((written, name)) => (Some(namespace(written)?), name),
        None => (None, written),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("ruby:tip", Ok("ruby:tip"))]
    #[case("other/ruby:tip", Ok("other/ruby:tip"))]
    #[case("istag/ruby:tip", Ok("ruby:tip"))]
    #[case("ruby", Err("write NAME:TAG"))]
    #[case("ruby:bad#tag", Err("invalid tag"))]
    #[case("a/b/c:1", Err("is no image stream"))]
    #[case("../ruby:1", Err("is no name of a namespace"))]
    #[case("ruby@87fb", Err("write NAME:TAG"))]
    fn destinations_are_read(#[case] written: &str, #[case] expected: Result<&str, &str>) {
        match (Destination::parse(written), expected) {
            (Ok(read), Ok(expected)) => assert_eq!(read.to_string(), expected),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (read, _) => panic!("{read:?}"),
        }
    }

    #[test]
    fn any_tag_can_be_deleted() {
        let read = Destination::parse_any("ruby:bad#tag").unwrap();
        assert_eq!((read.name.tag.as_str(), read.key("demo")), ("bad#tag", Key::new("demo", "ruby")));
        assert!(Destination::parse_any("ruby:").is_err() && Destination::parse_any("Ruby:1").is_err());
    }
}

//! SOURCE of `pinstream tag`: the forms in which an image is named, and what they mean. Pure.

use std::fmt;

use clap::ValueEnum;

use crate::cli::name::{namespace as namespace_name, stream_name};
use crate::reference::Reference;
use crate::stream::types::{ObjectReference, ReferenceKind};
use crate::stream::{ImageStream, history};

/// What a SOURCE is, if it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum SourceKind {
    #[value(name = "docker", alias = "dockerimage")]
    Docker,
    #[value(name = "istag", alias = "imagestreamtag")]
    Tag,
    #[value(name = "isimage", alias = "imagestreamimage")]
    Image,
}

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Source {
    /// A registry, by a pull spec as it was written.
    Registry(String),
    /// A tag of a stream.
    Tag(Place),
    /// An image of a stream's history, by its digest or the beginning of that.
    Image(Place),
}

/// A tag or an image of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Place {
    /// Of the stream, if it was said.
    pub namespace: Option<String>,
    pub stream: String,
    /// The tag or the digest.
    pub version: String,
}

/// A tag that has no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum FreezeError {
    #[error("{0} points to no image now; import it first, or let the new tag follow it with --alias")]
    NoImage(String),
    #[error("{0}: {1}")]
    NotFound(String, history::FindError),
}

impl Source {
    /// Reads a SOURCE. What kind it is tells its form, if it is not said: a registry makes an image of a registry, a
    /// digest an image of a stream, a tag one of a stream.
    pub(in crate::cli) fn parse(written: &str, kind: Option<SourceKind>) -> Result<Self, String> {
        match kind.map_or_else(|| guess(written), Ok)? {
            SourceKind::Docker => {
                let is_image = Reference::parse(written).is_ok_and(|reference| !reference.name.is_empty());
                if is_image { Ok(Self::Registry(written.to_owned())) } else { Err(no_image(written)) }
            }
            SourceKind::Tag => tag(written).map(Self::Tag),
            SourceKind::Image => image(written).map(Self::Image),
        }
    }

    /// The stream that is meant, if one is.
    pub(in crate::cli) fn place(&self) -> Option<&Place> {
        match self {
            Self::Registry(_) => None,
            Self::Tag(place) | Self::Image(place) => Some(place),
        }
    }

    /// The image that is meant now: of a tag the one that it points to, of a part of a digest the whole. `stream` is the
    /// one that is meant.
    pub(in crate::cli) fn frozen(&self, stream: &ImageStream) -> Result<Self, FreezeError> {
        match self {
            Self::Registry(_) => Ok(self.clone()),
            Self::Tag(place) => {
                let newest = stream.status.tag(&place.version).and_then(|events| events.items.first());
                let newest = newest.ok_or_else(|| FreezeError::NoImage(self.to_string()))?;
                Ok(if newest.image.is_empty() {
                    Self::Registry(newest.docker_image_reference.clone())
                } else {
                    Self::Image(Place { version: newest.image.clone(), ..place.clone() })
                })
            }
            Self::Image(place) => {
                let found = history::find(&stream.status, &place.version);
                let found = found.map_err(|error| FreezeError::NotFound(place.stream.clone(), error))?;
                Ok(Self::Image(Place { version: found.image.clone(), ..place.clone() }))
            }
        }
    }

    /// As a tag in namespace `of_tag` names it, for a command in namespace `current`.
    pub(in crate::cli) fn reference(&self, of_tag: &str, current: &str) -> ObjectReference {
        let kind = match self {
            Self::Registry(_) => ReferenceKind::DockerImage,
            Self::Tag(_) => ReferenceKind::ImageStreamTag,
            Self::Image(_) => ReferenceKind::ImageStreamImage,
        };
        let name = match self {
            Self::Registry(name) => name.clone(),
            Self::Tag(place) => format!("{}:{}", place.stream, place.version),
            Self::Image(place) => format!("{}@{}", place.stream, place.version),
        };
        let namespace = self.place().and_then(|place| {
            place.namespace.clone().or_else(|| Some(current.to_owned()).filter(|current| current != of_tag))
        });
        ObjectReference { kind, namespace, name, ..ObjectReference::default() }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, separator) = match self {
            Self::Registry(name) => return f.write_str(name),
            Self::Tag(place) => (place, ':'),
            Self::Image(place) => (place, '@'),
        };
        if let Some(namespace) = &place.namespace {
            write!(f, "{namespace}/")?;
        }
        write!(f, "{}{separator}{}", place.stream, place.version)
    }
}

fn guess(written: &str) -> Result<SourceKind, String> {
    let (path, id) = written.split_once('@').map_or((written, None), |(path, id)| (path, Some(id)));
    let reference = Reference::parse(path).map_err(|_| no_image(written))?;
    Ok(if reference.registry.is_some() {
        SourceKind::Docker
    } else if id.is_some() {
        SourceKind::Image
    } else if reference.tag.is_some() {
        SourceKind::Tag
    } else {
        SourceKind::Docker
    })
}

fn no_image(written: &str) -> String {
    format!(
        "{written:?} names no image; write one such as quay.io/keycloak/keycloak:20.0 or, of a stream, keycloak:20.0"
    )
}

fn tag(written: &str) -> Result<Place, String> {
    let wrong = || format!("{written:?} names no tag of a stream; write NAME:TAG, such as keycloak:20.0");
    let reference = Reference::parse(written).map_err(|_| wrong())?;
    let version = reference.tag.filter(|_| reference.digest.is_none()).ok_or_else(wrong)?;
    place(&reference, version)
}

fn image(written: &str) -> Result<Place, String> {
    let wrong = || {
        format!(
            "{written:?} names no image of a stream; write NAME@DIGEST, such as keycloak@sha256:87fbab or keycloak@87fbab"
        )
    };
    let (path, id) = written.split_once('@').ok_or_else(wrong)?;
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    let is_whole = Reference::parse(&format!("a@{id}")).is_ok();
    let is_part = !hex.is_empty() && hex.len() <= 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_whole && !is_part {
        return Err(wrong());
    }
    place(&Reference::parse(path).map_err(|_| wrong())?, id)
}

fn place(reference: &Reference<'_>, version: &str) -> Result<Place, String> {
    if let Some(registry) = reference.registry {
        return Err(format!(
            "a stream is on no registry such as {registry}; leave out --source, or write --source=docker"
        ));
    }
    // What Docker calls the place of names without one.
    let namespace = reference.namespace.filter(|namespace| *namespace != "library").map(namespace_name).transpose()?;
    Ok(Place { namespace, stream: stream_name(reference.name)?, version: version.to_owned() })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const DIGEST: &str = "sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";

    fn parse(written: &str, kind: Option<SourceKind>) -> Result<(ReferenceKind, String), String> {
        let reference = Source::parse(written, kind)?.reference("demo", "demo");
        let namespace = reference.namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
        Ok((reference.kind, namespace + &reference.name))
    }

    #[rstest]
    #[case("ruby:2.0", None, ReferenceKind::ImageStreamTag, "ruby:2.0")]
    #[case("openshift/ruby:2.0", None, ReferenceKind::ImageStreamTag, "openshift/ruby:2.0")]
    #[case("library/ruby:2.0", None, ReferenceKind::ImageStreamTag, "ruby:2.0")]
    #[case("openshift/ruby", None, ReferenceKind::DockerImage, "openshift/ruby")]
    #[case("ruby", None, ReferenceKind::DockerImage, "ruby")]
    #[case("quay.io/x:1", None, ReferenceKind::DockerImage, "quay.io/x:1")]
    #[case("host:5000/a/b/c:1", None, ReferenceKind::DockerImage, "host:5000/a/b/c:1")]
    #[case("ruby@87fb", None, ReferenceKind::ImageStreamImage, "ruby@87fb")]
    #[case("ruby@sha256:87fb", None, ReferenceKind::ImageStreamImage, "ruby@sha256:87fb")]
    #[case("other/ruby:1@87fb", None, ReferenceKind::ImageStreamImage, "other/ruby@87fb")]
    #[case("ruby:2.0", Some(SourceKind::Docker), ReferenceKind::DockerImage, "ruby:2.0")]
    #[case("ruby:2.0", Some(SourceKind::Tag), ReferenceKind::ImageStreamTag, "ruby:2.0")]
    #[case("ruby@87fb", Some(SourceKind::Image), ReferenceKind::ImageStreamImage, "ruby@87fb")]
    fn form_or_flag_tell_what_a_source_is(
        #[case] written: &str,
        #[case] kind: Option<SourceKind>,
        #[case] expected: ReferenceKind,
        #[case] name: &str,
    ) {
        assert_eq!(parse(written, kind), Ok((expected, name.to_owned())));
    }

    #[rstest]
    #[case("quay.io/ruby:2.0", Some(SourceKind::Tag), "a stream is on no registry such as quay.io")]
    #[case("quay.io/ruby@87fb", Some(SourceKind::Image), "a stream is on no registry such as quay.io")]
    #[case("ruby", Some(SourceKind::Tag), "write NAME:TAG")]
    #[case("ruby:2.0", Some(SourceKind::Image), "write NAME@DIGEST")]
    #[case("ruby@xyz", None, "write NAME@DIGEST")]
    #[case("ruby@", None, "write NAME@DIGEST")]
    #[case("a/b/c:1", None, "is no image stream")]
    #[case("a_b/c:1", None, "is no name of a namespace")]
    #[case("A b", None, "names no image")]
    #[case("", None, "names no image")]
    #[case("quay.io/a@87fb", None, "names no image")]
    #[case("my.registry", None, "names no image")]
    fn what_is_no_source_is_refused_with_an_example(
        #[case] written: &str,
        #[case] kind: Option<SourceKind>,
        #[case] expected: &str,
    ) {
        let error = Source::parse(written, kind).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn namespace_is_said_where_the_tag_is_in_another() {
        let own = Source::parse("ruby:1", None).unwrap();
        assert_eq!(own.reference("other", "demo").namespace.as_deref(), Some("demo"));
        let registry = Source::parse("quay.io/ruby:1", None).unwrap();
        assert_eq!(registry.reference("other", "demo").namespace, None);
    }

    #[test]
    fn tags_and_parts_of_digests_are_frozen_to_what_they_mean_now() {
        let item =
            |image: &str| json!({"dockerImageReference": format!("q.io/a@{DIGEST}"), "image": image, "generation": 1});
        let stream: ImageStream = serde_json::from_value(json!({"metadata": {"name": "ruby"}, "status": {"tags": [
            {"tag": "1", "items": [item(DIGEST), item(&DIGEST.replace("87", "99"))]},
            {"tag": "empty", "items": null},
            {"tag": "reference", "items": [item("")]}]}}))
        .unwrap();
        let frozen = |written| Source::parse(written, None).unwrap().frozen(&stream).map(|source| source.to_string());
        assert_eq!(frozen("ruby:1"), Ok(format!("ruby@{DIGEST}")));
        assert_eq!(frozen("demo/ruby@87fb"), Ok(format!("demo/ruby@{DIGEST}")));
        assert_eq!(frozen("ruby:reference"), Ok(format!("q.io/a@{DIGEST}")));
        assert_eq!(frozen("q.io/x:1"), Ok("q.io/x:1".to_owned()));
        assert_eq!(frozen("ruby:empty"), Err(FreezeError::NoImage("ruby:empty".to_owned())));
        assert!(frozen("ruby:none").is_err() && frozen("ruby@ff").is_err());
    }
}

//! From a tag to a pull spec: reference policy, pending imports, and what admission writes.
//!
//! The one place that knows it; whoever needs a pull spec calls here. Reads streams, never changes them.

use std::borrow::Cow;

use super::places::Places;
use super::types::{DEFAULT_TAG, ImageStream, ReferenceKind, ReferencePolicyType, SpecTag, TagEvent};
use crate::reference::Reference;

/// Host of the registry that serves the streams' images, as far as whoever writes streams is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RegistryHost {
    /// Nothing is told: what a stream's status says is left as it is.
    #[default]
    Unknown,
    /// No registry serves them.
    Nowhere,
    /// `host[:port]`.
    At(String),
}

impl RegistryHost {
    /// The host, if one is known.
    #[must_use]
    pub fn known(&self) -> Option<&str> {
        match self {
            Self::At(host) => Some(host),
            Self::Unknown | Self::Nowhere => None,
        }
    }

    /// What `status.dockerImageRepository` of a stream is to say.
    #[must_use]
    pub fn repository(&self, stream: &ImageStream) -> String {
        match self {
            Self::Unknown => stream.status.docker_image_repository.clone(),
            Self::Nowhere => stream.spec.docker_image_repository.clone(),
            Self::At(host) => repository(stream, Some(host)).unwrap_or_default(),
        }
    }
}

impl From<Option<String>> for RegistryHost {
    fn from(host: Option<String>) -> Self {
        host.map_or(Self::Nowhere, Self::At)
    }
}

/// The repository under which the streams' registry serves a stream: `host[:port]/namespace/name`.
///
/// With a `registry_host` it is computed from it; without, what `status.dockerImageRepository` says, else
/// `spec.dockerImageRepository`, a tag or digest in either left off. `None` if nothing is known.
#[must_use]
pub fn repository(stream: &ImageStream, registry_host: Option<&str>) -> Option<String> {
    if let Some(host) = registry_host {
        let namespace = stream.metadata.namespace.as_deref().unwrap_or("default");
        return Some(format!("{host}/{namespace}/{}", stream.metadata.name));
    }
    let stored = [&stream.status.docker_image_repository, &stream.spec.docker_image_repository];
    let written = stored.into_iter().find(|repository| !repository.is_empty())?;
    match Reference::parse(written) {
        Ok(parsed) => Some(Reference { tag: None, digest: None, ..parsed }.to_string()),
        Err(_) => Some(written.clone()),
    }
}

/// The pull spec of one entry of a tag's history, by the tag's reference policy as it is now.
///
/// Policy `Local` gives `<repository>@<digest>`, if there is a repository that parses and the entry has a
/// digest; in every other case it is the entry's own pull spec.
#[must_use]
pub fn of_event<'a>(spec: Option<&SpecTag>, repository: Option<&str>, event: &'a TagEvent) -> Cow<'a, str> {
    let local = spec.is_some_and(|tag| tag.reference_policy.kind == ReferencePolicyType::Local);
    repository
        .filter(|_| local)
        .and_then(|repository| Reference::parse(repository).ok()?.at_digest(&event.image))
        .map_or(Cow::Borrowed(&event.docker_image_reference), Cow::Owned)
}

/// The pull spec of a tag's newest image. `None` if the tag has none. An empty tag means `latest`.
#[must_use]
pub fn latest<'a>(stream: &'a ImageStream, repository: Option<&str>, tag: &str) -> Option<Cow<'a, str>> {
    let tag = or_latest(tag);
    let newest = stream.status.tag(tag)?.items.first()?;
    Some(of_event(stream.spec.tag(tag), repository, newest))
}

/// What admission writes for a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// The newest image, at its digest.
    Pinned(String),
    /// No digest is known: the tag is missing, was never imported, or is a reference tag. The repository
    /// with the tag is written where there is a repository, else nothing.
    Pending(Option<String>),
}

/// What admission writes for a tag: the newest image whose digest is known, by its reference policy. A
/// failed import leaves the image before it in force.
#[must_use]
pub fn admitted(stream: &ImageStream, places: &Places, tag: &str) -> Admitted {
    let newest = stream.status.tag(tag).and_then(|events| events.items.first());
    let (spec, repository) = (stream.spec.tag(tag), places.repository(stream));
    let pinned = newest.and_then(|event| {
        places.cached(spec, event).or_else(|| {
            let pull_spec = of_event(spec, repository.as_deref(), event);
            Reference::parse(&pull_spec).ok()?.at_digest(&event.image)
        })
    });
    pinned.map_or_else(|| Admitted::Pending(pending(repository.as_deref(), tag)), Admitted::Pinned)
}

/// `<repository>:<tag>`: what stands in for an image that is not there yet.
#[must_use]
pub fn pending(repository: Option<&str>, tag: &str) -> Option<String> {
    Reference::parse(repository?).ok()?.at_tag(tag)
}

/// Which image of a tag is asked for while a newer import is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// What the user asked for last, imported or not.
    Newest,
    /// The last image that was found.
    Recent,
}

/// A tag's pull spec with what is known of its import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPullSpec<'a> {
    /// The pull spec.
    pub image: Cow<'a, str>,
    /// It comes from the tag's history.
    pub imported: bool,
    /// The user has asked for something newer that is not imported yet.
    pub has_newer: bool,
    /// Nothing is known of the tag; the pull spec is its place in the streams' registry.
    pub tag_empty: bool,
}

/// Why a tag has no pull spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PullSpecError {
    /// An import is pending whose result cannot be told from the tag.
    #[error("the pull spec cannot be determined yet")]
    Pending,
    /// Nothing was imported, and no registry serves the stream.
    #[error("no image repository has been set on the image stream status")]
    NoRepository,
}

/// The pull spec of a tag, imports that are still pending considered. An empty tag means `latest`.
///
/// `repository` is the one to name while the tag is empty: the stream's own or its public one.
///
/// # Errors
/// [`PullSpecError`].
pub fn of_tag<'a>(
    stream: &'a ImageStream,
    repository: Option<&str>,
    tag: &str,
    want: Want,
) -> Result<TagPullSpec<'a>, PullSpecError> {
    let tag = or_latest(tag);
    let spec = stream.spec.tag(tag);
    let asked = spec.filter(|tag| tag.reference_policy.kind == ReferencePolicyType::Source).and_then(|tag| {
        tag.from.as_ref().filter(|from| from.kind == ReferenceKind::DockerImage).map(|from| from.name.as_str())
    });
    let as_asked =
        |image| TagPullSpec { image: Cow::Borrowed(image), imported: false, has_newer: false, tag_empty: false };
    let Some(newest) = stream.status.tag(tag).and_then(|events| events.items.first()) else {
        return match asked {
            Some(image) => Ok(as_asked(image)),
            None => pending(repository, tag)
                .map(|image| TagPullSpec { tag_empty: true, ..as_asked("") }.with_image(image))
                .ok_or(PullSpecError::NoRepository),
        };
    };
    let has_newer = spec.and_then(|tag| tag.generation).is_some_and(|generation| generation > newest.generation);
    if has_newer && want == Want::Newest {
        return asked.map(as_asked).ok_or(PullSpecError::Pending);
    }
    Ok(TagPullSpec { image: of_event(spec, repository, newest), imported: true, has_newer, tag_empty: false })
}

impl TagPullSpec<'_> {
    fn with_image(self, image: String) -> Self {
        Self { image: Cow::Owned(image), ..self }
    }
}

fn or_latest(tag: &str) -> &str {
    if tag.is_empty() { DEFAULT_TAG } else { tag }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const D1: &str = "sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";
    const ITEM: &str = "quay.io/k/k@sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";
    const LOCAL: &str = "test.server/a/b@sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";

    fn stream(spec_tag: Value, item: &Value) -> ImageStream {
        let tags = |entry: Value| if entry.is_null() { json!([]) } else { json!([entry]) };
        let history = if item.is_null() { Value::Null } else { json!({"tag": "latest", "items": [item]}) };
        serde_json::from_value(json!({"metadata": {"name": "name", "namespace": "foo"},
            "spec": {"tags": tags(spec_tag)}, "status": {"tags": tags(history)}}))
        .unwrap()
    }

    fn spec_tag(kind: &str, policy: &str, generation: i64) -> Value {
        json!({"name": "latest", "from": {"kind": kind, "name": "quay.io/k/k:1"}, "generation": generation,
               "referencePolicy": {"type": policy}})
    }

    fn item(image: &str, generation: i64) -> Value {
        json!({"dockerImageReference": ITEM, "image": image, "generation": generation})
    }

    #[rstest]
    #[case::p1_no_status("Source", Value::Null, None, None)]
    #[case::source("Source", item(D1, 1), Some("test.server/a/b"), Some(ITEM))]
    #[case::p3_no_repository("Local", item(D1, 1), None, Some(ITEM))]
    #[case::p4_no_digest("Local", item("", 1), Some("test.server/a/b"), Some(ITEM))]
    #[case::p5_local("Local", item(D1, 1), Some("test.server/a/b"), Some(LOCAL))]
    #[case::repository_that_does_not_parse("Local", item(D1, 1), Some("Test Server"), Some(ITEM))]
    fn latest_follows_the_reference_policy(
        #[case] policy: &str,
        #[case] item: Value,
        #[case] repository: Option<&str>,
        #[case] expected: Option<&str>,
        #[values("", "latest")] tag: &str,
    ) {
        let stream = stream(spec_tag("DockerImage", policy, 1), &item);
        assert_eq!(latest(&stream, repository, tag).as_deref(), expected);
    }

    #[test]
    fn pushed_only_tag_has_its_own_pull_spec() {
        assert_eq!(latest(&stream(Value::Null, &item(D1, 1)), Some("r.io/a/b"), "").as_deref(), Some(ITEM));
    }

    const SOURCE: (&str, &str) = ("DockerImage", "Source");

    #[rstest]
    #[case::p8_tag_empty(None, None, Want::Newest, Ok(("reg.int:5000/foo/name:latest", false, false, true)))]
    #[case::p10_asked(Some((SOURCE, 1)), None, Want::Newest, Ok(("quay.io/k/k:1", false, false, false)))]
    #[case::p11_local(Some((("DockerImage", "Local"), 1)), None, Want::Newest, Ok(("reg.int:5000/foo/name:latest", false, false, true)))]
    #[case::newer_asked(Some((SOURCE, 5)), Some(4), Want::Newest, Ok(("quay.io/k/k:1", false, false, false)))]
    #[case::newer_asked_recent_taken(Some((SOURCE, 5)), Some(4), Want::Recent, Ok((ITEM, true, true, false)))]
    #[case::p14_local(Some((("DockerImage", "Local"), 5)), Some(4), Want::Newest, Err(PullSpecError::Pending))]
    #[case::p14_stream_tag(Some((("ImageStreamTag", "Source"), 5)), Some(4), Want::Newest, Err(PullSpecError::Pending))]
    #[case::p15_pushed_later(Some((SOURCE, 4)), Some(5), Want::Newest, Ok((ITEM, true, false, false)))]
    fn pending_imports_are_considered(
        #[case] asked: Option<((&str, &str), i64)>,
        #[case] imported: Option<i64>,
        #[case] want: Want,
        #[case] expected: Result<(&str, bool, bool, bool), PullSpecError>,
    ) {
        let spec = asked.map_or(Value::Null, |((kind, policy), generation)| spec_tag(kind, policy, generation));
        let stream = stream(spec, &imported.map_or(Value::Null, |generation| item("", generation)));
        let found = of_tag(&stream, Some("reg.int:5000/foo/name"), "", want);
        let found = found.as_ref().map(|spec| (spec.image.as_ref(), spec.imported, spec.has_newer, spec.tag_empty));
        assert_eq!(found, expected.as_ref().copied());
    }

    #[test]
    fn public_repository_is_named_when_it_is_given() {
        let stream = stream(Value::Null, &Value::Null);
        let found = of_tag(&stream, Some("public.example/foo/name"), "2", Want::Newest).unwrap();
        assert_eq!(found.image, "public.example/foo/name:2");
        assert_eq!(of_tag(&stream, None, "2", Want::Newest), Err(PullSpecError::NoRepository));
    }

    #[rstest]
    #[case::p16_host(Some("reg.int:5000"), "", "a/b", Some("reg.int:5000/foo/name"))]
    #[case::p17_spec(None, "", "a/b", Some("a/b"))]
    #[case::status_before_spec(None, "reg.old/foo/name", "a/b", Some("reg.old/foo/name"))]
    #[case::tag_is_left_off(None, "", "r.io/a/b:1", Some("r.io/a/b"))]
    #[case::nothing_known(None, "", "", None)]
    fn repository_of_a_stream(
        #[case] host: Option<&str>,
        #[case] status: &str,
        #[case] spec: &str,
        #[case] expected: Option<&str>,
    ) {
        let mut stream = stream(Value::Null, &Value::Null);
        stream.status.docker_image_repository = status.to_owned();
        stream.spec.docker_image_repository = spec.to_owned();
        assert_eq!(repository(&stream, host).as_deref(), expected);
    }

    #[rstest]
    #[case::pinned(item(D1, 1), Some("r.io/a/b"), Admitted::Pinned(ITEM.to_owned()))]
    #[case::tag_of_the_pull_spec_is_dropped(
        json!({"dockerImageReference": "quay.io/k/k:1", "image": D1}), None, Admitted::Pinned(ITEM.to_owned()))]
    #[case::reference_tag(item("", 1), Some("r.io/a/b"), Admitted::Pending(Some("r.io/a/b:latest".to_owned())))]
    #[case::reference_tag_without_repository(item("", 1), None, Admitted::Pending(None))]
    #[case::missing(Value::Null, Some("r.io/a/b"), Admitted::Pending(Some("r.io/a/b:latest".to_owned())))]
    #[case::bad_digest(item("latest", 1), None, Admitted::Pending(None))]
    #[case::bad_pull_spec(json!({"dockerImageReference": "No Spec", "image": D1}), None, Admitted::Pending(None))]
    fn admission_writes_digests_or_the_place_where_the_image_will_be(
        #[case] item: Value,
        #[case] repository: Option<&str>,
        #[case] expected: Admitted,
    ) {
        let mut stream = stream(spec_tag("DockerImage", "Source", 1), &item);
        stream.status.docker_image_repository = repository.unwrap_or_default().to_owned();
        assert_eq!(admitted(&stream, &Places::default(), "latest"), expected);
    }
}

//! What a stream wants of registries now, and what again and again. Pure: says what, not when.

use super::history::observed;
use super::types::{ImageStream, ImportMode, ReferenceKind, SpecTag};
use crate::reference::Reference;

/// Annotation of a stream: all of it may be imported over bad TLS and plain HTTP, if `true`.
pub const INSECURE: &str = "openshift.io/image.insecureRepository";
/// Annotation of a stream: when its repository was imported, RFC 3339.
pub const REPOSITORY_CHECK: &str = "openshift.io/image.dockerRepositoryCheck";
/// Annotation of a tag: the architecture that `Legacy` picks.
pub const PREFER_ARCHITECTURE: &str = "importer.image.openshift.io/prefer-arch";
/// Annotation of a tag: the operating system that `Legacy` picks.
pub const PREFER_SYSTEM: &str = "importer.image.openshift.io/prefer-os";

/// Why a tag is to be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The user asked for something that was not tried yet.
    Asked,
    /// What was asked for was tried, and failed.
    Failed,
    /// It is to be looked at again and again.
    Scheduled,
}

/// One tag that is to be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The tag.
    pub tag: String,
    /// Generation of the spec tag, which the result will carry.
    pub generation: i64,
    /// The image as the user wrote it.
    pub source: String,
    /// What to make of an index.
    pub mode: ImportMode,
    /// Bad TLS and plain HTTP are accepted.
    pub insecure: bool,
    /// Operating system that `Legacy` picks.
    pub system: Option<String>,
    /// Architecture that `Legacy` picks.
    pub architecture: Option<String>,
    /// The newest image in the tag's history.
    pub newest: Option<String>,
    /// The newest image was found for this very request, so that only another one is of interest.
    pub is_repeated: bool,
}

/// A tag that a registry is asked for: it comes from an image, and not as a mere reference.
#[must_use]
pub fn is_importable(tag: &SpecTag) -> bool {
    !tag.reference && tag.from.as_ref().is_some_and(|from| from.kind == ReferenceKind::DockerImage)
}

/// What a tag needs: what was asked for first, then what failed, then the schedule.
///
/// A tag from a digest is on no schedule once that was imported.
#[must_use]
pub fn need(stream: &ImageStream, tag: &SpecTag) -> Option<Need> {
    if !is_importable(tag) {
        return None;
    }
    let generation = tag.generation.unwrap_or_default();
    let events = stream.status.tag(&tag.name);
    let is_tried = events.is_some_and(|events| !events.items.is_empty() || events.failure().is_some());
    if generation > observed(events) || !is_tried {
        return Some(Need::Asked);
    }
    if events.is_some_and(|events| events.failure().is_some()) {
        return Some(Need::Failed);
    }
    (tag.import_policy.scheduled && !is_digest(tag)).then_some(Need::Scheduled)
}

fn is_digest(tag: &SpecTag) -> bool {
    let name = tag.from.as_ref().map_or("", |from| from.name.as_str());
    Reference::parse(name).is_ok_and(|reference| reference.digest.is_some())
}

/// What is to be asked for a tag. `None` if nothing is. `default_mode` is that of tags that do not say one.
#[must_use]
pub fn wanted(stream: &ImageStream, tag: &str, default_mode: ImportMode) -> Option<Wanted> {
    let tag = stream.spec.tag(tag)?;
    let need = need(stream, tag)?;
    let annotation = |name: &str| tag.annotations.as_ref().and_then(|annotations| annotations.get(name)).cloned();
    let stream_insecure = stream.metadata.annotations.get(INSECURE).is_some_and(|value| value == "true");
    let mode = match tag.import_policy.import_mode {
        ImportMode::Unset => default_mode,
        mode => mode,
    };
    let newest = stream.status.tag(&tag.name).and_then(|events| events.items.first());
    Some(Wanted {
        tag: tag.name.clone(),
        generation: tag.generation.unwrap_or_default(),
        source: tag.from.as_ref().map(|from| from.name.clone()).unwrap_or_default(),
        mode,
        insecure: tag.import_policy.insecure || stream_insecure,
        system: annotation(PREFER_SYSTEM),
        architecture: annotation(PREFER_ARCHITECTURE),
        newest: newest.map(|event| event.image.clone()),
        is_repeated: need == Need::Scheduled,
    })
}

/// The repository whose tags are still to be made tags of the stream, if there is one.
#[must_use]
pub fn repository(stream: &ImageStream) -> Option<&str> {
    let repository = stream.spec.docker_image_repository.as_str();
    let is_done = stream.metadata.annotations.get(REPOSITORY_CHECK).is_some_and(|time| !time.is_empty());
    (!repository.is_empty() && !is_done).then_some(repository)
}

/// The registry that is asked for the tags of a stream, as it is written there; of several the first. `None` if none is,
/// or the one that a name without a registry means.
#[must_use]
pub fn registry(stream: &ImageStream) -> Option<&str> {
    let sources = stream.spec.tags.iter().filter(|tag| is_importable(tag)).filter_map(|tag| tag.from.as_ref());
    let mut names = sources.map(|from| from.name.as_str()).chain(repository(stream));
    names.next().and_then(|name| Reference::parse(name).ok()?.registry)
}

/// Tags in the order in which they matter: `latest`, then minor versions, then full versions, each newest first, then
/// the rest by name.
#[must_use]
pub fn prioritized(mut tags: Vec<String>) -> Vec<String> {
    tags.sort_by(|a, b| rank(b).cmp(&rank(a)).then_with(|| a.cmp(b)));
    tags.dedup();
    tags
}

/// Sorts higher what matters more.
fn rank(tag: &str) -> (u8, [u64; 3], bool) {
    if tag == "latest" {
        return (3, [0; 3], true);
    }
    let (numbers, rest) = match tag.strip_prefix('v').unwrap_or(tag).split_once(['-', '+']) {
        Some((numbers, rest)) => (numbers, rest),
        None => (tag.strip_prefix('v').unwrap_or(tag), ""),
    };
    let parsed: Option<Vec<u64>> = numbers.split('.').map(|number| number.parse().ok()).collect();
    match parsed.as_deref() {
        Some(&[major, minor]) if rest.is_empty() => (2, [major, minor, 0], true),
        Some(&[major, minor, patch]) => (1, [major, minor, patch], rest.is_empty()),
        _ => (0, [0; 3], true),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const DIGEST: &str = "sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";

    fn stream(tag: &Value, events: &Value) -> ImageStream {
        let status = if events.is_null() { json!({}) } else { json!({"tags": [events]}) };
        let value =
            json!({"metadata": {"name": "app", "namespace": "demo"}, "spec": {"tags": [tag]}, "status": status});
        serde_json::from_value(value).unwrap()
    }

    fn tag(extra: &Value) -> Value {
        let mut tag = json!({"name": "1", "generation": 3, "from": {"kind": "DockerImage", "name": "q.io/a/b:1"}});
        tag.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        tag
    }

    fn events(generation: i64, failure: Option<i64>) -> Value {
        let conditions: Vec<_> = failure
            .map(|generation| json!({"type": "ImportSuccess", "status": "False", "generation": generation}))
            .into_iter()
            .collect();
        json!({"tag": "1", "conditions": conditions,
            "items": [{"dockerImageReference": "q.io/a/b", "image": DIGEST, "generation": generation}]})
    }

    #[rstest]
    #[case::never_tried(json!({}), Value::Null, Some(Need::Asked))]
    #[case::unnumbered(json!({"generation": null}), Value::Null, Some(Need::Asked))]
    #[case::ahead(json!({}), events(2, None), Some(Need::Asked))]
    #[case::done(json!({}), events(3, None), None)]
    #[case::pushed_later(json!({}), events(5, None), None)]
    #[case::failed(json!({}), events(2, Some(3)), Some(Need::Failed))]
    #[case::failed_before(json!({}), events(1, Some(2)), Some(Need::Asked))]
    #[case::scheduled(json!({"importPolicy": {"scheduled": true}}), events(3, None), Some(Need::Scheduled))]
    #[case::reference(json!({"reference": true}), Value::Null, None)]
    #[case::tag_of_a_stream(json!({"from": {"kind": "ImageStreamTag", "name": "a:1"}}), Value::Null, None)]
    #[case::no_source(json!({"from": null}), Value::Null, None)]
    #[case::digest_on_schedule(
        json!({"importPolicy": {"scheduled": true}, "from": {"kind": "DockerImage", "name": format!("q.io/a/b@{DIGEST}")}}),
        events(3, None), None
    )]
    #[case::digest_never_imported(
        json!({"importPolicy": {"scheduled": true}, "from": {"kind": "DockerImage", "name": format!("q.io/a/b@{DIGEST}")}}),
        Value::Null, Some(Need::Asked)
    )]
    fn need_is_what_is_due_first(#[case] extra: Value, #[case] events: Value, #[case] expected: Option<Need>) {
        let stream = stream(&tag(&extra), &events);
        assert_eq!(need(&stream, &stream.spec.tags[0]), expected);
    }

    #[test]
    fn what_is_asked_for_says_how() {
        let extra = json!({"importPolicy": {"importMode": "Legacy"}, "annotations": {PREFER_ARCHITECTURE: "arm64"}});
        let mut stream = stream(&tag(&extra), &events(2, None));
        stream.metadata.annotations.insert(INSECURE.to_owned(), "true".to_owned());
        let found = wanted(&stream, "1", ImportMode::PreserveOriginal).unwrap();
        assert_eq!(
            found,
            Wanted {
                tag: "1".into(),
                generation: 3,
                source: "q.io/a/b:1".into(),
                mode: ImportMode::Legacy,
                insecure: true,
                system: None,
                architecture: Some("arm64".into()),
                newest: Some(DIGEST.into()),
                is_repeated: false,
            }
        );
        stream.spec.tags[0].import_policy.import_mode = ImportMode::Unset;
        let found = wanted(&stream, "1", ImportMode::PreserveOriginal).unwrap();
        assert_eq!(found.mode, ImportMode::PreserveOriginal);
        assert_eq!(wanted(&stream, "2", ImportMode::Legacy), None);
    }

    #[test]
    fn repository_is_wanted_until_it_was_checked() {
        let mut stream = stream(&tag(&json!({})), &Value::Null);
        assert_eq!(repository(&stream), None);
        stream.spec.docker_image_repository = "q.io/a/b".into();
        assert_eq!(repository(&stream), Some("q.io/a/b"));
        stream.metadata.annotations.insert(REPOSITORY_CHECK.to_owned(), "2026-01-01T00:00:00Z".to_owned());
        assert_eq!(repository(&stream), None);
    }

    #[test]
    fn registry_is_that_of_the_first_tag_that_is_imported() {
        let mut stream = stream(&tag(&json!({})), &Value::Null);
        assert_eq!(registry(&stream), Some("q.io"));
        stream.spec.tags[0].reference = true;
        assert_eq!(registry(&stream), None);
        stream.spec.docker_image_repository = "r.io/a/b".into();
        assert_eq!(registry(&stream), Some("r.io"));
        stream.spec.docker_image_repository = "busybox".into();
        assert_eq!(registry(&stream), None);
    }

    #[test]
    fn versions_come_before_words_and_newer_before_older() {
        let tags = ["rc", "1.9", "v1.10", "1.2.3", "1.10.0", "1.10.0-rc1", "latest", "alpha", "2024", "1.9"];
        let sorted = prioritized(tags.map(str::to_owned).to_vec());
        assert_eq!(sorted, ["latest", "v1.10", "1.9", "1.10.0", "1.10.0-rc1", "1.2.3", "2024", "alpha", "rc"]);
    }
}

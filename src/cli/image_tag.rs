//! A tag of a stream with its image: OpenShift's ImageStreamTag, made of what a stream and its images say. Pure.

use serde_json::{Value, json};

use super::backend::{Miss, pending};
use super::name::TagName;
use super::output;
use crate::image::Image;
use crate::stream::history::tag_names;
use crate::stream::types::{ReferencePolicyType, SpecTag, TagEvent, TagEvents};
use crate::stream::{ImageStream, pullspec};

/// The entries of a tag's history, at least one, or why there is none.
pub(super) fn history<'a>(stream: &'a ImageStream, name: &TagName) -> Result<&'a TagEvents, Miss> {
    let events = stream.status.tag(&name.tag);
    match events.filter(|events| !events.items.is_empty()) {
        Some(events) => Ok(events),
        None => Err(Miss(why_empty(stream, name, events))),
    }
}

/// The newest image of a tag, or why there is none whose digest is known.
pub(super) fn newest<'a>(stream: &'a ImageStream, name: &TagName) -> Result<&'a TagEvent, Miss> {
    let newest = history(stream, name)?.items.first().filter(|event| !event.image.is_empty());
    newest.ok_or_else(|| {
        Miss(format!("tag {name} is a mere reference, no digest is known; see: pinstream describe is {}", name.stream))
    })
}

fn why_empty(stream: &ImageStream, name: &TagName, events: Option<&TagEvents>) -> String {
    if let Some(failure) = events.and_then(TagEvents::failure) {
        return format!("tag {name} has no image: its import failed ({}): {}", failure.reason, failure.message);
    }
    let Some(tag) = stream.spec.tag(&name.tag) else {
        return no_tag(stream, name);
    };
    match &tag.from {
        Some(from) if pending(stream).contains(&name.tag) => format!(
            "tag {name} has no image yet: {} is still to be imported; import it with: pinstream import-image {name}",
            from.name
        ),
        Some(from) => format!("tag {name} has no image: nothing was found of {}", from.name),
        None => format!("tag {name} has no image: it has no source, and nothing was pushed to it"),
    }
}

/// What is said of a tag that a stream does not have.
fn no_tag(stream: &ImageStream, name: &TagName) -> String {
    let key = stream.key();
    let names = tag_names(&stream.spec, &stream.status);
    let rest = if names.is_empty() {
        format!("it has none; make it with: pinstream tag IMAGE {name}")
    } else {
        format!("it has {}", names.into_iter().collect::<Vec<_>>().join(", "))
    };
    format!("image stream {} in namespace {} has no tag {}; {rest}", key.name, key.namespace, name.tag)
}

/// The pull spec that users of a tag get for one entry of its history.
pub(super) fn pull_spec(stream: &ImageStream, tag: &str, event: &TagEvent) -> String {
    let repository = pullspec::repository(stream, None);
    pullspec::of_event(stream.spec.tag(tag), repository.as_deref(), event).into_owned()
}

/// Why a tag with reference policy `Local` is pulled from its source all the same, if it is.
pub(super) fn not_local(stream: &ImageStream, tag: &str) -> Option<&'static str> {
    let is_local = |tag: &SpecTag| tag.reference_policy.kind == ReferencePolicyType::Local;
    let falls_back = stream.spec.tag(tag).is_some_and(is_local) && pullspec::repository(stream, None).is_none();
    falls_back.then_some("pulled from the source, or a pull-through cache of it: no registry host is set")
}

/// The image of a tag as the tag shows it: under the tag's pull spec, the tag's annotations over its own.
pub(super) fn image(stream: &ImageStream, tag: &str, event: &TagEvent, mut image: Image) -> Image {
    image.docker_image_reference = pull_spec(stream, tag, event);
    let annotations = stream.spec.tag(tag).and_then(|tag| tag.annotations.clone()).unwrap_or_default();
    image.metadata.annotations.extend(annotations);
    image
}

/// A tag as the API has it. Of an image that is not given only name and pull spec are told.
pub(super) fn object(
    stream: &ImageStream,
    name: &TagName,
    event: &TagEvent,
    known: Option<Image>,
    group: &str,
) -> anyhow::Result<Value> {
    let spec = stream.spec.tag(&name.tag);
    let mut metadata = json!({"name": name.to_string(), "namespace": &*stream.key().namespace});
    // As it is written in streams.
    metadata["creationTimestamp"] = serde_json::to_value(event)?["created"].take();
    for field in ["resourceVersion", "uid"] {
        if let Some(value) = stream.metadata.other.get(field) {
            metadata[field] = value.clone();
        }
    }
    let annotations = spec.and_then(|tag| tag.annotations.as_ref());
    for (field, map) in [("labels", Some(&stream.metadata.labels)), ("annotations", annotations)] {
        if let Some(map) = map.filter(|map| !map.is_empty()) {
            metadata[field] = json!(map);
        }
    }
    let mut object = json!({"apiVersion": output::version(group), "kind": "ImageStreamTag", "metadata": metadata,
        "generation": event.generation, "lookupPolicy": stream.spec.lookup_policy, "tag": spec,
        "image": image_object(stream, &name.tag, event, known)?});
    let conditions = stream.status.tag(&name.tag).map(|events| &events.conditions);
    if let Some(conditions) = conditions.filter(|conditions| !conditions.is_empty()) {
        object["conditions"] = json!(conditions);
    }
    Ok(object)
}

fn image_object(stream: &ImageStream, tag: &str, event: &TagEvent, known: Option<Image>) -> anyhow::Result<Value> {
    let Some(known) = known else {
        let metadata = json!({"name": event.image});
        return Ok(json!({"metadata": metadata, "dockerImageReference": pull_spec(stream, tag, event)}));
    };
    let mut object = serde_json::to_value(image(stream, tag, event, known))?;
    // The object that it is in says it.
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|field, _| field != "apiVersion" && field != "kind");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rstest::rstest;

    use super::*;

    fn stream() -> ImageStream {
        let from = |name: &str| json!({"kind": "DockerImage", "name": name});
        serde_json::from_value(json!({
            "metadata": {"name": "app", "namespace": "demo", "uid": "u", "labels": {"team": "a"}},
            "spec": {"tags": [
                {"name": "1", "from": from("q.io/app:1"), "generation": 2, "annotations": {"note": "tag"},
                 "referencePolicy": {"type": "Local"}},
                {"name": "failed", "from": from("q.io/app:no"), "generation": 1},
                {"name": "pending", "from": from("q.io/app:2"), "generation": 3},
                {"name": "pushed"},
                {"name": "copy", "from": {"kind": "ImageStreamTag", "name": "other:1"}},
                {"name": "reference", "from": from("q.io/app:3"), "reference": true}]},
            "status": {"dockerImageRepository": "r.io/demo/app", "tags": [
                {"tag": "1", "items": [{"created": "2026-01-02T03:04:05Z", "dockerImageReference": "q.io/app@sha256:11",
                    "image": format!("sha256:{}", "1".repeat(64)), "generation": 2}]},
                {"tag": "failed", "items": null, "conditions": [{"type": "ImportSuccess", "status": "False",
                    "reason": "NotFound", "message": "there is no such image", "generation": 1}]},
                {"tag": "reference", "items": [{"created": "2026-01-02T03:04:05Z",
                    "dockerImageReference": "q.io/app:3", "image": "", "generation": 1}]}]}}))
        .unwrap()
    }

    fn name(tag: &str) -> TagName {
        TagName { stream: "app".into(), tag: tag.into() }
    }

    #[rstest]
    #[case("2", "image stream app in namespace demo has no tag 2; it has 1, copy, failed, pending, pushed, reference")]
    #[case("failed", "tag app:failed has no image: its import failed (NotFound): there is no such image")]
    #[case(
        "pending",
        "tag app:pending has no image yet: q.io/app:2 is still to be imported; import it with: pinstream import-image \
         app:pending"
    )]
    #[case("pushed", "tag app:pushed has no image: it has no source, and nothing was pushed to it")]
    #[case("copy", "tag app:copy has no image: nothing was found of other:1")]
    #[case("reference", "tag app:reference is a mere reference, no digest is known; see: pinstream describe is app")]
    fn why_there_is_no_image_is_told(#[case] tag: &str, #[case] expected: &str) {
        assert_eq!(newest(&stream(), &name(tag)).unwrap_err().to_string(), expected);
    }

    #[test]
    fn tag_of_a_stream_without_tags_is_told_how_to_make_one() {
        let stream = ImageStream { spec: crate::stream::types::Spec::default(), ..stream() };
        let empty = ImageStream { status: crate::stream::types::Status::default(), ..stream };
        let miss = newest(&empty, &name("1")).unwrap_err().to_string();
        assert!(miss.ends_with("has no tag 1; it has none; make it with: pinstream tag IMAGE app:1"), "{miss}");
    }

    #[test]
    fn object_is_like_openshifts() {
        let stream = stream();
        let event = newest(&stream, &name("1")).unwrap();
        let digest = format!("sha256:{}", "1".repeat(64));
        let short = object(&stream, &name("1"), event, None, "pinstream.dev").unwrap();
        let expected = json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStreamTag", "generation": 2,
            "metadata": {"name": "app:1", "namespace": "demo", "uid": "u", "creationTimestamp": "2026-01-02T03:04:05Z",
                "labels": {"team": "a"}, "annotations": {"note": "tag"}},
            "lookupPolicy": {"local": false}, "tag": stream.spec.tag("1"),
            "image": {"metadata": {"name": digest}, "dockerImageReference": format!("r.io/demo/app@{digest}")}});
        assert_eq!(short, expected);

        let known = Image::index(&digest, "first.io/app", "m", Vec::new(), Timestamp::UNIX_EPOCH);
        let whole = object(&stream, &name("1"), event, Some(known), "pinstream.dev").unwrap();
        assert_eq!(whole["image"]["metadata"], json!({"name": digest, "annotations": {"note": "tag"}}));
        assert_eq!(whole["image"]["dockerImageReference"], format!("r.io/demo/app@{digest}"));
        assert_eq!((whole["image"].get("kind"), whole["image"].get("apiVersion")), (None, None));
    }

    #[test]
    fn what_stands_against_a_tag_is_told() {
        let mut stream = stream();
        let condition = stream.status.tag("failed").unwrap().conditions.clone();
        stream.status.tags[0].conditions = condition;
        let event = newest(&stream, &name("1")).unwrap();
        let object = object(&stream, &name("1"), event, None, "pinstream.dev").unwrap();
        assert_eq!(object["conditions"][0]["reason"], "NotFound");
    }
}

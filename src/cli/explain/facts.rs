//! What is known of an image: the stream, tag and event it comes from, and what becomes of it now. Pure.
//!
//! What becomes of it is admission's decision; here is only where it comes from.

use jiff::Timestamp;
use serde::Serialize;

use crate::admission::decide::{Decided, Outcome};
use crate::cli::why::{is_unresolved, why};
use crate::reference::Reference;
use crate::stream::ImageStream;
use crate::stream::types::{DEFAULT_TAG, ReferenceKind, SpecTag};

/// Everything about one image.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Facts {
    /// As it is written.
    pub image: String,
    /// Where in the object, `containers[web]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The decision in one word, as metrics name it.
    pub outcome: &'static str,
    /// What is written in its place if the object is created now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub becomes: Option<String>,
    /// Why it is as it is, if there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The tag that the name means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// Entries of histories that have the image's digest.
    pub events: Vec<Event>,
    /// Tags that import what is written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub imported_as: Vec<String>,
    #[serde(skip)]
    pub is_unresolved: bool,
}

/// A tag of a stream.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tag {
    pub stream: String,
    pub name: String,
    pub local_lookup: bool,
    /// Where it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    pub scheduled: bool,
    /// What the registry said when the newest import failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// An entry of a tag's history.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    /// `STREAM:TAG`.
    pub tag: String,
    /// How many newer ones there are.
    pub behind: usize,
    /// How long the history is.
    pub of: usize,
    pub created: Option<Timestamp>,
    pub digest: String,
}

/// Collects what the streams of a namespace say of an image.
pub(super) fn facts(decided: &Decided<'_>, namespace: &str, streams: &[ImageStream]) -> Facts {
    let image = decided.slot.image.as_ref();
    let becomes = decided.outcome.rewrite().map(str::to_owned);
    let reference = Reference::parse(image).ok();
    let is_meant =
        matches!(decided.outcome, Outcome::Pinned { .. } | Outcome::LookupDisabled | Outcome::TagMissing { .. });
    let tag = reference.filter(|_| is_meant).and_then(|reference| tag_of(reference, streams));
    let pinned = becomes.as_deref().unwrap_or(image);
    let digest = Reference::parse(pinned).ok().and_then(|reference| reference.digest);
    let mut events = digest.map(|digest| events(digest, streams)).unwrap_or_default();
    if let Some(tag) = &tag {
        // The entry that was used is the first of its tag.
        let own = format!("{}:{}", tag.stream, tag.name);
        events.retain(|event| event.tag == own && event.behind == 0);
    }
    Facts {
        image: image.to_owned(),
        container: Some(format!("{}[{}]", decided.slot.list.field(), decided.slot.name))
            .filter(|_| !decided.slot.name.is_empty()),
        outcome: decided.outcome.label(),
        reason: why(image, namespace, &decided.outcome),
        tag,
        imported_as: if is_meant || digest.is_some() { Vec::new() } else { imported_as(image, streams) },
        events,
        becomes,
        is_unresolved: is_unresolved(&decided.outcome),
    }
}

fn tag_of(reference: Reference<'_>, streams: &[ImageStream]) -> Option<Tag> {
    let stream = streams.iter().find(|stream| stream.metadata.name == reference.name)?;
    let name = reference.tag.unwrap_or(DEFAULT_TAG);
    let spec = stream.spec.tag(name);
    let failure = stream.status.tag(name).and_then(|events| events.failure());
    Some(Tag {
        stream: stream.metadata.name.clone(),
        name: name.to_owned(),
        local_lookup: stream.spec.lookup_policy.local,
        from: spec.and_then(source),
        scheduled: spec.is_some_and(|tag| tag.import_policy.scheduled),
        failure: failure.map(|failure| [failure.reason.as_str(), &failure.message].join(": ")),
    })
}

/// Where a tag comes from.
fn source(tag: &SpecTag) -> Option<String> {
    let from = tag.from.as_ref()?;
    let namespace = from.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
    Some(match from.kind {
        ReferenceKind::DockerImage => from.name.clone(),
        ReferenceKind::ImageStreamTag => format!("the tag {namespace}{}", from.name),
        ReferenceKind::ImageStreamImage => format!("the image {namespace}{}", from.name),
    })
}

/// Every entry with that digest, current ones first.
fn events(digest: &str, streams: &[ImageStream]) -> Vec<Event> {
    let mut found = Vec::new();
    for stream in streams {
        for tag in &stream.status.tags {
            for (behind, event) in tag.items.iter().enumerate().filter(|(_, event)| event.image == digest) {
                found.push(Event {
                    tag: format!("{}:{}", stream.metadata.name, tag.tag),
                    behind,
                    of: tag.items.len(),
                    created: event.created,
                    digest: digest.to_owned(),
                });
            }
        }
    }
    found.sort_by_key(|event| event.behind);
    found
}

/// The tags whose source is this image.
fn imported_as(image: &str, streams: &[ImageStream]) -> Vec<String> {
    let tags = streams.iter().flat_map(|stream| stream.spec.tags.iter().map(move |tag| (stream, tag)));
    let is_source = |tag: &SpecTag| {
        tag.from.as_ref().is_some_and(|from| from.kind == ReferenceKind::DockerImage && from.name == image)
    };
    tags.filter(|(_, tag)| is_source(tag))
        .map(|(stream, tag)| format!("{}:{}", stream.metadata.name, tag.name))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::workload::{List, Slot};

    fn digest(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(64))
    }

    fn streams() -> Vec<ImageStream> {
        let event =
            |digit| json!({"dockerImageReference": format!("q.io/a/b@{}", digest(digit)), "image": digest(digit)});
        let stream = |name: &str, items: &[char]| {
            let items: Vec<_> = items.iter().copied().map(event).collect();
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": "demo"},
                "spec": {"tags": [{"name": "1", "from": {"kind": "DockerImage", "name": "q.io/a/b:1"},
                    "importPolicy": {"scheduled": true}}]},
                "status": {"tags": [{"tag": "1", "items": items, "conditions": [{"type": "ImportSuccess",
                    "status": "False", "reason": "NotFound", "message": "no such tag"}]}]}}))
            .unwrap()
        };
        vec![stream("app", &['b', 'a']), stream("other", &['a'])]
    }

    fn about(image: &str, outcome: Outcome<'_>) -> Facts {
        let slot = Slot { list: List::Containers, index: 0, name: "web".into(), image: image.into() };
        facts(&Decided { slot: &slot, outcome }, "demo", &streams())
    }

    #[test]
    fn short_name_has_its_tag_and_the_event_that_is_used() {
        let pinned = format!("q.io/a/b@{}", digest('b'));
        let facts = about("app:1", Outcome::Pinned { image: &pinned, stale: None });
        let tag = facts.tag.unwrap();
        assert_eq!((tag.stream.as_str(), tag.name.as_str(), tag.scheduled), ("app", "1", true));
        assert_eq!((tag.from.as_deref(), tag.failure.as_deref()), (Some("q.io/a/b:1"), Some("NotFound: no such tag")));
        assert_eq!(facts.events.len(), 1);
        assert_eq!((facts.events[0].tag.as_str(), facts.events[0].behind, facts.events[0].of), ("app:1", 0, 2));
        assert_eq!((facts.container.as_deref(), facts.becomes), (Some("containers[web]"), Some(pinned)));
    }

    #[test]
    fn digest_is_found_in_every_history_current_ones_first() {
        let facts = about(&format!("elsewhere.io/x@{}", digest('a')), Outcome::AlreadyPinned);
        let events: Vec<_> = facts.events.iter().map(|event| (event.tag.as_str(), event.behind)).collect();
        assert_eq!(events, [("other:1", 0), ("app:1", 1)]);
        assert!(facts.tag.is_none() && facts.imported_as.is_empty() && !facts.is_unresolved);
    }

    #[test]
    fn tags_that_import_an_image_are_named() {
        let facts = about("q.io/a/b:1", Outcome::NotShort);
        assert_eq!(facts.imported_as, ["app:1", "other:1"]);
        let facts = about("none:1", Outcome::NoStream);
        assert!(facts.tag.is_none() && facts.events.is_empty() && facts.is_unresolved);
    }
}

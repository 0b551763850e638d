//! What importing found → what the stream says then. Pure.
//!
//! A result is taken only for the tag as it was when it was asked for: whoever changed it meanwhile is right.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::history::{self, Added};
use super::plan::{REPOSITORY_CHECK, Wanted, prioritized};
use super::types::{IMPORT_SUCCESS, ImageStream, ObjectReference, SpecTag, TagCondition, TagEvent};
use crate::reference::Reference;

/// Annotation of a stream: how many entries the history of each of its tags may have.
pub const HISTORY_LIMIT: &str = "pinstream.dev/history-limit";
/// How many entries that is where nothing is said.
pub const HISTORY_LIMIT_DEFAULT: usize = 50;

/// What a registry said of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is an image.
    Image {
        /// Pull spec with the digest, in the user's spelling.
        pull_spec: String,
        /// Digest.
        image: String,
    },
    /// There is none, or it cannot be told.
    Failure {
        /// One word for programs.
        reason: String,
        /// A sentence for people.
        message: String,
    },
}

/// What was asked for, and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The tag as it was when it was asked for.
    pub wanted: Wanted,
    /// The answer.
    pub found: Found,
}

/// What happened to a stream that its owner should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A tag points to another image than before.
    Moved {
        /// The tag.
        tag: String,
        /// Pull spec of the image.
        image: String,
    },
    /// A tag, or the repository if there is none, could not be imported.
    Failed {
        /// The tag.
        tag: Option<String>,
        /// One word for programs.
        reason: String,
        /// A sentence for people.
        message: String,
    },
    /// A tag that could not be imported was.
    Recovered {
        /// The tag.
        tag: String,
    },
}

impl News {
    /// As an event on the stream: type, reason and message.
    #[must_use]
    pub fn as_event(&self) -> (&'static str, &'static str, String) {
        match self {
            Self::Moved { tag, image } => ("Normal", "TagMoved", format!("tag {tag} points to {image} now")),
            Self::Recovered { tag } => ("Normal", "ImportRecovered", format!("tag {tag} can be imported again")),
            Self::Failed { tag: Some(tag), reason, message } => {
                ("Warning", "ImportFailed", format!("tag {tag} cannot be imported ({reason}): {message}"))
            }
            Self::Failed { tag: None, reason, message } => (
                "Warning",
                "ImportFailed",
                format!("the tags of the repository cannot be listed ({reason}): {message}"),
            ),
        }
    }
}

/// A stream after an import.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The stream as it is to be written, equal to the one before if nothing is.
    pub stream: ImageStream,
    /// What happened.
    pub news: Vec<News>,
    /// Tags that are not any more what they were when they were asked for; their results were not taken.
    pub overtaken: BTreeSet<String>,
}

/// Puts results into a stream. `in_use` are the images that no history may lose.
#[must_use]
pub fn apply(stream: &ImageStream, results: &[Imported], now: Timestamp, in_use: &BTreeSet<String>) -> Outcome {
    let mut outcome = Outcome { stream: stream.clone(), news: Vec::new(), overtaken: BTreeSet::new() };
    let mut written = Vec::new();
    for Imported { wanted, found } in results {
        if !is_as_asked(stream, wanted) {
            outcome.overtaken.insert(wanted.tag.clone());
            continue;
        }
        if take(&mut outcome, wanted, found, now) {
            written.push(wanted.tag.clone());
        }
    }
    let mut changed: BTreeSet<String> = written.iter().cloned().collect();
    changed.extend(history::follow(&mut outcome.stream, written));
    let limit = history_limit(&outcome.stream);
    for events in outcome.stream.status.tags.iter_mut().filter(|events| changed.contains(&events.tag)) {
        history::cap(events, limit, |image| in_use.contains(image));
    }
    outcome
}

/// Says whether the tag's history was written to.
fn take(outcome: &mut Outcome, wanted: &Wanted, found: &Found, now: Timestamp) -> bool {
    let (status, tag) = (&mut outcome.stream.status, &wanted.tag);
    let had_failed = status.tag(tag).is_some_and(|events| events.failure().is_some());
    match found {
        Found::Image { pull_spec, image } => {
            let event = TagEvent {
                created: Some(now),
                docker_image_reference: pull_spec.clone(),
                image: image.clone(),
                generation: wanted.generation,
            };
            let moves = wanted.newest.as_ref() != Some(image);
            let added = history::add(status, tag, event);
            history::clear_conditions(status, tag);
            if added == Added::Moved || added == Added::Updated && moves {
                outcome.news.push(News::Moved { tag: tag.clone(), image: pull_spec.clone() });
            }
            if had_failed {
                outcome.news.push(News::Recovered { tag: tag.clone() });
            }
            added.is_change()
        }
        Found::Failure { reason, message } => {
            let condition = TagCondition {
                kind: IMPORT_SUCCESS.to_owned(),
                status: "False".to_owned(),
                last_transition_time: Some(now),
                reason: reason.clone(),
                message: message.clone(),
                generation: wanted.generation,
            };
            let said = status.tag(tag).and_then(|events| events.failure()).map(|failure| failure.reason.clone());
            let is_new = history::set_condition(status, tag, condition) && said.as_ref() != Some(reason);
            if is_new {
                let (tag, reason, message) = (Some(tag.clone()), reason.clone(), message.clone());
                outcome.news.push(News::Failed { tag, reason, message });
            }
            false
        }
    }
}

/// The tag is still what was asked for, and nobody else found something for it.
fn is_as_asked(stream: &ImageStream, wanted: &Wanted) -> bool {
    let newest = stream.status.tag(&wanted.tag).and_then(|events| events.items.first()).map(|event| &event.image);
    stream.spec.tag(&wanted.tag).is_some_and(|tag| {
        tag.generation.unwrap_or_default() == wanted.generation
            && tag.from.as_ref().is_some_and(|from| from.name == wanted.source)
    }) && newest == wanted.newest.as_ref()
}

/// How many entries the history of each tag of a stream may have. What cannot be read counts as not said.
#[must_use]
pub fn history_limit(stream: &ImageStream) -> usize {
    let said = stream.metadata.annotations.get(HISTORY_LIMIT).and_then(|limit| limit.parse().ok());
    said.filter(|limit| *limit > 0).unwrap_or(HISTORY_LIMIT_DEFAULT)
}

/// Some history of the stream is as long as it may be, so that it matters which images are in use.
#[must_use]
pub fn is_full(stream: &ImageStream) -> bool {
    let limit = history_limit(stream);
    stream.status.tags.iter().any(|events| events.items.len() >= limit)
}

/// The stream with the tags of its repository, at most `most` of them, those that matter most. Tags that it has already
/// stay as they are. New ones have no generation yet, so that they are numbered like any other write.
#[must_use]
pub fn with_repository(stream: &ImageStream, found: Vec<String>, most: usize, now: Timestamp) -> ImageStream {
    let mut stream = stream.clone();
    let repository = stream.spec.docker_image_repository.clone();
    let mut tags: BTreeMap<String, SpecTag> =
        std::mem::take(&mut stream.spec.tags).into_iter().map(|tag| (tag.name.clone(), tag)).collect();
    for name in prioritized(found).into_iter().take(most) {
        let Some(source) = Reference::parse(&repository).ok().and_then(|repository| repository.at_tag(&name)) else {
            continue;
        };
        tags.entry(name.clone()).or_insert_with(|| SpecTag {
            name,
            from: Some(ObjectReference { name: source, ..ObjectReference::default() }),
            ..SpecTag::default()
        });
    }
    stream.spec.tags = tags.into_values().collect();
    let checked = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    stream.metadata.annotations.insert(REPOSITORY_CHECK.to_owned(), checked);
    stream
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::stream::plan::wanted;
    use crate::stream::types::ImportMode;

    fn digest(number: u8) -> String {
        format!("sha256:{number:064x}")
    }

    fn stream(items: &[u8], failure: Option<&str>) -> ImageStream {
        let items: Vec<_> = items
            .iter()
            .map(|number| {
                json!({"created": "2026-01-01T00:00:00Z", "image": digest(*number), "generation": 2,
                "dockerImageReference": format!("q.io/a/b@{}", digest(*number))})
            })
            .collect();
        let conditions: Vec<Value> = failure
            .map(|reason| json!({"type": "ImportSuccess", "status": "False", "reason": reason, "generation": 2}))
            .into_iter()
            .collect();
        serde_json::from_value(json!({"metadata": {"name": "app", "namespace": "demo"}, "spec": {"tags": [
                {"name": "1", "generation": 2, "from": {"kind": "DockerImage", "name": "q.io/a/b:1"},
                 "importPolicy": {"scheduled": true}},
                {"name": "prod", "generation": 1, "from": {"kind": "ImageStreamTag", "name": "1"}}]},
            "status": {"tags": [{"tag": "1", "items": items, "conditions": conditions}]}}))
        .unwrap()
    }

    fn result(stream: &ImageStream, found: Result<u8, &str>) -> Imported {
        let wanted = wanted(stream, "1", ImportMode::Legacy).unwrap();
        let found = match found {
            Ok(number) => Found::Image { pull_spec: format!("q.io/a/b@{}", digest(number)), image: digest(number) },
            Err(reason) => Found::Failure { reason: reason.into(), message: "because".into() },
        };
        Imported { wanted, found }
    }

    fn now() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    fn words(news: &[News]) -> Vec<&'static str> {
        let word = |news: &News| match news {
            News::Moved { .. } => "moved",
            News::Failed { .. } => "failed",
            News::Recovered { .. } => "recovered",
        };
        news.iter().map(word).collect()
    }

    #[rstest]
    #[case::first(&[], None, Ok(1), &[1], None, &["moved"])]
    #[case::moved(&[1], None, Ok(2), &[2, 1], None, &["moved"])]
    #[case::same(&[1], None, Ok(1), &[1], None, &[])]
    #[case::failed(&[1], None, Err("NotFound"), &[1], Some("NotFound"), &["failed"])]
    #[case::failed_again(&[1], Some("NotFound"), Err("NotFound"), &[1], Some("NotFound"), &[])]
    #[case::failed_otherwise(&[1], Some("NotFound"), Err("Timeout"), &[1], Some("Timeout"), &["failed"])]
    #[case::recovered(&[1], Some("NotFound"), Ok(1), &[1], None, &["recovered"])]
    #[case::recovered_and_moved(&[1], Some("NotFound"), Ok(2), &[2, 1], None, &["moved", "recovered"])]
    fn result_becomes_history_and_news(
        #[case] items: &[u8],
        #[case] failure: Option<&str>,
        #[case] found: Result<u8, &str>,
        #[case] expected: &[u8],
        #[case] condition: Option<&str>,
        #[case] news: &[&str],
    ) {
        let stream = stream(items, failure);
        let outcome = apply(&stream, &[result(&stream, found)], now(), &BTreeSet::new());
        let events = outcome.stream.status.tag("1").unwrap();
        let images: Vec<_> = events.items.iter().map(|event| event.image.clone()).collect();
        assert_eq!(images, expected.iter().map(|number| digest(*number)).collect::<Vec<_>>());
        assert_eq!(events.failure().map(|failure| failure.reason.as_str()), condition);
        assert_eq!(words(&outcome.news), news);
        assert_eq!(outcome.stream.spec, stream.spec);
    }

    #[test]
    fn tracking_tag_moves_along() {
        let stream = stream(&[1], None);
        let outcome = apply(&stream, &[result(&stream, Ok(2))], now(), &BTreeSet::new());
        let events = outcome.stream.status.tag("prod").unwrap();
        assert_eq!((events.items[0].image.clone(), events.items[0].generation), (digest(2), 2));
    }

    #[test]
    fn result_for_a_tag_that_changed_meanwhile_is_not_taken() {
        let before = stream(&[1], None);
        let result = result(&before, Ok(3));
        let mut moved = before.clone();
        moved.spec.tags[0].generation = Some(4);
        let mut renamed = before.clone();
        renamed.spec.tags[0].from.as_mut().unwrap().name = "q.io/a/b:2".into();
        let mut without = before.clone();
        without.spec.tags.remove(0);
        for now_stored in [moved, renamed, without, stream(&[2, 1], None)] {
            let outcome = apply(&now_stored, std::slice::from_ref(&result), now(), &BTreeSet::new());
            assert_eq!(outcome.stream, now_stored);
            assert_eq!((outcome.news, outcome.overtaken), (Vec::new(), ["1".to_owned()].into()));
        }
    }

    #[test]
    fn history_is_capped_but_keeps_what_runs() {
        let mut stream = stream(&[5, 4, 3, 2, 1], None);
        stream.metadata.annotations.insert(HISTORY_LIMIT.into(), "3".into());
        let outcome = apply(&stream, &[result(&stream, Ok(6))], now(), &[digest(1)].into());
        let images: Vec<_> = outcome.stream.status.tag("1").unwrap().items.iter().map(|event| &event.image).collect();
        assert_eq!(images, [&digest(6), &digest(5), &digest(4), &digest(1)]);
        stream.metadata.annotations.insert(HISTORY_LIMIT.into(), "none".into());
        assert_eq!(history_limit(&stream), HISTORY_LIMIT_DEFAULT);
    }

    #[test]
    fn tags_of_a_repository_become_tags_of_the_stream() {
        let mut stream = stream(&[1], None);
        stream.spec.docker_image_repository = "q.io/other/app".into();
        let found = ["1", "latest", "2.0", "old", "bad tag"].map(str::to_owned).to_vec();
        let grown = with_repository(&stream, found, 4, now());
        let tags: Vec<_> = grown
            .spec
            .tags
            .iter()
            .map(|tag| (tag.name.as_str(), tag.from.as_ref().unwrap().name.as_str(), tag.generation))
            .collect();
        assert_eq!(
            tags,
            [
                ("1", "q.io/a/b:1", Some(2)),
                ("2.0", "q.io/other/app:2.0", None),
                ("latest", "q.io/other/app:latest", None),
                ("prod", "1", Some(1))
            ]
        );
        assert_eq!(grown.metadata.annotations[REPOSITORY_CHECK], "2026-11-24T12:00:00Z");
    }
}

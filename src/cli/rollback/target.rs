//! Where a tag goes back to, and what becomes of it then. Pure.

use std::str::FromStr;

use jiff::Timestamp;

use crate::cli::edit::put;
use crate::cli::name::TagName;
use crate::stream::types::{ObjectReference, ReferenceKind, SpecTag, Status, TagEvent};
use crate::stream::{ImageStream, history};

/// The most digits of a number; what has more is the beginning of a digest.
const NUMBER_MAX: usize = 3;

/// Which image of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// The entry of that number; 1 is the current one.
    Number(usize),
    /// That of this digest, or of the one that begins so.
    Digest(String),
}

impl FromStr for To {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let is_number = written.len() <= NUMBER_MAX && written.bytes().all(|byte| byte.is_ascii_digit());
        if let Some(number) = written.parse().ok().filter(|_| is_number) {
            return Ok(Self::Number(number));
        }
        let hex = written.strip_prefix("sha256:").unwrap_or(written);
        if !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self::Digest(written.to_owned()));
        }
        Err("write a number of pinstream history, such as 2, or a digest or its beginning, such as sha256:87fbab"
            .to_owned())
    }
}

/// A way back.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Back {
    /// The entry of the history.
    pub event: TagEvent,
    /// Digest of the current image; empty if it is not known.
    from: String,
}

/// The entry that a tag goes back to, or why there is none.
pub(super) fn found(stream: &ImageStream, name: &TagName, to: Option<&To>) -> Result<Back, String> {
    let see = format!("see: pinstream history {name}");
    let events = stream.status.tag(&name.tag).filter(|events| !events.items.is_empty());
    let Some(events) = events else {
        return Err(format!(
            "{name} has no image, and so nothing to go back to; see: pinstream describe is {}",
            name.stream
        ));
    };
    let current = events.items.first().map(|event| event.image.clone()).unwrap_or_default();
    let event = match to {
        None => events
            .items
            .iter()
            .skip(1)
            .find(|event| !event.image.is_empty() && event.image != current)
            .ok_or_else(|| format!("{name} has had one image only, there is none to go back to; {see}"))?,
        Some(To::Number(number)) => number
            .checked_sub(1)
            .and_then(|index| events.items.get(index))
            .ok_or_else(|| format!("the history of {name} has the numbers 1 to {}; {see}", events.items.len()))?,
        Some(To::Digest(digest)) => {
            let own = Status { tags: vec![events.clone()], ..Status::default() };
            let image = history::find(&own, digest).map_err(|error| format!("{name}: {error}; {see}"))?.image.clone();
            events.items.iter().find(|event| event.image == image).ok_or(see)?
        }
    };
    if event.image.is_empty() {
        return Err(format!("entry {} of {name} is a mere reference without a digest", event.docker_image_reference));
    }
    if event.image == current {
        return Err(format!("{name} points to {current} already"));
    }
    Ok(Back { event: event.clone(), from: current })
}

/// The tag is imported again and again.
pub(super) fn is_scheduled(stream: &ImageStream, tag: &str) -> bool {
    stream.spec.tag(tag).is_some_and(|tag| tag.import_policy.scheduled)
}

/// The stream whose tag comes from that image of its own history, and from nowhere else.
pub(super) fn fixed(stream: &ImageStream, tag: &str, image: &str) -> ImageStream {
    let mut stream = stream.clone();
    let known = stream.spec.tag(tag).cloned().unwrap_or_else(|| SpecTag { name: tag.to_owned(), ..SpecTag::default() });
    let mut tag = SpecTag {
        from: Some(ObjectReference {
            kind: ReferenceKind::ImageStreamImage,
            name: format!("{}@{image}", stream.metadata.name),
            ..ObjectReference::default()
        }),
        reference: false,
        // It counts even if that image was the source before.
        generation: Some(0),
        ..known
    };
    tag.import_policy.scheduled = false;
    tag.import_policy.insecure = false;
    put(&mut stream, tag);
    stream
}

/// Lets a tag point to an image of its history until it is imported again.
pub(super) fn moved(stream: &mut ImageStream, tag: &str, event: &TagEvent, now: Timestamp) {
    // What was asked for is answered as much as before, so that only the schedule asks again.
    let newest = stream.status.tag(tag).and_then(|events| events.items.first());
    let generation = newest.map_or(event.generation, |newest| newest.generation);
    let event = TagEvent { created: Some(now), generation, ..event.clone() };
    history::add(&mut stream.status, tag, event);
    history::follow(stream, [tag.to_owned()]);
}

impl Back {
    /// What was done.
    pub(super) fn message(&self, name: &TagName) -> String {
        let from = if self.from.is_empty() { "a mere reference" } else { &self.from };
        format!("Tag {name} rolled back from {from} to {}", self.event.image)
    }

    /// What will become of it. `before` is the stream as it was.
    pub(super) fn outlook(&self, before: &ImageStream, name: &TagName, keeps_schedule: bool) -> String {
        let spec_tag = before.spec.tag(&name.tag);
        let Some(from) = spec_tag.and_then(|tag| tag.from.as_ref()) else {
            return "It stays there until it is set again".to_owned();
        };
        if keeps_schedule {
            return format!(
                "The next scheduled import sets it to what {} is then; to stop that: pinstream rollback {name} --to {} --hold",
                from.name, self.event.image
            );
        }
        let how = match from.kind {
            ReferenceKind::DockerImage if is_scheduled(before, &name.tag) => {
                format!(
                    "is not imported any more and stays there; to import it again: pinstream tag {} {name} --scheduled",
                    from.name
                )
            }
            ReferenceKind::DockerImage => {
                format!(
                    "is not imported any more and stays there; to import it again: pinstream tag {} {name}",
                    from.name
                )
            }
            ReferenceKind::ImageStreamTag => match history::tracked(before, &name.tag) {
                Some(tag) => format!(
                    "does not follow {}:{tag} any more and stays there; to let it: pinstream tag {0}:{tag} {name} --alias",
                    name.stream
                ),
                None => format!("is no copy of {} any more, and stays there until it is set again", from.name),
            },
            ReferenceKind::ImageStreamImage => "stays there until it is set again".to_owned(),
        };
        format!("It {how}")
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn digest(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(64))
    }

    /// A stream whose tag 1 pointed to these images, newest first; `-` is a mere reference.
    fn stream(images: &str) -> ImageStream {
        let items: Vec<_> = images
            .chars()
            .map(|digit| {
                let image = if digit == '-' { String::new() } else { digest(digit) };
                json!({"dockerImageReference": format!("q.io/a@{image}"), "image": image, "generation": 3})
            })
            .collect();
        serde_json::from_value(json!({"metadata": {"name": "app", "namespace": "demo"},
            "spec": {"tags": [{"name": "1", "generation": 3, "from": {"kind": "DockerImage", "name": "q.io/a:1"},
                "importPolicy": {"scheduled": true, "insecure": true}, "referencePolicy": {"type": "Local"}}]},
            "status": {"tags": [{"tag": "1", "items": items}, {"tag": "2", "items": [
                {"dockerImageReference": "q.io/a", "image": digest('f'), "generation": 1}]}]}}))
        .unwrap()
    }

    fn name() -> TagName {
        "app:1".parse().unwrap()
    }

    #[rstest]
    #[case("ab", None, Ok('b'))]
    #[case("aab", None, Ok('b'))]
    #[case("a-b", None, Ok('b'))]
    #[case("abc", Some("3"), Ok('c'))]
    #[case("abc", Some("cc"), Ok('c'))]
    #[case("abc", Some("sha256:c"), Ok('c'))]
    #[case("a", None, Err("has had one image only"))]
    #[case("aa", None, Err("has had one image only"))]
    #[case("", None, Err("has no image"))]
    #[case("ab", Some("3"), Err("has the numbers 1 to 2"))]
    #[case("ab", Some("0"), Err("has the numbers 1 to 2"))]
    #[case("ab", Some("1"), Err("already"))]
    #[case("ab", Some("f"), Err("no image of the stream has the id"))]
    #[case("a-", Some("2"), Err("is a mere reference"))]
    fn entries_to_go_back_to_are_found(
        #[case] images: &str,
        #[case] to: Option<&str>,
        #[case] expected: Result<char, &str>,
    ) {
        let to = to.map(|to| to.parse().unwrap());
        match (found(&stream(images), &name(), to.as_ref()), expected) {
            (Ok(back), Ok(expected)) => assert_eq!(back.event.image, digest(expected)),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (back, _) => panic!("{back:?}"),
        }
    }

    #[rstest]
    #[case("3", Ok(To::Number(3)))]
    #[case("1234", Ok(To::Digest("1234".into())))]
    #[case("sha256:1", Ok(To::Digest("sha256:1".into())))]
    #[case("x", Err(()))]
    #[case("", Err(()))]
    #[case("-1", Err(()))]
    fn targets_are_read(#[case] written: &str, #[case] expected: Result<To, ()>) {
        assert_eq!(written.parse().map_err(|_: String| ()), expected);
    }

    #[test]
    fn fixed_tag_keeps_only_how_it_is_used() {
        let fixed = fixed(&stream("ab"), "1", &digest('b'));
        let tag = fixed.spec.tag("1").unwrap();
        let from = tag.from.as_ref().unwrap();
        assert_eq!((from.kind, &from.name), (ReferenceKind::ImageStreamImage, &format!("app@{}", digest('b'))));
        assert!(!tag.import_policy.scheduled && !tag.import_policy.insecure);
        assert_eq!(tag.reference_policy, stream("ab").spec.tags[0].reference_policy);
    }

    #[test]
    fn moved_tag_waits_for_nothing_and_is_followed() {
        let mut stream = stream("ab");
        let follower = json!({"name": "2", "generation": 1, "from": {"kind": "ImageStreamTag", "name": "app:1"}});
        stream.spec.tags.push(serde_json::from_value(follower).unwrap());
        let back = found(&stream, &name(), None).unwrap();
        moved(&mut stream, "1", &back.event, Timestamp::UNIX_EPOCH);
        let newest = |tag: &str| stream.status.tag(tag).unwrap().items[0].clone();
        assert_eq!((newest("1").image, newest("1").generation), (digest('b'), 3));
        assert_eq!(newest("2").image, digest('b'));
        assert_eq!(stream.status.tag("1").unwrap().items.len(), 3);
    }

    #[test]
    fn tag_that_followed_is_told_how_to_follow_again() {
        let mut stream = stream("ab");
        let from = json!({"name": "1", "generation": 3, "from": {"kind": "ImageStreamTag", "name": "2"}});
        stream.spec.tags[0] = serde_json::from_value(from).unwrap();
        let outlook = found(&stream, &name(), None).unwrap().outlook(&stream, &name(), false);
        assert!(outlook.ends_with("to let it: pinstream tag app:2 app:1 --alias"), "{outlook}");
    }

    #[rstest]
    #[case(true, "The next scheduled import sets it to what q.io/a:1 is then")]
    #[case(false, "to import it again: pinstream tag q.io/a:1 app:1 --scheduled")]
    fn outlook_says_what_will_be(#[case] keeps_schedule: bool, #[case] expected: &str) {
        let stream = stream("ab");
        let outlook = found(&stream, &name(), None).unwrap().outlook(&stream, &name(), keeps_schedule);
        assert!(outlook.contains(expected), "{outlook}");
    }
}

//! The history of a tag: how an image is added, followed, found again and let go.
//!
//! The one place that changes `status.tags`. Pure; must not know why an image is added.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::types::{ImageStream, ReferenceKind, Spec, SpecTag, Status, TagCondition, TagEvent, TagEvents};

/// The most images that an ambiguous prefix names.
const NAMED_MAX: usize = 10;

/// What adding an image did to a tag's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// Nothing: the newest entry says the same already.
    Same,
    /// The newest entry was changed in place: it is the same image, or the same pull spec.
    Updated,
    /// A new entry stands before the others.
    Moved,
}

impl Added {
    /// Something was written.
    #[must_use]
    pub fn is_change(self) -> bool {
        self != Self::Same
    }
}

/// Adds an image to a tag's history. OpenShift's rules: only the newest entry is compared; one with an equal pull spec
/// or an equal image is changed in place and keeps its time; conditions go with every change.
pub fn add(status: &mut Status, tag: &str, event: TagEvent) -> Added {
    let events = entry(status, tag);
    let Some(newest) = events.items.first_mut() else {
        events.items.push(event);
        events.conditions.clear();
        return Added::Moved;
    };
    let same_pull_spec = newest.docker_image_reference == event.docker_image_reference;
    let same_image = newest.image == event.image;
    if same_pull_spec && same_image && newest.generation == event.generation {
        return Added::Same;
    }
    events.conditions.clear();
    if !same_pull_spec && !same_image {
        events.items.insert(0, event);
        return Added::Moved;
    }
    newest.docker_image_reference = event.docker_image_reference;
    newest.image = event.image;
    newest.generation = event.generation;
    Added::Updated
}

/// Puts a condition on a tag, in place of the one of its kind. Says whether anything changed: one that says the same for
/// the same generation stays as it is.
pub fn set_condition(status: &mut Status, tag: &str, condition: TagCondition) -> bool {
    let events = entry(status, tag);
    let Some(known) = events.conditions.iter_mut().find(|known| known.kind == condition.kind) else {
        events.conditions.push(condition);
        return true;
    };
    let same = (&known.status, &known.reason, &known.message, known.generation)
        == (&condition.status, &condition.reason, &condition.message, condition.generation);
    if !same {
        *known = condition;
    }
    !same
}

/// Takes away what stands against a tag. Says whether there was anything.
pub fn clear_conditions(status: &mut Status, tag: &str) -> bool {
    let Some(events) = status.tags.iter_mut().find(|events| events.tag == tag) else { return false };
    let had = !events.conditions.is_empty();
    events.conditions.clear();
    had
}

/// Copies the newest image of each of these tags to the tags of the same stream that track it, and on to those that
/// track these. Gives the tags that were written. A cycle ends where it began.
pub fn follow(stream: &mut ImageStream, changed: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    let mut queue: VecDeque<String> = changed.into_iter().collect();
    let mut seen: BTreeSet<String> = queue.iter().cloned().collect();
    let mut written = BTreeSet::new();
    let followers = if queue.is_empty() { HashMap::new() } else { followers(stream) };
    while let Some(source) = queue.pop_front() {
        let Some(newest) = stream.status.tag(&source).and_then(|events| events.items.first()).cloned() else {
            continue;
        };
        for follower in followers.get(&source).into_iter().flatten().cloned() {
            if !seen.insert(follower.clone()) {
                continue;
            }
            // Never behind what its own spec asks for.
            let own = stream.spec.tag(&follower).and_then(|tag| tag.generation).unwrap_or_default();
            let generation = own.max(newest.generation);
            if add(&mut stream.status, &follower, TagEvent { generation, ..newest.clone() }).is_change() {
                written.insert(follower.clone());
            }
            queue.push_back(follower);
        }
    }
    written
}

/// For each tag those whose source it is in the same stream.
fn followers(stream: &ImageStream) -> HashMap<String, Vec<String>> {
    let mut followers: HashMap<String, Vec<String>> = HashMap::new();
    for tag in &stream.spec.tags {
        if let Some(source) = source_of(stream, tag) {
            followers.entry(source.to_owned()).or_default().push(tag.name.clone());
        }
    }
    followers
}

/// The tag of the same stream that a tag tracks, if it does.
#[must_use]
pub fn tracked<'a>(stream: &'a ImageStream, tag: &str) -> Option<&'a str> {
    source_of(stream, stream.spec.tag(tag)?)
}

fn source_of<'a>(stream: &ImageStream, tag: &'a SpecTag) -> Option<&'a str> {
    let from = tag.from.as_ref().filter(|from| from.kind == ReferenceKind::ImageStreamTag)?;
    let namespace = from.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    let is_own = namespace.is_none() || namespace == stream.metadata.namespace.as_deref();
    if !is_own {
        return None;
    }
    match from.name.split_once(':') {
        Some((name, tag)) => (name == stream.metadata.name).then_some(tag),
        None => Some(&from.name),
    }
}

/// Why no image of a stream is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// No entry of any tag has it.
    #[error("no image of the stream has the id {0:?}")]
    NotFound(String),
    /// More than one has.
    #[error("multiple images match the prefix {0:?}: {1}")]
    Ambiguous(String, String),
}

/// The entry, of any tag and any age, whose image is `id` or begins with it; `sha256:` may be left off. Of several
/// entries with the image it is the newest of the first tag.
///
/// # Errors
/// [`FindError`].
pub fn find<'a>(status: &'a Status, id: &str) -> Result<&'a TagEvent, FindError> {
    let matches = |image: &str| {
        let hex = image.split_once(':').map_or("", |(_, hex)| hex);
        !id.is_empty() && !image.is_empty() && (image.starts_with(id) || hex.starts_with(id))
    };
    let mut found: Vec<&TagEvent> = Vec::new();
    for event in status.tags.iter().flat_map(|events| &events.items).filter(|event| matches(&event.image)) {
        if found.iter().all(|known| known.image != event.image) {
            found.push(event);
            if found.len() == NAMED_MAX {
                break;
            }
        }
    }
    match found.as_slice() {
        [] => Err(FindError::NotFound(id.to_owned())),
        [event] => Ok(event),
        several => {
            let images: Vec<_> = several.iter().map(|event| event.image.as_str()).collect();
            Err(FindError::Ambiguous(id.to_owned(), images.join(", ")))
        }
    }
}

/// Lets go of all but the newest `most` entries of a tag, at least one. Of what is older stays the newest entry of each
/// image that `is_used` and has none among those.
pub fn cap(events: &mut TagEvents, most: usize, is_used: impl Fn(&str) -> bool) {
    let most = most.max(1);
    let mut kept: BTreeSet<String> = events.items.iter().take(most).map(|event| event.image.clone()).collect();
    let mut older = events.items.split_off(most.min(events.items.len()));
    older.retain(|event| is_used(&event.image) && kept.insert(event.image.clone()));
    events.items.append(&mut older);
}

/// The generation up to which the history of a tag answers what was asked: that of its newest entry, or of the failure
/// that stands against it. Zero if there is neither.
#[must_use]
pub fn observed(events: Option<&TagEvents>) -> i64 {
    let Some(events) = events else { return 0 };
    let item = events.items.first().map_or(0, |event| event.generation);
    item.max(events.failure().map_or(0, |failure| failure.generation))
}

/// Drops tags that have neither entries nor conditions.
pub fn drop_empty(status: &mut Status) {
    status.tags.retain(|events| !events.items.is_empty() || !events.conditions.is_empty());
}

/// The names of all tags, of spec and status.
#[must_use]
pub fn tag_names(spec: &Spec, status: &Status) -> BTreeSet<String> {
    let spec = spec.tags.iter().map(|tag| tag.name.clone());
    spec.chain(status.tags.iter().map(|events| events.tag.clone())).collect()
}

/// The history of a tag; an empty one is put where it belongs, in byte order of names.
fn entry<'a>(status: &'a mut Status, tag: &str) -> &'a mut TagEvents {
    let at = match status.tags.binary_search_by(|events| events.tag.as_str().cmp(tag)) {
        Ok(at) => at,
        Err(at) => {
            status.tags.insert(at, TagEvents { tag: tag.to_owned(), ..TagEvents::default() });
            at
        }
    };
    &mut status.tags[at]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn event(pull_spec: &str, image: &str, generation: i64) -> TagEvent {
        TagEvent { created: None, docker_image_reference: pull_spec.into(), image: image.into(), generation }
    }

    fn failed(status: &mut Status, tag: &str) {
        let condition =
            TagCondition { kind: "ImportSuccess".into(), status: "False".into(), ..TagCondition::default() };
        set_condition(status, tag, condition);
    }

    #[rstest]
    #[case::all_equal(("p", "a", 1), Added::Same, 1, 1)]
    #[case::other_generation(("p", "a", 2), Added::Updated, 1, 0)]
    #[case::other_image(("p", "b", 1), Added::Updated, 1, 0)]
    #[case::other_pull_spec(("q", "a", 2), Added::Updated, 1, 0)]
    #[case::both_differ(("q", "b", 2), Added::Moved, 2, 0)]
    fn newest_entry_decides(
        #[case] (pull_spec, image, generation): (&str, &str, i64),
        #[case] expected: Added,
        #[case] length: usize,
        #[case] conditions: usize,
    ) {
        let mut status = Status::default();
        assert_eq!(add(&mut status, "1", event("p", "a", 1)), Added::Moved);
        failed(&mut status, "1");
        assert_eq!(add(&mut status, "1", event(pull_spec, image, generation)), expected);
        let events = status.tag("1").unwrap();
        assert_eq!((events.items.len(), events.conditions.len()), (length, conditions));
        assert_eq!(events.items[0], event(pull_spec, image, generation));
    }

    #[test]
    fn going_back_makes_a_third_entry() {
        let mut status = Status::default();
        for (pull_spec, image) in [("p", "a"), ("q", "b"), ("p", "a")] {
            add(&mut status, "1", event(pull_spec, image, 1));
        }
        let images: Vec<_> = status.tag("1").unwrap().items.iter().map(|event| event.image.as_str()).collect();
        assert_eq!(images, ["a", "b", "a"]);
    }

    fn stream(tags: &[(&str, &str)]) -> ImageStream {
        let tags: Vec<_> = tags
            .iter()
            .map(
                |(name, from)| json!({"name": name, "generation": 3, "from": {"kind": "ImageStreamTag", "name": from}}),
            )
            .collect();
        let value = json!({"metadata": {"name": "app", "namespace": "demo"}, "spec": {"tags": tags}});
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn tags_are_followed_over_many_steps() {
        let mut stream = stream(&[("a", "source"), ("b", "app:a"), ("c", "b"), ("other", "elsewhere:source")]);
        add(&mut stream.status, "source", event("p", "x", 9));
        let written = follow(&mut stream, ["source".to_owned()]);
        assert_eq!(written, ["a", "b", "c"].map(str::to_owned).into());
        assert_eq!(stream.status.tag("c").unwrap().items, [event("p", "x", 9)]);
        assert!(stream.status.tag("other").is_none());
        assert!(follow(&mut stream, ["source".to_owned()]).is_empty());
    }

    #[test]
    fn very_many_tags_are_followed_one_after_the_other() {
        let names: Vec<String> = (0..30_000).map(|number| format!("{number:05}")).collect();
        let tags: Vec<_> = names.windows(2).map(|pair| (pair[1].as_str(), pair[0].as_str())).collect();
        let mut stream = stream(&tags);
        add(&mut stream.status, &names[0], event("p", "x", 9));
        assert_eq!(follow(&mut stream, [names[0].clone()]).len(), names.len() - 1);
    }

    #[test]
    fn prefix_of_very_many_images_names_some() {
        let mut status = Status::default();
        for number in 0..1_000 {
            add(&mut status, "1", event(&number.to_string(), &format!("sha256:{number}"), number));
        }
        let Err(FindError::Ambiguous(_, images)) = find(&status, "sha256:") else { panic!("many are meant") };
        assert_eq!(images.split(", ").count(), NAMED_MAX);
    }

    #[test]
    fn cycle_ends() {
        let mut stream = stream(&[("a", "b"), ("b", "a"), ("c", "c")]);
        add(&mut stream.status, "a", event("p", "x", 3));
        assert_eq!(follow(&mut stream, ["a".to_owned(), "c".to_owned()]), ["b".to_owned()].into());
    }

    #[test]
    fn image_is_found_by_prefix_in_any_entry() {
        let mut status = Status::default();
        for (tag, image) in [("1", "sha256:aa11"), ("1", "sha256:ab22"), ("2", "sha256:aa11")] {
            add(&mut status, tag, event(image, image, 1));
        }
        assert_eq!(find(&status, "aa").unwrap().image, "sha256:aa11");
        assert_eq!(find(&status, "sha256:ab").unwrap().image, "sha256:ab22");
        assert!(matches!(find(&status, "a"), Err(FindError::Ambiguous(..))));
        assert!(matches!(find(&status, "ff"), Err(FindError::NotFound(_))));
        assert!(matches!(find(&status, ""), Err(FindError::NotFound(_))));
    }

    #[test]
    fn observed_is_the_newest_of_entry_and_failure() {
        let mut status = Status::default();
        assert_eq!(observed(status.tag("1")), 0);
        add(&mut status, "1", event("p", "a", 4));
        assert_eq!(observed(status.tag("1")), 4);
        let condition = TagCondition {
            kind: "ImportSuccess".into(),
            status: "False".into(),
            generation: 6,
            ..TagCondition::default()
        };
        assert!(set_condition(&mut status, "1", condition.clone()));
        assert!(!set_condition(&mut status, "1", condition));
        assert_eq!(observed(status.tag("1")), 6);
    }

    proptest! {
        #[test]
        fn cap_keeps_the_newest_and_one_entry_of_what_is_used(
            images in prop::collection::vec(0_u8..20, 0..40), used in prop::collection::btree_set(0_u8..20, 0..10), most in 0_usize..30
        ) {
            let items: Vec<_> = images.iter().map(|image| event("p", &image.to_string(), 1)).collect();
            let mut events = TagEvents { tag: "1".into(), items: items.clone(), conditions: Vec::new() };
            let is_used = |image: &str| image.parse::<u8>().is_ok_and(|image| used.contains(&image));
            cap(&mut events, most, is_used);
            let newest = most.max(1).min(items.len());
            prop_assert_eq!(&events.items[..newest], &items[..newest]);
            let has = |items: &[TagEvent], image: &str| items.iter().any(|event| event.image == image);
            for (index, event) in events.items.iter().enumerate().skip(newest) {
                prop_assert!(is_used(&event.image) && !has(&events.items[..index], &event.image));
            }
            for event in items.iter().filter(|event| is_used(&event.image)) {
                prop_assert!(has(&events.items, &event.image));
            }
        }
    }
}

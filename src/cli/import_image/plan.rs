//! What `pinstream import-image` asks of a stream: which tags are imported again, or anew. Pure.

use crate::cli::edit::{put, stream_or_new};
use crate::cli::policy::{Mode, Policy};
use crate::controller::agenda::WHOLE_STREAM;
use crate::reference::Reference;
use crate::stream::plan::{INSECURE, REPOSITORY_CHECK, is_importable};
use crate::stream::types::{DEFAULT_TAG, ObjectReference, ReferenceKind, SpecTag};
use crate::stream::{ImageStream, Key, history};

/// What the user said.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// NAME[:TAG] as it was written.
    pub written: String,
    /// Its tag.
    pub tag: Option<String>,
    pub from: Option<String>,
    pub confirm: bool,
    pub all: bool,
    pub scheduled: bool,
    pub insecure: Option<bool>,
    pub reference_policy: Option<Policy>,
    pub import_mode: Option<Mode>,
}

/// A stream with what is to be imported.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planned {
    pub stream: ImageStream,
    /// The tags; [`WHOLE_STREAM`] for those of its repository.
    pub tags: Vec<String>,
}

/// Why nothing can be imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlanError {
    /// There is none, and none was asked to be made.
    #[error("there is no image stream {0}; make it and import with: pinstream import-image {1} --confirm")]
    NoStream(Key, String),
    /// The stream has no such tag, and nothing says where it should come from.
    #[error("{0} has no tag {1}; say where it comes from, such as --from quay.io/keycloak/keycloak:20.0")]
    NoTag(Key, String),
    /// A tag with that source cannot be imported.
    #[error("tag {0} {1}, and so it is not imported; set it to an image with: pinstream tag IMAGE {2}:{0}")]
    NotImportable(String, String, Box<str>),
    /// Something else was asked for than the tag has.
    #[error("tag {0} comes from {1}; to change that: pinstream tag {2} {3}:{0}")]
    OtherSource(String, String, String, Box<str>),
    /// The stream has another repository.
    #[error("{0} has the repository {1}; to replace it add --confirm")]
    OtherRepository(Key, String),
    /// Nothing of the stream comes from a registry.
    #[error("no tag of {0} comes from a registry; name a repository, such as --from quay.io/keycloak/keycloak")]
    Nothing(Key),
}

/// Plans the import into the stream as it is now, if it is there.
pub(super) fn plan(before: Option<&ImageStream>, key: &Key, asked: &Asked) -> Result<Planned, PlanError> {
    if before.is_none() && !asked.confirm {
        return Err(PlanError::NoStream(key.clone(), asked.written.clone()));
    }
    let stream = stream_or_new(before, key);
    if asked.all {
        return all(stream, before.is_none(), key, asked);
    }
    let tag = asked.tag.as_deref().unwrap_or(DEFAULT_TAG);
    let mut planned = Planned { tags: Vec::new(), stream };
    let spec_tag = match (before, planned.stream.spec.tag(tag)) {
        (None, _) => new_tag(tag, asked.from.as_ref().unwrap_or(&asked.written)),
        (Some(stream), Some(_)) => existing(stream, tag, key, asked)?,
        (Some(stream), None) => {
            let repository =
                Some(&stream.spec.docker_image_repository).filter(|name| !name.is_empty() && tag == DEFAULT_TAG);
            let from = asked.from.as_ref().or(repository);
            new_tag(tag, from.ok_or_else(|| PlanError::NoTag(key.clone(), tag.to_owned()))?)
        }
    };
    ask(&mut planned, spec_tag, asked);
    Ok(planned)
}

/// The tag that a tag leads to through others of the same stream.
fn existing(stream: &ImageStream, tag: &str, key: &Key, asked: &Asked) -> Result<SpecTag, PlanError> {
    let mut name = tag;
    // More steps than there are tags lead in a circle.
    for _ in &stream.spec.tags {
        match history::tracked(stream, name) {
            Some(next) => name = next,
            None => break,
        }
    }
    let not_importable = |why: String| PlanError::NotImportable(name.to_owned(), why, key.name.clone());
    let Some(found) = stream.spec.tag(name) else { return Err(PlanError::NoTag(key.clone(), name.to_owned())) };
    let Some(from) = &found.from else { return Err(not_importable("has no source".to_owned())) };
    if found.reference {
        return Err(not_importable(format!("is a mere reference to {}", from.name)));
    }
    if !is_importable(found) {
        let what = if from.kind == ReferenceKind::ImageStreamTag { "tag" } else { "image" };
        return Err(not_importable(format!("comes from the {what} {}", from.name)));
    }
    match asked.from.as_ref().filter(|asked| **asked != from.name) {
        Some(other) => Err(PlanError::OtherSource(name.to_owned(), from.name.clone(), other.clone(), key.name.clone())),
        None => Ok(found.clone()),
    }
}

/// All tags: those of a repository, else those that come from a registry.
fn all(mut stream: ImageStream, is_new: bool, key: &Key, asked: &Asked) -> Result<Planned, PlanError> {
    let known = stream.spec.docker_image_repository.clone();
    let written = Some(&asked.written).filter(|_| is_new);
    let repository = asked.from.as_ref().or(written).or(Some(&known)).filter(|repository| !repository.is_empty());
    if let Some(repository) = repository.cloned() {
        if !known.is_empty() && repository != known && !asked.confirm {
            return Err(PlanError::OtherRepository(key.clone(), known));
        }
        stream.spec.docker_image_repository = repository;
        stream.metadata.annotations.remove(REPOSITORY_CHECK);
        if let Some(insecure) = asked.insecure {
            stream.metadata.annotations.insert(INSECURE.to_owned(), insecure.to_string());
        }
        let mut planned = Planned { stream, tags: vec![WHOLE_STREAM.to_owned()] };
        ask_again(&mut planned, asked);
        return Ok(planned);
    }
    let mut planned = Planned { stream, tags: Vec::new() };
    ask_again(&mut planned, asked);
    if planned.tags.is_empty() { Err(PlanError::Nothing(key.clone())) } else { Ok(planned) }
}

/// Asks for every tag that comes from a registry.
fn ask_again(planned: &mut Planned, asked: &Asked) {
    let tags: Vec<_> = planned.stream.spec.tags.iter().filter(|tag| is_importable(tag)).cloned().collect();
    for tag in tags {
        ask(planned, tag, asked);
    }
}

/// Asks for a tag, with the policies that were said; the others stay.
fn ask(planned: &mut Planned, mut tag: SpecTag, asked: &Asked) {
    tag.generation = Some(0);
    tag.import_policy.scheduled |= asked.scheduled;
    if let Some(insecure) = asked.insecure {
        tag.import_policy.insecure = insecure;
    }
    if let Some(mode) = asked.import_mode {
        tag.import_policy.import_mode = mode.import_mode();
    }
    if let Some(policy) = asked.reference_policy {
        tag.reference_policy = policy.reference_policy();
    }
    planned.tags.push(tag.name.clone());
    put(&mut planned.stream, tag);
}

fn new_tag(name: &str, from: &str) -> SpecTag {
    let from = ObjectReference { name: from.to_owned(), ..ObjectReference::default() };
    SpecTag { name: name.to_owned(), from: Some(from), ..SpecTag::default() }
}

/// Stream and tag of NAME[:TAG]; for a new stream it may be an image with its registry.
pub(super) fn parse(written: &str) -> Result<(String, Option<String>), String> {
    let wrong = || format!("{written:?} names no image stream; write NAME or NAME:TAG, such as keycloak:20.0");
    let reference = Reference::parse(written).map_err(|_| wrong())?;
    if reference.digest.is_some() {
        return Err(format!(
            "an image is not imported by its digest; set a tag to it with: pinstream tag {written} NAME:TAG"
        ));
    }
    let name = crate::cli::name::stream_name(reference.name).map_err(|_| wrong())?;
    Ok((name, reference.tag.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn stream() -> ImageStream {
        let from = |kind: &str, name: &str| json!({"kind": kind, "name": name});
        let tag = |name: &str, from: Value| json!({"name": name, "from": from, "generation": 4});
        let mut reference = tag("reference", from("DockerImage", "q.io/a:r"));
        reference["reference"] = true.into();
        let mut tags = vec![
            tag("alias", from("ImageStreamTag", "app:stable")),
            tag("circle", from("ImageStreamTag", "circle")),
            tag("image", from("ImageStreamImage", "app@sha256:1")),
            tag("other", from("ImageStreamTag", "other:1")),
            json!({"name": "pushed"}),
            reference,
            tag("stable", from("DockerImage", "q.io/a:1")),
        ];
        tags[6]["importPolicy"] = json!({"importMode": "Legacy", "scheduled": true});
        let value = json!({"metadata": {"name": "app", "namespace": "demo"}, "spec": {"tags": tags}});
        serde_json::from_value(value).unwrap()
    }

    fn planned(before: Option<&ImageStream>, asked: &Asked) -> Result<Planned, String> {
        plan(before, &Key::new("demo", "app"), asked).map_err(|error| error.to_string())
    }

    fn of(tag: &str) -> Asked {
        Asked { written: format!("app:{tag}"), tag: Some(tag.to_owned()), ..Asked::default() }
    }

    #[rstest]
    #[case("stable", Ok("stable"))]
    #[case("alias", Ok("stable"))]
    #[case("circle", Err("comes from the tag circle, and so it is not imported"))]
    #[case("image", Err("comes from the image app@sha256:1, and so it is not imported"))]
    #[case("other", Err("comes from the tag other:1, and so it is not imported"))]
    #[case("pushed", Err("tag pushed has no source, and so it is not imported"))]
    #[case("reference", Err("is a mere reference to q.io/a:r"))]
    #[case("none", Err("demo/app has no tag none; say where it comes from"))]
    fn tags_from_registries_are_imported_again(#[case] tag: &str, #[case] expected: Result<&str, &str>) {
        match (planned(Some(&stream()), &of(tag)), expected) {
            (Ok(planned), Ok(expected)) => {
                assert_eq!(planned.tags, [expected]);
                let tag = planned.stream.spec.tag(expected).unwrap();
                assert_eq!((tag.generation, tag.import_policy.scheduled), (Some(0), true));
                assert_eq!(tag.import_policy.import_mode, Mode::Legacy.import_mode());
            }
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (planned, _) => panic!("{planned:?}"),
        }
    }

    #[test]
    fn streams_are_made_only_if_that_is_confirmed() {
        let asked = Asked { written: "q.io/b/app:1".into(), tag: Some("1".into()), ..Asked::default() };
        assert!(planned(None, &asked).unwrap_err().contains("import-image q.io/b/app:1 --confirm"));
        let confirmed = Asked { confirm: true, ..asked.clone() };
        let from = |planned: Planned| planned.stream.spec.tags[0].from.clone().unwrap().name;
        assert_eq!(planned(None, &confirmed).map(from), Ok("q.io/b/app:1".to_owned()));
        let elsewhere = Asked { from: Some("q.io/c:2".into()), ..confirmed };
        assert_eq!(planned(None, &elsewhere).map(from), Ok("q.io/c:2".to_owned()));
    }

    #[test]
    fn source_of_a_tag_is_not_changed_but_given_to_a_new_one() {
        let asked = |tag| Asked { from: Some("q.io/b:2".into()), ..of(tag) };
        let error = planned(Some(&stream()), &asked("stable")).unwrap_err();
        assert_eq!(error, "tag stable comes from q.io/a:1; to change that: pinstream tag q.io/b:2 app:stable");
        let new = planned(Some(&stream()), &asked("new")).unwrap();
        assert_eq!(new.stream.spec.tag("new").unwrap().from.as_ref().unwrap().name, "q.io/b:2");
    }

    #[test]
    fn what_is_said_of_policies_is_set() {
        let asked = Asked {
            insecure: Some(true),
            import_mode: Some(Mode::PreserveOriginal),
            reference_policy: Some(Policy::Local),
            ..of("stable")
        };
        let planned = planned(Some(&stream()), &asked).unwrap();
        let tag = planned.stream.spec.tag("stable").unwrap();
        assert!(tag.import_policy.insecure);
        assert_eq!(tag.import_policy.import_mode, Mode::PreserveOriginal.import_mode());
        assert_eq!(tag.reference_policy, Policy::Local.reference_policy());
    }

    #[test]
    fn all_is_the_repository_or_the_tags_from_registries() {
        let all = Asked { written: "app".into(), all: true, ..Asked::default() };
        assert_eq!(planned(Some(&stream()), &all).unwrap().tags, ["stable"]);
        let repository = |name: &str| Asked { from: Some(name.into()), insecure: Some(true), ..all.clone() };
        let first = planned(Some(&stream()), &repository("q.io/a")).unwrap();
        assert_eq!(first.tags, [WHOLE_STREAM, "stable"]);
        assert_eq!(first.stream.spec.docker_image_repository, "q.io/a");
        assert_eq!(first.stream.metadata.annotations[INSECURE], "true");
        let error = planned(Some(&first.stream), &repository("q.io/b")).unwrap_err();
        assert!(error.contains("demo/app has the repository q.io/a"), "{error}");
        let nothing = stream_or_new(None, &Key::new("demo", "app"));
        assert!(planned(Some(&nothing), &all).unwrap_err().contains("no tag of demo/app comes from a registry"));
    }

    #[rstest]
    #[case("app", Ok(("app", None)))]
    #[case("app:1", Ok(("app", Some("1"))))]
    #[case("q.io/a/app:1", Ok(("app", Some("1"))))]
    #[case("App", Err("names no image stream"))]
    #[case("q.io/a/b/app:1", Err("names no image stream"))]
    #[case(
        "app@sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c",
        Err("is not imported by its digest")
    )]
    fn names_are_read(#[case] written: &str, #[case] expected: Result<(&str, Option<&str>), &str>) {
        match (parse(written), expected) {
            (Ok((name, tag)), Ok(expected)) => assert_eq!((name.as_str(), tag.as_deref()), expected),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (read, _) => panic!("{read:?}"),
        }
    }
}

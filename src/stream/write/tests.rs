//! What a write does, case by case. What OpenShift does is in `tests/conformance/writes.json`.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

const DIGEST: &str = "sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";

fn stream(name: &str, tags: &Value) -> ImageStream {
    read(&json!({"metadata": {"name": name, "namespace": "demo"}, "spec": {"tags": tags}})).unwrap()
}

/// Another stream `other` with an image at tag `1`; no further stream is there, and of `far` nothing is known.
fn with_context<T>(host: Option<&str>, work: impl FnOnce(&Context<'_>) -> T) -> T {
    let other: ImageStream = serde_json::from_value(json!({"metadata": {"name": "other", "namespace": "demo"},
        "status": {"tags": [{"tag": "1", "items": [{"created": "2026-01-01T00:00:00Z", "generation": 9, "image": DIGEST,
            "dockerImageReference": format!("reg.int:5000/demo/other@{DIGEST}")}]}]}}))
    .unwrap();
    let source = |key: &Key| match &*key.name {
        "other" => Source::Known(&other),
        "far" => Source::Unknown,
        _ => Source::Missing,
    };
    let permits = |reference: &Reference<'_>| reference.registry != Some("blocked.io");
    let registry_host = host.map(str::to_owned).into();
    work(&Context {
        now: "2026-11-24T12:00:00Z".parse().unwrap(),
        registry_host: &registry_host,
        default_mode: ImportMode::PreserveOriginal,
        permits: &permits,
        source: &source,
    })
}

fn generations(stream: &ImageStream) -> (Option<i64>, Vec<Option<i64>>) {
    (stream.metadata.generation, stream.spec.tags.iter().map(|tag| tag.generation).collect())
}

fn image(name: &str) -> Value {
    json!({"kind": "DockerImage", "name": name})
}

#[rstest]
#[case::nothing(json!({}), 5, 3)]
#[case::other_image(json!({"from": image("q.io/a:2")}), 6, 6)]
#[case::mode(json!({"importPolicy": {"importMode": "Legacy"}}), 6, 6)]
#[case::reference(json!({"reference": true}), 6, 6)]
#[case::forced(json!({"generation": 0}), 6, 6)]
#[case::other_number(json!({"generation": 99}), 5, 3)]
#[case::no_number(json!({"generation": null}), 5, 3)]
#[case::scheduled(json!({"importPolicy": {"scheduled": true}}), 6, 3)]
#[case::insecure(json!({"importPolicy": {"insecure": true}}), 6, 3)]
#[case::policy(json!({"referencePolicy": {"type": "Local"}}), 6, 3)]
#[case::own_namespace(json!({"from": {"kind": "DockerImage", "name": "q.io/a:1", "namespace": "demo"}}), 6, 3)]
#[case::without_source(json!({"from": null}), 6, 3)]
fn only_some_changes_of_a_tag_count(#[case] change: Value, #[case] generation: i64, #[case] tag_generation: i64) {
    let tag = json!({"name": "1", "generation": 3, "from": image("q.io/a:1")});
    with_context(None, |context| {
        let mut old = stream("app", &json!([tag]));
        old.metadata.generation = Some(5);
        let mut changed = tag.clone();
        changed.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let new = update(stream("app", &json!([changed])), &old, context).unwrap();
        assert_eq!(generations(&new), (Some(generation), vec![Some(tag_generation)]));
    });
}

#[rstest]
#[case(None)]
#[case(Some(0))]
fn number_that_is_missing_is_given_like_the_controller_gives_it(#[case] stored: Option<i64>) {
    let tags =
        json!([{"name": "1", "generation": 3, "from": image("q.io/a:1")}, {"name": "2", "from": image("q.io/a:2")}]);
    with_context(None, |context| {
        let mut old = stream("app", &tags);
        old.metadata.generation = Some(5);
        old.spec.tags.iter_mut().for_each(|tag| tag.import_policy.import_mode = ImportMode::Legacy);
        old.spec.tags[1].generation = stored;
        let new = update(old.clone(), &old, context).unwrap();
        assert_eq!(generations(&new), (Some(6), vec![Some(3), Some(6)]));
        assert_eq!(generations(&settle(&old, context).stream), generations(&new));
        assert_eq!(update(settle(&old, context).stream, &old, context).unwrap().spec, new.spec);
    });
}

#[test]
fn largest_number_stays() {
    with_context(None, |context| {
        let mut old = stream("app", &json!([{"name": "1", "from": image("q.io/a:1")}]));
        old.metadata.generation = Some(i64::MAX);
        assert_eq!(generations(&update(old.clone(), &old, context).unwrap()).0, Some(i64::MAX));
        assert_eq!(generations(&settle(&old, context).stream).0, Some(i64::MAX));
    });
}

#[test]
fn copies_and_references_are_in_the_status_at_once() {
    let tags = json!([
        {"name": "copy", "from": {"kind": "ImageStreamTag", "name": "other:1"}},
        {"name": "image", "from": {"kind": "ImageStreamImage", "name": "other@87fbabfd"}},
        {"name": "kept", "reference": true, "from": {"kind": "ImageStreamTag", "name": "other:1"}},
        {"name": "later", "from": {"kind": "ImageStreamTag", "name": "far:1"}},
        {"name": "pending", "from": {"kind": "ImageStreamTag", "name": "other:none"}},
        {"name": "reference", "reference": true, "from": image("q.io/a:1")},
        {"name": "through", "from": {"kind": "ImageStreamTag", "name": "copy"}},
    ]);
    let stored = with_context(Some("reg.int:5000"), |context| create(stream("app", &tags), context)).unwrap();
    let pull_specs: Vec<_> = stored
        .status
        .tags
        .iter()
        .map(|events| (events.tag.as_str(), events.items[0].docker_image_reference.as_str()))
        .collect();
    let (own, others) = (format!("reg.int:5000/demo/app@{DIGEST}"), format!("reg.int:5000/demo/other@{DIGEST}"));
    assert_eq!(
        pull_specs,
        [("copy", &*own), ("image", &own), ("kept", &others), ("reference", "q.io/a:1"), ("through", &own)]
    );
    assert_eq!(stored.status.docker_image_repository, "reg.int:5000/demo/app");
}

#[rstest]
#[case(image("https://q.io/a"), "spec.tags[1].from.name: Invalid value: \"https://q.io/a\": invalid reference format")]
#[case(image("blocked.io/a"), "spec.tags[1].from.name: Forbidden: images may not be imported from blocked.io")]
#[case(json!({"kind": "ImageStreamTag", "name": "none:1"}), "spec.tags[1].from.name: Not found: \"none:1\"")]
#[case(json!({"kind": "ImageStreamTag", "name": "a:b:c"}), "must be of the form <tag>")]
#[case(json!({"kind": "ImageStreamImage", "name": "other@ff"}), "error generating tag event")]
fn source_that_is_wrong_is_refused(#[case] from: Value, #[case] expected: &str) {
    let tags = json!([{"name": "1", "from": from}]);
    let invalid = with_context(None, |context| create(stream("app", &tags), context)).unwrap_err();
    let [error] = invalid.errors.as_slice() else { panic!("{invalid}") };
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn source_in_the_same_stream_is_numbered_like_its_copy_unless_it_waits() {
    for (asked, expected) in [(2, 3), (3, 2)] {
        let mut old = stream("app", &json!([{"name": "base", "generation": asked, "from": image("q.io/a:1")}]));
        old.metadata.generation = Some(2);
        old.spec.tags[0].import_policy.import_mode = ImportMode::PreserveOriginal;
        old.status = serde_json::from_value(json!({"tags": [{"tag": "base", "items": [
            {"generation": 2, "image": DIGEST, "dockerImageReference": format!("q.io/a@{DIGEST}")}]}]}))
        .unwrap();
        let mut new = old.clone();
        new.spec.tags.extend(
            stream("app", &json!([{"name": "copy", "from": {"kind": "ImageStreamTag", "name": "base"}}])).spec.tags,
        );
        let new = with_context(None, |context| update(new, &old, context)).unwrap();
        let generation = |tag: &str| new.status.tag(tag).unwrap().items[0].generation;
        assert_eq!((generation("base"), generation("copy")), (expected, 3));
    }
}

#[test]
fn refusal_names_everything_that_is_wrong() {
    let tags = json!([{"name": "1", "from": image("")},
        {"name": "2", "from": {"kind": "ImageStreamTag", "name": "other:1"}, "importPolicy": {"scheduled": true}}]);
    let invalid = with_context(None, |context| create(stream("a--b", &tags), context)).unwrap_err();
    let fields: Vec<_> = invalid.errors.iter().map(|error| error.field.as_str()).collect();
    let name = "spec.tags[1].from.name";
    assert_eq!(fields, ["metadata.name", name, name, "spec.tags[2].importPolicy.scheduled"]);
    let text = invalid.to_string();
    assert!(
        text.starts_with("ImageStream \"a--b\" is invalid: [metadata.name: Invalid value: \"a--b\": must"),
        "{text}"
    );
}

#[test]
fn words_of_closed_sets_are_refused_together() {
    let written = json!({"metadata": {"name": "app"}, "spec": {"tags": [{"name": "1", "from": {"kind": "Pod", "name": "x"},
        "importPolicy": {"importMode": "Sometimes"}, "referencePolicy": {"type": "Other"}}]}});
    assert_eq!(read(&written).unwrap_err().errors.len(), 3);
    let Read { stream, errors } = read_with_errors(written).unwrap();
    assert_eq!((stream.spec.tags[0].from.as_ref(), errors.len()), (None, 3));
    assert!(read(&json!({"metadata": {"name": "app"}, "spec": {"tags": 1}})).is_err());
}

#[test]
fn settling_says_where_a_stream_is_served() {
    let mut stored = stream("app", &json!([]));
    stored.spec.docker_image_repository = "q.io/a/b".into();
    let settled = |stored: &ImageStream, host| with_context(host, |context| settle(stored, context)).stream;
    let served = settled(&stored, Some("reg.int:5000"));
    assert_eq!(served.status.docker_image_repository, "reg.int:5000/demo/app");
    assert_eq!(settled(&served, Some("reg.new")).status.docker_image_repository, "reg.new/demo/app");
    assert_eq!(settled(&served, None).status.docker_image_repository, "q.io/a/b");
    assert_eq!(RegistryHost::Unknown.repository(&served), "reg.int:5000/demo/app");
}

#[test]
fn stream_that_was_stored_without_a_write_is_brought_in_order() {
    let mut stored = stream(
        "app",
        &json!([{"name": "1", "from": image("q.io/a:1")},
        {"name": "2", "generation": 4, "from": {"kind": "ImageStreamTag", "name": "other:1"}},
        {"name": "3", "generation": 4, "from": {"kind": "ImageStreamTag", "name": "none:1"}}]),
    );
    stored.metadata.generation = Some(7);
    let settled = with_context(None, |context| settle(&stored, context));
    assert_eq!(generations(&settled.stream), (Some(8), vec![Some(8), Some(4), Some(4)]));
    assert_eq!(settled.stream.status.tag("2").unwrap().items[0].image, DIGEST);
    let failure = settled.stream.status.tag("3").unwrap().failure().unwrap();
    assert_eq!((failure.reason.as_str(), failure.generation), ("NotFound", 4));
    assert_eq!(settled.problems.len(), 1);
    let again = with_context(None, |context| settle(&settled.stream, context));
    assert_eq!(again.stream, settled.stream);
    assert!(again.problems.is_empty());
}

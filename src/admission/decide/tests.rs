//! The rules of the decision, as tables and as properties over random objects and streams.

use std::sync::Arc;

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::stream::places::Places;
use crate::workload::Kinds;
use crate::workload::slots::RESOLVE_NAMES;

const D1: &str = "quay.io/k/k@sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";

fn stream(name: &str, local: bool, repository: &str, tags: &Value) -> Arc<IndexedStream> {
    let stream = serde_json::from_value(json!({"metadata": {"name": name, "namespace": "demo"},
        "spec": {"lookupPolicy": {"local": local}, "tags": [{"name": "asked"}]},
        "status": {"dockerImageRepository": repository, "tags": tags}}))
    .unwrap();
    Arc::new(IndexedStream::new(&stream, &Places::default()))
}

fn item(pull_spec: &str) -> Value {
    let digest = pull_spec.split_once('@').map(|(_, digest)| digest);
    json!({"created": "2026-11-20T10:00:00Z", "dockerImageReference": pull_spec, "image": digest.unwrap_or_default()})
}

fn snapshot() -> Snapshot {
    let tags = json!([
        {"tag": "20.0", "items": [item(D1)]},
        {"tag": "latest", "items": [item(D1)]},
        {"tag": "ref", "items": [item("quay.io/k/k:1")]},
        {"tag": "stale", "items": [item(D1)], "conditions": [
            {"type": "ImportSuccess", "status": "False", "reason": "NotFound"}]}]);
    Snapshot::new([
        stream("kc", true, "", &tags),
        stream("served", true, "reg.int:5000/demo/served", &tags),
        stream("closed", false, "reg.int:5000/demo/closed", &tags),
        stream("loop", true, "kc", &json!([])),
        stream("self", true, "self", &json!([])),
    ])
}

fn workload<'a>(kind: &Kind, object: &'a Value) -> Workload<'a> {
    Workload::read(kind, object).unwrap()
}

fn outcome_of(kind: &str, object: &Value, write: Write<'_, '_>) -> Vec<(&'static str, Option<String>)> {
    let kinds = Kinds::default();
    let kind = kinds
        .find(
            if kind == "Pod" {
                ""
            } else if kind == "Job" {
                "batch"
            } else {
                "apps"
            },
            kind,
        )
        .unwrap();
    let (object, snapshot) = (workload(kind, object), snapshot());
    let question = Question { write, part: Part::Whole, namespace: "demo", kind, object: &object };
    let decision = decide(&question, &snapshot);
    decision.slots.iter().map(|slot| (slot.outcome.label(), slot.outcome.rewrite().map(str::to_owned))).collect()
}

fn pod(image: &str) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn forced(mut object: Value) -> Value {
    object["metadata"]["annotations"] = json!({RESOLVE_NAMES: "*"});
    object
}

fn controlled(mut object: Value) -> Value {
    object["metadata"]["ownerReferences"] = json!([{"name": "o", "controller": true}]);
    object
}

fn templated(image: &str) -> Value {
    json!({"metadata": {"name": "d"}, "spec": {"template": pod(image)}})
}

#[rstest]
#[case::l1("kc:20.0", "pinned", Some(D1))]
#[case::l3_latest("kc", "pinned", Some(D1))]
#[case::tag_missing("kc:21", "tag_missing", None)]
#[case::never_imported("kc:asked", "tag_missing", None)]
#[case::reference_tag("kc:ref", "tag_missing", None)]
#[case::l12_registry("served:21", "tag_missing", Some("reg.int:5000/demo/served:21"))]
#[case::l16_reference("served:ref", "tag_missing", Some("reg.int:5000/demo/served:ref"))]
#[case::l35_stale("kc:stale", "pinned", Some(D1))]
#[case::closed("closed:20.0", "lookup_disabled", None)]
#[case::closed_missing("closed:21", "lookup_disabled", None)]
#[case::no_stream("other:1", "no_stream", None)]
#[case::namespaced("demo/kc:20.0", "not_short_name", None)]
#[case::registry("quay.io/x/kc:20.0", "not_short_name", None)]
#[case::only_registry("my.app:1", "not_short_name", None)]
#[case::l17_digest(
    "kc@sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c",
    "already_pinned",
    None
)]
#[case::unparsable("Kc:1", "unparsable", None)]
#[case::empty("", "unparsable", None)]
#[case::place_of_another_stream("loop:20.0", "tag_missing", None)]
#[case::place_is_itself("self:1", "tag_missing", None)]
fn new_pod(#[case] image: &str, #[case] label: &'static str, #[case] rewrite: Option<&str>) {
    assert_eq!(outcome_of("Pod", &pod(image), Write::Create), [(label, rewrite.map(str::to_owned))]);
}

#[rstest]
#[case::l8("quay.io/x/kc:20.0", "pinned", Some(D1))]
#[case::l9("other/kc:20.0", "pinned", Some(D1))]
#[case::closed("closed:20.0", "pinned", Some(D1))]
#[case::closed_missing("closed:21", "tag_missing", Some("reg.int:5000/demo/closed:21"))]
#[case::place_stays("reg.int:5000/demo/closed:21", "tag_missing", None)]
#[case::deep_name("quay.io/a/b/kc:20.0", "no_stream", None)]
#[case::only_registry("my.app:1", "not_short_name", None)]
#[case::digest("kc@sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c", "already_pinned", None)]
fn forced_pod(#[case] image: &str, #[case] label: &'static str, #[case] rewrite: Option<&str>) {
    assert_eq!(outcome_of("Pod", &forced(pod(image)), Write::Create), [(label, rewrite.map(str::to_owned))]);
}

#[test]
fn streams_of_another_namespace_decide_nothing() {
    let kinds = Kinds::default();
    let (kind, object) = (kinds.find("", "Pod").unwrap(), pod("kc:20.0"));
    let object = workload(kind, &object);
    let ask = |namespace| Question { write: Write::Create, part: Part::Whole, namespace, kind, object: &object };
    let decided = |namespace| decide(&ask(namespace), &snapshot()).slots[0].outcome.label();
    assert_eq!((decided("demo"), decided("other")), ("pinned", "no_stream"));
}

#[test]
fn controlled_pods_are_resolved_and_other_controlled_objects_are_not() {
    assert_eq!(outcome_of("Pod", &controlled(pod("kc")), Write::Create)[0].0, "pinned");
    assert_eq!(outcome_of("ReplicaSet", &controlled(templated("kc")), Write::Create)[0].0, "owned");
}

#[rstest]
#[case::l27_same("Deployment", templated("kc:20.0"), templated("kc:20.0"), "unchanged")]
#[case::changed("Deployment", templated("kc:20.0"), templated(D1), "pinned")]
#[case::l28_forced_now("Deployment", forced(templated("kc:20.0")), templated("kc:20.0"), "pinned")]
#[case::forced_no_more("Deployment", templated("kc:20.0"), forced(templated("kc:20.0")), "pinned")]
#[case::forced_both("Deployment", forced(templated("kc:20.0")), forced(templated("kc:20.0")), "unchanged")]
#[case::l29_job("Job", templated("kc:20.0"), templated(D1), "unchanged")]
#[case::pod("Pod", pod("kc:20.0"), pod(D1), "pinned")]
fn update(#[case] kind: &str, #[case] new: Value, #[case] old: Value, #[case] label: &str) {
    let kinds = Kinds::default();
    let group = ["", "apps", "batch"].into_iter().find(|group| kinds.find(group, kind).is_some()).unwrap();
    let old = workload(kinds.find(group, kind).unwrap(), &old);
    assert_eq!(outcome_of(kind, &new, Write::Update(Some(&old)))[0].0, label);
}

#[test]
fn update_without_an_old_object_is_decided_like_a_new_one() {
    assert_eq!(outcome_of("Deployment", &templated("kc"), Write::Update(None))[0].0, "pinned");
}

#[test]
fn container_that_moves_between_the_lists_is_unchanged() {
    let kinds = Kinds::default();
    let old = json!({"spec": {"initContainers": [{"name": "c", "image": "kc:20.0"}]}});
    let old = workload(kinds.find("", "Pod").unwrap(), &old);
    assert_eq!(outcome_of("Pod", &pod("kc:20.0"), Write::Update(Some(&old)))[0].0, "unchanged");
}

#[test]
fn volume_and_container_of_one_name_are_not_confused() {
    let kinds = Kinds::default();
    let kind = kinds.find("apps", "Deployment").unwrap();
    let object = |container: &str, volume: &str| {
        json!({"spec": {"template": {"spec": {"containers": [{"name": "x", "image": container}],
            "volumes": [{"name": "x", "image": {"reference": volume}}]}}}})
    };
    let (old, new) = (object("closed:1", "kc:stale"), object("kc:stale", "kc:stale"));
    let old = workload(kind, &old);
    let labels: Vec<_> = outcome_of("Deployment", &new, Write::Update(Some(&old))).into_iter().map(|o| o.0).collect();
    assert_eq!(labels, ["pinned", "unchanged"]);
}

#[test]
fn only_new_ephemeral_containers_are_resolved_through_their_subresource() {
    let object = |debuggers: &[&str]| {
        let list: Vec<_> = debuggers.iter().map(|name| json!({"name": name, "image": "kc:20.0"})).collect();
        forced(json!({"spec": {"containers": [{"name": "c", "image": "kc:stale"}], "ephemeralContainers": list}}))
    };
    let kinds = Kinds::default();
    let kind = kinds.find("", "Pod").unwrap();
    let (old, new) = (object(&["a"]), object(&["a", "b"]));
    let (old, new, snapshot) = (workload(kind, &old), workload(kind, &new), snapshot());
    let write = Write::Update(Some(&old));
    let question = Question { write, part: Part::EphemeralContainers, namespace: "demo", kind, object: &new };
    let decision = decide(&question, &snapshot);
    let labels: Vec<_> = decision.slots.iter().map(|slot| slot.outcome.label()).collect();
    assert_eq!(labels, ["unchanged", "pinned"]);
    let patched: Vec<_> = decision.patch(kind).into_iter().map(|replacement| replacement.path).collect();
    assert_eq!(patched, ["/spec/ephemeralContainers/1/image"]);
}

#[test]
fn what_cannot_be_changed_in_a_stored_pod_is_left_alone() {
    let object = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "kc"}],
        "volumes": [{"name": "v", "image": {"reference": "kc"}}]}});
    let kinds = Kinds::default();
    let old = workload(kinds.find("", "Pod").unwrap(), &object);
    let outcomes = outcome_of("Pod", &forced(object.clone()), Write::Update(Some(&old)));
    assert_eq!(outcomes, [("unchanged", None), ("unchanged", None)]);
    assert_eq!(outcome_of("Pod", &object, Write::Create)[1].0, "pinned");
}

fn warnings_of(images: &[&str]) -> Vec<String> {
    let containers: Vec<_> = images.iter().map(|image| json!({"name": "c", "image": image})).collect();
    let object = json!({"spec": {"containers": containers}});
    let kinds = Kinds::default();
    let kind = kinds.find("", "Pod").unwrap();
    let (object, snapshot) = (workload(kind, &object), snapshot());
    let question = Question { write: Write::Create, part: Part::Whole, namespace: "demo", kind, object: &object };
    decide(&question, &snapshot).warnings()
}

#[test]
fn warnings_say_what_the_user_did_not_get() {
    assert_eq!(
        warnings_of(&["kc", "kc:21", "kc:asked", "kc:ref", "kc:stale"]),
        [
            "containers[c]: kc:21: the image stream has no such tag; left as written",
            "containers[c]: kc:asked: the tag was never imported; left as written",
            "containers[c]: kc:ref: the tag has no digest; left as written",
            "containers[c]: kc:stale: the newest import failed (NotFound); the image of 2026-11-20 is used",
        ]
    );
    assert_eq!(
        warnings_of(&["served:21"]),
        ["containers[c]: served:21: the image stream has no such tag; it is pulled by tag"]
    );
    assert!(warnings_of(&["other", "closed:1", "Bad", "quay.io/a/b"]).is_empty());
}

#[test]
fn warnings_are_few_and_short() {
    let many = warnings_of(&["kc:21"; 9]);
    assert_eq!(many.len(), WARNINGS_MAX);
    assert_eq!(many[4], "5 more images could not be resolved as asked");
    let long = warnings_of(&[&format!("kc:{}", "x".repeat(128))]);
    assert_eq!(long[0].chars().count(), WARNING_LENGTH_MAX);
}

/// Names that collide on purpose: with each other, with streams' repositories, with registries.
fn image() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c", "x/a", "r.io/a", "r.io/x/b", "localhost/c", "a.b", "C", ""]);
    let suffix = prop::sample::select(vec!["", ":1", ":2", ":ref", ":", "@sha256:00"]);
    (name, suffix).prop_map(|(name, suffix)| format!("{name}{suffix}"))
}

fn any_stream() -> impl Strategy<Value = Arc<IndexedStream>> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let tag =
        (prop::sample::select(vec!["1", "2", "latest"]), image(), any::<bool>()).prop_map(|(tag, spec, pinned)| {
            let digest = if pinned { &D1[12..] } else { "" };
            json!({"tag": tag, "items": [{"dockerImageReference": spec, "image": digest}]})
        });
    (name, any::<bool>(), image(), prop::collection::vec(tag, 0..3))
        .prop_map(|(name, local, repository, tags)| stream(name, local, &repository, &json!(tags)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn second_pass_changes_nothing_and_only_slots_are_touched(
        images in prop::collection::vec(image(), 1..5),
        streams in prop::collection::vec(any_stream(), 0..4),
        force in any::<bool>(),
        old_images in prop::option::of(prop::collection::vec(image(), 0..5)),
    ) {
        let kinds = Kinds::default();
        let kind = kinds.find("apps", "Deployment").unwrap();
        let snapshot = Snapshot::new(streams);
        let build = |images: &[String]| {
            let containers: Vec<_> = images.iter().enumerate()
                .map(|(index, image)| json!({"name": index.to_string(), "image": image, "other": image})).collect();
            let object = json!({"metadata": {"name": "d"}, "spec": {"template": {"spec": {"containers": containers}}}});
            if force { forced(object) } else { object }
        };
        let old = old_images.map(|images| build(&images));
        let old = old.as_ref().map(|old| workload(kind, old));
        let write = || old.as_ref().map_or(Write::Create, |old| Write::Update(Some(old)));
        let mut object = build(&images);

        let first = workload(kind, &object);
        let question = Question { write: write(), part: Part::Whole, namespace: "demo", kind, object: &first };
        let decision = decide(&question, &snapshot);
        prop_assert_eq!(decision.slots.len(), images.len());
        let patch: json_patch::Patch = serde_json::from_value(serde_json::to_value(decision.patch(kind)).unwrap()).unwrap();
        let pinned: Vec<_> = decision.slots.iter().map(|s| s.outcome.label() == "pinned").collect();
        let before = object.clone();
        drop(decision);
        drop(first);
        json_patch::patch(&mut object, &patch).unwrap();

        for (index, was_pinned) in pinned.into_iter().enumerate() {
            let slot = format!("/spec/template/spec/containers/{index}/image");
            let image = object.pointer(&slot).and_then(Value::as_str).unwrap();
            prop_assert!(!was_pinned || Reference::parse(image).unwrap().digest.is_some());
        }
        let mut restored = object.clone();
        for operation in &patch.0 {
            let pointer = operation.path().to_string();
            prop_assert!(pointer.starts_with("/spec/template/spec/containers/") && pointer.ends_with("/image"));
            *restored.pointer_mut(&pointer).unwrap() = before.pointer(&pointer).unwrap().clone();
        }
        prop_assert_eq!(&restored, &before);

        let second = workload(kind, &object);
        let question = Question { write: write(), part: Part::Whole, namespace: "demo", kind, object: &second };
        prop_assert!(decide(&question, &snapshot).patch(kind).is_empty());
    }
}

//! Every line that a stream can be described by.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-01-02T03:05:05Z";

fn described(spec: &Value, status: &Value) -> String {
    let stream = json!({"metadata": {"name": "app", "namespace": "demo", "creationTimestamp": "2026-01-02T03:05:00Z"},
        "spec": spec, "status": status});
    text(&serde_json::from_value(stream).unwrap(), NOW.parse().unwrap())
}

fn docker(name: &str) -> Value {
    json!({"kind": "DockerImage", "name": name})
}

fn item(minute: u8, digit: &str) -> Value {
    let image = format!("sha256:{digit}");
    json!({"created": format!("2026-01-02T03:{minute:02}:05Z"), "dockerImageReference": format!("q.io/app@{image}"),
        "image": image, "generation": 2})
}

#[test]
fn stream_without_anything_says_so() {
    let stream = serde_json::from_value(json!({"metadata": {"name": "app"}})).unwrap();
    insta::assert_snapshot!(text(&stream, NOW.parse().unwrap()), @r"
    Name:			app
    Namespace:		default
    Labels:			<none>
    Annotations:		<none>
    Image Repository:	<none>
    Image Lookup:		local=false
    Unique Images:		0
    Tags:			<none>
    ");
}

#[test]
fn head_has_what_every_object_has() {
    let stream = serde_json::from_value(json!({
        "metadata": {"name": "app", "namespace": "demo", "labels": {"b": "2", "a": "1"}, "annotations": {"x": "1", "y": "2",
            "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        "spec": {"lookupPolicy": {"local": true}},
        "status": {"dockerImageRepository": "r.io/demo/app", "publicDockerImageRepository": "public.io/demo/app"}}))
    .unwrap();
    insta::assert_snapshot!(text(&stream, NOW.parse().unwrap()), @r"
    Name:			app
    Namespace:		demo
    Labels:			a=1,b=2
    Annotations:		x=1
    			y=2
    Image Repository:	public.io/demo/app
    Image Lookup:		local=true
    Unique Images:		0
    Tags:			<none>
    ");
}

#[test]
fn tags_have_a_history_and_those_that_matter_most_come_first() {
    let spec = json!({"tags": [
        {"name": "19.0", "from": docker("q.io/app:19.0"), "importPolicy": {"insecure": true}},
        {"name": "20.0", "from": docker("q.io/app:20.0"), "generation": 2, "importPolicy": {"scheduled": true},
         "referencePolicy": {"type": "Local"}},
        {"name": "latest", "from": {"kind": "ImageStreamTag", "name": "stable"}},
        {"name": "stable", "from": {"kind": "ImageStreamTag", "name": "app:20.0"}}]});
    let history = json!([item(4, "b"), item(3, "a")]);
    let status = json!({"tags": [{"tag": "19.0", "items": [item(3, "a")]}, {"tag": "20.0", "items": history}]});
    insta::assert_snapshot!(described(&spec, &status), @r"
    Name:			app
    Namespace:		demo
    Created:		5 seconds ago
    Labels:			<none>
    Annotations:		<none>
    Image Repository:	<none>
    Image Lookup:		local=false
    Unique Images:		2
    Tags:			4

    20.0 (latest, stable)
      updates automatically from registry q.io/app:20.0
        prefer registry pullthrough when referencing this tag
        pulled from the source, or a pull-through cache of it: no registry host is set

      * q.io/app@sha256:b
          About a minute ago
        q.io/app@sha256:a
          2 minutes ago

    19.0
      tagged from q.io/app:19.0
        will use insecure HTTPS or HTTP connections

      * q.io/app@sha256:a
          2 minutes ago
    ");
}

/// The paragraphs of a stream's only tag.
fn only_tag(spec: &Value, status: &Value) -> String {
    let text = described(&json!({"tags": spec}), &json!({"tags": status}));
    text.split_once("\n\n").unwrap().1.to_owned()
}

#[rstest]
#[case::image(json!({"from": docker("q.io/a:1"), "reference": true}), "reference to registry q.io/a:1")]
#[case::tag(json!({"from": {"kind": "ImageStreamTag", "name": "b:1"}}), "tagged from b:1")]
#[case::own_namespace(json!({"from": {"kind": "ImageStreamTag", "name": "b:1", "namespace": "demo"}}), "tagged from b:1")]
#[case::elsewhere(
    json!({"from": {"kind": "ImageStreamTag", "name": "b:1", "namespace": "shared"}}), "tagged from shared/b:1"
)]
#[case::tag_reference(
    json!({"from": {"kind": "ImageStreamTag", "name": "b:1"}, "reference": true}), "reference to b:1"
)]
#[case::tag_scheduled(
    json!({"from": {"kind": "ImageStreamTag", "name": "b:1"}, "importPolicy": {"scheduled": true}}),
    "updates automatically from b:1"
)]
#[case::stream_image(json!({"from": {"kind": "ImageStreamImage", "name": "app@sha256:a"}}), "tagged from app@sha256:a")]
#[case::stream_image_reference(
    json!({"from": {"kind": "ImageStreamImage", "name": "app@sha256:a"}, "reference": true}),
    "reference to image app@sha256:a"
)]
#[case::nowhere(json!({}), "tag without source image")]
fn source_is_told(#[case] mut tag: Value, #[case] expected: &str) {
    tag["name"] = "1".into();
    // Nothing waits for an import.
    let status = json!([{"tag": "1", "items": [item(3, "a")]}]);
    let text = only_tag(&json!([tag]), &status);
    assert_eq!(text, format!("1\n  {expected}\n\n  * q.io/app@sha256:a\n      2 minutes ago\n"));
}

#[test]
fn tag_that_was_only_pushed_to_has_no_source() {
    let status = json!([{"tag": "1", "items": [item(3, "a")]}]);
    assert_eq!(only_tag(&json!([]), &status), "1\n  no spec tag\n\n  * q.io/app@sha256:a\n      2 minutes ago\n");
}

#[test]
fn failed_and_pending_imports_are_told_before_what_was_found() {
    let failure = json!([{"type": "ImportSuccess", "status": "False", "reason": "NotFound",
        "message": "there is no image q.io/app:1", "lastTransitionTime": "2026-01-02T03:05:00Z", "generation": 3}]);
    let status = json!([{"tag": "1", "items": [item(3, "a")], "conditions": failure}]);
    let tag = |generation: u8| json!([{"name": "1", "from": docker("q.io/app:1"), "generation": generation}]);
    insta::assert_snapshot!(only_tag(&tag(3), &status), @r"
    1
      tagged from q.io/app:1

      ! error: Import failed (NotFound): there is no image q.io/app:1
          5 seconds ago
      * q.io/app@sha256:a
          2 minutes ago
    ");
    let pending = only_tag(&tag(4), &status);
    assert!(pending.contains("\n\n  ~ importing latest image ...\n  ! error: Import failed (NotFound)"), "{pending}");
    let never = only_tag(&tag(1), &json!([]));
    assert_eq!(never, "1\n  tagged from q.io/app:1\n\n  ~ importing latest image ...\n");
}

#[test]
fn reference_is_never_pending() {
    let spec = json!([{"name": "1", "from": docker("q.io/app:1"), "reference": true, "generation": 3}]);
    let status = json!([{"tag": "1", "items": [
        {"created": "2026-01-02T03:05:05Z", "dockerImageReference": "q.io/app:1", "image": "", "generation": 1}]}]);
    assert_eq!(
        only_tag(&spec, &status),
        "1\n  reference to registry q.io/app:1\n\n  * q.io/app:1\n      Less than a second ago\n"
    );
}

#[test]
fn image_that_its_pull_spec_does_not_say_stands_behind_the_age() {
    let status = json!([{"tag": "1", "items": [
        {"created": "2026-01-02T03:05:00Z", "dockerImageReference": "q.io/app:1", "image": "sha256:a"}]}]);
    assert_eq!(only_tag(&json!([]), &status), "1\n  no spec tag\n\n  * q.io/app:1\n      5 seconds ago\tsha256:a\n");
}

#[test]
fn annotations_for_people_are_told() {
    let annotations = json!({"description": "Runs things.", "tags": "builder,java", "supports": "java:8,java",
        "sampleRepo": "https://example.com/sample.git", "other": "x"});
    let spec = json!([{"name": "1", "annotations": annotations}]);
    insta::assert_snapshot!(only_tag(&spec, &json!([])), @r"
    1
      tag without source image

      Runs things.
      Tags: builder, java
      Supports: java:8, java
      Example Repo: https://example.com/sample.git
    ");
}

#[test]
fn tags_that_stand_for_each_other_or_for_nothing_are_listed() {
    let alias = |name: &str, target: &str| json!({"name": name, "from": {"kind": "ImageStreamTag", "name": target}});
    let spec = json!({"tags": [alias("a", "b"), alias("b", "a"), alias("c", "gone"), alias("d", "d")]});
    let text = described(&spec, &json!({}));
    let names: Vec<_> = text.lines().filter(|line| line.len() == 1).collect();
    assert_eq!(names, ["a", "b", "c", "d"], "{text}");
}

//! What is read of objects, and of objects that are not what they should be.

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::workload::Kinds;

fn read<'a>(kind: &str, object: &'a Value) -> (Vec<(String, &'a str)>, Workload<'a>) {
    let kind = Kind::parse(kind).unwrap();
    let workload = Workload::read(&kind, object).unwrap();
    let slot = |slot: &Slot<'a>| {
        let pointer = slot.pointer(&kind);
        let image = object.pointer(&pointer).and_then(Value::as_str).unwrap();
        assert_eq!(image, slot.image);
        (pointer, image)
    };
    (workload.slots.iter().map(slot).collect(), workload)
}

#[test]
fn every_list_of_a_pod_has_its_slots() {
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "containers": [{"name": "a", "image": "one"}, {"name": "b"}, {"name": "c", "image": "two"}],
        "initContainers": [{"name": "i", "image": "zero"}],
        "ephemeralContainers": [{"name": "e", "image": "debug"}],
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "image": {"reference": "data", "pullPolicy": "Always"}}]}});
    let (slots, workload) = read("/Pod=", &pod);
    let expected = [
        ("/spec/initContainers/0/image", "zero"),
        ("/spec/containers/0/image", "one"),
        ("/spec/containers/2/image", "two"),
        ("/spec/ephemeralContainers/0/image", "debug"),
        ("/spec/volumes/1/image/reference", "data"),
    ];
    assert_eq!(slots, expected.map(|(pointer, image)| (pointer.to_owned(), image)));
    assert_eq!((workload.name.as_ref(), workload.slots[4].name.as_ref()), ("p", "w"));
    assert!(!workload.force && !workload.has_controller);
}

#[rstest]
#[case("apps/Deployment=/spec/template", "/spec/template/spec/containers/0/image")]
#[case("batch/CronJob=/spec/jobTemplate/spec/template", "/spec/jobTemplate/spec/template/spec/containers/0/image")]
#[case("/PodTemplate=/template", "/template/spec/containers/0/image")]
#[case("x/Y=/a~1b/1/c", "/a~1b/1/c/spec/containers/0/image")]
#[case("tekton.dev/Task=", "/spec/steps/0/image")]
fn template_is_found_by_its_pointer(#[case] kind: &str, #[case] pointer: &str) {
    let mut object = json!("app:1");
    for token in pointer.split('/').skip(1).collect::<Vec<_>>().into_iter().rev() {
        object = match token {
            "0" => json!([object]),
            "1" => json!([null, object]),
            "a~1b" => json!({"a/b": object}),
            key => json!({key: object}),
        };
    }
    assert_eq!(read(kind, &object).0, [(pointer.to_owned(), "app:1")]);
}

#[rstest]
#[case(json!({"metadata": {"annotations": {RESOLVE_NAMES: "*"}}}), true)]
#[case(json!({"spec": {"template": {"metadata": {"annotations": {"a": "b", RESOLVE_NAMES: "*"}}}}}), true)]
#[case(json!({"metadata": {"annotations": {RESOLVE_NAMES: "true"}}}), false)]
#[case(json!({"metadata": {"annotations": {RESOLVE_NAMES: "kc"}}}), false)]
#[case(json!({"metadata": {"labels": {RESOLVE_NAMES: "*"}}}), false)]
#[case(json!({"spec": {"metadata": {"annotations": {RESOLVE_NAMES: "*"}}}}), false)]
fn look_up_is_forced_by_object_or_template(#[case] object: Value, #[case] force: bool) {
    assert_eq!(read("apps/Deployment=/spec/template", &object).1.force, force);
}

#[test]
fn exceptions_of_object_and_template_are_read() {
    let annotated = |value: Value| json!({"annotations": {"a": "b", POLICY_EXCEPT: value}});
    let object = json!({"metadata": annotated(json!("web, job")),
        "spec": {"template": {"metadata": annotated(json!("*"))}}});
    assert_eq!(read("apps/Deployment=/spec/template", &object).1.excepted, ["web, job", "*"]);
    let object = json!({"metadata": annotated(json!(1)), "spec": {"metadata": annotated(json!("*"))}});
    assert_eq!(read("/Pod=", &object).1.excepted, ["", ""]);
}

#[test]
fn only_an_owner_that_controls_counts() {
    let owned = |flag: Value| json!({"metadata": {"ownerReferences": [{"name": "x"}, {"controller": flag}]}});
    assert!(read("/Pod=", &owned(json!(true))).1.has_controller);
    assert!(!read("/Pod=", &owned(json!(false))).1.has_controller);
    assert!(!read("/Pod=", &owned(json!(null))).1.has_controller);
}

#[test]
fn generated_names_are_marked() {
    let pod = json!({"metadata": {"generateName": "web-"}});
    assert_eq!(read("/Pod=", &pod).1.name, "web-*");
}

#[rstest]
#[case(json!({"spec": {"containers": "none", "volumes": {"image": {"reference": "x"}}, "steps": true}}))]
#[case(json!({"spec": {"containers": [null, 1, "x", {"image": 5}, {"image": null}, {"image": ["x"]}]}}))]
#[case(json!({"spec": {"volumes": [{"image": "x"}, {"image": {"reference": {}}}]}}))]
#[case(json!({"spec": [], "metadata": 7}))]
#[case(json!([{"spec": {"containers": [{"image": "x"}]}}]))]
#[case(json!(null))]
#[case(json!(1.5))]
fn unexpected_types_hold_no_slots(#[case] object: Value) {
    assert_eq!(read("/Pod=", &object).0, []);
    assert_eq!(read("apps/Deployment=/spec/template", &object).0, []);
}

#[test]
fn strings_without_escapes_are_borrowed() {
    let kinds = Kinds::default();
    let text = r#"{"spec": {"containers": [{"name": "a", "image": "one"}, {"image": "t\u0077o"}]}}"#;
    let mut json = serde_json::Deserializer::from_str(text);
    let workload = Workload::read(kinds.find("", "Pod").unwrap(), &mut json).unwrap();
    assert!(matches!(workload.slots[0].image, Cow::Borrowed("one")));
    assert_eq!(workload.slots[1].image, "two");
}

fn parse<'a>(kind: &str, text: &'a str) -> serde_json::Result<Workload<'a>> {
    Workload::read(&Kind::parse(kind).unwrap(), &mut serde_json::Deserializer::from_str(text))
}

#[rstest]
#[case(r#"{"spec": {"template": {"spec": {}}}, "spec": {"replicas": 1}}"#, "spec")]
#[case(r#"{"spec": {"template": {}, "template": null}}"#, "template")]
#[case(r#"{"spec": {"template": {"spec": {}, "spec": {}}}}"#, "spec")]
#[case(r#"{"spec": {"template": {"metadata": {}, "metadata": {}}}}"#, "metadata")]
#[case(r#"{"metadata": {}, "spec": {}, "metadata": {}}"#, "metadata")]
#[case(r#"{"metadata": {}, "meta\u0064ata": 1}"#, "metadata")]
#[case(r#"{"metadata": {"annotations": {}, "annotations": {}}}"#, "annotations")]
#[case(r#"{"spec": {"template": {"spec": {"containers": [{"image": "a", "image": "b"}]}}}}"#, "image")]
#[case(r#"{"spec": {"template": {"spec": {"containers": [], "containers": []}}}}"#, "containers")]
#[case(r#"{"spec": {"template": {"spec": {"volumes": [{"image": {"reference": 1, "reference": 2}}]}}}}"#, "reference")]
fn what_is_read_may_be_there_once(#[case] object: &str, #[case] field: &str) {
    assert_twice(object, field);
}

fn assert_twice(object: &str, field: &str) {
    let error = parse("apps/Deployment=/spec/template", object).unwrap_err().to_string();
    assert!(error.starts_with(&format!("duplicate field `{field}`")), "{error}");
}

#[test]
fn annotations_that_are_read_may_be_there_once() {
    for name in [POLICY_EXCEPT, RESOLVE_NAMES] {
        let metadata = format!(r#"{{"metadata": {{"annotations": {{"{name}": "*", "a": "b", "{name}": ""}}}}}}"#);
        assert_twice(&metadata, name);
        assert_twice(&format!(r#"{{"spec": {{"template": {metadata}}}}}"#), name);
    }
}

#[test]
fn what_is_not_read_may_be_anything() {
    let object = r#"{"status": 1, "status": {}, "metadata": {"labels": {"\ud800": "\ud800"},
        "annotations": {"a": "\ud800", "a": 7, "b": {"c": []}}}, "spec": {"containers": [{"image": "app", "args": ["\udfff"]}]}}"#;
    assert_eq!(parse("/Pod=", object).unwrap().slots[0].image, "app");
}

#[test]
fn entries_without_an_image_are_counted_and_not_kept() {
    let text = format!(r#"{{"spec": {{"containers": [{} {{"image": "app"}}]}}}}"#, "{}, 0,".repeat(500));
    let slots = parse("/Pod=", &text).unwrap().slots;
    assert_eq!((slots.len(), slots[0].index), (1, 1000));
}

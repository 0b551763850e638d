//! Reviews in, reviews out: what is answered, and what is not read for it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::index::IndexedStream;
use crate::stream::places::Places;

const DIGEST: &str = "sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";

fn snapshot() -> Snapshot {
    let stream = serde_json::from_value(json!({"metadata": {"name": "app", "namespace": "demo"},
        "spec": {"lookupPolicy": {"local": true}},
        "status": {"tags": [{"tag": "1", "items": [{"dockerImageReference": "q.io/a/b", "image": DIGEST}]}]}}))
    .unwrap();
    Snapshot::new([Arc::new(IndexedStream::new(&stream, &Places::default()))])
}

fn pod_review() -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u1", "operation": "CREATE", "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "namespace": "demo", "object": {"metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "app:1"}, {"name": "d", "image": "app:2"}]}}}})
}

fn answered(body: &[u8]) -> Result<Value, NoReview> {
    answer(body, &snapshot(), &Kinds::default(), |_, _| ()).map(|body| {
        let review: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&review["apiVersion"], &review["kind"]), (&json!(API_VERSION), &json!(KIND)));
        assert_eq!(review["response"]["allowed"], true);
        review["response"].clone()
    })
}

fn with(pointer: &str, value: Value) -> Vec<u8> {
    let mut review = pod_review();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    review.pointer_mut(parent).unwrap()[field] = value;
    review.to_string().into_bytes()
}

#[test]
fn answer_has_patch_warnings_and_audit_annotations() {
    let response = answered(pod_review().to_string().as_bytes()).unwrap();
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let image = format!("q.io/a/b@{DIGEST}");
    assert_eq!(
        serde_json::from_slice::<Value>(&patch).unwrap(),
        json!([{"op": "replace", "path": "/spec/containers/0/image", "value": image}])
    );
    assert_eq!((&response["uid"], &response["patchType"]), (&json!("u1"), &json!("JSONPatch")));
    assert_eq!(
        response["warnings"],
        json!(["containers[d]: app:2: the image stream has no such tag; left as written"])
    );
    assert_eq!(response["auditAnnotations"], json!({"containers.0": format!("app:1 -> {image}")}));
}

#[rstest]
#[case::delete("/request/operation", json!("DELETE"))]
#[case::connect("/request/operation", json!("CONNECT"))]
#[case::status("/request/subResource", json!("status"))]
#[case::kind("/request/kind", json!({"group": "", "version": "v1", "kind": "Service"}))]
#[case::group("/request/kind", json!({"group": "apps", "version": "v1", "kind": "Pod"}))]
#[case::cluster_wide("/request/namespace", json!(""))]
#[case::other_namespace("/request/namespace", json!("other"))]
#[case::no_template("/request/object", json!({"metadata": {}}))]
fn what_is_not_concerned_is_allowed_without_a_word(#[case] pointer: &str, #[case] value: Value) {
    let response = answered(&with(pointer, value)).unwrap();
    assert_eq!(response, json!({"uid": "u1", "allowed": true}));
}

#[rstest]
#[case::object_missing(with("/request/object", Value::Null), "request.object is missing")]
#[case::other_version(with("/apiVersion", json!("admission.k8s.io/v1beta1")), "only admission.k8s.io/v1 is read")]
#[case::other_kind(with("/kind", json!("Review")), "kind \"Review\"")]
#[case::wrong_type(with("/request/namespace", json!(1)), "no AdmissionReview: invalid type")]
#[case::operation_missing(with("/request/operation", Value::Null), "no AdmissionReview: invalid type")]
#[case::cut_short(br#"{"kind":"AdmissionReview","request":{"uid":"u1","object":{"#.to_vec(), "EOF")]
#[case::duplicate(br#"{"request":{"uid":"u1","uid":"u1"}}"#.to_vec(), "duplicate field")]
#[case::duplicate_in_object(pod_review().to_string().replacen("\"name\":\"p\"", "\"name\":\"p\",\"name\":\"q\"", 1).into_bytes(), "request.object cannot be read: duplicate field")]
#[case::spec_twice(pod_review().to_string().replacen("\"spec\":", "\"spec\":{},\"spec\":", 1).into_bytes(), "request.object cannot be read: duplicate field")]
#[case::more_behind([pod_review().to_string().as_bytes(), b"{}"].concat(), "trailing characters")]
fn readable_uid_is_always_answered_by_a_review(#[case] body: Vec<u8>, #[case] reason: &str) {
    let response = answered(&body).unwrap();
    assert_eq!((&response["uid"], response.get("patch")), (&json!("u1"), None));
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("pinstream changed nothing: "), "{warning}");
    assert!(warning.contains(reason) && warning.chars().count() <= decide::WARNING_LENGTH_MAX, "{warning}");
}

#[rstest]
#[case::empty("", "EOF while parsing")]
#[case::no_json("short names in", "expected value at line 1 column 1")]
#[case::no_request(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#, "has no request")]
#[case::empty_uid(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"","operation":"CREATE","kind":{"kind":"Pod"}}}"#, "request.uid is empty")]
#[case::no_uid(r#"{"request":{"operation":"CREATE"}}"#, "missing field `uid`")]
#[case::uid_elsewhere(r#"{"uid":"u1","object":{"uid":"u2"}}"#, "of kind \"\"")]
fn body_without_uid_is_refused_with_a_reason(#[case] body: &str, #[case] reason: &str) {
    let error = answered(body.as_bytes()).unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
}

#[test]
fn annotations_of_others_need_not_be_text() {
    let written = r#""metadata":{"annotations":{"a":"\ud800","a":[]},"#;
    let body = pod_review().to_string().replacen(r#""metadata":{"#, written, 1);
    assert!(body.contains("ud800") && answered(body.as_bytes()).unwrap().get("patch").is_some());
}

#[rstest]
#[case::delete("/request/operation", "DELETE", 0)]
#[case::connect("/request/operation", "CONNECT", 0)]
#[case::status("/request/subResource", "status", 0)]
#[case::update("/request/operation", "UPDATE", 2)]
#[case::ephemeral("/request/subResource", "ephemeralcontainers", 2)]
fn object_that_does_not_concern_images_is_not_read(#[case] pointer: &str, #[case] value: &str, #[case] slots: usize) {
    let review: Value = serde_json::from_slice(&with(pointer, json!(value))).unwrap();
    let mut request = review["request"].clone();
    let object = request.as_object_mut().unwrap().remove("object").unwrap();
    // Objects stand behind the rest, as an API server writes a request.
    let request = request.to_string();
    let body = format!(
        r#"{{"apiVersion":"{API_VERSION}","kind":"{KIND}","request":{},"object":{object},"oldObject":{object}}}}}"#,
        request.strip_suffix('}').unwrap()
    );
    let kinds = Kinds::default();
    let request = asked::read(body.as_bytes(), AsWorkloads(&kinds)).unwrap();
    let read = [request.object, request.old_object].map(|object| object.unwrap().slots.len());
    assert_eq!(read, [slots; 2]);
}

fn review_of_many(count: usize) -> Vec<u8> {
    let containers: Vec<_> = (0..count).map(|index| json!({"name": format!("c{index}"), "image": "app:1"})).collect();
    with("/request/object", json!({"metadata": {"name": "p"}, "spec": {"containers": containers}}))
}

#[test]
fn object_with_more_images_than_any_has_is_left_alone() {
    let response = answered(&review_of_many(SLOTS_MAX)).unwrap();
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: Vec<Value> = serde_json::from_slice(&patch).unwrap();
    let told = response["auditAnnotations"].as_object().unwrap();
    assert_eq!((patch.len(), told.len()), (SLOTS_MAX, decide::TOLD_MAX + 1));
    assert_eq!(told["more"], (SLOTS_MAX - decide::TOLD_MAX).to_string());
    let response = answered(&review_of_many(SLOTS_MAX + 1)).unwrap();
    let warning = "pinstream changed nothing: an object with more than 10000 images is not looked into";
    assert_eq!(response, json!({"uid": "u1", "allowed": true, "warnings": [warning]}));
}

#[test]
fn object_with_more_images_than_any_has_is_judged_all_the_same() {
    let levels = Levels { default: crate::policy::Level::Enforce, ..Levels::default() };
    let policy = Policy { levels: &levels, exceptions: &Exceptions::default() };
    let answer = validate(&review_of_many(SLOTS_MAX + 1), &policy, &Kinds::default(), |_, _| ()).unwrap();
    let response = serde_json::from_slice::<Value>(&answer).unwrap()["response"].take();
    let causes = response.pointer("/status/details/causes").and_then(Value::as_array).unwrap();
    assert_eq!((&response["allowed"], causes.len()), (&json!(false), decide::TOLD_MAX));
    assert_eq!(response["auditAnnotations"]["more"], (SLOTS_MAX + 1 - decide::TOLD_MAX).to_string());
}

#[test]
fn order_of_fields_does_not_matter() {
    let review = pod_review();
    let object = json!({"request": {"object": review["request"]["object"]}}).to_string();
    let mut rest = review.clone();
    rest["request"].as_object_mut().unwrap().remove("object");
    let rest = rest["request"].to_string();
    let body = format!(
        r#"{},{},"apiVersion":"{API_VERSION}","kind":"{KIND}"}}"#,
        object.strip_suffix("}}").unwrap(),
        rest.strip_prefix('{').unwrap(),
    );
    assert_eq!(answered(body.as_bytes()), answered(review.to_string().as_bytes()));
}

#[test]
fn witness_sees_what_was_asked_and_decided() {
    let mut seen = None;
    let body = pod_review().to_string();
    answer(body.as_bytes(), &snapshot(), &Kinds::default(), |asked, verdict| {
        let Verdict::Decided(object, decision) = verdict else { panic!("{verdict:?}") };
        let labels: Vec<_> = decision.slots.iter().map(|slot| slot.outcome.label()).collect();
        seen = Some((asked.unwrap().uid.to_string(), object.name.to_string(), labels));
    })
    .unwrap();
    assert_eq!(seen, Some(("u1".to_owned(), "p".to_owned(), vec!["pinned", "tag_missing"])));
}

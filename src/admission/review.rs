//! AdmissionReview `admission.k8s.io/v1`: bytes to a question, a decision to bytes. Pure.
//!
//! Whatever the body is, if a `uid` can be read from it the answer is a review, and one about images allows the object.

mod asked;
mod response;

use serde_json::value::RawValue;

pub(super) use asked::Opened;
pub use asked::{Asked, GroupKind, NoReview};
pub(super) use response::{Cause, Details, Refusal, Response};

use super::decide::{self, Decision, Part, Question, Write};
use crate::index::Snapshot;
use crate::workload::{Kind, Kinds, Workload};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// What became of a review, for those who count and log.
#[derive(Debug)]
pub enum Verdict<'v> {
    /// Nothing that Pinstream resolves images in: another operation, subresource or kind.
    Ignored,
    /// The review or its object cannot be read; the sentence says why.
    Malformed(&'v str),
    /// Decided slot by slot, for an object of that kind.
    Decided(&'v Workload<'v>, &'v Decision<'v>),
}

/// Answers the bytes of a review with the bytes of a review.
///
/// `witness` sees what was asked (`None` if only the `uid` could be read) and what became of it, once the answer to
/// it is written.
///
/// # Errors
/// [`NoReview`] if no `uid` can be read.
pub fn answer(
    body: &[u8],
    snapshot: &Snapshot,
    kinds: &Kinds,
    witness: impl FnOnce(Option<&Asked<'_>>, &Verdict<'_>),
) -> Result<Vec<u8>, NoReview> {
    let asked = match Opened::read(body)? {
        Opened::Asked(asked) => asked,
        Opened::Unreadable { uid, reason } => {
            witness(None, &Verdict::Malformed(&reason));
            return Ok(Response::left_alone(&uid, &reason).to_bytes());
        }
    };
    match Matter::read(&asked, kinds) {
        Ok(Some(matter)) => {
            let decision = decide::decide(&matter.question(&asked), snapshot);
            let answer = response(&asked.uid, &decision, matter.kind).to_bytes();
            witness(Some(&asked), &Verdict::Decided(&matter.object, &decision));
            Ok(answer)
        }
        Ok(None) => {
            witness(Some(&asked), &Verdict::Ignored);
            Ok(Response::allowed(&asked.uid).to_bytes())
        }
        Err(reason) => {
            witness(Some(&asked), &Verdict::Malformed(&reason));
            Ok(Response::left_alone(&asked.uid, &reason).to_bytes())
        }
    }
}

/// A request that concerns images.
struct Matter<'a> {
    kind: &'a Kind,
    part: Part,
    is_update: bool,
    object: Workload<'a>,
    old: Option<Workload<'a>>,
}

impl<'a> Matter<'a> {
    /// `None` if the request does not concern images.
    fn read(asked: &Asked<'a>, kinds: &'a Kinds) -> Result<Option<Self>, String> {
        let is_update = match asked.operation.as_ref() {
            "CREATE" => false,
            "UPDATE" => true,
            _ => return Ok(None),
        };
        let Some(kind) = kinds.find(&asked.kind.group, &asked.kind.kind) else { return Ok(None) };
        let part = match asked.sub_resource.as_ref() {
            "" => Part::Whole,
            "ephemeralcontainers" if kind.is_pod() => Part::EphemeralContainers,
            _ => return Ok(None),
        };
        let object = asked.object.ok_or("the review's request.object is missing")?;
        let workload = |field: &str, json: &'a RawValue| {
            Workload::read(kind, &mut serde_json::Deserializer::from_str(json.get()))
                .map_err(|error| format!("the review's request.{field} cannot be read: {error}"))
        };
        let old = asked.old_object.filter(|_| is_update).map(|old| workload("oldObject", old)).transpose()?;
        Ok(Some(Self { kind, part, is_update, object: workload("object", object)?, old }))
    }

    fn question<'q>(&'q self, asked: &'q Asked<'_>) -> Question<'q, 'a> {
        Question {
            write: if self.is_update { Write::Update(self.old.as_ref()) } else { Write::Create },
            part: self.part,
            namespace: &asked.namespace,
            kind: self.kind,
            object: &self.object,
        }
    }
}

fn response<'a>(uid: &'a str, decision: &Decision<'_>, kind: &Kind) -> Response<'a> {
    let mut response = Response::patched(uid, &decision.patch(kind));
    response.warnings = decision.warnings();
    response.audit_annotations = decision.audit_annotations();
    response
}

#[cfg(test)]
mod tests {
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
}

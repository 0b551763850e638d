//! AdmissionReview `admission.k8s.io/v1`: bytes to a question, a decision to bytes. Pure.
//!
//! Whatever the body is, if a `uid` can be read from it the answer is a review that allows the object.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::decide::{self, Decision, Part, Question, Write};
use crate::index::Snapshot;
use crate::workload::{Kind, Kinds, Workload};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// About the bytes of one operation of a patch, its pull spec of a hundred included.
const OPERATION_SIZE: usize = 240;
/// About the bytes of a response without its texts.
const RESPONSE_SIZE: usize = 256;
/// About the bytes that stand around a text of a response.
const TEXT_OVERHEAD: usize = 32;

/// What a review asks, borrowed from its body.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked<'a> {
    /// Identifies the request; the answer repeats it.
    #[serde(borrow)]
    pub uid: Cow<'a, str>,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    #[serde(borrow)]
    pub operation: Cow<'a, str>,
    /// Group, version and kind of the object.
    #[serde(borrow)]
    pub kind: GroupKind<'a>,
    /// Empty for the object itself.
    #[serde(borrow, default)]
    pub sub_resource: Cow<'a, str>,
    /// Namespace of the object; empty for cluster-wide ones.
    #[serde(borrow, default)]
    pub namespace: Cow<'a, str>,
    /// Name of the object; empty if the API server is to make one up.
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_object: Option<&'a RawValue>,
}

/// Which kind an object is; the version does not matter.
#[derive(Debug, Deserialize)]
pub struct GroupKind<'a> {
    /// API group; empty for the core group.
    #[serde(borrow, default)]
    pub group: Cow<'a, str>,
    /// Kind.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
}

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

/// A body without a `uid`, which cannot be answered by a review; the sentence says what was wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoReview(String);

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
    let asked = match read(body) {
        Ok(asked) => asked,
        Err(reason) => {
            let uid = salvage_uid(body).ok_or_else(|| NoReview(reason.clone()))?;
            witness(None, &Verdict::Malformed(&reason));
            return Ok(Response::left_alone(&uid, &reason).to_bytes());
        }
    };
    match Matter::read(&asked, kinds) {
        Ok(Some(matter)) => {
            let decision = decide::decide(&matter.question(&asked), snapshot);
            let answer = Response::of(&asked.uid, &decision, matter.kind).to_bytes();
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

fn read(body: &[u8]) -> Result<Asked<'_>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Review<'a> {
        #[serde(borrow, default)]
        api_version: Cow<'a, str>,
        #[serde(borrow, default)]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        request: Option<Asked<'a>>,
    }
    // Checked once as a whole, the strings need not be checked one by one.
    let body = std::str::from_utf8(body).map_err(|error| format!("the body is no {KIND}: {error}"))?;
    let review: Review<'_> = serde_json::from_str(body).map_err(|error| format!("the body is no {KIND}: {error}"))?;
    if review.kind != KIND {
        return Err(format!("the body is of kind {:?}, not {KIND}", review.kind));
    }
    if review.api_version != API_VERSION {
        return Err(format!("the review's apiVersion is {:?}, only {API_VERSION} is read", review.api_version));
    }
    let asked = review.request.ok_or("the review has no request")?;
    if asked.uid.is_empty() { Err("the review's request.uid is empty".to_owned()) } else { Ok(asked) }
}

/// Reads `request.uid` from a body that is otherwise unreadable, as far as it goes.
fn salvage_uid(body: &[u8]) -> Option<String> {
    struct Level<'u> {
        field: &'static str,
        below: Option<&'static str>,
        uid: &'u RefCell<Option<String>>,
    }

    impl<'de> Visitor<'de> for Level<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                match self.below {
                    Some(field) if key == self.field => {
                        map.next_value_seed(Level { field, below: None, uid: self.uid })?;
                    }
                    None if key == self.field => *self.uid.borrow_mut() = Some(map.next_value()?),
                    _ => {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
            }
            Ok(())
        }
    }

    impl<'de> serde::de::DeserializeSeed<'de> for Level<'_> {
        type Value = ();

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
            deserializer.deserialize_map(self)
        }
    }

    let uid = RefCell::new(None);
    let level = Level { field: "request", below: Some("uid"), uid: &uid };
    // How far it got is what counts.
    let _ = serde_json::Deserializer::from_slice(body).deserialize_map(level);
    uid.into_inner().filter(|uid| !uid.is_empty())
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

/// The answering half of a review; it always allows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_map")]
    audit_annotations: Vec<(String, String)>,
}

impl<'a> Response<'a> {
    fn allowed(uid: &'a str) -> Self {
        Self { uid, allowed: true, patch_type: None, patch: None, warnings: Vec::new(), audit_annotations: Vec::new() }
    }

    fn left_alone(uid: &'a str, reason: &str) -> Self {
        let warning = decide::shorten(format!("pinstream changed nothing: {reason}"));
        Self { warnings: vec![warning], ..Self::allowed(uid) }
    }

    fn of(uid: &'a str, decision: &Decision<'_>, kind: &Kind) -> Self {
        let patch = decision.patch(kind);
        let patch = (!patch.is_empty()).then(|| STANDARD.encode(to_json(&patch, patch.len() * OPERATION_SIZE)));
        Self {
            patch_type: patch.as_ref().map(|_| "JSONPatch"),
            patch,
            warnings: decision.warnings(),
            audit_annotations: decision.audit_annotations(),
            ..Self::allowed(uid)
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Review<'r> {
            api_version: &'static str,
            kind: &'static str,
            response: &'r Response<'r>,
        }
        let texts =
            self.patch.iter().chain(&self.warnings).chain(self.audit_annotations.iter().map(|(_, value)| value));
        let size = texts.map(|text| text.len() + TEXT_OVERHEAD).sum::<usize>() + RESPONSE_SIZE;
        to_json(&Review { api_version: API_VERSION, kind: KIND, response: self }, size)
    }
}

/// `capacity` is a guess of the size; a good one saves moving what is written already.
fn to_json(value: &impl Serialize, capacity: usize) -> Vec<u8> {
    let mut json = Vec::with_capacity(capacity);
    serde_json::to_writer(&mut json, value).expect("strings, booleans and lists of them always have a JSON form");
    json
}

fn as_map<S: Serializer>(entries: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::index::IndexedStream;

    const DIGEST: &str = "sha256:87fbabfd7d6add32fe8c9cce0d829e1257a1398a1850fcd45f8fd0e659b5a46c";

    fn snapshot() -> Snapshot {
        let stream = serde_json::from_value(json!({"metadata": {"name": "app", "namespace": "demo"},
            "spec": {"lookupPolicy": {"local": true}},
            "status": {"tags": [{"tag": "1", "items": [{"dockerImageReference": "q.io/a/b", "image": DIGEST}]}]}}))
        .unwrap();
        Snapshot::new([Arc::new(IndexedStream::new(&stream, None))])
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

//! AdmissionReview `admission.k8s.io/v1`: bytes to a question, a decision to bytes. Pure.
//!
//! Whatever the body is, if a `uid` can be read from it the answer is a review, and one about images allows the object.

mod asked;
mod response;

use std::borrow::Cow;

use serde::Deserialize as _;
use serde::de::{Deserializer, Error as _, IgnoredAny};
use serde_json::value::RawValue;

pub use asked::{Asked, GroupKind, NoReview};
pub(super) use asked::{Opened, Request};
pub(super) use response::{Cause, Details, Refusal, Response};

use super::decide::{self, Decision, Part, Question, Write};
use super::judge::{self, Judgement};
use crate::index::Snapshot;
use crate::policy::{Exceptions, Levels};
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
    match read(body, kinds)? {
        Read::Matter(asked, matter) => {
            let decision = decide::decide(&matter.question(&asked), snapshot);
            let answer = matter.answer(&asked, &decision);
            witness(Some(&asked), &Verdict::Decided(&matter.object, &decision));
            Ok(answer)
        }
        Read::Ignored(asked) => {
            witness(Some(&asked), &Verdict::Ignored);
            Ok(Response::allowed(&asked.uid).to_bytes())
        }
        Read::Malformed { uid, asked, reason } => {
            witness(asked.as_ref(), &Verdict::Malformed(&reason));
            Ok(Response::left_alone(&uid, &reason).to_bytes())
        }
    }
}

/// Answers the bytes of a review by the policy, as [`answer`] does by the streams: nothing is changed, and an object may be
/// refused.
///
/// # Errors
/// [`NoReview`] if no `uid` can be read.
pub fn validate(
    body: &[u8],
    policy: &Policy<'_>,
    kinds: &Kinds,
    witness: impl FnOnce(Option<&Asked<'_>>, &Judged<'_>),
) -> Result<Vec<u8>, NoReview> {
    match read(body, kinds)? {
        Read::Matter(asked, matter) => {
            let question = matter.question(&asked);
            let judgement = judge::judge(&question, policy.levels.of(&asked.namespace), policy.exceptions);
            let refusal = judgement.refusal(&question, policy.exceptions);
            let message = refusal.as_ref().map(|refusal| refusal.message.clone());
            let mut response = match refusal {
                Some(refusal) => Response::refused(&asked.uid, refusal),
                None => Response::allowed(&asked.uid),
            };
            response.warnings = judgement.warnings();
            response.audit_annotations = judgement.audit_annotations();
            let answer = response.to_bytes();
            witness(Some(&asked), &Judged::Object(&matter.object, &judgement, message.as_deref()));
            Ok(answer)
        }
        Read::Ignored(asked) => {
            witness(Some(&asked), &Judged::Ignored);
            Ok(Response::allowed(&asked.uid).to_bytes())
        }
        Read::Malformed { uid, asked, reason } => {
            witness(asked.as_ref(), &Judged::Malformed(&reason));
            Ok(Response::left_alone(&uid, &reason).to_bytes())
        }
    }
}

/// What objects are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'p> {
    /// The level of each namespace.
    pub levels: &'p Levels,
    /// What need not be pinned.
    pub exceptions: &'p Exceptions,
}

/// What became of a review that was answered by the policy, for those who count and log.
#[derive(Debug)]
pub enum Judged<'v> {
    /// Nothing that the policy is about: another operation, subresource or kind.
    Ignored,
    /// The review or its object cannot be read; the sentence says why.
    Malformed(&'v str),
    /// Judged slot by slot, and why it was refused if it was.
    Object(&'v Workload<'v>, &'v Judgement<'v>, Option<&'v str>),
}

/// A review that was read.
#[derive(Debug)]
pub enum Read<'a> {
    /// It concerns images.
    Matter(Asked<'a>, Matter<'a>),
    /// It does not.
    Ignored(Asked<'a>),
    /// It or its object cannot be read, but whose question it is.
    Malformed {
        /// Identifies the request.
        uid: Cow<'a, str>,
        /// What is asked, if it can be read.
        asked: Option<Asked<'a>>,
        /// What is wrong, in a sentence.
        reason: String,
    },
}

/// Reads the bytes of a review.
///
/// # Errors
/// [`NoReview`] if no `uid` can be read.
pub fn read<'a>(body: &'a [u8], kinds: &'a Kinds) -> Result<Read<'a>, NoReview> {
    // What is wrong is found out by reading once more, objects after the rest.
    let (asked, matter) = match asked::read(body, AsWorkloads(kinds)) {
        Some(request) => Matter::read(request, kinds, |_, _, workload| Ok(workload)),
        None => match Opened::read(body)? {
            Opened::Request(request) => Matter::read(request, kinds, workload),
            Opened::Unreadable { uid, reason } => {
                return Ok(Read::Malformed { uid: uid.into(), asked: None, reason });
            }
        },
    };
    Ok(match matter {
        Ok(Some(matter)) => Read::Matter(asked, matter),
        Ok(None) => Read::Ignored(asked),
        Err(reason) => Read::Malformed { uid: asked.uid.clone(), asked: Some(asked), reason },
    })
}

/// Objects are read for their images. Of a kind that has none, nothing is.
#[derive(Clone, Copy)]
struct AsWorkloads<'k>(&'k Kinds);

impl<'a> asked::Objects<'a> for AsWorkloads<'_> {
    type Object = Workload<'a>;

    fn read<D: Deserializer<'a>>(self, kind: Option<&GroupKind<'_>>, object: D) -> Result<Workload<'a>, D::Error> {
        let kind = kind.ok_or_else(|| D::Error::custom("the kind of an object stands behind it"))?;
        match self.0.find(&kind.group, &kind.kind) {
            Some(kind) => Workload::read(kind, object),
            None => IgnoredAny::deserialize(object).map(|_| Workload::default()),
        }
    }
}

/// Reads an object that was left for later.
fn workload<'a>(kind: &Kind, field: &str, json: &'a RawValue) -> Result<Workload<'a>, String> {
    Workload::read(kind, &mut serde_json::Deserializer::from_str(json.get()))
        .map_err(|error| format!("the review's request.{field} cannot be read: {error}"))
}

/// The objects of a request that concerns images.
#[derive(Debug)]
pub struct Matter<'a> {
    kind: &'a Kind,
    part: Part,
    is_update: bool,
    object: Workload<'a>,
    old: Option<Workload<'a>>,
}

impl<'a> Matter<'a> {
    /// What was asked, and the matter; `None` if the request does not concern images. `read` reads an object, given the
    /// name of its field.
    fn read<O>(
        request: Request<'a, O>,
        kinds: &'a Kinds,
        read: impl Fn(&Kind, &str, O) -> Result<Workload<'a>, String>,
    ) -> (Asked<'a>, Result<Option<Self>, String>) {
        let Request { asked, object, old_object } = request;
        let matter = Self::of(&asked, kinds).map(|(kind, part, is_update)| {
            let object = object.ok_or("the review's request.object is missing")?;
            let old = old_object.filter(|_| is_update).map(|old| read(kind, "oldObject", old)).transpose()?;
            Ok(Self { kind, part, is_update, object: read(kind, "object", object)?, old })
        });
        (asked, matter.transpose())
    }

    /// The kind that is written, what part of it, and whether that is an update.
    fn of(asked: &Asked<'_>, kinds: &'a Kinds) -> Option<(&'a Kind, Part, bool)> {
        let is_update = match asked.operation.as_ref() {
            "CREATE" => false,
            "UPDATE" => true,
            _ => return None,
        };
        let kind = kinds.find(&asked.kind.group, &asked.kind.kind)?;
        let part = match asked.sub_resource.as_ref() {
            "" => Part::Whole,
            "ephemeralcontainers" if kind.is_pod() => Part::EphemeralContainers,
            _ => return None,
        };
        Some((kind, part, is_update))
    }

    /// What is to be decided.
    #[must_use]
    pub fn question<'q>(&'q self, asked: &'q Asked<'_>) -> Question<'q, 'a> {
        Question {
            write: if self.is_update { Write::Update(self.old.as_ref()) } else { Write::Create },
            part: self.part,
            namespace: &asked.namespace,
            kind: self.kind,
            object: &self.object,
        }
    }

    /// The bytes of the review that answers what was asked with what was decided.
    #[must_use]
    pub fn answer(&self, asked: &Asked<'_>, decision: &Decision<'_>) -> Vec<u8> {
        let mut response = Response::patched(&asked.uid, &decision.patch(self.kind));
        response.warnings = decision.warnings();
        response.audit_annotations = decision.audit_annotations();
        response.to_bytes()
    }
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
    #[case::duplicate_in_object(pod_review().to_string().replacen("\"name\":\"p\"", "\"name\":\"p\",\"name\":\"q\"", 1).into_bytes(), "request.object cannot be read: duplicate field")]
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
}

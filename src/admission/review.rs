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

use super::decide::{self, Decision, Part, Question, SLOTS_MAX, Write};
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
    /// The review or its object cannot be read, or is too large; the sentence says why.
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
        // Its answer would be many times as long as the question.
        Read::Matter(asked, matter) if matter.object.slots.len() > SLOTS_MAX => {
            let reason = format!("an object with more than {SLOTS_MAX} images is not looked into");
            witness(Some(&asked), &Verdict::Malformed(&reason));
            Ok(Response::left_alone(&asked.uid, &reason).to_bytes())
        }
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

/// Objects are read for their images. Of one that does not concern images, as far as is known, nothing is.
#[derive(Clone, Copy)]
struct AsWorkloads<'k>(&'k Kinds);

impl<'a> asked::Objects<'a> for AsWorkloads<'_> {
    type Object = Workload<'a>;

    fn read<D: Deserializer<'a>>(self, known: asked::Known<'_>, object: D) -> Result<Workload<'a>, D::Error> {
        let group_kind = known.kind.ok_or_else(|| D::Error::custom("the kind of an object stands behind it"))?;
        let kind = self.0.find(&group_kind.group, &group_kind.kind).filter(|kind| {
            let is_written = known.operation.is_none_or(|operation| is_update(operation).is_some());
            is_written && known.sub_resource.is_none_or(|sub_resource| part(kind, sub_resource).is_some())
        });
        match kind {
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

/// Whether an operation that stores an object is an update; `None` if it is another one.
fn is_update(operation: &str) -> Option<bool> {
    match operation {
        "CREATE" => Some(false),
        "UPDATE" => Some(true),
        _ => None,
    }
}

/// The part of an object that is written through a subresource; `None` if there are no images in it.
fn part(kind: &Kind, sub_resource: &str) -> Option<Part> {
    match sub_resource {
        "" => Some(Part::Whole),
        "ephemeralcontainers" if kind.is_pod() => Some(Part::EphemeralContainers),
        _ => None,
    }
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
        let kind = kinds.find(&asked.kind.group, &asked.kind.kind)?;
        Some((kind, part(kind, &asked.sub_resource)?, is_update(&asked.operation)?))
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
mod tests;

//! (operation, object, old object, exceptions) → what the policy finds of every slot, and how it is told. Pure.
//!
//! The object is the one that is to be stored, after everything that changes it. The chart's ValidatingAdmissionPolicy has the
//! same rule in CEL, and the cluster tests compare the two: whoever changes one changes both.

use std::fmt::Write as _;

use super::decide::{Question, TOLD_MAX, key, more, place, warnings_of};
use super::review::{Cause, Details, Refusal};
use crate::policy::{self, Excepted, Exception, Exceptions, LEVEL_LABEL, Level};
use crate::reference::Reference;
use crate::stream::types::DEFAULT_TAG;
use crate::workload::{Kind, POLICY_EXCEPT, Slot};

/// HTTP's status of a refusal: what was asked is understood, and not allowed.
const FORBIDDEN: u16 = 403;
/// How many images a refusal names; [`TOLD_MAX`] are among its causes.
pub(super) const NAMED_MAX: usize = 10;

/// What is found of the slots of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement<'a> {
    /// The level of the namespace.
    pub level: Level,
    /// One entry a slot with an image that the write concerns.
    pub slots: Vec<Judged<'a>>,
}

/// What is found of one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged<'a> {
    /// The slot.
    pub slot: &'a Slot<'a>,
    /// What was found.
    pub finding: Finding,
}

/// What can be found of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It has a digest.
    Pinned,
    /// The object's controller decides; what it makes of it is judged when it is made.
    Owned,
    /// An update leaves this image as it was.
    Unchanged,
    /// It need not be pinned.
    Excepted(Exception),
    /// It should be pinned, and is not.
    Unpinned,
}

impl Finding {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Pinned,
        Self::Owned,
        Self::Unchanged,
        Self::Excepted(Exception::Pattern),
        Self::Excepted(Exception::Annotation),
        Self::Unpinned,
    ];

    /// The finding in one word, as metrics and audit annotations have it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Owned => "owned",
            Self::Unchanged => "unchanged",
            Self::Excepted(Exception::Pattern) => "excepted_by_pattern",
            Self::Excepted(Exception::Annotation) => "excepted_by_annotation",
            Self::Unpinned => "unpinned",
        }
    }
}

/// Judges every slot that the write concerns.
#[must_use]
pub fn judge<'a>(question: &Question<'a, 'a>, level: Level, exceptions: &Exceptions) -> Judgement<'a> {
    let slots = question.concerned().filter(|slot| !slot.image.is_empty());
    let before = question.before();
    let excepted = Excepted::by(question.object.excepted.iter().map(AsRef::as_ref));
    let is_owned = question.is_owned();
    let judged = |slot: &'a Slot<'a>| {
        let finding = match slot {
            _ if policy::is_pinned(&slot.image) => Finding::Pinned,
            _ if is_owned => Finding::Owned,
            _ if before.has(slot) => Finding::Unchanged,
            _ => {
                let exception = exceptions.find(&slot.image, &slot.name, &excepted);
                exception.map_or(Finding::Unpinned, Finding::Excepted)
            }
        };
        Judged { slot, finding }
    };
    Judgement { level, slots: slots.map(judged).collect() }
}

impl Judgement<'_> {
    /// Every label that [`Judgement::result`] gives.
    pub const RESULTS: [&'static str; 5] = ["passed", "excepted", "audited", "warned", "refused"];

    /// What comes of it in one word, as metrics and audit annotations have it.
    #[must_use]
    pub fn result(&self) -> &'static str {
        let is_excepted = |judged: &Judged<'_>| matches!(judged.finding, Finding::Excepted(_));
        match self.level {
            _ if self.unpinned().next().is_none() => {
                if self.slots.iter().any(is_excepted) {
                    "excepted"
                } else {
                    "passed"
                }
            }
            Level::Audit => "audited",
            Level::Warn => "warned",
            Level::Enforce => "refused",
        }
    }

    /// The slots that should be pinned, and are not.
    pub fn unpinned(&self) -> impl Iterator<Item = &Slot<'_>> {
        self.slots.iter().filter(|judged| judged.finding == Finding::Unpinned).map(|judged| judged.slot)
    }

    /// What the user should know, within the limits of those of a [decision](super::decide::Decision::warnings).
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        if self.level != Level::Warn {
            return Vec::new();
        }
        let warning = |slot: &Slot<'_>| format!("{}: {}: not pinned by digest", place(slot), slot.image);
        warnings_of(self.unpinned().map(warning), self.unpinned().count(), "are not pinned by digest")
    }

    /// Level and result, and for each slot that has no digest `LIST.INDEX` and why it passed or did not, as the API
    /// server's audit log keeps them: at most [`TOLD_MAX`] slots, and how many `more` there are.
    #[must_use]
    pub fn audit_annotations(&self) -> Vec<(String, String)> {
        let object = [("level", self.level.label()), ("result", self.result())];
        let object = object.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
        let without_digest = || self.slots.iter().filter(|judged| judged.finding != Finding::Pinned);
        let slot =
            |judged: &Judged<'_>| (key(judged.slot), [judged.finding.label(), ": ", &judged.slot.image].concat());
        let slots = without_digest().take(TOLD_MAX).map(slot);
        object.chain(slots).chain(more(without_digest().count())).collect()
    }

    /// Why the object is refused, if it is.
    pub(super) fn refusal<'r>(&self, question: &Question<'r, '_>, exceptions: &Exceptions) -> Option<Refusal<'r>> {
        let first = self.unpinned().next().filter(|_| self.level == Level::Enforce)?;
        let Kind { group, kind, .. } = question.kind;
        let cause = |slot: &Slot<'_>| Cause {
            reason: "FieldValueForbidden",
            message: format!("{}: {} is not pinned by digest", place(slot), slot.image),
            field: field(&slot.pointer(question.kind)),
        };
        Some(Refusal {
            status: "Failure",
            code: FORBIDDEN,
            reason: "Forbidden",
            message: self.message(first, question.namespace, exceptions),
            details: Details {
                name: &question.object.name,
                group,
                kind,
                causes: self.unpinned().take(TOLD_MAX).map(cause).collect(),
            },
        })
    }

    /// What is refused, and the ways out, by the example of one slot.
    fn message(&self, example: &Slot<'_>, namespace: &str, exceptions: &Exceptions) -> String {
        let mut text = String::from("not pinned by digest: ");
        let count = self.unpinned().count();
        for (number, slot) in self.unpinned().take(NAMED_MAX).enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            let _ = write!(text, "{separator}{} {}", place(slot), slot.image);
        }
        if count > NAMED_MAX {
            let _ = write!(text, " and {} more", count - NAMED_MAX);
        }
        let _ = write!(text, ". Namespace {namespace} has policy {} ({LEVEL_LABEL}): ", self.level);
        text.push_str("write the image with its digest (…@sha256:…)");
        if let Some((stream, tag)) = proposed(&example.image) {
            let _ = write!(
                text,
                ", or make an image stream with `pinstream tag {} {stream}:{tag} -n {namespace}` and `pinstream set image-lookup {stream} -n {namespace}` and write {stream}:{tag}",
                example.image
            );
        }
        if !exceptions.without_annotations {
            let _ = write!(text, ", or except it with the annotation {POLICY_EXCEPT}: {}", example.name);
        }
        text
    }
}

/// A JSON pointer as the field paths of a `Status` have it.
fn field(pointer: &str) -> String {
    let mut field = String::new();
    for token in pointer.split('/').skip(1) {
        let is_index = token.bytes().all(|byte| byte.is_ascii_digit());
        let (before, after) = match is_index {
            true => ("[", "]"),
            false if field.is_empty() => ("", ""),
            false => (".", ""),
        };
        field.extend([before, token, after]);
    }
    field
}

/// Name and tag of a stream for an image; nothing if it is no reference.
fn proposed(image: &str) -> Option<(&str, &str)> {
    let reference = Reference::parse(image).ok().filter(|reference| !reference.name.is_empty())?;
    let stream = reference.name.rsplit('/').next().unwrap_or(reference.name);
    Some((stream, reference.tag.unwrap_or(DEFAULT_TAG)))
}

#[cfg(test)]
mod tests;

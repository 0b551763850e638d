//! (operation, object, old object, snapshot) → what becomes of every slot. Pure.
//!
//! The rules are OpenShift's image policy plugin under its default configuration; where they differ,
//! `docs/openshift.md` says why.

use std::fmt::Write as _;

use serde::Serialize;

use super::before::Before;
use crate::index::{IndexedStream, Snapshot, Stale, Target};
use crate::reference::Reference;
use crate::stream::types::DEFAULT_TAG;
use crate::workload::{Kind, List, Slot, Workload};

/// The most warnings of one answer.
pub const WARNINGS_MAX: usize = 5;
/// The most characters of one warning.
pub const WARNING_LENGTH_MAX: usize = 120;
/// The most slots of which an answer has audit annotations or causes.
pub const TOLD_MAX: usize = 1_000;
/// The most slots of an object that is changed. What an API server can store has fewer: it is 1.5 MiB at most.
pub const SLOTS_MAX: usize = 10_000;

/// What is asked: one write of one object.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q, 'a> {
    /// Create or update.
    pub write: Write<'q, 'a>,
    /// What part of the object is written.
    pub part: Part,
    /// Namespace of the object, whose streams are looked up.
    pub namespace: &'q str,
    /// The kind that says where the pod template is.
    pub kind: &'q Kind,
    /// The object as it is to be stored.
    pub object: &'q Workload<'a>,
}

/// The operations that store an object.
#[derive(Clone, Copy, Debug)]
pub enum Write<'q, 'a> {
    /// A new object.
    Create,
    /// A change, with the object as it was stored before, where the API server sent it.
    Update(Option<&'q Workload<'a>>),
}

/// What part of an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The object itself.
    Whole,
    /// `pods/ephemeralcontainers`, through which nothing else can be changed.
    EphemeralContainers,
}

/// What becomes of the slots of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// One entry a slot, in the order of [`Workload::slots`].
    pub slots: Vec<Decided<'a>>,
}

/// One operation of a JSON patch (RFC 6902): a slot gets another image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replacement<'a> {
    /// Always `replace`.
    op: &'static str,
    /// JSON pointer to the image string.
    path: String,
    /// The image.
    value: &'a str,
}

/// What becomes of one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided<'a> {
    /// The slot.
    pub slot: &'a Slot<'a>,
    /// What was found.
    pub outcome: Outcome<'a>,
}

/// What can be found for a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The tag has an image; the slot is rewritten to its pull spec.
    Pinned {
        /// Pull spec with digest.
        image: &'a str,
        /// Set if the newest import failed, so that the image is an older one.
        stale: Option<&'a Stale>,
    },
    /// The reference has a digest already.
    AlreadyPinned,
    /// The reference has a registry or a namespace.
    NotShort,
    /// No stream of the namespace has that name.
    NoStream,
    /// There is a stream, but its local look-up is off.
    LookupDisabled,
    /// The stream may be used, but has no digest for the tag.
    TagMissing {
        /// Why there is none.
        why: Missing,
        /// The place where the image will be, if a registry serves the stream; the slot is rewritten to it.
        pending: Option<String>,
    },
    /// The string is no image reference.
    Unparsable,
    /// An update leaves this image as it was, or the API server lets nobody change it.
    Unchanged,
    /// The object's controller decides over its images.
    Owned,
}

/// Why a tag has no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The stream has no such tag.
    Tag,
    /// The tag was never imported.
    Import,
    /// It is a reference tag.
    Digest,
}

impl Outcome<'_> {
    /// Every label that [`Outcome::label`] gives.
    pub const LABELS: [&'static str; 9] = [
        "pinned",
        "already_pinned",
        "not_short_name",
        "no_stream",
        "lookup_disabled",
        "tag_missing",
        "unparsable",
        "unchanged",
        "owned",
    ];

    /// The outcome in one word, as metrics name it.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Pinned { .. } => "pinned",
            Self::AlreadyPinned => "already_pinned",
            Self::NotShort => "not_short_name",
            Self::NoStream => "no_stream",
            Self::LookupDisabled => "lookup_disabled",
            Self::TagMissing { .. } => "tag_missing",
            Self::Unparsable => "unparsable",
            Self::Unchanged => "unchanged",
            Self::Owned => "owned",
        }
    }

    /// What is to be written, if that is anything.
    #[must_use]
    pub fn rewrite(&self) -> Option<&str> {
        match self {
            Self::Pinned { image, .. } => Some(image),
            Self::TagMissing { pending, .. } => pending.as_deref(),
            _ => None,
        }
    }
}

/// Decides what becomes of every slot that the write concerns.
///
/// Deciding again over the patched object changes nothing.
#[must_use]
pub fn decide<'a>(question: &Question<'a, 'a>, snapshot: &'a Snapshot) -> Decision<'a> {
    let before = question.before();
    let look_up = LookUp { namespace: question.namespace, force: question.object.force, snapshot };
    let decided = |slot: &'a Slot<'a>| Decided { slot, outcome: decide_slot(question, slot, &before, look_up) };
    Decision { slots: question.concerned().map(decided).collect() }
}

fn decide_slot<'a>(
    question: &Question<'_, '_>,
    slot: &Slot<'_>,
    before: &Before<'_>,
    look_up: LookUp<'a>,
) -> Outcome<'a> {
    if question.is_owned() {
        return Outcome::Owned;
    }
    // An update leaves alone what it does not change, and what the API server lets nobody change.
    if question.is_fixed(slot) || before.has(slot) && !question.is_forced_anew() {
        return Outcome::Unchanged;
    }
    look_up.resolve(&slot.image)
}

impl<'q, 'a> Question<'q, 'a> {
    /// The slots of the part that is written.
    pub(super) fn concerned(&self) -> impl Iterator<Item = &'q Slot<'a>> + use<'q, 'a> {
        let part = self.part;
        self.object.slots.iter().filter(move |slot| match part {
            Part::Whole => true,
            Part::EphemeralContainers => slot.list == List::EphemeralContainers,
        })
    }

    /// Another object decides over its images. Of Pods, none does.
    pub(super) fn is_owned(&self) -> bool {
        self.object.has_controller && !self.kind.is_pod()
    }

    /// What an update finds where it is already.
    pub(super) fn before(&self) -> Before<'q> {
        Before::new(self.old().map(|old| &*old.slots).unwrap_or_default())
    }

    /// An update that the API server lets nobody make.
    fn is_fixed(&self, slot: &Slot<'_>) -> bool {
        match (self.write, self.part) {
            (Write::Update(_), Part::Whole) if self.kind.is_job() => true,
            (Write::Update(_), Part::Whole) => {
                self.kind.is_pod() && matches!(slot.list, List::EphemeralContainers | List::Volumes)
            }
            _ => false,
        }
    }

    /// An update forces look-up, or no longer does.
    fn is_forced_anew(&self) -> bool {
        self.part == Part::Whole && self.old().is_some_and(|old| old.force != self.object.force)
    }

    fn old(&self) -> Option<&'q Workload<'a>> {
        match self.write {
            Write::Create => None,
            Write::Update(old) => old,
        }
    }
}

/// How one object's references are looked up.
#[derive(Clone, Copy)]
struct LookUp<'a> {
    namespace: &'a str,
    force: bool,
    snapshot: &'a Snapshot,
}

impl<'a> LookUp<'a> {
    fn resolve(self, image: &str) -> Outcome<'a> {
        let (stream, tag) = match self.find(image) {
            Ok(found) => found,
            Err(outcome) => return outcome,
        };
        let why = match stream.tag(tag).map(|tag| &tag.target) {
            Some(Target::Pinned { image, stale }) => return Outcome::Pinned { image, stale: stale.as_deref() },
            Some(Target::NotImported) => Missing::Import,
            Some(Target::NoDigest) => Missing::Digest,
            None => Missing::Tag,
        };
        let pending = stream.pending(tag).filter(|pending| pending != image && self.is_final(pending));
        Outcome::TagMissing { why, pending }
    }

    /// The stream and tag that a reference means.
    fn find<'i>(self, image: &'i str) -> Result<(&'a IndexedStream, &'i str), Outcome<'a>> {
        let Ok(reference) = Reference::parse(image) else { return Err(Outcome::Unparsable) };
        if reference.digest.is_some() {
            return Err(Outcome::AlreadyPinned);
        }
        if reference.name.is_empty() || !(reference.is_short() || self.force) {
            return Err(Outcome::NotShort);
        }
        let stream = self.snapshot.stream(self.namespace, reference.name).ok_or(Outcome::NoStream)?;
        if !(stream.local_lookup() || self.force) {
            return Err(Outcome::LookupDisabled);
        }
        Ok((stream, reference.tag.unwrap_or(DEFAULT_TAG)))
    }

    /// A second look-up would leave this string as it is.
    fn is_final(self, image: &str) -> bool {
        let Ok((stream, tag)) = self.find(image) else { return true };
        match stream.tag(tag).map(|tag| &tag.target) {
            Some(Target::Pinned { .. }) => false,
            _ => stream.pending(tag).is_none_or(|pending| pending == image),
        }
    }
}

/// The container or volume of a slot, as warnings name it: `containers[web]`.
pub(super) fn place(slot: &Slot<'_>) -> String {
    format!("{}[{}]", slot.list.field(), slot.name)
}

impl Decided<'_> {
    /// There is something that the user should know.
    fn warns(&self) -> bool {
        matches!(self.outcome, Outcome::TagMissing { .. } | Outcome::Pinned { stale: Some(_), .. })
    }

    fn warning(&self) -> Option<String> {
        let begun = || format!("{}: {}: ", place(self.slot), self.slot.image);
        let mut text;
        match &self.outcome {
            Outcome::TagMissing { why, pending } => {
                text = begun();
                text.push_str(match why {
                    Missing::Tag => "the image stream has no such tag",
                    Missing::Import => "the tag was never imported",
                    Missing::Digest => "the tag has no digest",
                });
                text.push_str(match pending {
                    Some(_) => "; it is pulled by tag",
                    None => "; left as written",
                });
            }
            Outcome::Pinned { stale: Some(stale), .. } => {
                text = begun();
                text.push_str("the newest import failed");
                if !stale.reason.is_empty() {
                    let _ = write!(text, " ({})", stale.reason);
                }
                match stale.image_created {
                    Some(created) => {
                        let _ = write!(text, "; the image of {} is used", created.strftime("%Y-%m-%d"));
                    }
                    None => text.push_str("; the image before it is used"),
                }
            }
            _ => return None,
        }
        Some(text)
    }
}

impl Decision<'_> {
    /// The slots that are rewritten, each with what is written.
    pub fn rewrites(&self) -> impl Iterator<Item = (&Slot<'_>, &str)> {
        self.slots.iter().filter_map(|decided| Some((decided.slot, decided.outcome.rewrite()?)))
    }

    /// The JSON patch, one replacement a rewritten slot. Empty if nothing changes.
    #[must_use]
    pub fn patch(&self, kind: &Kind) -> Vec<Replacement<'_>> {
        let replacement =
            |(slot, image): (&Slot<'_>, _)| Replacement { op: "replace", path: slot.pointer(kind), value: image };
        self.rewrites().map(replacement).collect()
    }

    /// What the user should know, at most [`WARNINGS_MAX`] lines of [`WARNING_LENGTH_MAX`] characters.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let count = self.slots.iter().filter(|decided| decided.warns()).count();
        warnings_of(self.slots.iter().filter_map(Decided::warning), count, "could not be resolved as asked")
    }

    /// For each rewritten slot `LIST.INDEX` and `FROM -> TO`, as the API server's audit log keeps them: at most
    /// [`TOLD_MAX`], and how many `more` there are.
    #[must_use]
    pub fn audit_annotations(&self) -> Vec<(String, String)> {
        let annotation = |(slot, image): (&Slot<'_>, &str)| (key(slot), [&slot.image, " -> ", image].concat());
        let annotations = self.rewrites().take(TOLD_MAX).map(annotation);
        annotations.chain(more(self.rewrites().count())).collect()
    }
}

/// The key of a slot's audit annotation.
pub(super) fn key(slot: &Slot<'_>) -> String {
    [slot.list.field(), ".", &slot.index.to_string()].concat()
}

/// Tells of slots beyond [`TOLD_MAX`], if there are any of `count`.
pub(super) fn more(count: usize) -> Option<(String, String)> {
    count.checked_sub(TOLD_MAX).filter(|more| *more > 0).map(|more| ("more".to_owned(), more.to_string()))
}

/// Of `count` warnings as many as may be. Those that are left out are not made, but counted, and `what` they say is said.
pub(super) fn warnings_of(warnings: impl Iterator<Item = String>, count: usize, what: &str) -> Vec<String> {
    let named = if count > WARNINGS_MAX { WARNINGS_MAX - 1 } else { count };
    let more = (named < count).then(|| format!("{} more images {what}", count - named));
    warnings.take(named).map(shorten).chain(more).collect()
}

/// Cuts a warning to its limit, an ellipsis in place of the end.
pub(super) fn shorten(text: String) -> String {
    if text.chars().count() <= WARNING_LENGTH_MAX {
        return text;
    }
    text.chars().take(WARNING_LENGTH_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests;

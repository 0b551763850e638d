//! Manifests as text with the objects in them, and what becomes of their images. Pure.
//!
//! What is decided is admission's; here is only where it is written. A result that would change anything else is refused.

use serde_json::Value;

use crate::admission::decide::{self, Outcome, Part, Question, Write};
use crate::cli::why::{is_pinned, is_unresolved, why};
use crate::index::Snapshot;
use crate::store::documents::{self, Document, DocumentError, Format, Place};
use crate::store::edit::{self, Edit, Strings};
use crate::workload::{Kinds, Workload};

/// A text with its documents.
pub(in crate::cli) struct Manifest {
    pub text: String,
    format: Format,
    documents: Vec<Document>,
}

/// By what images are resolved.
pub(in crate::cli) struct Rules<'r> {
    pub snapshot: &'r Snapshot,
    pub kinds: &'r Kinds,
    /// Namespace of objects that say none.
    pub namespace: &'r str,
}

/// What becomes of a text.
#[derive(Default)]
pub(super) struct Resolved {
    /// In the order of the text.
    pub edits: Vec<Edit>,
    pub findings: Vec<Finding>,
    /// How many images there are.
    pub images: usize,
}

/// Something that people should know of an image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub place: Place,
    /// Object, container, image and what is the matter.
    pub message: String,
    pub weight: Weight,
}

/// What a finding comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// The image is pinned all the same.
    Note,
    /// The image has no digest, and was not meant to get one.
    Unpinned,
    /// A short name has no digest.
    Unresolved,
}

/// An image of a text.
pub(in crate::cli) struct Written {
    /// Namespace of its object.
    pub namespace: String,
    /// Kind and name of its object.
    pub object: String,
    /// List and name of its container.
    pub container: String,
    pub image: String,
    /// What it becomes, if that is another.
    pub becomes: Option<String>,
    /// Line of the text, from 1.
    pub line: usize,
}

/// An object of a document.
struct Object<'m> {
    /// JSON pointer to it in the document.
    pointer: String,
    group: &'m str,
    kind: &'m str,
    value: &'m Value,
}

impl<'m> Object<'m> {
    fn namespace(&self) -> Option<&'m str> {
        self.value.pointer("/metadata/namespace")?.as_str().filter(|namespace| !namespace.is_empty())
    }
}

impl Manifest {
    /// Reads a text, in the form that its name tells or else it itself.
    pub(super) fn read(text: String, format: Option<Format>) -> Result<Self, DocumentError> {
        let format = format.unwrap_or_else(|| documents::format_of(&text));
        let documents = documents::values(&text, format)?;
        Ok(Self { text, format, documents })
    }

    /// The namespaces of its objects that are of these kinds; `None` of those that say none.
    pub(in crate::cli) fn namespaces(&self, kinds: &Kinds) -> Vec<Option<&str>> {
        let objects = self.documents.iter().flat_map(|document| objects(&document.value));
        objects
            .filter(|object| kinds.find(object.group, object.kind).is_some())
            .map(|object| object.namespace())
            .collect()
    }

    /// What makes documents of a YAML stream of the values of a JSON text.
    pub(super) fn separators(&self) -> impl Iterator<Item = Edit> {
        let documents = self.documents.iter().filter(|_| self.format == Format::Json).skip(1);
        documents.map(|document| Edit { at: document.bytes.start..document.bytes.start, text: "\n---\n".to_owned() })
    }

    /// Resolves every image.
    pub(super) fn resolve(&self, rules: &Rules<'_>) -> Result<Resolved, DocumentError> {
        let mut resolved = Resolved::default();
        for document in &self.documents {
            self.resolve_document(document, rules, &mut resolved)
                .map_err(|message| DocumentError { place: document.place, message })?;
        }
        Ok(resolved)
    }

    /// Every image, with what it becomes.
    pub(in crate::cli) fn images(&self, rules: &Rules<'_>) -> Result<Vec<Written>, DocumentError> {
        let mut written = Vec::new();
        for document in &self.documents {
            let wrong = |message: String| DocumentError { place: document.place, message };
            let text = &self.text[document.bytes.clone()];
            let strings = Strings::read(text, self.format).map_err(|error| wrong(error.to_string()))?;
            // What stands behind an alias is said to be where its document begins.
            let line = |pointer: &str, image: &str| {
                let at = strings.replace(pointer, image, image).map_or(0, |edit| edit.at.start);
                1 + self.text[..document.bytes.start + at].matches('\n').count()
            };
            for object in objects(&document.value) {
                written.extend(images_of(&object, rules, line).map_err(wrong)?);
            }
        }
        Ok(written)
    }

    fn resolve_document(&self, document: &Document, rules: &Rules<'_>, resolved: &mut Resolved) -> Result<(), String> {
        let text = &self.text[document.bytes.clone()];
        let mut rewrites: Vec<Rewrite> = Vec::new();
        for object in objects(&document.value) {
            rewrites.extend(decided(&object, document.place, rules, resolved)?);
        }
        if rewrites.is_empty() {
            return Ok(());
        }
        let strings = Strings::read(text, self.format).map_err(|error| error.to_string())?;
        let mut edits = Vec::new();
        let mut wanted = document.value.clone();
        for rewrite in rewrites {
            let elsewhere = |_| format!("{}: it is written behind an alias; write it out there", rewrite.what);
            edits.push(strings.replace(&rewrite.pointer, &rewrite.from, &rewrite.to).map_err(elsewhere)?);
            if let Some(value) = wanted.pointer_mut(&rewrite.pointer) {
                *value = rewrite.to.into();
            }
        }
        edits.sort_by_key(|edit| edit.at.start);
        self.check(&edit::apply(text, &edits), &wanted)?;
        let start = document.bytes.start;
        let moved = |edit: Edit| Edit { at: edit.at.start + start..edit.at.end + start, ..edit };
        resolved.edits.extend(edits.into_iter().map(moved));
        Ok(())
    }

    /// The text says what was wanted, and nothing else has changed.
    fn check(&self, text: &str, wanted: &Value) -> Result<(), String> {
        let read = documents::values(text, self.format).map_err(|error| error.to_string())?;
        match &read[..] {
            [document] if document.value == *wanted => Ok(()),
            _ => Err("its images cannot be written without changing something else; is an image an anchor?".to_owned()),
        }
    }
}

/// A string that is replaced in a document.
struct Rewrite {
    pointer: String,
    from: String,
    to: String,
    /// Object and container.
    what: String,
}

/// The images of an object.
fn images_of(
    object: &Object<'_>,
    rules: &Rules<'_>,
    line: impl Fn(&str, &str) -> usize,
) -> Result<Vec<Written>, String> {
    let Some(kind) = rules.kinds.find(object.group, object.kind) else { return Ok(Vec::new()) };
    let workload = Workload::read(kind, object.value).map_err(|error: serde_json::Error| error.to_string())?;
    let namespace = object.namespace().unwrap_or(rules.namespace);
    let question = Question { write: Write::Create, part: Part::Whole, namespace, kind, object: &workload };
    let written = |decided: &decide::Decided<'_>| Written {
        namespace: namespace.to_owned(),
        object: format!("{}/{}", object.kind, workload.name),
        container: format!("{}[{}]", decided.slot.list.field(), decided.slot.name),
        image: decided.slot.image.to_string(),
        becomes: decided.outcome.rewrite().map(str::to_owned),
        line: line(&format!("{}{}", object.pointer, decided.slot.pointer(kind)), &decided.slot.image),
    };
    Ok(decide::decide(&question, rules.snapshot).slots.iter().map(written).collect())
}

/// What is rewritten in an object.
fn decided(
    object: &Object<'_>,
    place: Place,
    rules: &Rules<'_>,
    resolved: &mut Resolved,
) -> Result<Vec<Rewrite>, String> {
    let Some(kind) = rules.kinds.find(object.group, object.kind) else { return Ok(Vec::new()) };
    let workload = Workload::read(kind, object.value).map_err(|error: serde_json::Error| error.to_string())?;
    let namespace = object.namespace().unwrap_or(rules.namespace);
    let question = Question { write: Write::Create, part: Part::Whole, namespace, kind, object: &workload };
    let decision = decide::decide(&question, rules.snapshot);
    let mut rewrites = Vec::new();
    for decided in &decision.slots {
        resolved.images += 1;
        let slot = decided.slot;
        let what = format!("{}/{}, {}[{}]", object.kind, workload.name, slot.list.field(), slot.name);
        if let Some((weight, reason)) = weighed(&slot.image, namespace, &decided.outcome) {
            let message = format!("{what}: {}: {reason}", slot.image);
            resolved.findings.push(Finding { place, message, weight });
        }
        if let Some(image) = decided.outcome.rewrite() {
            let pointer = format!("{}{}", object.pointer, slot.pointer(kind));
            rewrites.push(Rewrite { pointer, from: slot.image.to_string(), to: image.to_owned(), what });
        }
    }
    Ok(rewrites)
}

/// How much what was found for an image weighs, and the sentence about it.
fn weighed(image: &str, namespace: &str, outcome: &Outcome<'_>) -> Option<(Weight, String)> {
    let reason = why(image, namespace, outcome);
    if is_unresolved(outcome) {
        return Some((Weight::Unresolved, reason.unwrap_or_default()));
    }
    if is_pinned(outcome) {
        return reason.map(|reason| (Weight::Note, reason));
    }
    let left = match outcome {
        Outcome::Owned => "its object has a controller, which decides over it",
        _ => "it is no short name, and has no digest",
    };
    Some((Weight::Unpinned, left.to_owned()))
}

/// The objects of a document: itself, or those of a list, lists in it opened too.
fn objects(document: &Value) -> Vec<Object<'_>> {
    let mut found = Vec::new();
    open(document, String::new(), None, &mut found);
    found
}

/// `within` is group and kind of the objects of a typed list, which need not say them.
fn open<'m>(value: &'m Value, pointer: String, within: Option<(&'m str, &'m str)>, found: &mut Vec<Object<'m>>) {
    let text = |field: &str| value.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
    let group = |version: &'m str| version.split_once('/').map_or("", |(group, _)| group);
    let kind = text("kind").or(within.map(|(_, kind)| kind)).unwrap_or_default();
    let group = text("apiVersion").map(group).or(within.map(|(group, _)| group)).unwrap_or_default();
    match (kind.strip_suffix("List"), value.get("items").and_then(Value::as_array)) {
        (Some(item_kind), Some(items)) => {
            let within = Some((group, item_kind)).filter(|_| !item_kind.is_empty());
            for (index, item) in items.iter().enumerate() {
                open(item, format!("{pointer}/items/{index}"), within, found);
            }
        }
        _ => found.push(Object { pointer, group, kind, value }),
    }
}

#[cfg(test)]
mod tests;

//! Writes of image streams, the custom resource: defaults and numbers as a patch, or a refusal with everything that is
//! wrong. Pure.
//!
//! The rules are those of `stream::write`. Must not touch the status: that is the controller's, and so are sources in
//! other streams, of which nothing is known here.

use std::collections::HashSet;
use std::fmt;

use jiff::Timestamp;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::decide::{WARNINGS_MAX, shorten};
use super::review::{self, Asked, Details, NoReview, Opened, Refusal, Request, Response};
use crate::crd::GROUP;
use crate::reference::Reference;
use crate::stream::ImageStream;
use crate::stream::pullspec::RegistryHost;
use crate::stream::types::{ImportMode, KIND, Spec, SpecTag};
use crate::stream::write::{self, Cause, Context, FieldError, Invalid, Read, Source};

/// HTTP's status of a refusal, the one that the API server has for invalid objects.
const UNPROCESSABLE: u16 = 422;
/// The most tags of a stream. With an image each, a stream of so many is larger than what an API server can store.
const TAGS_MAX: usize = 5_000;
/// Stands for the end of a name that the API server has not made up yet.
const NAME_END: &str = "00000";

/// What writes are held to, beside what OpenShift's API holds them to.
pub struct Rules<'a> {
    /// Import mode of tags that do not say one.
    pub default_mode: ImportMode,
    /// Whether images may be imported from a registry.
    pub permits: &'a dyn Fn(&Reference<'_>) -> bool,
}

/// What becomes of a write.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It is stored.
    Allowed {
        /// What is changed first.
        changes: Vec<Change>,
        /// What was wrong with the stream before, and still is.
        standing: Vec<FieldError>,
    },
    /// It is not stored.
    Refused(Invalid),
}

/// A field of a tag that gets another value than was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Name of the tag.
    pub tag: String,
    /// Place of the tag in the list.
    index: usize,
    /// The way to the field from the tag.
    field: Vec<&'static str>,
    /// What it gets.
    value: Value,
}

/// What became of a review, for those who count and log.
#[derive(Debug)]
pub enum Verdict<'v> {
    /// No write of a stream: another operation, subresource or kind.
    Ignored,
    /// The review or its stream cannot be read; the sentence says why.
    Malformed(&'v str),
    /// Decided.
    Decided(&'v Decision),
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
    rules: &Rules<'_>,
    witness: impl FnOnce(Option<&Asked<'_>>, &Verdict<'_>),
) -> Result<Vec<u8>, NoReview> {
    let request = match Opened::read(body)? {
        Opened::Request(request) => request,
        Opened::Unreadable { uid, reason } => {
            witness(None, &Verdict::Malformed(&reason));
            return Ok(Response::left_alone(&uid, &reason).to_bytes());
        }
    };
    let decision = decide_request(&request, rules);
    let asked = request.asked;
    match decision {
        Ok(Some(decision)) => {
            let answer = response(&asked.uid, &decision).to_bytes();
            witness(Some(&asked), &Verdict::Decided(&decision));
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

/// `None` if no spec of a stream is written.
fn decide_request(request: &Request<'_, &RawValue>, rules: &Rules<'_>) -> Result<Option<Decision>, String> {
    let asked = &request.asked;
    let is_update = match asked.operation.as_ref() {
        "CREATE" => false,
        "UPDATE" => true,
        _ => return Ok(None),
    };
    if !is_stream(asked) || !asked.sub_resource.is_empty() {
        return Ok(None);
    }
    let object = parsed("object", request.object)?;
    let old = if is_update { Some(parsed("oldObject", request.old_object)?) } else { None };
    decide(&asked.namespace, object, old, rules).map(Some)
}

/// The request is about the custom resource of image streams.
#[must_use]
pub fn is_stream(asked: &Asked<'_>) -> bool {
    asked.kind.group == GROUP && asked.kind.kind == KIND
}

fn parsed(field: &str, json: Option<&RawValue>) -> Result<Value, String> {
    let json = json.ok_or_else(|| format!("the review's request.{field} is missing"))?;
    serde_json::from_str(json.get()).map_err(|error| format!("the review's request.{field} cannot be read: {error}"))
}

/// Decides what becomes of a stream that is to be stored in a namespace, in place of `old` if there is one.
///
/// Deciding again over the patched stream changes nothing.
///
/// # Errors
/// Why one of the two cannot be read as a stream. The schema of the custom resource judges that.
pub fn decide(namespace: &str, object: Value, old: Option<Value>, rules: &Rules<'_>) -> Result<Decision, String> {
    let unreadable = |error: serde_json::Error| format!("the image stream cannot be read: {error}");
    let context = Context {
        // Only the status has times.
        now: Timestamp::UNIX_EPOCH,
        registry_host: &RegistryHost::Unknown,
        default_mode: rules.default_mode,
        permits: rules.permits,
        source: &|_| Source::Unknown,
    };
    let tags = tags_of(&object).cloned().unwrap_or_default();
    // What there are already may be changed, and become fewer.
    let before = old.as_ref().and_then(tags_of).map_or(0, Vec::len);
    if tags.len() > TAGS_MAX.max(before) {
        return Ok(Decision::Refused(too_many(&object, tags.len())));
    }
    let Read { mut stream, mut errors } = read(object, namespace, false).map_err(unreadable)?;
    let old = old.map(|old| read(old, namespace, true)).transpose().map_err(unreadable)?;
    if let Some(old) = &old {
        ask_again(&mut stream.spec.tags, &old.stream);
    }
    let written = write::write(stream, old.as_ref().map(|old| &old.stream), &context);
    errors.extend(written.errors);
    let known: HashSet<_> = match old.filter(|_| !errors.is_empty()) {
        Some(old) => standing(old, &context).into_iter().collect(),
        None => HashSet::new(),
    };
    let (standing, errors): (Vec<_>, Vec<_>) = errors.into_iter().partition(|error| known.contains(error));
    if errors.is_empty() {
        Ok(Decision::Allowed { changes: changes(&tags, &written.stream.spec), standing })
    } else {
        Ok(Decision::Refused(Invalid { name: written.stream.metadata.name, errors }))
    }
}

fn tags_of(object: &Value) -> Option<&Vec<Value>> {
    object.pointer("/spec/tags")?.as_array()
}

/// Nothing else is looked for then.
fn too_many(object: &Value, count: usize) -> Invalid {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let detail = format!("a stream has at most {TAGS_MAX}, this one has {count}");
    Invalid { name: name.to_owned(), errors: vec![FieldError::new("spec.tags", Cause::TooMany, "", detail)] }
}

/// Reads a stream. What the API server fills in or throws away later is filled in and thrown away first.
fn read(mut object: Value, namespace: &str, is_stored: bool) -> Result<Read, serde_json::Error> {
    if let Some(fields) = object.as_object_mut().filter(|_| !is_stored) {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        let text = |field: &str| metadata.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
        let name = match (text("name"), text("generateName")) {
            (Some(name), _) => name.to_owned(),
            (None, Some(beginning)) => format!("{beginning}{NAME_END}"),
            (None, None) => String::new(),
        };
        let namespace = text("namespace").unwrap_or(namespace).to_owned();
        metadata.insert("name".to_owned(), name.into());
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    write::read_with_errors(object)
}

/// The API server calls again if another webhook changed the object after this one. A tag that asked for a new number
/// by a 0 has the number then; it asks again, so that it keeps it.
fn ask_again(tags: &mut [SpecTag], old: &ImageStream) {
    let next = Some(old.metadata.generation.unwrap_or_default().saturating_add(1));
    let old = old.spec.by_name();
    for tag in tags.iter_mut().filter(|tag| tag.generation == next) {
        if old.get(tag.name.as_str()).is_some_and(|stored| stored.generation != next) {
            tag.generation = Some(0);
        }
    }
}

/// What is wrong with a stored stream. Whoever leaves that as it is may change the rest.
fn standing(old: Read, context: &Context<'_>) -> Vec<FieldError> {
    let Read { stream, mut errors } = old;
    errors.extend(write::write(stream.clone(), Some(&stream), context).errors);
    errors
}

/// What has to be changed of tags as they were written to make them what they are to be.
fn changes(written: &[Value], spec: &Spec) -> Vec<Change> {
    let by_name = spec.by_name();
    let named = |written: &Value| by_name.get(written["name"].as_str()?).copied();
    let written = written.iter().enumerate().filter_map(|(index, written)| Some((index, written, named(written)?)));
    written.flat_map(|(index, written, tag)| changes_of(index, written, tag)).collect()
}

fn changes_of(index: usize, written: &Value, tag: &SpecTag) -> Vec<Change> {
    let change = |field, value| Change { tag: tag.name.clone(), index, field, value };
    let generation = json!(tag.generation);
    let generation = (written["generation"] != generation).then(|| change(vec!["generation"], generation));
    let policies = [
        ("importPolicy", "importMode", json!(tag.import_policy.import_mode)),
        ("referencePolicy", "type", json!(tag.reference_policy.kind)),
    ];
    let policies = policies.into_iter().filter_map(|(policy, field, value)| match &written[policy] {
        Value::Null => Some(change(vec![policy], json!({field: value}))),
        written => (written[field] != value).then(|| change(vec![policy, field], value)),
    });
    generation.into_iter().chain(policies).collect()
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.tag, self.field.join("."), self.value)
    }
}

impl Decision {
    /// The JSON patch. Empty if nothing changes.
    #[must_use]
    pub fn patch(&self) -> Patch {
        let Self::Allowed { changes, .. } = self else { return Patch::default() };
        let add = |Change { index, field, value, .. }: &Change| {
            let index = index.to_string();
            let path = PointerBuf::from_tokens(["spec", "tags", &index].into_iter().chain(field.iter().copied()));
            PatchOperation::Add(AddOperation { path, value: value.clone() })
        };
        Patch(changes.iter().map(add).collect())
    }
}

fn response<'a>(uid: &'a str, decision: &'a Decision) -> Response<'a> {
    match decision {
        Decision::Allowed { standing, .. } => {
            let warnings = standing.iter().take(WARNINGS_MAX);
            let mut response = Response::patched(uid, &decision.patch().0);
            response.warnings = warnings.map(|error| shorten(format!("still wrong: {error}"))).collect();
            response
        }
        Decision::Refused(invalid) => Response::refused(uid, refusal(invalid)),
    }
}

/// As the API server refuses an object that is invalid.
fn refusal(invalid: &Invalid) -> Refusal<'_> {
    let cause = |error: &FieldError| review::Cause {
        reason: error.cause.reason(),
        message: error.message(),
        field: error.field.clone(),
    };
    let causes = invalid.errors.iter().map(cause).collect();
    Refusal {
        status: "Failure",
        code: UNPROCESSABLE,
        reason: "Invalid",
        message: invalid.to_string(),
        details: Details { name: &invalid.name, group: GROUP, kind: KIND, causes },
    }
}

#[cfg(test)]
mod tests;

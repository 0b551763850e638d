//! A write of a stream's spec: what it defaults, refuses and numbers, and what it brings into the status at once.
//!
//! OpenShift's rules, for every writer: command line, directory, controller and admission. Pure; must not ask a registry,
//! which is what importing does with the tags that a write has numbered.

mod invalid;
mod read;
mod source;

use jiff::Timestamp;

pub use invalid::{Cause, FieldError, Invalid};
pub use read::{Read, read, read_with_errors};
pub use source::Source;

use super::Key;
use super::history::{self, observed};
use super::plan::is_importable;
use super::pullspec::RegistryHost;
use super::types::{IMPORT_SUCCESS, ImageStream, ImportMode, ReferenceKind, SpecTag, TagCondition};
use crate::reference::Reference;

/// What a write depends on beside what is written.
pub struct Context<'a> {
    /// Now.
    pub now: Timestamp,
    /// Host of the registry that serves the streams' images.
    pub registry_host: &'a RegistryHost,
    /// Import mode of tags that do not say one.
    pub default_mode: ImportMode,
    /// Whether images may be imported from a registry.
    pub permits: &'a dyn Fn(&Reference<'_>) -> bool,
    /// What is known of another stream.
    pub source: &'a dyn Fn(&Key) -> Source<'a>,
}

/// What a write makes of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The stream as it is stored if nothing is wrong with it; else its spec is defaulted and numbered all the same.
    pub stream: ImageStream,
    /// Everything that is wrong with it.
    pub errors: Vec<FieldError>,
}

impl Written {
    fn accepted(self) -> Result<ImageStream, Invalid> {
        let Self { stream, errors } = self;
        if errors.is_empty() { Ok(stream) } else { Err(Invalid { name: stream.metadata.name, errors }) }
    }
}

/// A new stream as it is stored. What the user says of status and numbers does not count.
///
/// # Errors
/// Everything that is wrong with it.
pub fn create(stream: ImageStream, context: &Context<'_>) -> Result<ImageStream, Invalid> {
    write(stream, None, context).accepted()
}

/// A changed stream as it is stored in place of `old`. What the user says of the status does not count.
///
/// # Errors
/// Everything that is wrong with it.
pub fn update(new: ImageStream, old: &ImageStream, context: &Context<'_>) -> Result<ImageStream, Invalid> {
    write(new, Some(old), context).accepted()
}

/// What a write makes of a stream: a new one, or a changed one in place of `old`.
#[must_use]
pub fn write(stream: ImageStream, old: Option<&ImageStream>, context: &Context<'_>) -> Written {
    let mut stream = defaulted(stream, context);
    // So that what was stored without its defaults has not changed by getting them.
    let old = old.map(|old| defaulted(old.clone(), context));
    let old = old.as_ref();
    match old {
        Some(old) => number(&mut stream, old),
        None => number_new(&mut stream),
    }
    stream.status = old.map(|old| old.status.clone()).unwrap_or_default();
    finish(stream, old, context)
}

/// A stream whose spec was changed by a hand that numbers nothing: the numbers that a write would have given its tags.
/// Its status stays as it is.
///
/// # Errors
/// Everything that is wrong with it.
pub fn renumber(new: ImageStream, old: ImageStream, context: &Context<'_>) -> Result<ImageStream, Invalid> {
    let (mut stream, old) = (defaulted(new, context), defaulted(old, context));
    number(&mut stream, &old);
    checked(stream, Some(&old), context)
}

/// A stream that nobody has seen before, perhaps with a status. Tags without a number count as imported if the status
/// has something for them, else they are to be imported.
///
/// # Errors
/// Everything that is wrong with it.
pub fn adopt(stream: ImageStream, context: &Context<'_>) -> Result<ImageStream, Invalid> {
    let mut stream = defaulted(stream, context);
    let highest = stream.spec.tags.iter().filter_map(|tag| tag.generation).max().unwrap_or_default();
    let generation = stream.metadata.generation.unwrap_or_default().max(highest).max(1);
    stream.metadata.generation = Some(generation);
    for tag in stream.spec.tags.iter_mut().filter(|tag| tag.generation.unwrap_or_default() == 0) {
        let observed = observed(stream.status.tag(&tag.name));
        tag.generation = Some(if observed == 0 { generation } else { observed });
    }
    checked(stream, None, context)
}

fn number_new(stream: &mut ImageStream) {
    stream.metadata.generation = Some(1);
    for tag in &mut stream.spec.tags {
        tag.generation = Some(1);
    }
}

/// Numbers a stream and those of its tags that changed. A tag that was stored without a number gets one, which is a
/// change too.
fn number(stream: &mut ImageStream, old: &ImageStream) {
    let stored = old.spec.by_name();
    for tag in &mut stream.spec.tags {
        if tag.generation != Some(0) {
            tag.generation = stored.get(tag.name.as_str()).and_then(|stored| stored.generation);
        }
    }
    let is_numbered = stream.spec.tags.iter().all(|tag| tag.generation.unwrap_or_default() != 0);
    let generation = old.metadata.generation.unwrap_or_default();
    let next = if is_numbered && stream.spec == old.spec { generation } else { generation.saturating_add(1) };
    stream.metadata.generation = Some(next);
    let namespace = stream.metadata.namespace.clone();
    for tag in &mut stream.spec.tags {
        let stored = stored.get(tag.name.as_str());
        let is_changed = stored.is_none_or(|stored| has_changed(tag, stored, namespace.as_deref()));
        if is_changed || tag.generation.unwrap_or_default() == 0 {
            tag.generation = Some(next);
        }
    }
}

/// A stored stream brought in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// The stream, equal to the stored one if that is in order.
    pub stream: ImageStream,
    /// Tags that could not be brought in order, and why.
    pub problems: Vec<(String, FieldError)>,
}

/// Does what a write does, for a stream that was stored without: says where it is served, numbers tags without a number,
/// and brings those into the status that are copies or mere references. A tag that cannot be gets a condition that says why.
#[must_use]
pub fn settle(stored: &ImageStream, context: &Context<'_>) -> Settled {
    let mut stream = stored.clone();
    // The write of the number makes it one more.
    let next = stream.metadata.generation.unwrap_or_default().saturating_add(1);
    for tag in &mut stream.spec.tags {
        if tag.generation.unwrap_or_default() == 0 {
            tag.generation = Some(next);
        }
    }
    if stream.spec != stored.spec {
        stream.metadata.generation = Some(next);
    }
    let behind = |stream: &ImageStream, tag: &SpecTag| {
        tag.generation.unwrap_or_default() > observed(stream.status.tag(&tag.name))
    };
    let tags: Vec<String> =
        stream.spec.tags.iter().filter(|tag| behind(&stream, tag)).map(|tag| tag.name.clone()).collect();
    let problems = bring(&mut stream, &tags, context);
    for (tag, problem) in &problems {
        let generation = stream.spec.tag(tag).and_then(|tag| tag.generation).unwrap_or_default();
        let condition = TagCondition {
            kind: IMPORT_SUCCESS.to_owned(),
            status: "False".to_owned(),
            last_transition_time: Some(context.now),
            reason: problem.cause.condition_reason().to_owned(),
            message: problem.to_string(),
            generation,
        };
        history::set_condition(&mut stream.status, tag, condition);
    }
    stream.status.docker_image_repository = context.registry_host.repository(&stream);
    Settled { stream, problems }
}

fn defaulted(mut stream: ImageStream, context: &Context<'_>) -> ImageStream {
    for tag in &mut stream.spec.tags {
        if tag.import_policy.import_mode == ImportMode::Unset {
            tag.import_policy.import_mode = context.default_mode;
        }
    }
    stream
}

fn checked(stream: ImageStream, old: Option<&ImageStream>, context: &Context<'_>) -> Result<ImageStream, Invalid> {
    let errors = invalid::of(&stream, old, context);
    if errors.is_empty() { Ok(stream) } else { Err(Invalid { name: stream.metadata.name, errors }) }
}

/// Checks the spec, then brings new and changed tags into the status.
fn finish(mut stream: ImageStream, old: Option<&ImageStream>, context: &Context<'_>) -> Written {
    let mut errors = invalid::of(&stream, old, context);
    stream.status.docker_image_repository = context.registry_host.repository(&stream);
    let namespace = stream.metadata.namespace.clone();
    let stored = old.map(|old| old.spec.by_name()).unwrap_or_default();
    let is_changed = |tag: &&SpecTag| {
        let stored = stored.get(tag.name.as_str());
        stored.is_none_or(|stored| has_changed(tag, stored, namespace.as_deref()))
    };
    let tags: Vec<String> = stream.spec.tags.iter().filter(is_changed).map(|tag| tag.name.clone()).collect();
    errors.extend(bring(&mut stream, &tags, context).into_iter().map(|(_, error)| error));
    history::drop_empty(&mut stream.status);
    Written { stream, errors }
}

/// Brings tags into the status that need no registry, and lets others follow. Gives those that cannot be.
fn bring(stream: &mut ImageStream, tags: &[String], context: &Context<'_>) -> Vec<(String, FieldError)> {
    let mut problems = Vec::new();
    let mut written = Vec::new();
    for name in tags {
        let Some(tag) = stream.spec.tag(name).filter(|tag| !is_importable(tag)).cloned() else { continue };
        match source::event(stream, &tag, context) {
            Ok(Some(event)) => {
                number_source(stream, name, event.generation);
                if history::add(&mut stream.status, name, event).is_change() {
                    written.push(name.clone());
                }
            }
            Ok(None) => {}
            Err(error) => problems.push((name.clone(), error)),
        }
    }
    history::follow(stream, written);
    problems
}

/// OpenShift numbers the image that a tag of the same stream was copied from like the copy. Not while that tag waits for
/// an import, which the number would call off.
fn number_source(stream: &mut ImageStream, tag: &str, generation: i64) {
    let Some(source) = history::tracked(stream, tag).map(str::to_owned) else { return };
    let asked = stream.spec.tag(&source).and_then(|source| source.generation).unwrap_or_default();
    let Some(events) = stream.status.tags.iter_mut().find(|events| events.tag == source) else { return };
    let is_waiting = asked > observed(Some(events));
    if let Some(newest) = events.items.first_mut().filter(|_| !is_waiting) {
        newest.generation = newest.generation.max(generation);
    }
}

/// What counts as a change of a tag: where it comes from, whether it is a mere reference, and how it is imported. A tag
/// without a source never changes.
fn has_changed(tag: &SpecTag, stored: &SpecTag, namespace: Option<&str>) -> bool {
    let Some(from) = tag.from.as_ref().filter(|from| from.kind != ReferenceKind::DockerImage || !from.name.is_empty())
    else {
        return false;
    };
    let Some(before) = &stored.from else { return true };
    let namespace_of = |written: &Option<String>| {
        written.as_deref().filter(|written| !written.is_empty()).or(namespace).map(str::to_owned)
    };
    namespace_of(&from.namespace) != namespace_of(&before.namespace)
        || from.name != before.name
        || tag.reference != stored.reference
        || tag.import_policy.import_mode != stored.import_policy.import_mode
        || tag.generation == Some(0)
}

#[cfg(test)]
mod tests;

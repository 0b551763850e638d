//! An image stream for people, as `oc describe is` shows it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::cli::age::ago;
use crate::cli::backend::pending;
use crate::cli::describe::{annotations, labels, or_none};
use crate::cli::image_tag::not_local;
use crate::cli::table::tabbed;
use crate::stream::ImageStream;
use crate::stream::history::{tag_names, tracked};
use crate::stream::plan::prioritized;
use crate::stream::types::{ObjectReference, ReferenceKind, ReferencePolicyType, SpecTag, TagEvent, TagEvents};

/// The stream, then each tag with its history, those that matter most first.
pub(in crate::cli) fn text(stream: &ImageStream, now: Timestamp) -> String {
    let mut names: BTreeSet<String> = tag_names(&stream.spec, &stream.status);
    let count = names.len();
    let mut aliases: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in names.clone() {
        if let Some(target) = target(stream, &name).filter(|target| names.contains(*target)) {
            aliases.entry(target.to_owned()).or_default().push(name);
        }
    }
    names.retain(|name| !aliases.values().flatten().any(|alias| alias == name));
    let mut paragraphs = vec![head(stream, count, now)];
    for name in prioritized(names.into_iter().collect()) {
        let aliases = aliases.remove(&name).unwrap_or_default();
        paragraphs.extend(tag(stream, &name, &aliases, now));
    }
    paragraphs.join("\n")
}

/// The tag that another one stands for in the end, if it does.
fn target<'a>(stream: &'a ImageStream, alias: &str) -> Option<&'a str> {
    let next = |name: &str| tracked(stream, name).filter(|_| stream.spec.tag(name).is_some_and(|tag| !tag.reference));
    let mut target = next(alias)?;
    let mut seen = BTreeSet::from([alias.to_owned()]);
    while let Some(further) = next(target) {
        if !seen.insert(target.to_owned()) {
            return None;
        }
        target = further;
    }
    Some(target)
}

fn head(stream: &ImageStream, tag_count: usize, now: Timestamp) -> String {
    let metadata = &stream.metadata;
    let key = stream.key();
    let status = &stream.status;
    let created = metadata.other.get("creationTimestamp").and_then(|time| time.as_str()?.parse().ok());
    let events = status.tags.iter().flat_map(|events| &events.items);
    let images: BTreeSet<_> = events.map(|event| &event.image).filter(|image| !image.is_empty()).collect();
    let repository = [&status.public_docker_image_repository, &status.docker_image_repository];
    let repository = repository.into_iter().find(|repository| !repository.is_empty());
    let line = |name: &str, value: String| vec![format!("{name}:"), value];
    let mut lines = vec![line("Name", key.name.into()), line("Namespace", key.namespace.into())];
    lines.extend(created.map(|created| line("Created", ago(created, now))));
    lines.push(labels(&metadata.labels));
    lines.extend(annotations(&metadata.annotations));
    lines.push(line("Image Repository", or_none(repository.map_or("", String::as_str))));
    lines.push(line("Image Lookup", format!("local={}", stream.spec.lookup_policy.local)));
    lines.push(line("Unique Images", images.len().to_string()));
    lines.push(line("Tags", if tag_count == 0 { or_none("") } else { tag_count.to_string() }));
    tabbed(&lines)
}

/// The paragraphs of a tag: where it comes from, what its author says of it, what it pointed to.
fn tag(stream: &ImageStream, name: &str, aliases: &[String], now: Timestamp) -> Vec<String> {
    let spec = stream.spec.tag(name);
    let aliases = if aliases.is_empty() { String::new() } else { format!(" ({})", aliases.join(", ")) };
    let mut source = vec![format!("{name}{aliases}"), format!("  {}", origin(stream, spec))];
    if spec.is_some_and(|tag| tag.import_policy.insecure) {
        source.push("    will use insecure HTTPS or HTTP connections".to_owned());
    }
    if spec.is_some_and(|tag| tag.reference_policy.kind == ReferencePolicyType::Local) {
        source.push("    prefer registry pullthrough when referencing this tag".to_owned());
    }
    source.extend(not_local(stream, name).map(|why| format!("    {why}")));
    let mut past = Vec::new();
    if spec.is_some_and(|tag| !tag.reference) && pending(stream).iter().any(|pending| pending == name) {
        past.push("  ~ importing latest image ...".to_owned());
    }
    past.extend(stream.status.tag(name).into_iter().flat_map(|events| history(events, now)));
    let paragraphs = [source, spec.map(notes).unwrap_or_default(), past];
    let paragraphs = paragraphs.into_iter().filter(|lines| !lines.is_empty());
    paragraphs.map(|lines| lines.join("\n") + "\n").collect()
}

fn origin(stream: &ImageStream, spec: Option<&SpecTag>) -> String {
    let Some(tag) = spec else { return "no spec tag".to_owned() };
    let Some(from) = &tag.from else { return "tag without source image".to_owned() };
    let (what, name) = match from.kind {
        ReferenceKind::DockerImage => ("registry ", from.name.clone()),
        ReferenceKind::ImageStreamTag => ("", elsewhere(stream, from)),
        ReferenceKind::ImageStreamImage => ("image ", elsewhere(stream, from)),
    };
    if tag.reference {
        format!("reference to {what}{name}")
    } else if tag.import_policy.scheduled {
        format!("updates automatically from {what}{name}")
    } else {
        format!("tagged from {name}")
    }
}

/// The name of a source, with its namespace if that is another one.
fn elsewhere(stream: &ImageStream, from: &ObjectReference) -> String {
    match from.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        Some(namespace) if *namespace != *stream.key().namespace => format!("{namespace}/{}", from.name),
        _ => from.name.clone(),
    }
}

/// What the annotations of a tag that are meant for people say.
fn notes(tag: &SpecTag) -> Vec<String> {
    let note = |name: &str| tag.annotations.as_ref()?.get(name).filter(|note| !note.is_empty());
    let list = |name: &str| note(name).map(|note| note.split(',').map(str::trim).collect::<Vec<_>>().join(", "));
    let description = note("description").map(|note| format!("  {note}"));
    let tags = list("tags").map(|tags| format!("  Tags: {tags}"));
    let supports = list("supports").map(|supports| format!("  Supports: {supports}"));
    let sample = note("sampleRepo").map(|repository| format!("  Example Repo: {repository}"));
    [description, tags, supports, sample].into_iter().flatten().collect()
}

/// Why the last import failed, if it did, then the images.
fn history(events: &TagEvents, now: Timestamp) -> Vec<String> {
    let age = |time: Option<Timestamp>| format!("      {}", time.map(|time| ago(time, now)).unwrap_or_default());
    let mut lines = Vec::new();
    if let Some(failure) = events.failure() {
        lines.push(format!("  ! error: Import failed ({}): {}", failure.reason, failure.message));
        lines.push(age(failure.last_transition_time));
    }
    for (number, event) in events.items.iter().enumerate() {
        let marker = if number == 0 { '*' } else { ' ' };
        lines.push(format!("  {marker} {}", event.docker_image_reference));
        let image = other_image(event).map(|image| format!("\t{image}")).unwrap_or_default();
        lines.push(age(event.created) + &image);
    }
    lines
}

/// The image of an entry, if its pull spec says another one or none.
fn other_image(event: &TagEvent) -> Option<String> {
    let is_told = event.docker_image_reference.rsplit_once('@').is_some_and(|(_, digest)| digest == event.image);
    (!event.image.is_empty() && !is_told).then(|| event.image.clone())
}

#[cfg(test)]
mod tests;

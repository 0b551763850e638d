//! Where a tag's image comes from if no registry is asked: a mere reference, another tag, or an image of a history.

use super::Context;
use super::invalid::{Cause, FORM, FieldError, of_tag};
use crate::reference::Reference;
use crate::stream::types::{ImageStream, ObjectReference, ReferenceKind, SpecTag, TagEvent};
use crate::stream::{Key, history, pullspec};

/// What is known of another stream.
pub enum Source<'a> {
    /// All of it.
    Known(&'a ImageStream),
    /// There is none.
    Missing,
    /// It cannot be told here: it counts as right, and is brought in order later.
    Unknown,
}

/// The entry that a tag gets at once. `None` if it gets none: it has no source, or that has no image yet.
pub(super) fn event(
    stream: &ImageStream,
    tag: &SpecTag,
    context: &Context<'_>,
) -> Result<Option<TagEvent>, FieldError> {
    let Some(from) = &tag.from else { return Ok(None) };
    let generation = tag.generation.unwrap_or_default();
    if from.kind == ReferenceKind::DockerImage {
        return Ok(Some(TagEvent {
            created: Some(context.now),
            docker_image_reference: from.name.clone(),
            image: String::new(),
            generation,
        }));
    }
    let field = || of_tag(&tag.name, "from.name");
    let malformed = || FieldError::new(field(), Cause::Invalid, &from.name, FORM);
    let separator = if from.kind == ReferenceKind::ImageStreamTag { ':' } else { '@' };
    let parts: Vec<_> = from.name.split(separator).collect();
    let (name, wanted) = match parts.as_slice() {
        [wanted] if !wanted.is_empty() => (stream.metadata.name.as_str(), *wanted),
        [name, wanted] if !name.is_empty() && !wanted.is_empty() => (*name, *wanted),
        // A name that is not there is told by another rule.
        [""] => return Ok(None),
        _ => return Err(malformed()),
    };
    let source = match find(stream, from, name, context) {
        Source::Known(source) => source,
        Source::Missing => return Err(FieldError::new(field(), Cause::NotFound, &from.name, "")),
        Source::Unknown => return Ok(None),
    };
    let (event, created) = if from.kind == ReferenceKind::ImageStreamTag {
        let Some(newest) = source.status.tag(wanted).and_then(|events| events.items.first()) else { return Ok(None) };
        (newest, newest.created)
    } else {
        let found = history::find(&source.status, wanted);
        let found = found.map_err(|error| {
            FieldError::new(field(), Cause::Invalid, &from.name, format!("error generating tag event: {error}"))
        })?;
        (found, Some(context.now))
    };
    let docker_image_reference = if tag.reference { None } else { as_own(stream, source, event, context) };
    Ok(Some(TagEvent {
        created,
        docker_image_reference: docker_image_reference.unwrap_or_else(|| event.docker_image_reference.clone()),
        image: event.image.clone(),
        generation,
    }))
}

fn find<'a>(stream: &'a ImageStream, from: &ObjectReference, name: &str, context: &'a Context<'_>) -> Source<'a> {
    let own = stream.metadata.namespace.as_deref().unwrap_or("default");
    let namespace = from.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or(own);
    if namespace == own && name == stream.metadata.name {
        return Source::Known(stream);
    }
    (context.source)(&Key::new(namespace, name))
}

/// An image that the source has in the registry of the streams is this stream's as well, so that who may pull from this
/// one may pull it.
fn as_own(stream: &ImageStream, source: &ImageStream, event: &TagEvent, context: &Context<'_>) -> Option<String> {
    let host = context.registry_host.known()?;
    let reference = Reference::parse(&event.docker_image_reference).ok()?;
    let repository = Reference { tag: None, digest: None, ..reference }.to_string();
    if pullspec::repository(source, Some(host))? != repository {
        return None;
    }
    let own = pullspec::repository(stream, Some(host))?;
    Reference::parse(&own).ok()?.at_digest(&event.image)
}

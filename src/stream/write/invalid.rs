//! What is wrong with a stream, field by field, in the words of the Kubernetes API.

use std::fmt;

use super::Context;
use crate::reference::Reference;
use crate::stream::types::{ImageStream, ReferenceKind, SpecTag};

/// The most characters of `NAMESPACE/NAME`.
const NAME_MAX: usize = 255;

/// What the name of a source is.
pub(super) const FORM: &str = "must be of the form <tag>, <repo>:<tag>, <id>, or <repo>@<id>";

/// A stream that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    /// Its name.
    pub name: String,
    /// Everything that is wrong with it.
    pub errors: Vec<FieldError>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldError {
    /// Path of the field; a tag stands by its name: `spec.tags[20.0].from.name`.
    pub field: String,
    /// In which way.
    pub cause: Cause,
    /// What stands there.
    pub value: String,
    /// What should.
    pub detail: String,
}

/// In which way a field is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It is missing.
    Required,
    /// It cannot be that.
    Invalid,
    /// It names something that is not there.
    NotFound,
    /// It may not be that.
    Forbidden,
    /// There are more than there may be.
    TooMany,
}

impl Cause {
    /// As the API names it in `details.causes`.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotFound => "FieldValueNotFound",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooMany => "FieldValueTooMany",
        }
    }

    /// As a condition names it.
    #[must_use]
    pub fn condition_reason(self) -> &'static str {
        match self {
            Self::Required | Self::Invalid | Self::TooMany => "Invalid",
            Self::NotFound => "NotFound",
            Self::Forbidden => "Forbidden",
        }
    }
}

impl FieldError {
    pub(crate) fn new(field: impl Into<String>, cause: Cause, value: &str, detail: impl Into<String>) -> Self {
        Self { field: field.into(), cause, value: value.to_owned(), detail: detail.into() }
    }

    /// Without the field.
    #[must_use]
    pub fn message(&self) -> String {
        let what = match self.cause {
            Cause::Required => "Required value".to_owned(),
            Cause::Invalid if matches!(self.value.as_str(), "true" | "false") => {
                format!("Invalid value: {}", self.value)
            }
            Cause::Invalid => format!("Invalid value: {:?}", self.value),
            Cause::NotFound => format!("Not found: {:?}", self.value),
            Cause::Forbidden => "Forbidden".to_owned(),
            Cause::TooMany => "Too many".to_owned(),
        };
        if self.detail.is_empty() { what } else { format!("{what}: {}", self.detail) }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message())
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageStream {:?} is invalid: ", self.name)?;
        match self.errors.as_slice() {
            [error] => write!(f, "{error}"),
            errors => {
                let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", errors.join(", "))
            }
        }
    }
}

/// The path of a field of a tag.
pub(super) fn of_tag(tag: &str, field: &str) -> String {
    format!("spec.tags[{tag}].{field}")
}

/// What can be told from the stream alone, and from what it was before.
pub(super) fn of(stream: &ImageStream, old: Option<&ImageStream>, context: &Context<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old.is_none() {
        name(stream, &mut errors);
    }
    repository(&stream.spec.docker_image_repository, &mut errors);
    let stored = old.map(|old| old.spec.by_name()).unwrap_or_default();
    for spec_tag in &stream.spec.tags {
        let before = stored.get(spec_tag.name.as_str()).copied();
        tag(spec_tag, before, context, &mut errors);
    }
    errors
}

fn name(stream: &ImageStream, errors: &mut Vec<FieldError>) {
    let name = stream.metadata.name.as_str();
    let wrong = |detail: &str| FieldError::new("metadata.name", Cause::Invalid, name, detail);
    let namespace = stream.metadata.namespace.as_deref().unwrap_or_default();
    if name.is_empty() {
        errors.push(FieldError::new("metadata.name", Cause::Required, "", "name or generateName is required"));
    } else if name.contains('/') {
        errors.push(wrong("may not contain '/'"));
    } else if name.contains('%') {
        errors.push(wrong("may not contain '%'"));
    } else if !is_name(name) {
        errors.push(wrong("must match \"[a-z0-9]+(?:[._-][a-z0-9]+)*\""));
    }
    if namespace.len() + 1 + name.len() > NAME_MAX {
        errors.push(wrong("'namespace/name' cannot be longer than 255 characters"));
    }
}

/// Words of small letters and digits with one `.`, `_` or `-` between each two.
#[must_use]
fn is_name(name: &str) -> bool {
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    name.split(['.', '_', '-']).all(is_word)
}

fn repository(written: &str, errors: &mut Vec<FieldError>) {
    if written.is_empty() {
        return;
    }
    let wrong = |detail: String| FieldError::new("spec.dockerImageRepository", Cause::Invalid, written, detail);
    match Reference::parse(written) {
        Err(error) => errors.push(wrong(error.to_string())),
        Ok(reference) => {
            if reference.tag.is_some() {
                errors.push(wrong("the repository name may not contain a tag".to_owned()));
            }
            if reference.digest.is_some() {
                errors.push(wrong("the repository name may not contain an ID".to_owned()));
            }
        }
    }
}

fn tag(tag: &SpecTag, before: Option<&SpecTag>, context: &Context<'_>, errors: &mut Vec<FieldError>) {
    let Some(from) = &tag.from else { return };
    let is_image = from.kind == ReferenceKind::DockerImage;
    let at = |field: &str| of_tag(&tag.name, field);
    if from.name.is_empty() {
        errors.push(FieldError::new(at("from.name"), Cause::Required, "", ""));
        errors.push(FieldError::new(at("from.name"), Cause::Invalid, "", FORM));
    } else if is_image {
        match Reference::parse(&from.name) {
            Err(error) => errors.push(FieldError::new(at("from.name"), Cause::Invalid, &from.name, error.to_string())),
            Ok(reference) => {
                let is_new =
                    before.and_then(|before| before.from.as_ref()).is_none_or(|before| before.name != from.name);
                if is_new && !(context.permits)(&reference) {
                    let detail =
                        format!("images may not be imported from {}", reference.registry.unwrap_or("docker.io"));
                    errors.push(FieldError::new(at("from.name"), Cause::Forbidden, &from.name, detail));
                }
            }
        }
    }
    if tag.import_policy.scheduled && !is_image {
        let detail = "only tags pointing to Docker repositories may be scheduled for background import";
        errors.push(FieldError::new(at("importPolicy.scheduled"), Cause::Invalid, "true", detail));
    }
}

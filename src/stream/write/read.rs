//! A stream as a user wrote it → the typed stream, or what is wrong with words that have a closed set.

use serde_json::Value;

use super::invalid::{Cause, FieldError, Invalid, of_tag};
use crate::stream::ImageStream;

/// A stream as far as it can be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// The stream, without the words that are wrong. A tag whose source is of no known kind is without a source.
    pub stream: ImageStream,
    /// Every word that is none of those that may stand there.
    pub errors: Vec<FieldError>,
}

/// Reads a stream as a user wrote it.
///
/// # Errors
/// Every word that is none of those that may stand there, or what is wrong with the form.
pub fn read(written: &Value) -> Result<ImageStream, Invalid> {
    let name = written.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let invalid = |errors| Invalid { name: name.to_owned(), errors };
    match read_with_errors(written.clone()) {
        Ok(Read { stream, errors }) if errors.is_empty() => Ok(stream),
        Ok(Read { errors, .. }) => Err(invalid(errors)),
        Err(error) => Err(invalid(vec![FieldError::new("spec", Cause::Invalid, "", error.to_string())])),
    }
}

/// Reads a stream whose words may be wrong, so that they can be told together with whatever else is.
///
/// # Errors
/// What is wrong with the form.
pub fn read_with_errors(mut written: Value) -> Result<Read, serde_json::Error> {
    let tags = written.pointer_mut("/spec/tags").and_then(Value::as_array_mut);
    let errors = tags.into_iter().flatten().flat_map(take_wrong_words).collect();
    Ok(Read { stream: serde_json::from_value(written)?, errors })
}

/// Takes the words out of a tag that are none of those that may stand there.
fn take_wrong_words(tag: &mut Value) -> Vec<FieldError> {
    let name = tag.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut errors = Vec::new();
    if take_wrong(tag, "from", "kind", &["DockerImage", "ImageStreamImage", "ImageStreamTag"]).is_some() {
        tag["from"] = Value::Null;
        let detail = "valid values are 'DockerImage', 'ImageStreamImage', 'ImageStreamTag'";
        errors.push(FieldError::new(of_tag(&name, "from.kind"), Cause::Required, "", detail));
    }
    if let Some(mode) = take_wrong(tag, "importPolicy", "importMode", &["", "Legacy", "PreserveOriginal"]) {
        let detail = "invalid import mode, valid modes are '', 'Legacy', 'PreserveOriginal'";
        errors.push(FieldError::new(of_tag(&name, "importPolicy.importMode"), Cause::Invalid, &mode, detail));
    }
    if let Some(policy) = take_wrong(tag, "referencePolicy", "type", &["", "Source", "Local"]) {
        let detail = "valid values are \"Source\", \"Local\"";
        errors.push(FieldError::new(of_tag(&name, "referencePolicy.type"), Cause::Invalid, &policy, detail));
    }
    errors
}

/// Takes a word out of an object of a tag, if it is none of those that may stand there.
fn take_wrong(tag: &mut Value, object: &str, field: &str, known: &[&str]) -> Option<String> {
    let object = tag.get_mut(object)?.as_object_mut()?;
    let word = object.get(field)?.as_str().filter(|word| !known.contains(word))?.to_owned();
    object.remove(field);
    Some(word)
}

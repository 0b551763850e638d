//! A stream as a user wrote it → the typed stream, or what is wrong with words that have a closed set.

use serde_json::Value;

use super::invalid::{Cause, FieldError, Invalid, of_tag};
use crate::stream::ImageStream;

/// Reads a stream as a user wrote it.
///
/// # Errors
/// Every word that is none of those that may stand there, or what is wrong with the form.
pub fn read(written: &Value) -> Result<ImageStream, Invalid> {
    let name = written.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let invalid = |errors| Invalid { name: name.to_owned(), errors };
    let tags = written.pointer("/spec/tags").and_then(Value::as_array).into_iter().flatten();
    let errors: Vec<_> = tags.flat_map(words).collect();
    if !errors.is_empty() {
        return Err(invalid(errors));
    }
    serde_json::from_value(written.clone())
        .map_err(|error| invalid(vec![FieldError::new("spec", Cause::Invalid, "", error.to_string())]))
}

fn words(tag: &Value) -> Vec<FieldError> {
    let name = tag["name"].as_str().unwrap_or_default();
    let word = |pointer: &str, known: &[&str]| {
        let word = tag.pointer(pointer).and_then(Value::as_str)?;
        (!known.contains(&word)).then(|| word.to_owned())
    };
    let mut errors = Vec::new();
    if word("/from/kind", &["DockerImage", "ImageStreamImage", "ImageStreamTag"]).is_some() {
        let detail = "valid values are 'DockerImage', 'ImageStreamImage', 'ImageStreamTag'";
        errors.push(FieldError::new(of_tag(name, "from.kind"), Cause::Required, "", detail));
    }
    if let Some(mode) = word("/importPolicy/importMode", &["", "Legacy", "PreserveOriginal"]) {
        let detail = "invalid import mode, valid modes are '', 'Legacy', 'PreserveOriginal'";
        errors.push(FieldError::new(of_tag(name, "importPolicy.importMode"), Cause::Invalid, &mode, detail));
    }
    if let Some(policy) = word("/referencePolicy/type", &["", "Source", "Local"]) {
        let detail = "valid values are \"Source\", \"Local\"";
        errors.push(FieldError::new(of_tag(name, "referencePolicy.type"), Cause::Invalid, &policy, detail));
    }
    errors
}

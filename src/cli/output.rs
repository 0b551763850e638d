//! What read commands print: objects as JSON and YAML as the API has them, or as names.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::store::edit;
use crate::stream::ImageStream;

/// How objects are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A line each.
    Table,
    /// A line each, with more columns.
    Wide,
    /// Whole, as JSON.
    Json,
    /// Whole, as YAML.
    Yaml,
    /// Only their names, to be given to other commands.
    Name,
}

/// How commands whose output is for people print for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Structure {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl Structure {
    /// A value so.
    pub(super) fn text(self, value: &Value) -> anyhow::Result<String> {
        match self {
            Self::Json => json(value),
            Self::Yaml => yaml(value),
        }
    }

    /// Objects so: one by itself, several as one.
    pub(super) fn objects(self, mut objects: Vec<Value>) -> anyhow::Result<String> {
        match objects.pop() {
            Some(object) if objects.is_empty() => self.text(&object),
            last => {
                objects.extend(last);
                self.text(&list(&objects))
            }
        }
    }
}

/// JSON in lines, indented as kubectl does it.
pub(super) fn json(value: &Value) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(value, &mut serializer)?;
    Ok(String::from_utf8(bytes)? + "\n")
}

/// YAML.
pub(super) fn yaml(value: &Value) -> anyhow::Result<String> {
    Ok(edit::yaml(value)?)
}

/// A stream as the API has it, of the group that is served. Who manages which field is left out, as kubectl does.
pub(super) fn stream(stream: &ImageStream, group: &str) -> anyhow::Result<Value> {
    let mut object = serde_json::to_value(stream)?;
    object["apiVersion"] = version(group).into();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    Ok(object)
}

/// Several objects as one.
pub(super) fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
}

/// Version of the objects of an API group.
pub(super) fn version(group: &str) -> String {
    format!("{group}/v1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_has_the_group_that_is_served_and_no_managed_fields() {
        let read: ImageStream =
            serde_json::from_value(json!({"apiVersion": "image.openshift.io/v1", "kind": "ImageStream",
                "metadata": {"name": "a", "uid": "u", "managedFields": [{"manager": "kubectl"}]}}))
            .unwrap();
        let object = stream(&read, "pinstream.dev").unwrap();
        assert_eq!(object["apiVersion"], "pinstream.dev/v1");
        assert_eq!(object["metadata"], json!({"name": "a", "uid": "u"}));
    }

    #[test]
    fn json_is_indented_as_kubectl_does_it() {
        assert_eq!(
            json(&json!({"b": [1], "a": {}})).unwrap(),
            "{\n    \"a\": {},\n    \"b\": [\n        1\n    ]\n}\n"
        );
    }

    #[test]
    fn yaml_quotes_what_would_be_read_as_another_type() {
        assert_eq!(
            yaml(&json!({"tag": "20.0", "count": 1, "none": null})).unwrap(),
            "count: 1\nnone: null\ntag: \"20.0\"\n"
        );
    }
}

//! A manifest's text with one field of an object changed: everything else keeps its bytes, comments too. Pure.
//!
//! Must not know what the field means. Whoever edits reads the result again before it is kept.

mod items;
mod nodes;
mod strings;

use std::fmt;
use std::ops::Range;

use granit_parser::Parser;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use self::nodes::{Content, Reader, child};
use super::documents::Format;
pub use items::set_item;
pub use strings::{Edit, Strings, apply};

/// Which field of which object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Number of the object in the document's `items`; `None` if the document is the object.
    pub item: Option<usize>,
    /// The field that it is in; `None` if it is the object's own.
    pub parent: Option<&'a str>,
    /// Its name.
    pub name: &'a str,
}

/// Why a text cannot be edited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It is not in the form that it should have.
    #[error("the document cannot be read: {0}")]
    Form(String),
    /// There is no object at that place.
    #[error("the document has no {0} to write to")]
    Nothing(String),
    /// The value has no such form.
    #[error("the value cannot be written: {0}")]
    Value(String),
}

/// Sets a field of an object in a document. A field that is not there is put behind the others.
///
/// # Errors
/// [`EditError`].
pub fn set<T: Serialize>(text: &str, format: Format, field: Field<'_>, value: &T) -> Result<String, EditError> {
    let place = match format {
        Format::Yaml => yaml_mapping(text, field)?,
        Format::Json => json_object(text, field)?,
    };
    let entry = place.entries.iter().find(|entry| entry.name == field.name);
    let (at, written) =
        if place.is_flow { flow(&place, entry, field, value)? } else { block(text, &place, entry, field, value)? };
    let mut edited = String::with_capacity(text.len() + written.len());
    edited.push_str(&text[..at.start]);
    edited.push_str(&written);
    edited.push_str(&text[at.end..]);
    Ok(edited)
}

/// A value as YAML, as people would write it: no line is folded.
///
/// # Errors
/// [`EditError::Value`].
pub fn yaml<T: Serialize>(value: &T) -> Result<String, EditError> {
    let mut options = serde_saphyr::SerializerOptions::default();
    options.prefer_block_scalars = false;
    let mut yaml = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut yaml, value, options)
        .map_err(|error| EditError::Value(error.to_string()))?;
    Ok(yaml)
}

/// The mapping that a field is in.
struct Mapping {
    /// Braces, as in JSON, and not lines.
    is_flow: bool,
    /// Column of its keys, or of its brace.
    column: usize,
    /// Byte behind its opening brace.
    inside: usize,
    entries: Vec<Entry>,
}

/// A field as it stands in the text.
struct Entry {
    name: String,
    /// Byte at which its name begins.
    start: usize,
    /// Bytes of its value.
    value: Range<usize>,
}

/// What is written between braces, and where.
fn flow<T: Serialize>(
    place: &Mapping,
    entry: Option<&Entry>,
    field: Field<'_>,
    value: &T,
) -> Result<(Range<usize>, String), EditError> {
    let unwritable = |error: serde_json::Error| EditError::Value(error.to_string());
    let is_over_lines = place.entries.first().is_some_and(|first| first.start > place.inside + 1);
    let indent = " ".repeat(place.column + 2);
    let json = if is_over_lines {
        serde_json::to_string_pretty(value).map_err(unwritable)?.replace('\n', &format!("\n{indent}"))
    } else {
        serde_json::to_string(value).map_err(unwritable)?
    };
    if let Some(entry) = entry {
        return Ok((entry.value.clone(), json));
    }
    let name = serde_json::to_string(field.name).map_err(unwritable)?;
    Ok(match place.entries.last() {
        Some(last) if is_over_lines => (last.value.end..last.value.end, format!(",\n{indent}{name}: {json}")),
        Some(last) => (last.value.end..last.value.end, format!(", {name}: {json}")),
        None => (place.inside..place.inside, format!("{name}: {json}")),
    })
}

/// What is written in lines, and where.
fn block<T: Serialize>(
    text: &str,
    place: &Mapping,
    entry: Option<&Entry>,
    field: Field<'_>,
    value: &T,
) -> Result<(Range<usize>, String), EditError> {
    let yaml = yaml(value)?;
    let indent = " ".repeat(place.column);
    let is_inline = !yaml.trim_end().contains('\n') && !yaml.contains(": ") && !yaml.starts_with("- ");
    let written = if is_inline {
        format!("{}: {}", field.name, yaml.trim_end())
    } else {
        let lines = yaml.trim_end().lines();
        let lines = lines.map(|line| if line.is_empty() { "\n".to_owned() } else { format!("\n{indent}  {line}") });
        format!("{}:{}", field.name, lines.collect::<String>())
    };
    let end = |entry: &Entry| end_of_value(text, entry);
    Ok(match (entry, place.entries.last()) {
        (Some(entry), _) => (entry.start..end(entry), written),
        (None, Some(last)) => (end(last)..end(last), format!("\n{indent}{written}")),
        (None, None) => return Err(EditError::Nothing("object with fields".to_owned())),
    })
}

/// The end of the line on which a value ends.
fn end_of_value(text: &str, entry: &Entry) -> usize {
    let nothing = entry.value.is_empty();
    let end = if nothing { entry.start } else { entry.start + text[entry.start..entry.value.end].trim_end().len() };
    text[end..].find('\n').map_or(text.len(), |length| end + text[end..end + length].trim_end_matches('\r').len())
}

fn yaml_mapping(text: &str, field: Field<'_>) -> Result<Mapping, EditError> {
    let mut reader = Reader { parser: Parser::new_from_str(text) };
    let (event, span) = reader.next()?;
    let mut node = reader.node(&event, &span)?;
    if let Some(item) = field.item {
        node = match child(node, "items")?.content {
            Content::Sequence(items) => items.into_iter().nth(item),
            _ => None,
        }
        .ok_or_else(|| EditError::Nothing(format!("item {item}")))?;
    }
    if let Some(parent) = field.parent {
        node = child(node, parent)?;
    }
    let Content::Mapping { is_flow, entries } = node.content else {
        return Err(EditError::Nothing("object".to_owned()));
    };
    let entries = entries.into_iter().map(|(name, start, value)| Entry { name, start, value: value.span });
    Ok(Mapping { is_flow, column: node.column, inside: node.span.start + 1, entries: entries.collect() })
}

/// The fields of a JSON object in their order, their values unread.
struct Fields<'text>(Vec<(String, &'text RawValue)>);

impl<'de: 'text, 'text> Deserialize<'de> for Fields<'text> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push(entry);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

fn json_object(text: &str, field: Field<'_>) -> Result<Mapping, EditError> {
    let form = |error: serde_json::Error| EditError::Form(error.to_string());
    let mut object = text.trim();
    let value_of = |object, name: &str| {
        let Fields(fields) = serde_json::from_str(object).map_err(form)?;
        let found = fields.into_iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.get()).ok_or_else(|| EditError::Nothing(format!("field {name}")))
    };
    if let Some(item) = field.item {
        let items: Vec<&RawValue> = serde_json::from_str(value_of(object, "items")?).map_err(form)?;
        object = items.get(item).ok_or_else(|| EditError::Nothing(format!("item {item}")))?.get();
    }
    if let Some(parent) = field.parent {
        object = value_of(object, parent)?;
    }
    let Fields(fields) = serde_json::from_str(object).map_err(form)?;
    // Slices of one text.
    let offset = |part: &str| part.as_ptr().addr() - text.as_ptr().addr();
    let inside = offset(object) + 1;
    let mut before = inside;
    let entries = fields.into_iter().map(|(name, value)| {
        let value = offset(value.get())..offset(value.get()) + value.get().len();
        let start = before + text[before..].find('"').unwrap_or_default();
        before = value.end;
        Entry { name, start, value }
    });
    let entries: Vec<Entry> = entries.collect();
    let line = text[..inside - 1].rfind('\n').map_or(0, |line| line + 1);
    let column = text[line..].len() - text[line..].trim_start_matches(' ').len();
    Ok(Mapping { is_flow: true, column, inside, entries })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::store::documents;

    const OWN: Field<'static> = Field { item: None, parent: None, name: "status" };

    fn status() -> Value {
        json!({"tags": [{"tag": "1.10", "items": null}]})
    }

    #[rstest]
    #[case::new_behind_the_others(
        "# head\nkind: X # what\nspec:\n  a: 1 # one\n  # end\n",
        "# head\nkind: X # what\nspec:\n  a: 1 # one\nstatus:\n  tags:\n  - items: null\n    tag: \"1.10\"\n  # end\n"
    )]
    #[case::old_in_its_place(
        "kind: X\nstatus: # old\n  tags:\n  - tag: a\n    items: []\n# between\nspec: {a: 1}\n",
        "kind: X\nstatus:\n  tags:\n  - items: null\n    tag: \"1.10\"\n# between\nspec: {a: 1}\n"
    )]
    #[case::empty("status:\nkind: X\n", "status:\n  tags:\n  - items: null\n    tag: \"1.10\"\nkind: X\n")]
    #[case::last_without_line_end(
        "kind: X\nstatus: {}",
        "kind: X\nstatus:\n  tags:\n  - items: null\n    tag: \"1.10\""
    )]
    #[case::behind_a_text_of_many_lines(
        "a: |\n  one\n\n  two\nb: 1\nstatus: |\n  x\n  y\n\nc: 2\n",
        "a: |\n  one\n\n  two\nb: 1\nstatus:\n  tags:\n  - items: null\n    tag: \"1.10\"\n\nc: 2\n"
    )]
    #[case::in_braces(
        "{kind: X, spec: {}}\n",
        "{kind: X, spec: {}, \"status\": {\"tags\":[{\"items\":null,\"tag\":\"1.10\"}]}}\n"
    )]
    #[case::document_with_a_marker(
        "--- # a\nkind: X\n...\n",
        "--- # a\nkind: X\nstatus:\n  tags:\n  - items: null\n    tag: \"1.10\"\n...\n"
    )]
    #[case::windows(
        "kind: X\r\nspec: 1\r\n",
        "kind: X\r\nspec: 1\nstatus:\n  tags:\n  - items: null\n    tag: \"1.10\"\r\n"
    )]
    fn yaml_keeps_every_other_byte(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(set(text, Format::Yaml, OWN, &status()).unwrap(), expected);
    }

    #[test]
    fn objects_of_lists_and_fields_of_fields_are_found() {
        let text = "kind: List\nitems:\n  - kind: A\n    metadata:\n      name: a # one\n  # two\n  -   kind: B\n      metadata: {name: b}\n";
        let annotations = |item| Field { item: Some(item), parent: Some("metadata"), name: "annotations" };
        let once = set(text, Format::Yaml, annotations(0), &json!({"x": "1"})).unwrap();
        let twice = set(&once, Format::Yaml, annotations(1), &json!({"y": "2"})).unwrap();
        let thrice = set(&twice, Format::Yaml, Field { item: Some(1), ..OWN }, &json!({"z": 3})).unwrap();
        assert_eq!(
            thrice,
            "kind: List\nitems:\n  - kind: A\n    metadata:\n      name: a # one\n      annotations:\n        x: \"1\"\n  # two\n  \
             -   kind: B\n      metadata: {name: b, \"annotations\": {\"y\":\"2\"}}\n      status:\n        z: 3\n"
        );
    }

    #[rstest]
    #[case::over_lines(
        "{\n  \"kind\": \"X\",\n\t\"spec\": {}\n}\n",
        "{\n  \"kind\": \"X\",\n\t\"spec\": {},\n  \"status\": {\n    \"a\": 1\n  }\n}\n"
    )]
    #[case::on_one_line("{\"kind\": \"\u{1F600}\"}", "{\"kind\": \"\u{1F600}\", \"status\": {\"a\":1}}")]
    #[case::old(
        "{\"status\": {\"b\": [2]}, \"kind\": \"\\ud83d\\ude00\"}",
        "{\"status\": {\"a\":1}, \"kind\": \"\\ud83d\\ude00\"}"
    )]
    #[case::empty("{}", "{\"status\": {\"a\":1}}")]
    fn json_keeps_every_other_byte(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(set(text, Format::Json, OWN, &json!({"a": 1})).unwrap(), expected);
    }

    #[test]
    fn objects_of_json_lists_are_found() {
        let text = r#"{"kind": "List", "items": [{"kind": "A"}, {"kind": "B", "spec": {"x": 1}}]}"#;
        let field = Field { item: Some(1), parent: Some("spec"), name: "x" };
        let expected = text.replace(": 1", ": \"2\"");
        assert_eq!(set(text, Format::Json, field, &"2").unwrap(), expected);
    }

    #[rstest]
    #[case("a: [", OWN, "cannot be read")]
    #[case("- a\n", OWN, "has no object")]
    #[case("", OWN, "has no object")]
    #[case("kind: X\n", Field { parent: Some("spec"), ..OWN }, "has no field spec")]
    #[case("kind: List\nitems: []\n", Field { item: Some(0), ..OWN }, "has no item 0")]
    fn what_is_not_there_is_named(#[case] text: &str, #[case] field: Field<'_>, #[case] expected: &str) {
        let error = set(text, Format::Yaml, field, &1).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    /// Words that YAML reads in many ways.
    fn word() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z0-9._: #'\"|>-]{0,12}", "\\PC{0,12}", Just("1.10\n\n2".to_owned()), Just("no".to_owned())]
    }

    proptest! {
        #[test]
        fn what_was_set_is_read_and_the_rest_is_as_before(
            before in word(), message in word(), name in "[a-z]{1,8}", is_there: bool, format in prop::sample::select(vec![Format::Yaml, Format::Json])
        ) {
            let status = if is_there {
                json!({"tags": [{"tag": before, "items": null, "conditions": [{"type": "t", "status": "False", "message": before}]}]})
            } else {
                json!({})
            };
            let stream = json!({"apiVersion": "pinstream.dev/v1", "kind": "ImageStream",
                "metadata": {"name": name, "annotations": {"x": before}}, "status": status});
            let text = match format {
                Format::Yaml => format!("# first\n{}# last\n", serde_saphyr::to_string(&stream).unwrap()),
                Format::Json => serde_json::to_string_pretty(&stream).unwrap(),
            };
            let read = |text: &str| documents::find(text, format, |_| true).unwrap().unwrap().stream;
            let mut expected = read(&text);
            expected.status = serde_json::from_value(json!({"tags": [{"tag": message, "items": null,
                "conditions": [{"type": "t", "status": "False", "message": message}]}]})).unwrap();
            let edited = set(&text, format, OWN, &expected.status).unwrap();
            prop_assert_eq!(read(&edited), expected);
        }

        #[test]
        fn any_text_can_be_tried(text in "[a-z:{}\\[\\],#|&*\"' \n-]{0,60}") {
            for format in [Format::Yaml, Format::Json] {
                let _ = set(&text, format, Field { item: None, parent: None, name: "a" }, &json!({"b": 1}));
            }
        }
    }
}

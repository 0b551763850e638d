//! Targets of texts of manifests: read as streams, and edited.

use serde_json::{Value, json};

use crate::index::IndexedStream;
use crate::store::documents::{self, Format, Item};
use crate::store::edit::{self, Field};
use crate::stream::ImageStream;
use crate::stream::places::Places;

/// A format and a text in it: the first byte is even for YAML.
fn format(input: &[u8]) -> Option<(Format, &[u8])> {
    let (choice, text) = input.split_first()?;
    Some((if choice % 2 == 0 { Format::Yaml } else { Format::Json }, text))
}

/// A text is read or refused with a place in it. A stream that was read can be written, read again and indexed. Those who
/// read the documents as values see as many, each in its own bytes, and the same streams in them.
pub(crate) fn documents(input: &[u8]) {
    let Some((format, bytes)) = format(input) else { return };
    let mut streams = Vec::new();
    let mut last = 0;
    let result = documents::read(bytes, format, |item, place| {
        assert!(place.document >= 1 && place.line >= 1);
        last = place.document;
        let Item::Stream(stream) = item else { return };
        let again: ImageStream = serde_json::from_value(written(&stream)).expect("what was written can be read");
        assert_eq!(written(&again), written(&stream));
        let _ = IndexedStream::new(&stream, &Places::at_host(Some("r.io")));
        streams.push(*stream);
    });
    let Ok(text) = std::str::from_utf8(bytes) else { return assert!(result.is_err()) };
    if let Err(error) = result {
        // YAML lets a line end in a carriage return alone.
        let lines = text.split(['\n', '\r']).count();
        return assert!(error.place.line <= lines.max(1) + 1, "{error}");
    }
    // Values are less than documents can have: keys that are no strings, for one.
    let Ok(values) = documents::values(text, format) else { return };
    assert!(values.len() >= last);
    let mut end = 0;
    for document in &values {
        assert!(end <= document.bytes.start && document.bytes.end <= text.len());
        end = document.bytes.end;
        let alone = documents::values(&text[document.bytes.clone()], format).expect("it was read with others");
        assert_eq!(alone.iter().map(|alone| &alone.value).collect::<Vec<_>>(), [&document.value]);
    }
    assert_streams(&streams, values.iter().map(|document| &document.value));
}

fn written(stream: &ImageStream) -> Value {
    serde_json::to_value(stream).expect("a stream has a JSON form")
}

/// The streams are those of the values, as far as values tell of what type a scalar was meant to be.
fn assert_streams<'v>(read: &[ImageStream], documents: impl Iterator<Item = &'v Value>) {
    let opened = documents.flat_map(|document| match document["kind"].as_str() {
        Some("List" | "ImageStreamList") => document["items"].as_array().cloned().unwrap_or_default(),
        _ => vec![document.clone()],
    });
    let found: Option<Vec<ImageStream>> = opened
        .filter(|object| object["kind"] == "ImageStream")
        .map(|object| serde_json::from_value(object).ok())
        .collect();
    if let Some(found) = found.filter(|found| found.len() == read.len()) {
        for (found, read) in found.iter().zip(read) {
            assert_eq!(found.metadata.name, read.metadata.name);
            assert_eq!(found.spec, read.spec);
        }
    }
}

/// A field and a tag of the first stream of a text are set: either that is refused, or the text can be read again, or whoever
/// writes has to refuse it. In JSON the rest stays as it was.
pub(crate) fn edits(input: &[u8]) {
    let Some((format, bytes)) = format(input) else { return };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(Some(found)) = documents::find(text, format, |_| true) else { return };
    let document = &text[found.document.clone()];
    let field = |parent, name| Field { item: found.item, parent, name };
    let status = json!({"dockerImageRepository": "r.io/a/b", "tags": [{"tag": "1: #", "items": null}]});
    let set = edit::set(document, format, field(None, "status"), &status);
    let _ = edit::set(document, format, field(Some("spec"), "lookupPolicy"), &json!({"local": true}));
    let _ = edit::set(document, format, field(Some("metadata"), "annotations"), &json!({"a/b": "line\nline"}));
    for tag in found.stream.spec.tags.iter().map(|tag| tag.name.as_str()).chain(["new"]) {
        for value in [Some(json!({"name": tag, "from": {"kind": "DockerImage", "name": "q.io/a"}})), None] {
            let _ = edit::set_item(document, field(Some("spec"), "tags"), tag, value.as_ref());
        }
    }
    let read = serde_json::from_str(document).ok().filter(|value| is_all(value, document));
    let Some(mut before): Option<Value> = read else { return };
    let edited = set.expect("an object in JSON can be edited");
    let object = match found.item {
        Some(item) => &mut before["items"][item],
        None => &mut before,
    };
    object["status"] = status;
    assert_eq!(serde_json::from_str::<Value>(&edited).ok(), Some(before), "{edited}");
}

/// A value has all that its text has, so that no field of it is there twice.
fn is_all(value: &Value, text: &str) -> bool {
    let letters = |text: &str| text.bytes().filter(|byte| !byte.is_ascii_whitespace()).count();
    letters(&value.to_string()) == letters(text)
}

//! Text of a manifest file → its documents as values, each with the bytes it was read from. Pure.
//!
//! For whoever changes objects of any kind in their text. Must not know what the objects are.

use std::ops::Range;

use serde_json::Value;

use super::{DocumentError, Format, Place, count_lines, json_error, yaml_documents, yaml_error, yaml_options};

/// A document of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Where it begins.
    pub place: Place,
    /// Its bytes.
    pub bytes: Range<usize>,
    /// What it says.
    pub value: Value,
}

/// Reads all documents of a text.
///
/// # Errors
/// The first thing that is wrong.
pub fn values(text: &str, format: Format) -> Result<Vec<Document>, DocumentError> {
    let content = text.strip_prefix('\u{feff}').unwrap_or(text);
    let before = text.len() - content.len();
    let documents = match format {
        Format::Yaml => yaml_values(content)?,
        Format::Json => json_values(content)?,
    };
    let moved =
        |document: Document| Document { bytes: document.bytes.start + before..document.bytes.end + before, ..document };
    Ok(documents.into_iter().map(moved).collect())
}

/// How a text is written that no file name tells it of.
#[must_use]
pub fn format_of(text: &str) -> Format {
    let content = text.trim_start_matches('\u{feff}').trim_start();
    if content.starts_with('{') && json_values(content).is_ok() { Format::Json } else { Format::Yaml }
}

fn yaml_values(text: &str) -> Result<Vec<Document>, DocumentError> {
    let value = |(index, (first_line, document)): (usize, (usize, &str))| {
        let place = Place { document: index + 1, line: first_line };
        let value = serde_saphyr::from_str_with_options(document, yaml_options(document))
            .map_err(|error| yaml_error(&error, place))?;
        // Slices of one text.
        let start = document.as_ptr().addr() - text.as_ptr().addr();
        Ok(Document { place, bytes: start..start + document.len(), value })
    };
    yaml_documents(text).into_iter().enumerate().map(value).collect()
}

fn json_values(text: &str) -> Result<Vec<Document>, DocumentError> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut documents = Vec::new();
    let (mut start, mut line) = (0, 1);
    loop {
        let skipped = text[start..].len() - text[start..].trim_start().len();
        line += count_lines(&text.as_bytes()[start..start + skipped]);
        start += skipped;
        let place = Place { document: documents.len() + 1, line };
        let Some(value) = values.next() else { return Ok(documents) };
        // Of an error the line is counted from the beginning of the text.
        let value = value.map_err(|error| json_error(&error, Place { line: 1, ..place }))?;
        let end = values.byte_offset();
        line += count_lines(&text.as_bytes()[start..end]);
        documents.push(Document { place, bytes: start..end, value });
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(text: &str, format: Format) -> Vec<(usize, usize, &str, Value)> {
        let documents = values(text, format).unwrap();
        documents
            .into_iter()
            .map(|document| (document.place.document, document.place.line, &text[document.bytes], document.value))
            .collect()
    }

    #[test]
    fn documents_have_their_places_and_bytes() {
        let yaml = "\u{feff}# head\n---\na: 1\n---\n# nothing\n---\nb: two\n";
        let expected = [(1, 2, "---\na: 1\n", json!({"a": 1})), (2, 6, "---\nb: two\n", json!({"b": "two"}))];
        assert_eq!(found(yaml, Format::Yaml), expected);
        let json = "{\"a\": 1}\n\n{\"b\":\n 2}\n";
        let expected = [(1, 1, "{\"a\": 1}", json!({"a": 1})), (2, 3, "{\"b\":\n 2}", json!({"b": 2}))];
        assert_eq!(found(json, Format::Json), expected);
        assert_eq!(found(" \n", Format::Json), []);
    }

    #[test]
    fn errors_have_their_lines() {
        let error = values("a: 1\n---\nb: [\n", Format::Yaml).unwrap_err();
        assert_eq!(error.place.document, 2);
        let error = values("{}\n\n{\"a\":\n nil}", Format::Json).unwrap_err();
        assert_eq!(error.place, Place { document: 2, line: 4 });
    }

    #[test]
    fn format_is_told_from_the_text() {
        assert_eq!(format_of("{\"a\": 1}\n{}"), Format::Json);
        assert_eq!(format_of("{a: 1}"), Format::Yaml);
        assert_eq!(format_of("a: {}"), Format::Yaml);
    }
}

//! Text of a manifest file → image streams: YAML or JSON, several documents, lists. Pure.
//!
//! A file is good or bad as a whole. Other kinds of objects are passed over, whatever they look like.

mod objects;
mod values;

use std::fmt;
use std::ops::Range;

use serde::de::DeserializeSeed as _;

pub use values::{Document, format_of, values};

use self::objects::{Header, Object};
use crate::stream::ImageStream;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2, documents separated by `---`.
    Yaml,
    /// JSON, one value behind the other.
    Json,
}

/// What stands somewhere in a file.
#[derive(Debug, PartialEq)]
pub enum Item {
    /// An image stream.
    Stream(Box<ImageStream>),
    /// An object of another kind.
    Other {
        /// Group and version; may be empty.
        api_version: String,
        /// Kind; may be empty.
        kind: String,
    },
}

/// Where something stands in a file, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Document.
    pub document: usize,
    /// Line in the file.
    pub line: usize,
}

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct DocumentError {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "document {}, line {}", self.document, self.line)
    }
}

/// Reads all documents of a file and hands each object to `sink`, with the place where its document begins.
///
/// # Errors
/// The first thing that is wrong; what was handed over until then is to be thrown away.
pub fn read(text: &[u8], format: Format, mut sink: impl FnMut(Item, Place)) -> Result<(), DocumentError> {
    let text = match std::str::from_utf8(text) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let line = 1 + count_lines(&text[..error.valid_up_to()]);
            let message = "the file is not UTF-8".to_owned();
            return Err(DocumentError { place: Place { document: 1, line }, message });
        }
    };
    match format {
        Format::Yaml => read_yaml(text, &mut sink),
        Format::Json => read_json(text, &mut sink),
    }
}

/// Where a stream stands in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Bytes of the document.
    pub document: Range<usize>,
    /// Its number in the document's `items`, if that is a list.
    pub item: Option<usize>,
    /// The stream.
    pub stream: Box<ImageStream>,
}

/// Finds the first stream that is `wanted`.
///
/// # Errors
/// The first thing that is wrong with the file.
pub fn find(text: &str, format: Format, wanted: impl Fn(&ImageStream) -> bool) -> Result<Option<Found>, DocumentError> {
    let mut found: Option<(Place, usize, Box<ImageStream>)> = None;
    let mut number = (Place { document: 0, line: 0 }, 0);
    read(text.as_bytes(), format, |item, place| {
        number = if number.0 == place { (place, number.1 + 1) } else { (place, 0) };
        if let Item::Stream(stream) = item
            && found.is_none()
            && wanted(&stream)
        {
            found = Some((place, number.1, stream));
        }
    })?;
    let Some((place, number, stream)) = found else { return Ok(None) };
    let document = sections(text, format).into_iter().nth(place.document - 1).unwrap_or_default();
    let is_list = match format {
        Format::Yaml => {
            serde_saphyr::from_str_with_options(&text[document.clone()], yaml_options(&text[document.clone()]))
                .is_ok_and(|header: Header| header.is_list())
        }
        Format::Json => serde_json::from_str(&text[document.clone()]).is_ok_and(|header: Header| header.is_list()),
    };
    Ok(Some(Found { document, item: is_list.then_some(number), stream }))
}

/// The bytes of each document of a file that can be read.
fn sections(text: &str, format: Format) -> Vec<Range<usize>> {
    let offset = |part: &str| part.as_ptr().addr() - text.as_ptr().addr();
    let span = |part: &str| offset(part)..offset(part) + part.len();
    let content = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format {
        Format::Yaml => yaml_documents(content).into_iter().map(|(_, document)| span(document)).collect(),
        Format::Json => {
            let values = serde_json::Deserializer::from_str(content).into_iter::<&serde_json::value::RawValue>();
            values.map_while(Result::ok).map(|value| span(value.get())).collect()
        }
    }
}

type Sink<'s> = dyn FnMut(Item, Place) + 's;

fn read_yaml(text: &str, sink: &mut Sink<'_>) -> Result<(), DocumentError> {
    for (index, (first_line, document)) in yaml_documents(text).into_iter().enumerate() {
        let place = Place { document: index + 1, line: first_line };
        let options = yaml_options(document);
        let failed = |error: &serde_saphyr::Error| yaml_error(error, place);
        let header: Option<Header> = serde_saphyr::from_str_with_options(document, options.clone())
            .map_err(|error: serde_saphyr::Error| failed(&error))?;
        let Some(header) = header else { continue };
        let mut hand_over = |item| sink(item, place);
        serde_saphyr::with_deserializer_from_str_with_options(document, options, |deserializer| {
            Object { header: &header, within: None, sink: &mut hand_over }.deserialize(deserializer)
        })
        .map_err(|error| failed(&error))?;
    }
    Ok(())
}

fn read_json(text: &str, sink: &mut Sink<'_>) -> Result<(), DocumentError> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&serde_json::value::RawValue>();
    let mut document = 0;
    while let Some(value) = values.next() {
        document += 1;
        let value = value.map_err(|error| json_error(&error, Place { document, line: 1 }))?;
        let end = values.byte_offset();
        let start = end - value.get().len();
        let place = Place { document, line: 1 + count_lines(&text.as_bytes()[..start]) };
        let failed = |error: serde_json::Error| json_error(&error, place);
        let header: Header = serde_json::from_str(value.get()).map_err(failed)?;
        let mut hand_over = |item| sink(item, place);
        Object { header: &header, within: None, sink: &mut hand_over }
            .deserialize(&mut serde_json::Deserializer::from_str(value.get()))
            .map_err(failed)?;
    }
    Ok(())
}

/// `base` is where the text begins that the error counts its lines in.
fn json_error(error: &serde_json::Error, base: Place) -> DocumentError {
    let full = error.to_string();
    let end = full.rfind(" at line ").unwrap_or(full.len());
    let place = Place { line: base.line + error.line().saturating_sub(1), ..base };
    DocumentError { place, message: full[..end].to_owned() }
}

/// `base` is where the text begins that the error counts its lines in.
fn yaml_error(error: &serde_saphyr::Error, base: Place) -> DocumentError {
    let line = error.location().and_then(|location| usize::try_from(location.line()).ok());
    let place = Place { line: base.line + line.unwrap_or(1).saturating_sub(1), ..base };
    DocumentError { place, message: yaml_message(error) }
}

/// The message without the place, which is counted in lines of the file, not of the document.
fn yaml_message(error: &serde_saphyr::Error) -> String {
    let full = error.without_snippet().to_string();
    let first = full.lines().next().unwrap_or_default();
    let end = first.rfind(" at line ").unwrap_or(first.len());
    first[..end].to_owned()
}

/// How many lines end in a text.
fn count_lines(text: &[u8]) -> usize {
    text.split(|byte| *byte == b'\n').count() - 1
}

/// A document may be as large as it likes; what aliases make of it is bounded by the library.
fn yaml_options(document: &str) -> serde_saphyr::Options {
    let mut options = serde_saphyr::Options::default();
    options.with_snippet = false;
    options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::Error;
    if let Some(budget) = &mut options.budget {
        let size = document.len();
        budget.max_events = budget.max_events.max(size);
        budget.max_nodes = budget.max_nodes.max(size);
        budget.max_total_scalar_bytes = budget.max_total_scalar_bytes.max(size);
    }
    options
}

/// Splits at the markers `---` and `...`, which nothing inside a document can look like (YAML 1.2, 9.1.4).
///
/// Gives the line on which each document starts. What holds only comments, directives and blank lines is no
/// document.
fn yaml_documents(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut first_line, mut has_content) = (0, 1, false);
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let is_marker = |marker| {
            line.strip_prefix(marker)
                .is_some_and(|rest: &str| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        };
        let (starts, ends) = (is_marker("---"), is_marker("..."));
        if starts || ends {
            if has_content {
                documents.push((first_line, &text[start..offset]));
            }
            start = if starts { offset } else { offset + line.len() };
            first_line = if starts { index + 1 } else { index + 2 };
            has_content = starts && is_content(&line[3..]);
        } else {
            has_content |= is_content(line) && !line.starts_with('%');
        }
        offset += line.len();
    }
    if has_content {
        documents.push((first_line, &text[start..]));
    }
    documents
}

fn is_content(line: &str) -> bool {
    // Files that were put together have marks of the byte order in the middle too.
    let line = line.trim_start_matches('\u{feff}').trim();
    !line.is_empty() && !line.starts_with('#')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Names of streams, and kinds of others in brackets, with their places.
    fn found(text: &str, format: Format) -> Result<Vec<(String, usize, usize)>, String> {
        let mut found = Vec::new();
        read(text.as_bytes(), format, |item, place| {
            let name = match item {
                Item::Stream(stream) => stream.metadata.name,
                Item::Other { kind, .. } => format!("[{kind}]"),
            };
            found.push((name, place.document, place.line));
        })
        .map(|()| found)
        .map_err(|error| error.to_string())
    }

    fn names(text: &str, format: Format) -> Vec<String> {
        found(text, format).unwrap().into_iter().map(|(name, ..)| name).collect()
    }

    const A: &str = "apiVersion: pinstream.dev/v1\nkind: ImageStream\nmetadata: {name: a}\n";
    const B: &str = "kind: ImageStream\nmetadata: {name: b}\napiVersion: image.openshift.io/v1\n";

    #[test]
    fn documents_are_counted_with_their_lines() {
        let text = format!("# comment\n%YAML 1.2\n---\n{A}---\n# only a comment\n---\nkind: Pod\n...\n--- # b\n{B}---");
        let expected = [("a", 1, 3), ("[Pod]", 2, 9), ("b", 3, 12)];
        assert_eq!(found(&text, Format::Yaml).unwrap(), expected.map(|(name, d, l)| (name.to_owned(), d, l)));
    }

    #[test]
    fn line_ends_and_byte_order_marks_of_other_systems_are_read() {
        let text =
            format!("\u{feff}\u{feff}# made of two\n{A}---\n\u{feff}# the second\n---\n{B}").replace('\n', "\r\n");
        assert_eq!(names(&text, Format::Yaml), ["a", "b"]);
    }

    #[rstest]
    #[case("apiVersion: v1\nkind: List\nitems:\n- kind: Pod\n  spec: 5\n- {apiVersion: pinstream.dev/v1, kind: ImageStream, metadata: {name: a}}\n", &["[Pod]", "a"])]
    #[case("apiVersion: image.openshift.io/v1\nkind: ImageStreamList\nitems:\n- metadata: {name: a}\n- metadata: {name: b}\n", &["a", "b"])]
    #[case("items:\n- apiVersion: pinstream.dev/v1\n  kind: ImageStream\n  metadata: {name: a}\nkind: List\n", &["a"])]
    #[case("kind: List\nitems: null\n", &[])]
    #[case("kind: List\n", &[])]
    fn lists_are_opened(#[case] text: &str, #[case] expected: &[&str]) {
        assert_eq!(names(text, Format::Yaml), expected);
    }

    #[test]
    fn json_documents_and_lists_are_read() {
        let a = r#"{"kind": "ImageStream", "apiVersion": "pinstream.dev/v1", "metadata": {"name": "a"}}"#;
        let text = format!("{a}\n\n{{\"kind\": \"List\",\n \"items\": [{a}, {{\"kind\": \"Pod\"}}]}}");
        let expected = [("a", 1, 1), ("a", 2, 3), ("[Pod]", 2, 3)];
        assert_eq!(found(&text, Format::Json).unwrap(), expected.map(|(name, d, l)| (name.to_owned(), d, l)));
    }

    #[test]
    fn unquoted_tags_keep_the_bytes_that_were_written() {
        let text =
            format!("{A}spec:\n  tags:\n  - name: 20.0\n  - name: 1_0\n  - name: 010\n  - name: 1e3\n  - name: no\n");
        let mut tags = Vec::new();
        read(text.as_bytes(), Format::Yaml, |item, _| {
            let Item::Stream(stream) = item else { panic!("{item:?}") };
            tags.extend(stream.spec.tags.into_iter().map(|tag| tag.name));
        })
        .unwrap();
        assert_eq!(tags, ["010", "1_0", "1e3", "20.0", "no"]);
    }

    #[rstest]
    #[case::syntax(format!("{A}---\n{B}spec: [\n"), Format::Yaml, "document 2, line")]
    #[case::wrong_type(format!("{A}---\n{B}spec:\n  tags: 5\n"), Format::Yaml, "document 2, line 9")]
    #[case::no_object("- a\n- b\n".to_owned(), Format::Yaml, "document 1, line 1: ")]
    #[case::no_name("apiVersion: pinstream.dev/v1\nkind: ImageStream\nmetadata: {}\n".to_owned(), Format::Yaml, "missing field")]
    #[case::empty_name(A.replace("name: a", "name: ''"), Format::Yaml, "metadata.name is empty")]
    #[case::version(A.replace("dev/v1", "dev/v9"), Format::Yaml, "ImageStream of apiVersion \"pinstream.dev/v9\" cannot be read, only image.openshift.io/v1 and pinstream.dev/v1")]
    #[case::json_syntax("{\"kind\": \"Pod\"}\n{\"kind\": }".to_owned(), Format::Json, "document 2, line 2: expected value")]
    #[case::json_type("{}\n\n{\"apiVersion\": \"pinstream.dev/v1\",\n \"kind\": \"ImageStream\",\n \"metadata\": 7}".to_owned(), Format::Json, "document 2, line 5: invalid type")]
    fn what_is_wrong_is_named_with_its_place(#[case] text: String, #[case] format: Format, #[case] expected: &str) {
        let error = found(&text, format).unwrap_err();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }

    #[test]
    fn bytes_that_are_no_text_are_named_by_line() {
        let error = read(b"kind: Pod\nx: \xff\n", Format::Yaml, |_, _| ()).unwrap_err();
        assert_eq!(error.to_string(), "document 1, line 2: the file is not UTF-8");
    }

    #[test]
    fn large_documents_are_read() {
        let text = format!("kind: ConfigMap\nbinaryData: [{}1]\n---\n{A}", "1,".repeat(260_000));
        assert_eq!(names(&text, Format::Yaml), ["[ConfigMap]", "a"]);
    }

    #[test]
    fn alias_bomb_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..8 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            text = format!("{text}a{level}: &a{level} [{aliases}]\n");
        }
        assert!(found(&text, Format::Yaml).is_err());
    }
}

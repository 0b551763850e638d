//! Strings of a document replaced in its text, each found by a JSON pointer. Pure.

use std::ops::Range;

use granit_parser::Parser;
use serde_json::value::RawValue;

use super::nodes::{Content, Node, Reader};
use super::{EditError, Fields};
use crate::store::documents::Format;

/// How deep the values of a JSON document may be nested, as for whoever reads it.
const DEPTH_MAX: usize = 128;

/// Where the values of a document stand.
pub struct Strings<'text> {
    text: &'text str,
    root: Node,
}

/// One change of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Which bytes.
    pub at: Range<usize>,
    /// What takes their place.
    pub text: String,
}

impl<'text> Strings<'text> {
    /// Reads a document.
    ///
    /// # Errors
    /// [`EditError::Form`].
    pub fn read(text: &'text str, format: Format) -> Result<Self, EditError> {
        let root = match format {
            Format::Yaml => {
                let mut reader = Reader { parser: Parser::new_from_str(text) };
                let (event, span) = reader.next()?;
                reader.node(&event, &span)?
            }
            Format::Json => json_node(text, text.trim(), 0)?,
        };
        Ok(Self { text, root })
    }

    /// How the string `old` at a place is replaced by `new`. Quotes, tags and anchors stay as they are written.
    ///
    /// # Errors
    /// [`EditError::Nothing`] if nothing is written at that place, as behind an alias.
    pub fn replace(&self, pointer: &str, old: &str, new: &str) -> Result<Edit, EditError> {
        let at = self.find(pointer)?;
        let written = &self.text[at.clone()];
        let is_alias = written.starts_with('*');
        let inside = written.find(old).filter(|_| !is_alias && !old.is_empty());
        Ok(match inside {
            Some(offset) => {
                let start = at.start + offset;
                Edit { at: start..start + old.len(), text: new.to_owned() }
            }
            None if is_alias => Edit { at, text: new.to_owned() },
            // Escaped or folded. What JSON quotes YAML reads too.
            None => Edit { at, text: serde_json::Value::from(new).to_string() },
        })
    }

    fn find(&self, pointer: &str) -> Result<Range<usize>, EditError> {
        let mut node = &self.root;
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            let below = match &node.content {
                // Of two fields with one name, which only JSON allows, the last counts.
                Content::Mapping { entries, .. } => {
                    entries.iter().rfind(|(name, ..)| *name == token).map(|(.., value)| value)
                }
                Content::Sequence(items) => token.parse().ok().and_then(|index: usize| items.get(index)),
                Content::Other => None,
            };
            node = below.ok_or_else(|| EditError::Nothing(format!("value {pointer}")))?;
        }
        Ok(node.span.clone())
    }
}

fn json_node(text: &str, json: &str, depth: usize) -> Result<Node, EditError> {
    let form = |error: serde_json::Error| EditError::Form(error.to_string());
    if depth > DEPTH_MAX {
        return Err(EditError::Form("it is nested too deep".to_owned()));
    }
    // A slice of the text.
    let start = json.as_ptr().addr() - text.as_ptr().addr();
    let content = match json.as_bytes().first() {
        Some(b'{') => {
            let Fields(fields) = serde_json::from_str(json).map_err(form)?;
            let entry =
                |(name, value): (String, &RawValue)| Ok((name, start, json_node(text, value.get(), depth + 1)?));
            Content::Mapping { is_flow: true, entries: fields.into_iter().map(entry).collect::<Result<_, _>>()? }
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(json).map_err(form)?;
            let items = items.into_iter().map(|item| json_node(text, item.get(), depth + 1));
            Content::Sequence(items.collect::<Result<_, _>>()?)
        }
        _ => Content::Other,
    };
    Ok(Node { span: start..start + json.len(), column: 0, content })
}

/// A text with changes, which are in order and do not overlap.
#[must_use]
pub fn apply(text: &str, edits: &[Edit]) -> String {
    let mut edited = String::with_capacity(text.len() + edits.iter().map(|edit| edit.text.len()).sum::<usize>());
    let mut kept = 0;
    for edit in edits {
        edited.push_str(&text[kept..edit.at.start]);
        edited.push_str(&edit.text);
        kept = edit.at.end;
    }
    edited.push_str(&text[kept..]);
    edited
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn replaced(text: &str, format: Format, pointer: &str) -> Result<String, EditError> {
        Ok(apply(text, &[Strings::read(text, format)?.replace(pointer, "app:1", "r.io/a/b@sha256:00")?]))
    }

    #[rstest]
    #[case::plain("a:\n  image:   app:1   # one\n", "a:\n  image:   r.io/a/b@sha256:00   # one\n")]
    #[case::single_quotes("a: {image: 'app:1'} # x\n", "a: {image: 'r.io/a/b@sha256:00'} # x\n")]
    #[case::double_quotes("a:\n  \"image\": \"app:1\"\n", "a:\n  \"image\": \"r.io/a/b@sha256:00\"\n")]
    #[case::escaped("a: {image: \"\\x61pp:1\"}\n", "a: {image: \"r.io/a/b@sha256:00\"}\n")]
    #[case::literal(
        "a:\n  image: |- # why\n    app:1\n  b: c\n",
        "a:\n  image: |- # why\n    r.io/a/b@sha256:00\n  b: c\n"
    )]
    #[case::folded("a:\n  image: >-\n    app:1\n\nb: c\n", "a:\n  image: >-\n    r.io/a/b@sha256:00\n\nb: c\n")]
    #[case::anchor("a: {image: &app:1 app:1, x: y}\n", "a: {image: &app:1 r.io/a/b@sha256:00, x: y}\n")]
    #[case::tag("a:\n  image: !!str app:1\n", "a:\n  image: !!str r.io/a/b@sha256:00\n")]
    #[case::alias(
        "x: &app:1 app:1\na:\n  image: *app:1 # c\n",
        "x: &app:1 app:1\na:\n  image: r.io/a/b@sha256:00 # c\n"
    )]
    #[case::windows("a:\r\n  image: app:1\r\n", "a:\r\n  image: r.io/a/b@sha256:00\r\n")]
    #[case::no_line_end("# ä\na:\n  image: app:1", "# ä\na:\n  image: r.io/a/b@sha256:00")]
    #[case::long_key("a:\n  ? image\n  : app:1\n", "a:\n  ? image\n  : r.io/a/b@sha256:00\n")]
    fn yaml_keeps_every_other_byte(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(replaced(text, Format::Yaml, "/a/image").unwrap(), expected);
    }

    #[rstest]
    #[case("{\"a\":\t{ \"image\" :\"app:1\"}}\n", "{\"a\":\t{ \"image\" :\"r.io/a/b@sha256:00\"}}\n")]
    #[case("{\"a\": {\"image\": \"app\\u003a1\"}}", "{\"a\": {\"image\": \"r.io/a/b@sha256:00\"}}")]
    #[case(
        "{\"a\": {\"image\": 1, \"image\": \"app:1\"}}",
        "{\"a\": {\"image\": 1, \"image\": \"r.io/a/b@sha256:00\"}}"
    )]
    fn json_keeps_every_other_byte(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(replaced(text, Format::Json, "/a/image").unwrap(), expected);
    }

    #[test]
    fn pointers_lead_through_lists_and_escapes() {
        let yaml = "- a/b:\n  - image: app:1\n- 2\n";
        assert_eq!(
            replaced(yaml, Format::Yaml, "/0/a~1b/0/image").unwrap(),
            yaml.replace("app:1", "r.io/a/b@sha256:00")
        );
        let json = "[{\"a/b\": [{\"image\": \"app:1\"}]}, 2]";
        assert_eq!(
            replaced(json, Format::Json, "/0/a~1b/0/image").unwrap(),
            json.replace("app:1", "r.io/a/b@sha256:00")
        );
    }

    #[rstest]
    #[case("a: {}\n")]
    #[case("x: &x {image: app:1}\na: *x\n")]
    #[case("x: &x {image: app:1}\na:\n  <<: *x\n")]
    #[case("")]
    fn what_is_not_written_there_cannot_be_replaced(#[case] text: &str) {
        assert!(replaced(text, Format::Yaml, "/a/image").is_err());
    }

    #[test]
    fn json_that_is_nested_without_end_is_refused() {
        let text = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(replaced(&text, Format::Json, "/0").is_err());
    }
}

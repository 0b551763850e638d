//! One item of a list set, added or taken away, found by its name: all other items keep their bytes. Pure.

use granit_parser::Parser;
use serde::Serialize;

use super::nodes::{Content, Node, Reader, child};
use super::{EditError, Entry, Field, end_of_value, yaml};

/// Sets the item of that `name` in a list of YAML, adds it behind the others, or takes it away if there is no `value`.
///
/// `None` if that cannot be done: there is no such list in lines, or not every item has a name of its own.
///
/// # Errors
/// [`EditError`].
pub fn set_item<T: Serialize>(
    text: &str,
    field: Field<'_>,
    name: &str,
    value: Option<&T>,
) -> Result<Option<String>, EditError> {
    let Some(list) = list(text, field)? else { return Ok(None) };
    let mut found = list.items.iter().filter(|item| item.name == name);
    let (item, another) = (found.next(), found.next());
    let Some(end) = list.items.last().map(|item| item.end).filter(|_| another.is_none()) else { return Ok(None) };
    let (at, written) = match (item, value) {
        (Some(item), Some(value)) => (item.start..item.end, lines(&list, value)?),
        (None, Some(value)) => (end..end, format!("\n{}{}", " ".repeat(list.column), lines(&list, value)?)),
        (Some(item), None) if list.items.len() > 1 => {
            let line = item.start - list.column;
            // With the end of its line; of the last line of a text with the one before.
            let next = text[item.end..].find('\n').map(|end| item.end + end + 1);
            (next.map_or(line.saturating_sub(1)..item.end, |next| line..next), String::new())
        }
        (_, None) => return Ok(None),
    };
    Ok(Some([&text[..at.start], &written, &text[at.end..]].concat()))
}

/// A list whose items stand in lines.
struct List {
    /// Of the dashes.
    column: usize,
    items: Vec<Item>,
}

/// An item as it stands in the text.
struct Item {
    name: String,
    /// Of its dash.
    column: usize,
    /// Byte of its dash.
    start: usize,
    /// The end of its last line.
    end: usize,
}

/// An item behind its dash.
fn lines<T: Serialize>(list: &List, value: &T) -> Result<String, EditError> {
    let indent = " ".repeat(list.column + 2);
    let yaml = yaml(value)?;
    let lines: Vec<_> = yaml.trim_end().lines().collect();
    Ok(format!("- {}", lines.join(&format!("\n{indent}"))))
}

fn list(text: &str, field: Field<'_>) -> Result<Option<List>, EditError> {
    let mut reader = Reader { parser: Parser::new_from_str(text) };
    let (event, span) = reader.next()?;
    let mut node = reader.node(&event, &span)?;
    if let Some(item) = field.item {
        let Content::Sequence(items) = child(node, "items")?.content else { return Ok(None) };
        let Some(item) = items.into_iter().nth(item) else { return Ok(None) };
        node = item;
    }
    for name in field.parent.into_iter().chain([field.name]) {
        let Ok(found) = child(node, name) else { return Ok(None) };
        node = found;
    }
    let Content::Sequence(nodes) = node.content else { return Ok(None) };
    let items: Option<Vec<Item>> = nodes.into_iter().map(|node| item(text, node)).collect();
    Ok(items.and_then(|items| {
        let column = items.first()?.column;
        items.iter().all(|item| item.column == column).then_some(List { column, items })
    }))
}

fn item(text: &str, node: Node) -> Option<Item> {
    let Content::Mapping { entries, .. } = node.content else { return None };
    let (_, _, name) = entries.into_iter().find(|(name, ..)| name == "name")?;
    let name = serde_saphyr::from_str(&text[name.span]).ok()?;
    let start = dash(text, node.span.start)?;
    let column = start - text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let end = end_of_value(text, &Entry { name: String::new(), start, value: node.span });
    Some(Item { name, column, start, end })
}

/// The dash of an item that begins at a byte: the first thing on its line, and nothing but comments between.
fn dash(text: &str, item: usize) -> Option<usize> {
    let mut end = item;
    loop {
        let line = text[..end].rfind('\n').map_or(0, |newline| newline + 1);
        let words = text[line..end].trim_start_matches(' ');
        let at = end - words.len();
        let is_nothing = |rest: &str| rest.trim().is_empty() || rest.trim_start().starts_with('#');
        match words.strip_prefix('-') {
            Some(rest) => return is_nothing(rest).then_some(at),
            None if is_nothing(words) => end = line.checked_sub(1)?,
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const TAGS: Field<'static> = Field { item: None, parent: Some("spec"), name: "tags" };
    const TEXT: &str = "spec:\n  # all\n  tags:\n  # one\n  - name: \"1\" # first\n    from: {kind: A} # a\n\n  # two\n  -\n    name: two\n    from:\n      kind: B # b\n  # end\nstatus: {}\n";

    fn set(text: &str, name: &str, value: Option<&Value>) -> Option<String> {
        set_item(text, TAGS, name, value).unwrap()
    }

    #[test]
    fn only_that_item_is_written() {
        let value = json!({"name": "1", "from": {"kind": "C"}});
        let first = set(TEXT, "1", Some(&value)).unwrap();
        let expected = TEXT
            .replace("- name: \"1\" # first\n    from: {kind: A} # a\n", "- from:\n      kind: C\n    name: \"1\"\n");
        assert_eq!(first, expected);
        let second = set(TEXT, "two", Some(&json!({"name": "two"}))).unwrap();
        assert_eq!(second, TEXT.replace("-\n    name: two\n    from:\n      kind: B # b\n", "- name: two\n"));
    }

    #[test]
    fn new_item_stands_behind_the_others() {
        let added = set(TEXT, "3", Some(&json!({"name": "3"}))).unwrap();
        assert_eq!(added, TEXT.replace("kind: B # b\n", "kind: B # b\n  - name: \"3\"\n"));
    }

    #[test]
    fn item_is_cut_out() {
        let without = set(TEXT, "1", None).unwrap();
        assert_eq!(without, TEXT.replace("  - name: \"1\" # first\n    from: {kind: A} # a\n", ""));
        let without = set(TEXT, "two", None).unwrap();
        assert_eq!(without, TEXT.replace("  -\n    name: two\n    from:\n      kind: B # b\n", ""));
        let last = "spec:\n  tags:\n  - name: a\n  - name: b";
        assert_eq!(set(last, "b", None).unwrap(), "spec:\n  tags:\n  - name: a");
    }

    #[test]
    fn items_of_objects_in_lists_are_found() {
        let text = "items:\n- spec:\n    tags:\n      - name: a\n- spec:\n    tags:\n      - name: a # b\n";
        let field = Field { item: Some(1), ..TAGS };
        let edited = set_item(text, field, "c", Some(&json!({"name": "c"}))).unwrap().unwrap();
        assert_eq!(edited, format!("{text}      - name: c\n"));
    }

    #[rstest]
    #[case::no_list("spec: {}\n")]
    #[case::nothing("spec:\n  tags:\n")]
    #[case::in_brackets("spec:\n  tags: [{name: a}]\n")]
    #[case::no_name("spec:\n  tags:\n  - from: {}\n")]
    #[case::no_objects("spec:\n  tags:\n  - a\n")]
    #[case::twice("spec:\n  tags:\n  - name: a\n  - name: a\n")]
    #[case::anchor("spec:\n  tags: &tags\n  - name: [a]\n")]
    fn what_is_written_otherwise_is_left_to_others(#[case] text: &str) {
        assert_eq!(set(text, "a", Some(&json!({"name": "a"}))), None);
    }

    #[test]
    fn last_item_is_left_to_others() {
        assert_eq!(set("spec:\n  tags:\n  - name: a\n", "a", None), None);
        assert_eq!(set("spec:\n  tags:\n  - name: a\n", "b", None), None);
    }
}

//! A unified diff of what edits change in a text. Pure.

use std::fmt::Write as _;
use std::ops::Range;

use crate::store::edit::{self, Edit};

/// How many lines around a change are shown.
const CONTEXT: usize = 3;

/// Lines that are replaced.
struct Change {
    /// Their numbers, from 0.
    lines: Range<usize>,
    /// What takes their place, with line ends.
    new: String,
}

/// The diff, empty if nothing is changed. The edits are in order.
pub(super) fn unified(name: &str, text: &str, edits: &[Edit]) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let changes = changes(text, &lines, edits);
    if changes.is_empty() {
        return String::new();
    }
    let mut diff = format!("--- a/{name}\n+++ b/{name}\n");
    let mut shift = 0;
    for hunk in changes.chunk_by(|one, next| next.lines.start - one.lines.end <= 2 * CONTEXT) {
        shift = write_hunk(&mut diff, &lines, hunk, shift);
    }
    diff
}

fn changes(text: &str, lines: &[&str], edits: &[Edit]) -> Vec<Change> {
    let mut starts = Vec::with_capacity(lines.len() + 1);
    let mut start = 0;
    for line in lines {
        starts.push(start);
        start += line.len();
    }
    starts.push(start);
    let line_of = |byte: usize| starts.partition_point(|start| *start <= byte) - 1;
    let range_of = |edit: &Edit| line_of(edit.at.start)..line_of(edit.at.end.max(edit.at.start + 1) - 1) + 1;
    let change = |edits: &[Edit]| {
        let (first, last) = (edits.first()?, edits.last()?);
        let lines = range_of(first).start..range_of(last).end;
        let base = starts[lines.start];
        let moved = |edit: &Edit| Edit { at: edit.at.start - base..edit.at.end - base, text: edit.text.clone() };
        let edits: Vec<Edit> = edits.iter().map(moved).collect();
        Some(Change { new: edit::apply(&text[base..starts[lines.end]], &edits), lines })
    };
    edits.chunk_by(|one, next| range_of(next).start < range_of(one).end).filter_map(change).collect()
}

/// Writes the changes of a hunk. `shift` is how many lines the text has grown by before it; gives how many after it.
fn write_hunk(diff: &mut String, lines: &[&str], hunk: &[Change], shift: isize) -> isize {
    let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { return shift };
    let shown = first.lines.start.saturating_sub(CONTEXT)..(last.lines.end + CONTEXT).min(lines.len());
    let grown =
        |change: &Change| change.new.split_inclusive('\n').count().cast_signed() - change.lines.len().cast_signed();
    let growth: isize = hunk.iter().map(grown).sum();
    let _ = writeln!(
        diff,
        "@@ -{},{} +{},{} @@",
        shown.start + 1,
        shown.len(),
        (shown.start + 1).saturating_add_signed(shift),
        shown.len().saturating_add_signed(growth)
    );
    let mut at = shown.start;
    for change in hunk {
        write_lines(diff, ' ', lines[at..change.lines.start].iter().copied());
        write_lines(diff, '-', lines[change.lines.clone()].iter().copied());
        write_lines(diff, '+', change.new.split_inclusive('\n'));
        at = change.lines.end;
    }
    write_lines(diff, ' ', lines[at..shown.end].iter().copied());
    shift + growth
}

fn write_lines<'l>(diff: &mut String, sign: char, lines: impl Iterator<Item = &'l str>) {
    for line in lines {
        diff.push(sign);
        diff.push_str(line);
        if !line.ends_with('\n') {
            diff.push_str("\n\\ No newline at end of file\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(text: &str, old: &str, new: &str) -> Edit {
        let start = text.find(old).unwrap();
        Edit { at: start..start + old.len(), text: new.to_owned() }
    }

    #[test]
    fn changes_are_shown_with_the_lines_around_them() {
        let text = (1..=20).map(|line| format!("{line:02}\n")).collect::<Vec<_>>().concat();
        let edits = ["02", "08", "18"].map(|line| edit(&text, line, "x"));
        let expected = "--- a/a.yaml\n+++ b/a.yaml\n\
            @@ -1,11 +1,11 @@\n 01\n-02\n+x\n 03\n 04\n 05\n 06\n 07\n-08\n+x\n 09\n 10\n 11\n\
            @@ -15,6 +15,6 @@\n 15\n 16\n 17\n-18\n+x\n 19\n 20\n";
        assert_eq!(unified("a.yaml", &text, &edits), expected);
    }

    #[test]
    fn two_edits_of_one_line_and_a_last_line_without_end() {
        let text = "{a: x, b: y}";
        let edits = [edit(text, "x", "1"), edit(text, "y", "2")];
        let expected = "--- a/a\n+++ b/a\n@@ -1,1 +1,1 @@\n-{a: x, b: y}\n\\ No newline at end of file\n\
            +{a: 1, b: 2}\n\\ No newline at end of file\n";
        assert_eq!(unified("a", text, &edits), expected);
        assert_eq!(unified("a", text, &[]), "");
    }

    #[test]
    fn string_over_lines_becomes_one_line() {
        let text = "a: \"x\\\n  y\"\nb: 1\n";
        let expected = "--- a/a\n+++ b/a\n@@ -1,3 +1,2 @@\n-a: \"x\\\n-  y\"\n+a: xy\n b: 1\n";
        assert_eq!(unified("a", text, &[edit(text, "\"x\\\n  y\"", "xy")]), expected);
    }
}

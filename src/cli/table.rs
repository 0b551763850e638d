//! Text in columns: tables as kubectl prints them, and blocks aligned by tabs as `describe` does. Pure.

/// Spaces between the columns of a table.
const GAP: usize = 3;
/// Columns of a terminal between two stops of a tab.
const TAB: usize = 8;

/// The widths of the columns of a table, which grow with its lines.
#[derive(Debug, Default)]
pub(super) struct Columns(Vec<usize>);

impl Columns {
    /// There was no line yet.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes room for a line.
    pub(super) fn fit<S: AsRef<str>>(&mut self, cells: &[S]) {
        self.0.resize(self.0.len().max(cells.len()), 0);
        for (width, cell) in self.0.iter_mut().zip(cells) {
            *width = (*width).max(cell.as_ref().chars().count());
        }
    }

    /// A line, with its end. Nothing stands behind the last cell that is not empty.
    pub(super) fn line<S: AsRef<str>>(&self, cells: &[S]) -> String {
        let padded = cells.iter().zip(&self.0).map(|(cell, width)| {
            let (cell, width) = (cell.as_ref(), width + GAP);
            format!("{cell:width$}")
        });
        padded.collect::<String>().trim_end().to_owned() + "\n"
    }
}

/// A table with a line for the names of its columns.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut columns = Columns::default();
    columns.fit(header);
    for row in rows {
        columns.fit(row);
    }
    columns.line(header) + &rows.iter().map(|row| columns.line(row)).collect::<String>()
}

/// Lines whose cells are aligned by tabs: all cells of a column that stand directly below each other end at the same stop.
/// The last cell of a line is as wide as it is.
pub(super) fn tabbed(lines: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (column, cell) in line.iter().enumerate() {
            text += cell;
            if column + 1 < line.len() {
                let rest = column_width(lines, number, column) - cell.chars().count();
                text += &"\t".repeat(rest.div_ceil(TAB));
            }
        }
        text.push('\n');
    }
    text
}

/// The width of a column around a line: up to a stop behind the longest of the cells that stand together.
fn column_width(lines: &[Vec<String>], number: usize, column: usize) -> usize {
    let has_column = |line: &&Vec<String>| line.len() > column + 1;
    let (above, below) = lines.split_at(number);
    let together = above.iter().rev().take_while(has_column).chain(below.iter().take_while(has_column));
    let longest = together.map(|line| line[column].chars().count()).max().unwrap_or_default();
    (longest + 1).next_multiple_of(TAB)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&[&str]]) -> Vec<Vec<String>> {
        lines.iter().map(|line| line.iter().map(ToString::to_string).collect()).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let rows = lines(&[&["keycloak", "19.0,20.0", "4 seconds ago"], &["a", "", ""]]);
        assert_eq!(
            table(&["NAME", "TAGS", "UPDATED"], &rows),
            "NAME       TAGS        UPDATED\nkeycloak   19.0,20.0   4 seconds ago\na\n"
        );
    }

    #[test]
    fn tabs_lead_to_the_stop_behind_the_longest_cell() {
        let block = lines(&[&["Image Repository:", "r"], &["Name:", "a"], &["Tags:", "2"]]);
        assert_eq!(tabbed(&block), "Image Repository:\tr\nName:\t\t\ta\nTags:\t\t\t2\n");
    }

    #[test]
    fn only_cells_that_stand_together_are_aligned() {
        let block = lines(&[
            &["Image Created:", "x"],
            &["Layers:", "107B", "sha256:1"],
            &["", "215.5MB", "sha256:2"],
            &["Arch:", "amd64"],
            &["", "1000000MB", "sha256:3"],
        ]);
        let expected = "Image Created:\tx\nLayers:\t\t107B\tsha256:1\n\t\t215.5MB\tsha256:2\nArch:\t\tamd64\n\
                        \t\t1000000MB\tsha256:3\n";
        assert_eq!(tabbed(&block), expected);
    }
}

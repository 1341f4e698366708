//! Tables for people: aligned columns, nothing that steers a terminal.

use std::fmt;

/// Two blanks between columns; the last column is not padded.
const GAP: &str = "  ";

/// Rows under a heading.
#[derive(Clone, Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(|name| (*name).to_owned()).collect()] }
    }

    /// Adds a row; what is in it may come from anybody.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| harmless(&cell)).collect());
    }
}

/// Control characters, and those that turn text round (UAX 9), are shown as escapes.
pub(super) fn harmless(text: &str) -> String {
    let shown = |letter: char| -> Vec<char> {
        let steers =
            letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if steers { letter.escape_default().collect() } else { vec![letter] }
    };
    text.chars().flat_map(shown).collect()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
        for (number, row) in self.rows.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            f.write_str(cells.collect::<Vec<_>>().join(GAP).trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_steers_the_terminal() {
        let mut table = Table::new(&["KEY", "STATE"]);
        table.row(["/items/\u{e9}".to_owned(), "dead".to_owned()]);
        table.row(["\u{1b}[2J".to_owned(), String::new()]);
        table.row(["\u{202e}dead".to_owned(), String::new()]);
        assert_eq!(
            table.to_string(),
            "KEY           STATE\n/items/\u{e9}      dead\n\\u{1b}[2J\n\\u{202e}dead"
        );
    }
}

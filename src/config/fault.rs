//! What is wrong with a configuration file: one [`Fault`] per place.
//!
//! A message never quotes a value, because any value may hold a secret (I12): the place shows it to
//! those who may read the file. Names that a fault is about are quoted.

use super::Keys;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;

/// Faults of one file that are told; what comes after is left for the next run.
const FAULTS_MAX: usize = 500;

/// The key of a fault that belongs to no key: syntax, size, or the file itself.
pub(super) const WHOLE_FILE: &str = "(file)";

/// One fault, as `check` and `serve` print it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fault {
    /// The file as it was named.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// The dotted key, elements counted from 0: `route[0].cache.ttl`.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, key, message, remedy } = self;
        write!(f, "{file}:{line}:{column}: {key}: {message}; {remedy}")
    }
}

/// Every fault of a file, sorted by place; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// A fault of the file as a whole.
    pub(super) fn whole_file(file: &str, message: String, remedy: &str) -> Self {
        let (key, remedy) = (WHOLE_FILE.to_owned(), remedy.to_owned());
        Self(vec![Fault { file: file.to_owned(), line: 1, column: 1, key, message, remedy }])
    }

    /// These faults; `None` where there is none.
    pub(super) fn of(mut faults: Vec<Fault>) -> Option<Self> {
        faults.sort();
        (!faults.is_empty()).then_some(Self(faults))
    }

    /// A fault of one key of a configuration that was read.
    #[must_use]
    pub fn at(keys: &Keys, key: &str, message: String, remedy: &str) -> Self {
        let (line, column) = keys.place(key);
        let (file, key, remedy) = (keys.file.clone(), key.to_owned(), remedy.to_owned());
        Self(vec![Fault { file, line, column, key, message, remedy }])
    }

    /// The faults.
    #[must_use]
    pub fn as_slice(&self) -> &[Fault] {
        &self.0
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Collects the faults of one file and knows the key and place of each of its values.
pub(super) struct Report<'t> {
    file: &'t str,
    text: &'t str,
    line_starts: Vec<usize>,
    nodes: HashMap<(usize, usize), Node>,
    refused: HashSet<(usize, usize)>,
    absent: usize,
    faults: Vec<Fault>,
    untold: usize,
    secrets: Secrets,
}

/// Whether the file's own text has secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrets {
    None,
    Written,
}

struct Node {
    offset: usize,
    key: String,
}

impl<'t> Report<'t> {
    pub(super) fn new(file: &'t str, text: &'t str) -> Self {
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(offset, _)| offset + 1)).collect();
        Self {
            file,
            text,
            line_starts,
            nodes: HashMap::new(),
            refused: HashSet::new(),
            absent: 0,
            faults: Vec::new(),
            untold: 0,
            secrets: Secrets::None,
        }
    }

    /// A secret stands in the text itself.
    pub(super) fn holds_secret(&mut self) {
        self.secrets = Secrets::Written;
    }

    pub(super) fn secrets(&self) -> Secrets {
        self.secrets
    }

    /// Notes the key of a value. Where a table has no text of its own, the deeper one wins.
    pub(super) fn note(&mut self, span: &Range<usize>, key: &str) {
        if span.start > self.text.len() {
            return;
        }
        self.nodes.insert((span.start, span.end), Node { offset: span.start, key: key.to_owned() });
    }

    /// A span for a value that is not in the file; its faults are placed at its table.
    pub(super) fn absent(&mut self, table: &Range<usize>, key: &str) -> Range<usize> {
        self.absent += 1;
        let beyond = self.text.len() + self.absent;
        let offset = self.nodes.get(&(table.start, table.end)).map_or(table.start, |node| node.offset);
        self.nodes.insert((beyond, beyond), Node { offset, key: key.to_owned() });
        beyond..beyond
    }

    /// Adds a fault of a value, unless the value was refused before.
    pub(super) fn fault(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if self.refused.contains(&(span.start, span.end)) {
            return;
        }
        let (offset, key) = match self.nodes.get(&(span.start, span.end)) {
            Some(node) => (node.offset, node.key.clone()),
            None => (span.start, WHOLE_FILE.to_owned()),
        };
        self.fault_at(offset, key, message, remedy);
    }

    /// Adds a fault of a value after which nothing more is said about that value.
    pub(super) fn refuse(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.fault(span, message, remedy);
        self.silence(span);
    }

    /// Says nothing more about a value.
    pub(super) fn silence(&mut self, span: &Range<usize>) {
        self.refused.insert((span.start, span.end));
    }

    /// Whether a value was refused.
    pub(super) fn is_refused(&self, span: &Range<usize>) -> bool {
        self.refused.contains(&(span.start, span.end))
    }

    /// Adds a fault by its offset in the text.
    pub(super) fn fault_at(
        &mut self,
        offset: usize,
        key: String,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if self.faults.len() >= FAULTS_MAX {
            self.untold += 1;
            return;
        }
        let (line, column) = self.place(offset);
        let (message, remedy) = (message.into(), remedy.into());
        self.faults.push(Fault { file: self.file.to_owned(), line, column, key, message, remedy });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    pub(super) fn into_faults(mut self) -> Faults {
        self.faults.sort();
        self.faults.dedup();
        if self.untold > 0 {
            let (line, column) = self.place(self.text.len());
            let (file, key) = (self.file.to_owned(), WHOLE_FILE.to_owned());
            let message = format!("has {} more faults", self.untold);
            let remedy = "correct those above first".to_owned();
            self.faults.push(Fault { file, line, column, key, message, remedy });
        }
        Faults(self.faults)
    }

    /// Line and column of a value; of one that is not in the file, those of its table.
    pub(super) fn place_of(&self, span: &Range<usize>) -> (usize, usize) {
        let node = self.nodes.get(&(span.start, span.end));
        self.place(node.map_or(span.start, |node| node.offset))
    }

    fn place(&self, offset: usize) -> (usize, usize) {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = self.text.get(start..offset.min(self.text.len())).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let report = Report::new("f", "a = 1\n\u{e9}\u{e9} = 2\n");
        for (offset, place) in [(0, (1, 1)), (4, (1, 5)), (6, (2, 1)), (10, (2, 3)), (99, (3, 1))] {
            assert_eq!(report.place(offset), place, "{offset}");
        }
    }

    #[test]
    fn a_refused_value_is_told_once_and_an_absent_one_at_its_table() {
        let mut report = Report::new("f", "[a]\n\n[b]\n");
        report.note(&(5..8), "b");
        let absent = report.absent(&(5..8), "b.c");
        report.refuse(&absent, "missing", "add it");
        report.fault(&absent, "empty", "fill it");
        report.fault(&(5..8), "wrong", "mend it");
        let shown = report.into_faults().to_string();
        assert_eq!(shown, "f:3:1: b: wrong; mend it\nf:3:1: b.c: missing; add it");
    }
}

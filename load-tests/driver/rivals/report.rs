//! What a run found, as a table and as JSON.

use super::contest::{Cell, Row};
use super::server::Rival;
use super::verdict::{Bound, Spread, Verdict};
use serde::Serialize;

/// Whose figures these are.
const OWN: &str = Rival::Tidegate.name();

/// One figure and what became of its bound.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) row: String,
    /// Of what, over what, in which unit.
    pub(crate) compared: String,
    pub(crate) value: Spread,
    pub(crate) bound: Bound,
    pub(crate) verdict: Verdict,
}

impl Finding {
    pub(crate) fn new(row: &str, compared: String, value: Spread, bound: Bound) -> Self {
        Self { row: row.to_owned(), compared, value, bound, verdict: Verdict::of(value, bound) }
    }
}

/// All of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Findings {
    pub(crate) rows: Vec<Row>,
    pub(crate) figures: Vec<Finding>,
    pub(crate) notes: Vec<String>,
}

impl Findings {
    /// Adds a row and what is read from it.
    pub(crate) fn add(&mut self, row: Row, findings: impl IntoIterator<Item = Option<Finding>>) {
        self.notes.extend(row.left_out.iter().cloned());
        self.figures.extend(findings.into_iter().flatten());
        self.rows.push(row);
    }

    /// Says that a scenario could not be measured.
    pub(crate) fn broken(&mut self, name: &str, fault: &anyhow::Error) {
        let value = Spread::single(0.0);
        let (row, compared) = (name.to_owned(), "not measured".to_owned());
        self.figures.push(Finding { row, compared, value, bound: Bound::Stated, verdict: Verdict::Broken });
        self.notes.push(format!("{name} was not measured: {fault:#}"));
    }

    /// How many figures make the run fail.
    pub(crate) fn failing(&self) -> usize {
        self.figures.iter().filter(|finding| finding.verdict.fails()).count()
    }

    /// Costs, bounds, notes.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            "processor time for an answer in microseconds, median (lowest..highest) of the rounds\n"
                .to_owned(),
        ];
        let labels = self.labels();
        lines.push(format!("| scenario | {} |", labels.join(" | ")));
        lines.push(format!("|---|{}", "---|".repeat(labels.len())));
        for row in self.rows.iter().filter(|row| is_shared(row)) {
            let cell = |label: &&str| text(row.cell(label).and_then(Cell::spread));
            let cells: Vec<_> = labels.iter().map(cell).collect();
            lines.push(format!("| {} | {} |", row.name, cells.join(" | ")));
        }
        lines.push("\n| scenario | Tidegate, or others, in two states |\n|---|---|".to_owned());
        for row in self.rows.iter().filter(|row| !is_shared(row)) {
            let cell = |cell: &Cell| format!("{}: {}", cell.label, text(cell.spread()));
            let cells: Vec<_> = row.cells.iter().map(cell).collect();
            lines.push(format!("| {} | {} |", row.name, cells.join("; ")));
        }
        lines.push("\n| scenario | figure | value | bound | |\n|---|---|---|---|---|".to_owned());
        for Finding { row, compared, value, bound, verdict } in &self.figures {
            lines.push(format!("| {row} | {compared} | {value} | {bound} | {verdict} |"));
        }
        lines.push(String::new());
        lines.extend(self.notes.iter().cloned());
        lines
    }

    /// Who has a cell in a row that Tidegate shares with others; Tidegate first.
    fn labels(&self) -> Vec<&'static str> {
        let mut labels = vec![OWN];
        for cell in self.rows.iter().filter(|row| is_shared(row)).flat_map(|row| &row.cells) {
            if !labels.contains(&cell.label) {
                labels.push(cell.label);
            }
        }
        labels
    }
}

fn is_shared(row: &Row) -> bool {
    row.cell(OWN).is_some()
}

fn text(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "-".to_owned(), |spread| spread.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_fails_for_what_is_short_or_broken_and_names_it() {
        let cell = |label, micros: f64| Cell { micros: vec![micros], ..Cell::new(label) };
        let row = Row {
            name: "hit".to_owned(),
            cells: vec![cell(OWN, 20.0), cell("nginx", 10.0)],
            left_out: vec!["hit: haproxy left out: no".to_owned()],
        };
        let finding = row.over_best(Bound::AtMost(0.9));
        let mut findings = Findings::default();
        findings.add(row, [finding, None]);
        assert_eq!(findings.failing(), 1);
        findings.broken("memory", &anyhow::anyhow!("why"));
        assert_eq!(findings.failing(), 2);
        let lines = findings.lines().join("\n");
        for part in [
            "| scenario | Tidegate | nginx |",
            "| hit | 20.0 | 10.0 |",
            "| hit | Tidegate / best peer (nginx) | 2.00 | <= 0.9 | SHORT |",
            "haproxy left out: no",
            "memory was not measured: why",
        ] {
            assert!(lines.contains(part), "{part}\n{lines}");
        }
    }
}

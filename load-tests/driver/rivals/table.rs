//! The table for README.md, from a file that `--json` has written: nothing is measured for it.

use super::server::Rival;
use super::verdict::Spread;
use anyhow::Context;
use serde_json::Value;
use std::fs;
use std::io::{Write, stdout};
use std::path::Path;

/// The label of Tidegate's cells.
const OWN: &str = Rival::Tidegate.name();

/// Prints it, ready to be pasted between the marks there.
pub(crate) fn print(path: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = lines(&serde_json::from_str(&text)?).with_context(|| path.display().to_string())?;
    let mut out = stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

/// When, where and of what; what an answer costs each; every figure that has a bound.
fn lines(run: &Value) -> anyhow::Result<Vec<String>> {
    let text = |key: &str| run.get(key).and_then(Value::as_str).with_context(|| format!("no {key}"));
    let found = run.get("found").context("no findings")?;
    let list = |key: &str| found.get(key).and_then(Value::as_array).with_context(|| format!("no {key}"));
    let how = if run.get("quick").and_then(Value::as_bool) == Some(true) { " Quick: rough." } else { "" };
    let mut lines = vec![
        format!("{}: {}; {}.{how}", text("date")?, text("machine")?, text("versions")?),
        "Processor time for an answer in microseconds, medians of rounds that go through all in turn:\n"
            .to_owned(),
    ];
    let rows: Vec<_> = list("rows")?.iter().map(cells).collect::<Option<_>>().context("an odd row")?;
    let rows: Vec<_> = rows.into_iter().filter(|row| row.cells.iter().any(|cell| cell.0 == OWN)).collect();
    let mut labels = Vec::new();
    for (label, _) in rows.iter().flat_map(|row| &row.cells) {
        if !labels.contains(label) {
            labels.push(label);
        }
    }
    lines.push(format!("| | {} |\n|---|{}", labels.join(" | "), "---|".repeat(labels.len())));
    for row in &rows {
        let cell = |label: &&&str| row.cells.iter().find(|cell| cell.0 == **label);
        let cells = labels.iter().map(|label| cell(&label).map_or("-".to_owned(), |cell| rounded(cell.1)));
        lines.push(format!("| {} | {} |", row.name, cells.collect::<Vec<_>>().join(" | ")));
    }
    lines.push("\n| | figure | value | bound | |\n|---|---|---|---|---|".to_owned());
    for figure in list("figures")? {
        let is_broken = figure.get("verdict").and_then(Value::as_str) == Some("broken");
        if figure.get("bound").is_some_and(Value::is_object) {
            lines.push(bounded(figure).context("an odd figure")?);
        } else if is_broken {
            let row = figure.get("row").and_then(Value::as_str).context("an odd figure")?;
            lines.push(format!("| {row} | not measured | - | - | broken |"));
        }
    }
    let is_version =
        |note: &&str| Rival::PEERS.iter().any(|peer| note.starts_with(&format!("{}: ", peer.name())));
    let versions: Vec<_> = list("notes")?.iter().filter_map(Value::as_str).filter(is_version).collect();
    lines.push(format!("\n{}.", versions.join("; ")));
    Ok(lines)
}

struct Medians<'a> {
    name: &'a str,
    cells: Vec<(&'a str, f64)>,
}

fn cells(row: &Value) -> Option<Medians<'_>> {
    let cells = row.get("cells")?.as_array()?.iter().map(median).collect::<Option<_>>()?;
    Some(Medians { name: row.get("name")?.as_str()?, cells })
}

fn median(cell: &Value) -> Option<(&str, f64)> {
    let micros: Option<Vec<_>> = cell.get("micros")?.as_array()?.iter().map(Value::as_f64).collect();
    Some((cell.get("label")?.as_str()?, Spread::of(&micros?)?.median))
}

/// The line of a figure that is not only stated.
fn bounded(figure: &Value) -> Option<String> {
    let text = |key: &str| figure.get(key)?.as_str();
    let (kind, limit) = figure.get("bound")?.as_object()?.iter().next()?;
    let sign = match kind.as_str() {
        "at_most" => "<=",
        "at_least" => ">=",
        _ => "aim",
    };
    let of = |key: &str| figure.get("value")?.get(key)?.as_f64();
    let value = Spread { lowest: of("lowest")?, median: of("median")?, highest: of("highest")? };
    let (row, compared, verdict) = (text("row")?, text("compared")?, text("verdict")?);
    Some(format!("| {row} | {compared} | {value} | {sign} {limit} | {} |", verdict.replace('_', " ")))
}

fn rounded(value: f64) -> String {
    Spread::single(value).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_kept_run_becomes_a_table_with_its_date_machine_and_versions() {
        let cell = |label: &str, micros: [f64; 3]| json!({"label": label, "micros": micros, "rates": [1.0]});
        let run = json!({
            "date": "2026-11-23T08:29:51Z", "machine": "a machine", "versions": "v1", "quick": true,
            "found": {
                "rows": [
                    {"name": "hit", "cells": [cell("Tidegate", [9.0, 4.0, 5.0]), cell("nginx", [7.0; 3])], "left_out": []},
                    {"name": "pass", "cells": [cell("Tidegate", [1.0; 3])], "left_out": []},
                    {"name": "in two states", "cells": [cell("with", [1.0; 3])], "left_out": []},
                ],
                "figures": [
                    {"row": "hit", "compared": "a / b", "value": {"lowest": 1.0, "median": 1.5, "highest": 2.0},
                     "bound": {"at_most": 0.9}, "verdict": "short"},
                    {"row": "miss", "compared": "a / b", "value": {"lowest": 1.0, "median": 1.5, "highest": 2.0},
                     "bound": "stated", "verdict": "stated"},
                ],
                "notes": [],
            },
        });
        let lines = lines(&run).unwrap().join("\n");
        for part in [
            "2026-11-23T08:29:51Z: a machine; v1. Quick: rough.",
            "| | Tidegate | nginx |",
            "| hit | 5.00 | 7.00 |",
            "| pass | 1.00 | - |",
            "| hit | a / b | 1.50 (1.00..2.00) | <= 0.9 | short |",
        ] {
            assert!(lines.contains(part), "{part}\n{lines}");
        }
        assert!(!lines.contains("miss") && !lines.contains("in two states"), "{lines}");
        assert!(super::lines(&json!({"date": "x"})).is_err());
    }
}

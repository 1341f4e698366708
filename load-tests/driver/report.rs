//! Results as a table that can be pasted into a document: with machine and date, or they say nothing.

use crate::schedule::{Load, Measured};
use std::fmt;
use std::fs;
use std::io::{Write, stdout};
use std::thread::available_parallelism;
use std::time::Duration;
use tidegate::clock::Clock;

/// A duration in the unit that reads best.
pub(crate) struct Latency(pub(crate) Duration);

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        if micros < 1_000 {
            write!(f, "{micros} us")
        } else {
            write!(f, "{:.1} ms", self.0.as_secs_f64() * 1e3)
        }
    }
}

/// One run.
pub(crate) struct Report {
    scenario: &'static str,
    load: Load,
    answered: u64,
    failed: u64,
    took: Duration,
    /// The same quantiles from the due time and from the real sending.
    rows: Vec<(&'static str, Latency, Latency)>,
    pub(crate) cpu_per_request: Option<Latency>,
    pub(crate) notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(scenario: &'static str, load: Load, measured: &Measured) -> Self {
        let quantiles = [("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999), ("max", 1000)];
        let row = |(name, per_mille)| {
            (name, quantile(&measured.from_due, per_mille), quantile(&measured.from_sent, per_mille))
        };
        Self {
            scenario,
            load,
            answered: measured.answered,
            failed: measured.failed,
            took: measured.took,
            rows: quantiles.map(row).into(),
            cpu_per_request: None,
            notes: Vec::new(),
        }
    }
}

/// The latency that `per_mille` of a thousand did not exceed.
fn quantile(sorted: &[Duration], per_mille: usize) -> Latency {
    let at = (sorted.len() * per_mille).div_ceil(1000).saturating_sub(1);
    Latency(sorted.get(at).copied().unwrap_or_default())
}

fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!("{model}, {cores} cores, load average {load}")
}

/// Prints the run; driver, gateway, source and destination share the machine, and it says so.
pub(crate) fn print(report: &Report) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    let date = humantime::format_rfc3339_seconds(Clock::system().wall());
    let per_second = f64::from(u32::try_from(report.answered)?) / report.took.as_secs_f64();
    writeln!(
        out,
        "{}: {} requests a second for {:?}",
        report.scenario, report.load.rate, report.load.length
    )?;
    writeln!(out, "{date}, {}", machine())?;
    writeln!(
        out,
        "driver, gateway, source and destination on this one machine; {} clients\n",
        report.load.clients
    )?;
    writeln!(out, "answered {}, failed {}, {per_second:.0} a second", report.answered, report.failed)?;
    if let Some(cpu) = &report.cpu_per_request {
        writeln!(out, "processor time of the gateway for each answer: {cpu}")?;
    }
    for note in &report.notes {
        writeln!(out, "{note}")?;
    }
    writeln!(out, "\n| latency | from the time it was due | from the time it was sent |\n|---|---|---|")?;
    for (name, from_due, from_sent) in &report.rows {
        writeln!(out, "| {name} | {from_due} | {from_sent} |")?;
    }
    Ok(out.flush()?)
}

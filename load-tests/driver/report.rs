//! Results as a table that can be pasted into a document: with machine and date, or they say nothing.

use crate::process;
use crate::schedule::{Load, Measured};
use std::fmt;
use std::fs;
use std::io::{Write, stdout};
use std::process::Command;
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

/// How many of `count` there were in a second of `took`.
pub(crate) fn per_second(count: u64, took: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / took.as_secs_f64()
}

/// The latency that `per_mille` of a thousand did not exceed.
pub(crate) fn quantile(sorted: &[Duration], per_mille: usize) -> Latency {
    let at = (sorted.len() * per_mille).div_ceil(1000).saturating_sub(1);
    Latency(sorted.get(at).copied().unwrap_or_default())
}

/// What this runs on, and how busy that is.
pub(crate) fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = available_parallelism().map_or(0, usize::from);
    let memory_mib = process::machine_memory_kib().unwrap_or_default() >> 10;
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!("{model}, {cores} cores, {memory_mib} MiB, load average {load}")
}

/// Of Tidegate, compiler and kernel.
pub(crate) fn versions() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (commit, compiler) = (commit(), compiler());
    format!("tidegate {} ({commit}), {compiler}, Linux {}", env!("CARGO_PKG_VERSION"), kernel.trim())
}

/// Of Tidegate's sources.
pub(crate) fn commit() -> String {
    said_by("git", &["describe", "--always", "--dirty"])
}

/// What the sources are built with.
pub(crate) fn compiler() -> String {
    said_by("rustc", &["--version"])
}

/// The first line that a program prints; "unknown" where it cannot be asked.
fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.as_deref().and_then(|text| text.lines().next()).unwrap_or("unknown").to_owned()
}

/// Under `title`: date, machine, versions, `lines`. Driver, gateway, source and destination share the
/// machine, and it says so.
pub(crate) fn print_lines(title: &str, lines: &[String]) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    let date = humantime::format_rfc3339_seconds(Clock::system().wall());
    writeln!(out, "{title}\n{date}, {}\n{}", machine(), versions())?;
    writeln!(out, "driver, gateway, source and destination on this one machine")?;
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

/// Prints a run of one load.
pub(crate) fn print(report: &Report) -> anyhow::Result<()> {
    let per_second = per_second(report.answered, report.took);
    let Load { rate, length, clients } = report.load;
    let mut lines =
        vec![format!("answered {}, failed {}, {per_second:.0} a second", report.answered, report.failed)];
    if let Some(cpu) = &report.cpu_per_request {
        lines.push(format!("processor time of the gateway for each answer: {cpu}"));
    }
    lines.extend(report.notes.iter().cloned());
    lines.push(
        "\n| latency | from the time it was due | from the time it was sent |\n|---|---|---|".to_owned(),
    );
    let row = |(name, from_due, from_sent): &(&str, Latency, Latency)| {
        format!("| {name} | {from_due} | {from_sent} |")
    };
    lines.extend(report.rows.iter().map(row));
    let title = format!("{}: {rate} requests a second for {length:?}, {clients} clients", report.scenario);
    print_lines(&title, &lines)
}

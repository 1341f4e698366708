//! What the demo showed, in words for people and in JSON for machines.

use super::compare::Comparison;
use super::destination::SampleDestination;
use super::source::SampleSource;
use super::traffic::{Latencies, Tally};
use super::view::Watched;
use serde::Serialize;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Median and 99th percentile in milliseconds.
#[derive(Serialize)]
struct Spread {
    p50_ms: f64,
    p99_ms: f64,
}

impl Spread {
    fn of(latencies: &Latencies) -> Self {
        Self {
            p50_ms: millis(latencies.quantile_micros(500)),
            p99_ms: millis(latencies.quantile_micros(990)),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "median {:.1} ms, p99 {:.1} ms", self.p50_ms, self.p99_ms)
    }
}

/// Everything the demo reports.
#[derive(Serialize)]
pub(super) struct Summary {
    converged: bool,
    differences: usize,
    items: u64,
    seconds: u64,
    reads: u64,
    hits: u64,
    forwards: u64,
    collapsed: u64,
    quota_denied: u64,
    failures: u64,
    source_reads: u64,
    source_writes: u64,
    source_spared: u64,
    hit_latency: Spread,
    forward_latency: Spread,
    writes: u64,
    deliveries: u64,
    attempts: u64,
    retries: u64,
    dead_letters: u64,
    lag_seconds_max: f64,
    #[serde(skip)]
    differing: Vec<u32>,
}

/// How many differing items are named.
const DIFFERING_NAMED_MAX: usize = 10;

impl Summary {
    /// Reads every figure once. Source and destination are counted before they are compared:
    /// `counts` must have been taken then.
    pub(super) fn new(
        seconds: u64,
        tally: &Tally,
        counts: &Counts,
        watched: &Watched,
        comparison: Comparison,
    ) -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            converged: comparison.converged(),
            differences: comparison.differing.len(),
            items: comparison.items,
            seconds,
            reads: read(&tally.reads),
            hits: read(&tally.hits),
            forwards: read(&tally.forwards),
            collapsed: read(&tally.collapsed),
            quota_denied: read(&tally.denied),
            failures: read(&tally.failures),
            source_reads: counts.source_reads,
            source_writes: counts.source_writes,
            source_spared: read(&tally.reads).saturating_sub(counts.source_reads),
            hit_latency: Spread::of(&tally.hit_latencies),
            forward_latency: Spread::of(&tally.forward_latencies),
            writes: read(&tally.writes),
            deliveries: counts.acknowledged,
            attempts: counts.attempts,
            retries: counts.retries,
            dead_letters: watched.dead_letters,
            lag_seconds_max: watched.lag_seconds_max,
            differing: comparison.differing,
        }
    }

    pub(super) fn converged(&self) -> bool {
        self.converged
    }
}

/// What the sample source and destination counted.
pub(super) struct Counts {
    source_reads: u64,
    source_writes: u64,
    acknowledged: u64,
    attempts: u64,
    retries: u64,
}

impl Counts {
    pub(super) fn take(source: &SampleSource, destination: &SampleDestination) -> Self {
        Self {
            source_reads: source.reads(),
            source_writes: source.writes(),
            acknowledged: destination.acknowledged(),
            attempts: destination.attempts(),
            retries: destination.retries(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Reads")?;
        writeln!(f, "  {:>8} requests answered in {} s of traffic", self.reads, self.seconds)?;
        writeln!(f, "  {:>7.1}% answered from memory ({} hits)", percent(self.hits, self.reads), self.hits)?;
        writeln!(
            f,
            "  {:>8} requests the source was spared (it saw {})",
            self.source_spared, self.source_reads
        )?;
        writeln!(f, "  {:>8} followers answered by somebody else's forward", self.collapsed)?;
        writeln!(f, "  {:>8} requests over a quota, refused with 429", self.quota_denied)?;
        writeln!(f, "  {:>8} requests failed", self.failures)?;
        writeln!(f, "           hits:     {}", self.hit_latency)?;
        writeln!(f, "           forwards: {}", self.forward_latency)?;
        writeln!(f, "Changes")?;
        writeln!(f, "  {:>8} changes accepted (the source saw {} writes)", self.writes, self.source_writes)?;
        writeln!(
            f,
            "  {:>8} attempts reached the destination, {} of them retries, {} acknowledged",
            self.attempts, self.retries, self.deliveries
        )?;
        writeln!(f, "  {:>8} dead letters", self.dead_letters)?;
        writeln!(
            f,
            "  {:>6.1} s the largest lag of the destination behind the source",
            self.lag_seconds_max
        )?;
        writeln!(f)?;
        let identical = self.items.saturating_sub(u64::try_from(self.differences).unwrap_or(u64::MAX));
        if self.converged {
            return writeln!(f, "converged: {identical} of {} items identical", self.items);
        }
        let named: Vec<_> = self.differing.iter().take(DIFFERING_NAMED_MAX).map(u32::to_string).collect();
        writeln!(
            f,
            "NOT converged: {identical} of {} items identical; differing: {}",
            self.items,
            named.join(", ")
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// How many per cent `part` is of `whole`; of nothing, none.
#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

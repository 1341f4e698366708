//! Histograms of fixed buckets. To record is two additions to counters that the cores do not share; the
//! exporter's own would keep every sample until it is asked for its figures.

use super::describe;
use metrics::{HistogramFn, Key};
use metrics_exporter_prometheus::formatting::{sanitize_label_value, write_help_line, write_type_line};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bounds of histograms of seconds: from a hit in memory to the longest wait.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0,
];
/// Bounds of histograms of records per group: up to the journal's 1,000.
const RECORDS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
/// The most buckets, with the one that has no bound.
const BUCKETS_MAX: usize = SECONDS.len() + 1;
/// Threads are spread over so many sets of counters.
const SHARDS: usize = 4;

/// Every series that anybody records in, by name and labels.
#[derive(Debug, Default)]
pub(super) struct Histograms {
    series: Mutex<BTreeMap<(String, String), Arc<Series>>>,
}

impl Histograms {
    pub(super) fn series(&self, key: &Key) -> Arc<Series> {
        let label =
            |label: &metrics::Label| format!("{}=\"{}\"", label.key(), sanitize_label_value(label.value()));
        let labels: Vec<String> = key.labels().map(label).collect();
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = series.entry((key.name().to_owned(), labels.join(",")));
        Arc::clone(of_name.or_insert_with(|| Arc::new(Series::new(bounds(key.name())))))
    }

    /// Appends the Prometheus text of all.
    pub(super) fn render(&self, text: &mut String) {
        let mut before = None;
        for ((name, labels), series) in &*self.series.lock().unwrap_or_else(PoisonError::into_inner) {
            if before.replace(name) != Some(name) {
                write_help_line(text, name, None, None, describe::help(name));
                write_type_line(text, name, None, None, "histogram");
            }
            series.render(name, labels, text);
        }
    }
}

fn bounds(name: &str) -> &'static [f64] {
    if name.ends_with("_records") { RECORDS } else { SECONDS }
}

/// The samples of one series.
#[derive(Debug)]
pub(super) struct Series {
    bounds: &'static [f64],
    shards: [Shard; SHARDS],
}

/// Counters of some threads, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    /// Samples at most as large as each bound and larger than the one before.
    counts: [AtomicU64; BUCKETS_MAX],
    /// The bits of the samples' sum.
    sum: AtomicU64,
}

impl Series {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, shards: std::array::from_fn(|_| Shard::default()) }
    }

    fn render(&self, name: &str, labels: &str, text: &mut String) {
        let comma = if labels.is_empty() { "" } else { "," };
        let bounds = self.bounds.iter().map(f64::to_string).chain([String::from("+Inf")]);
        let mut count = 0;
        for (index, bound) in bounds.enumerate() {
            let counts = self.shards.iter().filter_map(|shard| shard.counts.get(index));
            count += counts.map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
            line(text, format_args!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"));
        }
        let sum: f64 =
            self.shards.iter().map(|shard| f64::from_bits(shard.sum.load(Ordering::Relaxed))).sum();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        line(text, format_args!("{name}_sum{labels} {sum}"));
        line(text, format_args!("{name}_count{labels} {count}\n"));
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "{line}").is_ok();
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        let Some(shard) = self.shards.get(SHARD.with(|shard| *shard)) else { return };
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = shard.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let added = |sum| Some((f64::from_bits(sum) + value).to_bits());
        // It fails only where `added` gives nothing.
        let _added = shard.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added).is_ok();
    }
}

thread_local! {
    /// Which of the shards this thread counts in.
    static SHARD: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics::Label;

    #[test]
    fn samples_of_all_threads_are_counted_up_to_their_bounds() {
        let histograms = Histograms::default();
        let key = Key::from_parts("x_seconds", vec![Label::new("a", "b\"c"), Label::new("d", "e")]);
        std::thread::scope(|scope| {
            for value in [0.125, 0.25, 0.375, 60.0, 61.0, 0.375] {
                let series = histograms.series(&key);
                scope.spawn(move || series.record(value));
            }
        });
        histograms.series(&Key::from_name("x_records")).record(7.0);
        let mut text = String::new();
        histograms.render(&mut text);
        for expected in [
            "# TYPE x_records histogram\nx_records_bucket{le=\"1\"} 0\n",
            "x_records_bucket{le=\"5\"} 0\nx_records_bucket{le=\"10\"} 1\n",
            "x_records_sum 7\nx_records_count 1\n\n",
            "# TYPE x_seconds histogram\nx_seconds_bucket{a=\"b\\\"c\",d=\"e\",le=\"0.0001\"} 0\n",
            "le=\"0.1\"} 0\n",
            "le=\"0.25\"} 2\n",
            "le=\"0.5\"} 4\n",
            "le=\"60\"} 5\n",
            "le=\"+Inf\"} 6\nx_seconds_sum{a=\"b\\\"c\",d=\"e\"} 122.125\nx_seconds_count{a=\"b\\\"c\",d=\"e\"} 6\n\n",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }
}

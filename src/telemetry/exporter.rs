//! The recorder behind the `metrics` macros, and the Prometheus text it renders.

use super::histograms::Histograms;
use super::metrics::CONFIG_INFO;
use super::{describe, process};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tracing::warn;

static INSTALLED: OnceLock<Metrics> = OnceLock::new();

/// What the process has measured.
#[derive(Clone, Debug)]
pub struct Metrics {
    handle: PrometheusHandle,
    histograms: Arc<Histograms>,
    /// The digest of the configuration in force: of a label the recorder would keep every value for ever.
    digest: Arc<Mutex<String>>,
}

/// Installs the recorder of this process; a later call gives the same one. Handles made before
/// the first call record nothing.
pub fn install() -> Metrics {
    INSTALLED.get_or_init(Metrics::start).clone()
}

impl Metrics {
    fn start() -> Self {
        let (exporter, histograms) =
            (PrometheusBuilder::new().build_recorder(), Arc::<Histograms>::default());
        let handle = exporter.handle();
        let recorder = Recorder { exporter, histograms: Arc::clone(&histograms) };
        if metrics::set_global_recorder(recorder).is_err() {
            warn!("another metrics recorder is installed already; figures of this process go there");
        }
        describe::describe();
        metrics::gauge!(super::metrics::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Self { handle, histograms, digest: Arc::default() }
    }

    /// The Prometheus text, with what `/proc/self` says now.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        self.histograms.render(&mut text);
        self.render_config(&mut text);
        process::render(&mut text);
        text
    }

    /// Names the configuration in force by its digest, which is hexadecimal.
    pub fn set_config(&self, digest: &str) {
        digest.clone_into(&mut self.digest.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn render_config(&self, text: &mut String) {
        let digest = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
        if !digest.is_empty() {
            let (name, help) = (CONFIG_INFO, describe::help(CONFIG_INFO));
            let series =
                format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{digest=\"{digest}\"}} 1\n\n");
            text.push_str(&series);
        }
    }
}

/// Where the macros record: histograms in fixed buckets, everything else at the exporter's.
struct Recorder {
    exporter: PrometheusRecorder,
    histograms: Arc<Histograms>,
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.exporter.describe_counter(name, unit, help);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.exporter.describe_gauge(name, unit, help);
    }

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        // What is rendered here is described from the table itself.
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.exporter.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.exporter.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.histograms.series(key))
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics as names;
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_series_has_help_and_type() {
        install();
        metrics::counter!(names::QUOTA_DENIED, "route" => "none", "limit" => "unused").absolute(0);
        metrics::histogram!(names::JOURNAL_SECONDS).record(0.002);
        metrics::histogram!(names::JOURNAL_BATCH).record(7.0);
        let text = install().render();
        let described = |kind: &str| -> HashSet<&str> {
            text.lines()
                .filter_map(|line| line.strip_prefix("# ")?.strip_prefix(kind)?.split_whitespace().next())
                .collect()
        };
        let (help, types) = (described("HELP "), described("TYPE "));
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let series = line.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| series.strip_suffix(suffix).filter(|family| types.contains(family)))
                .unwrap_or(series);
            assert!(help.contains(family) && types.contains(family), "{series}\n{text}");
            assert!(family.starts_with("tidegate_") || family.starts_with("process_"), "{family}");
        }
        for expected in [
            "tidegate_build_info{version=\"",
            "tidegate_quota_denied_total{route=\"none\",limit=\"unused\"} 0",
            "tidegate_journal_commit_seconds_bucket{le=\"0.0025\"} ",
            "tidegate_journal_batch_records_bucket{le=\"10\"} ",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }
}

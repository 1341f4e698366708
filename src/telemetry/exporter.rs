//! The recorder behind the `metrics` macros, and the Prometheus text it renders.

use super::metrics::CONFIG_INFO;
use super::{describe, process};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tracing::warn;

/// Bounds of histograms of seconds: from a hit in memory to the longest wait.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0,
];
/// Bounds of histograms of records per group: up to the journal's 1,000.
const RECORDS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
/// How often samples of histograms are folded into their buckets; until then each is kept.
const UPKEEP: Duration = Duration::from_secs(5);

static INSTALLED: OnceLock<Metrics> = OnceLock::new();

/// What the process has measured.
#[derive(Clone, Debug)]
pub struct Metrics {
    handle: PrometheusHandle,
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
        let recorder = builder().build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            warn!("another metrics recorder is installed already; figures of this process go there");
        }
        describe::describe();
        metrics::gauge!(super::metrics::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Self { handle, digest: Arc::default() }
    }

    /// The Prometheus text, with what `/proc/self` says now.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.run_upkeep();
        let mut text = self.handle.render();
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

    /// Keeps histograms small between scrapes; runs until dropped.
    pub async fn upkeep(self) {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            self.handle.run_upkeep();
        }
    }
}

fn builder() -> PrometheusBuilder {
    let builder = PrometheusBuilder::new();
    let with_buckets = builder
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_records".into()), RECORDS));
    // Only an empty list of bounds is refused; without bounds they are summaries.
    with_buckets.unwrap_or_default()
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

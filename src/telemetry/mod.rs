//! Logs and metrics.

pub mod metrics;

/// How log lines are written.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Starts logging to standard error, filtered by `TIDEGATE_LOG`.
pub fn init(format: LogFormat) {
    let _ = format;
}

//! Logs, metrics and traces. Logs go to standard error, so that standard output stays for results.

mod describe;
mod exporter;
mod histograms;
pub mod metrics;
mod process;
pub mod spans;
pub mod trace;

use std::env::VarError;
use std::io::IsTerminal;
use tracing::warn;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// The environment variable that says what is logged.
const FILTER_VARIABLE: &str = "TIDEGATE_LOG";
/// What is logged where the variable says nothing.
const FILTER_DEFAULT: &str = "info";

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging, once per process; a later call changes nothing. A filter that cannot be read
/// costs a warning and the default applies.
pub fn init(format: LogFormat) {
    let (filter, fault) = filter(std::env::var(FILTER_VARIABLE));
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter);
    let started = match format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    if let (Ok(()), Some(fault)) = (started, fault) {
        warn!(variable = FILTER_VARIABLE, %fault, "the log filter cannot be read; \"{FILTER_DEFAULT}\" applies");
    }
}

/// The filter that a value of the variable asks for, and what is wrong with it.
fn filter(value: Result<String, VarError>) -> (EnvFilter, Option<String>) {
    let text = match value {
        Ok(text) if !text.trim().is_empty() => text,
        Ok(_) | Err(VarError::NotPresent) => return (EnvFilter::new(FILTER_DEFAULT), None),
        Err(fault @ VarError::NotUnicode(_)) => {
            return (EnvFilter::new(FILTER_DEFAULT), Some(fault.to_string()));
        }
    };
    match EnvFilter::try_new(&text) {
        Ok(filter) => (filter, None),
        Err(fault) => (EnvFilter::new(FILTER_DEFAULT), Some(fault.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_a_fault_and_the_default_applies() {
        for (value, shown, faulty) in [
            (Err(VarError::NotPresent), "info", false),
            (Ok(" ".to_owned()), "info", false),
            (Ok("warn,tidegate=debug".to_owned()), "tidegate=debug,warn", false),
            (Ok("tidegate=loudest".to_owned()), "info", true),
        ] {
            let (filter, fault) = filter(value.clone());
            assert_eq!((filter.to_string().as_str(), fault.is_some()), (shown, faulty), "{value:?}");
        }
    }

    #[test]
    fn a_second_init_does_not_panic() {
        init(LogFormat::Json);
        init(LogFormat::Text);
    }
}

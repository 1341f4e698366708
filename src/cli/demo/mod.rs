//! `tidegate demo`: the main job on embedded defaults.

use std::process::ExitCode;

/// The arguments of `tidegate demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {}

/// Runs the demo.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let _ = arguments;
    ExitCode::FAILURE
}

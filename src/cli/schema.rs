//! `tidegate schema`: the JSON Schema of the configuration, for editors.

use super::print;
use crate::config;
use std::process::ExitCode;

/// Prints the schema.
#[must_use]
pub fn run() -> ExitCode {
    print(format_args!("{:#}", config::schema()));
    ExitCode::SUCCESS
}

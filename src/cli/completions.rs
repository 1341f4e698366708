//! `tidegate completions`: what a shell needs to complete commands and their options.

use clap::CommandFactory;
use clap_complete::Shell;
use std::process::ExitCode;

/// The arguments of `tidegate completions`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  tidegate completions bash > /etc/bash_completion.d/tidegate")]
pub struct Arguments {
    /// Which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Cli::command(), "tidegate", &mut script);
    super::print(String::from_utf8_lossy(&script).trim_end());
    ExitCode::SUCCESS
}

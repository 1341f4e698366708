//! Arguments -> command -> exit code; one file per command.
//!
//! Exit codes: 0 done, 1 could not, 2 wrong arguments or configuration.

mod admin;
pub mod changes;
pub mod check;
pub mod completions;
pub mod demo;
pub mod explain;
pub mod journal;
pub mod man;
pub mod purge;
pub mod schema;
pub mod serve;
mod table;

use clap::{Parser, Subcommand};
use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code of wrong arguments and configurations.
const BAD_CONFIGURATION: u8 = 2;

/// A caching data-sync gateway.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or SIGINT
    Serve(serve::Arguments),
    /// Check a configuration file: every fault at once, with its place and a remedy
    Check(check::Arguments),
    /// Show the main job: a sample source and destination, a gateway, traffic, and a comparison
    Demo(demo::Arguments),
    /// Check a journal at rest
    Journal(journal::Arguments),
    /// Read changes and dead letters of a running gateway, send them again, decide doubts
    Changes(Box<changes::Arguments>),
    /// Ask a running gateway why a URL is answered as it is
    Explain(explain::Arguments),
    /// Make stored responses of a running gateway old, or gone
    Purge(purge::Arguments),
    /// Print the JSON Schema of the configuration
    #[command(after_help = "Example:\n  tidegate schema > tidegate.schema.json")]
    Schema,
    /// Print what a shell needs to complete commands
    Completions(completions::Arguments),
    /// Write manual pages into a folder
    #[command(hide = true)]
    Man(man::Arguments),
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => {
            // Help and version go to standard output, faults to standard error; a closed one is no matter.
            message.print().unwrap_or_default();
            return u8::try_from(message.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tell("tidegate: the TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    let code = match cli.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Journal(arguments) => journal::run(&arguments),
        Command::Changes(arguments) => changes::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Purge(arguments) => purge::run(&arguments),
        Command::Schema => schema::run(),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    };
    if OUTPUT_LOST.load(Ordering::Relaxed) { ExitCode::FAILURE } else { code }
}

/// Whether something could not be written to standard output, such as on a full disk: that is no success.
static OUTPUT_LOST: AtomicBool = AtomicBool::new(false);

/// Writes a line to standard output. Who closed it does not want it.
fn print(line: impl Display) {
    let mut output = std::io::stdout();
    let written = writeln!(output, "{line}").and_then(|()| output.flush());
    if let Err(fault) = written
        && fault.kind() != ErrorKind::BrokenPipe
        && !OUTPUT_LOST.swap(true, Ordering::Relaxed)
    {
        tell(format_args!("tidegate: standard output cannot be written: {fault}"));
    }
}

/// Writes a line to standard error. Who closed it does not want it.
fn tell(line: impl Display) {
    writeln!(std::io::stderr(), "{line}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    /// Every command below `command` that does something itself, with its path.
    fn leaves(command: &clap::Command, path: &str) -> Vec<(String, clap::Command)> {
        let path = format!("{path}{} ", command.get_name());
        let below: Vec<_> = command.get_subcommands().filter(|below| below.get_name() != "help").collect();
        if below.is_empty() {
            return vec![(path.trim().to_owned(), command.clone())];
        }
        below.into_iter().flat_map(|below| leaves(below, &path)).collect()
    }

    #[test]
    fn every_help_has_an_example_that_can_be_typed() {
        let all = leaves(&Cli::command(), "");
        assert!(all.len() > 15, "{}", all.len());
        for (path, command) in all {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> = help.lines().filter(|line| line.starts_with("  tidegate ")).collect();
            assert!(help.starts_with("Example:") && !examples.is_empty(), "{path}: {help:?}");
            for example in examples {
                assert!(example.trim().starts_with(&path), "{path}: {example}");
                let typed = example.split(['>', '|', '&']).next().unwrap_or_default();
                // Every other part stands in quotes.
                let words = typed.split('\'').enumerate().flat_map(|(at, part)| match at % 2 {
                    0 => part.split_whitespace().collect(),
                    _ => vec![part],
                });
                Cli::command()
                    .try_get_matches_from(words)
                    .unwrap_or_else(|fault| panic!("{example}: {fault}"));
            }
        }
    }

    #[test]
    fn every_command_has_a_manual_page() {
        let folder = tempfile::tempdir().unwrap();
        let written = man::run(&man::Arguments { folder: folder.path().join("man") });
        assert_eq!(format!("{written:?}"), format!("{:?}", ExitCode::SUCCESS));
        let page = |name: &str| std::fs::read_to_string(folder.path().join("man").join(name)).unwrap();
        assert!(page("tidegate.1").contains("caching data\\-sync gateway"));
        assert!(page("tidegate-changes-redrive.1").contains("tidegate changes redrive"));
    }
}

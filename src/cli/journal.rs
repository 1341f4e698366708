//! `tidegate journal check`: what a journal at rest holds, and whether it is sound.

use super::{print, tell};
use crate::sync::{self, AtRestReport};
use std::path::PathBuf;
use std::process::ExitCode;

/// The arguments of `tidegate journal`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  tidegate journal check --data data")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Check a journal that no process has open; nothing in its folder is changed
    Check(Check),
}

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  tidegate journal check --data data --json")]
struct Check {
    /// The journal's folder (`sync.data`)
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Print what was found as a JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// Checks a journal: 0 sound, 1 damaged or not readable.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let Command::Check(Check { data, json }) = &arguments.command;
    let report = match sync::examine(data) {
        Ok(report) => report,
        Err(error) => {
            tell(format_args!("tidegate: {error}"));
            return ExitCode::FAILURE;
        }
    };
    if *json {
        print(serde_json::json!(report));
    } else {
        show(&report);
    }
    if report.sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(report: &AtRestReport) {
    print(format_args!("format {}", report.format));
    for (state, count) in &report.changes {
        print(format_args!("changes {state}: {count}"));
    }
    for one in &report.destinations {
        print(format_args!(
            "destination {}: {} pending, {} dead letter(s), {} key(s) parked{}, settled to {}",
            one.name,
            one.pending,
            one.dead_letters,
            one.parked_keys,
            if one.paused { ", paused" } else { "" },
            one.frontier,
        ));
    }
    print(format_args!("in doubt: {}", report.in_doubt_count));
    for id in &report.in_doubt {
        print(format_args!("  {id}"));
    }
    for note in &report.notes {
        print(format_args!("note: {note}"));
    }
    for fault in &report.faults {
        print(format_args!("damaged: {fault}"));
    }
    for one in &report.damaged {
        let unknown = || "unknown".to_owned();
        let (id, key) = (one.id.clone().unwrap_or_else(unknown), one.key.clone().unwrap_or_else(unknown));
        print(format_args!("damaged: change {id}, number {}, key {key:?}", one.number));
    }
    if report.damaged_count > report.damaged.len() as u64 {
        print(format_args!("damaged: {} changes in all", report.damaged_count));
    }
    print(if report.sound { "sound" } else { "damaged" });
}

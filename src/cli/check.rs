//! `tidegate check`: every fault of a configuration file at once.

use super::{BAD_CONFIGURATION, print, tell};
use crate::config;
use std::path::PathBuf;
use std::process::ExitCode;

const ORDER_NOTE: &str = "note: changes of a key keep their order per gateway: with several gateways, \
    send the writes of a key to one of them";

/// The arguments of `tidegate check`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  tidegate check --config config/sidecar.toml")]
pub struct Arguments {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print the faults as a JSON array of objects on standard output
    #[arg(long)]
    json: bool,
}

/// Checks a file.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    match config::load(&arguments.config) {
        Ok(settings) => {
            for file in config::exposed(&settings.secret_files) {
                let file = file.display();
                tell(format_args!(
                    "{file}: warning: holds secrets, and everybody on this system can read it; chmod o-r {file}"
                ));
            }
            if arguments.json {
                print("[]");
            } else {
                let (routes, sources) = (settings.gateway.routes.len(), settings.sources.len());
                let file = arguments.config.display();
                print(format_args!("{file}: OK, {routes} route(s), {sources} source(s)"));
                // Nothing shows several gateways but the tier that they share.
                if settings.syncs() && settings.cache.shared.is_some() {
                    print(ORDER_NOTE);
                }
            }
            ExitCode::SUCCESS
        }
        Err(faults) => {
            if arguments.json {
                print(serde_json::json!(faults));
            } else {
                tell(faults);
            }
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}

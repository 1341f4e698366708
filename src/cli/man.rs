//! `tidegate man`: manual pages, for packagers.

use super::tell;
use clap::CommandFactory;
use std::path::PathBuf;
use std::process::ExitCode;

/// The arguments of `tidegate man`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  tidegate man target/man && man target/man/tidegate.1")]
pub struct Arguments {
    /// The folder that gets a page for each command
    #[arg(value_name = "FOLDER")]
    pub(super) folder: PathBuf,
}

/// Writes the pages: 0 done, 1 not.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let folder = &arguments.folder;
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(super::Cli::command(), folder));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            tell(format_args!(
                "tidegate: cannot write to {}: {cause}; name a folder that can be written",
                folder.display()
            ));
            ExitCode::FAILURE
        }
    }
}

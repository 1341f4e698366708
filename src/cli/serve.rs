//! `tidegate serve`: runs the gateway until a signal stops it.

use super::{BAD_CONFIGURATION, tell};
use crate::telemetry::{self, LogFormat};
use crate::{app, config};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The arguments of `tidegate serve`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  tidegate serve --config config/sidecar.toml")]
pub struct Arguments {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How log lines are written; the variable `TIDEGATE_LOG` filters them
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// Serves until SIGTERM or SIGINT; SIGHUP reads the file again.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    let settings = match config::load(&arguments.config) {
        Ok(settings) => settings,
        Err(faults) => {
            tell(faults);
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    telemetry::init(arguments.log_format);
    for file in config::exposed(&settings.secret_files) {
        tracing::warn!(?file, "holds secrets, and everybody on this system can read it: chmod o-r");
    }
    raise_descriptors();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(settings.threads).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(cause) => {
            tell(format_args!("tidegate: cannot start its threads: {cause}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(serve(settings, app::Origin::File(arguments.config.as_path().into())));
    // A second signal quits at once: nothing that still runs is waited for.
    runtime.shutdown_background();
    code
}

/// As many descriptors as the process may have: the soft bound is for programs that use `select`.
fn raise_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        tracing::warn!(?current, "the bound of descriptors cannot be raised");
    }
}

async fn serve(settings: config::Settings, origin: app::Origin) -> ExitCode {
    // Before anything listens, so that no signal kills a gateway that has begun.
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(cause) => {
            tell(format_args!("tidegate: cannot wait for signals: {cause}"));
            return ExitCode::FAILURE;
        }
    };
    let running = tokio::select! {
        started = app::start(settings, origin) => match started {
            Ok(running) => running,
            Err(cause) => {
                tell(format_args!("tidegate: {cause}"));
                return ExitCode::FAILURE;
            }
        },
        () = signals.stop() => return ExitCode::SUCCESS,
    };
    while signals.next().await == Word::Reload {
        running.reload();
    }
    tokio::select! {
        () = running.stop() => ExitCode::SUCCESS,
        () = signals.stop() => ExitCode::FAILURE,
    }
}

/// What a signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Stop,
    Reload,
}

/// SIGTERM and SIGINT, which mean the same, and SIGHUP, which would end a process that does not wait for it.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// A write beyond the process's file-size limit: waited for so that it is an error of that write.
    _file_size: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            _file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    async fn next(&mut self) -> Word {
        tokio::select! {
            _ = self.terminate.recv() => Word::Stop,
            _ = self.interrupt.recv() => Word::Stop,
            _ = self.hangup.recv() => Word::Reload,
        }
    }

    /// Whatever else is said while the gateway starts or stops: the watch sees a file that changes meanwhile.
    async fn stop(&mut self) {
        while self.next().await != Word::Stop {}
    }
}

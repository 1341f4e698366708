//! Tidegate beside its peers on the same work: `make load-peers`.
//!
//! All servers run at once, each a child process with a configuration of its own on the loopback; rounds go
//! through them in turn, and what counts is processor time of each one's whole tree of processes. Bare
//! servers that are this program again show what the machine alone costs. A peer that is not installed is
//! left out by name.

pub(crate) mod client;
mod cold;
mod contest;
mod durable;
mod growth;
mod handshakes;
mod haproxy;
mod head;
mod latency;
mod memory;
mod nginx;
pub(crate) mod origin;
mod report;
pub(crate) mod rows;
mod secure;
pub(crate) mod server;
mod stand_in;
mod start;
mod table;
pub(crate) mod tidegate;
mod traffic_server;
mod tree;
mod varnish;
mod verdict;

use ::tidegate::clock::Clock;
use anyhow::{Context, bail, ensure};
use contest::Rounds;
use origin::Origin;
use report::Findings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use server::{Rival, Server, Setting};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, timeout};

pub(crate) use contest::{CLIENTS, Watch};
pub(crate) use stand_in::{ARGUMENT as STAND_IN, run as stand_in};

/// How much and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: Rounds,
    /// Keys of one round of misses, and rounds of it at most.
    pub(crate) misses: u64,
    pub(crate) miss_rounds: u64,
    /// Responses that are stored to see what they take.
    pub(crate) kept: u64,
    /// Keys where a great many are stored.
    pub(crate) grown: u64,
    /// Requests of one round over TLS.
    pub(crate) secure: u64,
    /// Handshakes of one round.
    pub(crate) handshakes: u64,
    /// One round of the open loop.
    pub(crate) latency: Duration,
    pub(crate) starts: usize,
    /// Changes that are unsettled at a start.
    pub(crate) unsettled: u64,
    /// Rounds of the crowd on a cold key.
    crowd_rounds: u64,
    /// Rounds of durable writes, and how long each measurement of them is.
    durable_rounds: u64,
    durable: Duration,
    /// All scenarios but the last two end by then.
    limit: Duration,
}

impl Plan {
    /// Less than a quarter of an hour on an idle machine of two cores.
    const FULL: Self = Self {
        rounds: Rounds { count: 5, length: Duration::from_millis(1_200) },
        misses: 100_000,
        miss_rounds: 3,
        kept: 100_000,
        grown: 1_000_000,
        secure: 60_000,
        handshakes: 3_000,
        latency: Duration::from_millis(1_500),
        starts: 7,
        unsettled: 100_000,
        crowd_rounds: 5,
        durable_rounds: 3,
        durable: Duration::from_secs(2),
        limit: Duration::from_mins(13),
    };
    /// Less than four minutes.
    const QUICK: Self = Self {
        rounds: Rounds { count: 3, length: Duration::from_millis(400) },
        misses: 20_000,
        miss_rounds: 3,
        kept: 20_000,
        grown: 100_000,
        secure: 20_000,
        handshakes: 1_000,
        latency: Duration::from_millis(500),
        starts: 3,
        unsettled: 5_000,
        crowd_rounds: 1,
        durable_rounds: 1,
        durable: Duration::from_secs(1),
        limit: Duration::from_secs(200),
    };
}

/// How the run is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Peers: in less than four minutes, with fewer keys and shorter rounds; figures are rough.
    #[arg(long)]
    quick: bool,
    /// Peers: the results go there too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Peers: only scenarios whose name has this in it.
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// Peers: measures nothing, and prints the table for README.md of a file that --json has written.
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
}

impl Options {
    fn takes(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|part| name.contains(part.as_str()))
    }
}

/// What all scenarios of a run share.
pub(crate) struct Run {
    pub(crate) plan: Plan,
    pub(crate) setting: Setting,
    pub(crate) origin: Origin,
    servers: Vec<Server>,
}

impl Run {
    /// One that runs all the time; none where it could not be started.
    pub(crate) fn server(&self, rival: Rival) -> Option<&Server> {
        self.servers.iter().find(|server| server.rival == rival)
    }
}

/// Runs all scenarios and prints what they found; an error where something is short.
pub(crate) async fn compare(options: &Options, binary: PathBuf) -> anyhow::Result<()> {
    if let Some(path) = &options.table {
        return table::print(path);
    }
    let mut asked_to_end = signal(SignalKind::terminate())?;
    // What was started is dropped with the run, and ends.
    tokio::select! {
        result = compared(options, binary) => result,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = asked_to_end.recv() => bail!("asked to end"),
    }
}

async fn compared(options: &Options, binary: PathBuf) -> anyhow::Result<()> {
    let begun_at = Instant::now();
    let plan = if options.quick { Plan::QUICK } else { Plan::FULL };
    let folder = tempfile::tempdir()?;
    let mut found = Findings::default();
    let descriptors = raise_descriptors()?;
    let run = set_up(plan, binary, folder.path(), &mut found).await?;
    found.notes.push(format!("{descriptors} descriptors for each process"));
    scenarios(&run, options, &mut found, begun_at).await;
    let binary = run.setting.binary.clone();
    for server in run.servers {
        server.stop().await?;
    }
    if options.takes(cold::NAME) {
        cold::measure(plan.crowd_rounds, &binary, &mut found).await;
    }
    if options.takes(durable::NAME) {
        durable::measure(plan.durable_rounds, plan.durable, &binary, &mut found).await;
    }
    print(options, &found, begun_at.elapsed())
}

/// Starts everything that runs all the time.
async fn set_up(plan: Plan, binary: PathBuf, folder: &Path, found: &mut Findings) -> anyhow::Result<Run> {
    let origin = Origin::start(Clock::system().wall()).await?;
    let (cert, key) = secure::certificate(folder)?;
    let setting = Setting { binary, source: origin.address, cert, key };
    let mut servers = Vec::new();
    for rival in [Rival::Tidegate, Rival::TidegateTls, Rival::Bare, Rival::BareForward, Rival::Constant] {
        servers.push(Server::start(rival, &setting).await?);
    }
    for peer in Rival::PEERS {
        match Server::start(peer, &setting).await {
            Ok(server) => {
                found.notes.push(version(peer));
                servers.push(server);
            }
            Err(fault) => found.notes.push(format!("{} is left out: {fault:#}", peer.name())),
        }
    }
    Ok(Run { plan, setting, origin, servers })
}

async fn scenarios(run: &Run, options: &Options, found: &mut Findings, begun_at: Instant) {
    macro_rules! in_turn {
        ($($name:literal => $scenario:path,)*) => {$(
            if options.takes($name) {
                let left = run.plan.limit.saturating_sub(begun_at.elapsed());
                match timeout(left, $scenario(run, found)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(fault)) => found.broken($name, &fault),
                    Err(_) => found.broken($name, &anyhow::anyhow!("the time of {:?} is over", run.plan.limit)),
                }
            }
        )*};
    }
    in_turn! {
        "hit, 1 KiB, one key" => rows::one_key,
        "hit, 1 KiB, 10,000 keys" => rows::many_keys,
        "hit, 100 KiB" => rows::big,
        "hit with a quota" => rows::quota,
        "conditional hit" => rows::conditional,
        "forward, 1 KiB, 10,000 keys" => rows::forward,
        "forward, 1 KiB, one key" => rows::forward_one_key,
        "miss and store" => rows::misses,
        "memory" => memory::measure,
        "growth" => growth::measure,
        "start" => start::measure,
        "hits over HTTP/2 and TLS" => secure::measure,
        "TLS handshakes" => handshakes::measure,
        "latency" => latency::measure,
    }
}

fn print(options: &Options, found: &Findings, took: Duration) -> anyhow::Result<()> {
    let how = if options.quick { "quick: figures are rough" } else { "full" };
    let title = format!("peers: {} connections, {how}, {} s", contest::CLIENTS, took.as_secs());
    crate::report::print_lines(&title, &found.lines())?;
    if let Some(path) = &options.json {
        let date = humantime::format_rfc3339_seconds(Clock::system().wall()).to_string();
        let (machine, versions) = (crate::report::machine(), crate::report::versions());
        let whole = json!({
            "date": date, "machine": machine, "versions": versions, "quick": options.quick, "found": found,
        });
        fs::write(path, serde_json::to_string_pretty(&whole)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    ensure!(!found.figures.is_empty(), "nothing was measured: is it the name of a scenario?");
    let failing = found.failing();
    ensure!(failing == 0, "{failing} figures are short or were not measured");
    Ok(())
}

/// The first line that a peer says when asked for its version.
fn version(peer: Rival) -> String {
    let said = peer.version().and_then(|(program, flag)| Command::new(program).arg(flag).output().ok());
    let text = said.map(|said| [said.stdout, said.stderr].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| line.contains(|byte: char| byte.is_ascii_digit()));
    format!("{}: {}", peer.name(), line.unwrap_or("unknown version"))
}

/// As many descriptors as this process may have, for it and its children.
fn raise_descriptors() -> anyhow::Result<u64> {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    Ok(most.unwrap_or(u64::MAX))
}

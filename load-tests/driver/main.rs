//! The load driver: `cargo run --release --example load -- hits`, or `writes`, `lag`, `collapse`,
//! `brownout`, `tiers`, `purge`, `peers`, `instructions`.
//!
//! Open loop, but for `collapse`, `writes`, `tiers`, `purge` and `peers`: requests have fixed times, whether or not earlier ones were answered, and latency is
//! measured from those times, so that a stall of the gateway is seen by every request that it
//! delayed. Bounded in rate, time and connections; talks to the loopback only.

mod answer;
mod brownout;
mod collapse;
mod crowd;
mod gateway;
mod instructions;
mod lag;
mod peers;
mod pressure;
mod process;
mod purge;
mod readers;
mod report;
mod rivals;
mod schedule;
mod stage;
mod tiers;
mod writes;

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use gateway::Gateway;
use report::{Latency, Report};
use schedule::{Answer, Load, Measured, Request};
use stage::Stage;
use std::path::PathBuf;
use std::time::Duration;

/// The items that the `hits` scenario reads.
const ITEMS: u64 = 256;

/// What is measured.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scenario {
    /// Answers from memory.
    Hits,
    /// As many writes as go, with fsync, beside a bare program, Redis and `PostgreSQL`.
    Writes,
    /// Three destinations, one of them silent for a while.
    Lag,
    /// Many clients at once on what is not stored.
    Collapse,
    /// A source that becomes ten times slower, and comes back.
    Brownout,
    /// Memory, Redis and the source in one run, beside redis-benchmark.
    Tiers,
    /// A purge by a tag of few responses and of very many.
    Purge,
    /// The same work by nginx, haproxy, Varnish and Traffic Server, in turn.
    Peers,
    /// What an answer costs under callgrind, against its budget.
    Instructions,
}

/// Drives a release build of the gateway on this machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// What is measured.
    scenario: Scenario,
    /// Requests a second [default: 5000 hits and brownout, 2000 lag]; `writes` and `collapse` have none.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=200_000))]
    rate: Option<u64>,
    /// How long [default: 20; 5 writes, 60 lag]; for brownout each of its three phases, for writes each
    /// measurement, for lag the fault.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=300))]
    seconds: Option<u64>,
    /// Clients, each with one request at a time [default: 1000 collapse, else 64].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    clients: Option<u64>,
    /// How often collapse asks for something new, of each kind of source, and writes measures
    /// [default: 5; 3 writes, tiers and purge].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=20))]
    rounds: Option<u64>,
    /// What the source waits before it answers, in milliseconds [default: 500 collapse, 50 brownout].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=5_000))]
    source_ms: Option<u64>,
    /// Responses that Redis has, or that carry the tag [default: 20000 tiers, 100000 purge].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=200_000))]
    responses: Option<u64>,
    /// The gateway's binary [default: the one of the same build].
    #[arg(long)]
    binary: Option<PathBuf>,
    /// A gateway that runs already, instead of one of the driver's own; loopback only.
    #[arg(long, value_name = "URL")]
    url: Option<url::Url>,
    #[command(flatten)]
    peers: rivals::Options,
    #[command(flatten)]
    instructions: instructions::Options,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if std::env::args_os().nth(1).is_some_and(|first| first == rivals::STAND_IN) {
        return rivals::stand_in().await;
    }
    let arguments = Arguments::parse();
    if let Some(url) = &arguments.url {
        ensure!(
            is_loopback(url),
            "{url} is not on the loopback: this driver loads only the machine it runs on"
        );
        let reads_alone = matches!(arguments.scenario, Scenario::Hits);
        ensure!(reads_alone, "this scenario needs a gateway of its own, in front of its own source");
    }
    let stage = Stage::start().await?;
    match arguments.scenario {
        Scenario::Tiers => return tiers(&arguments, &stage).await,
        Scenario::Purge => return purge(&arguments, &stage).await,
        Scenario::Peers => return beside_peers(&arguments).await,
        Scenario::Instructions => {
            let binary = arguments.binary.clone().map_or_else(gateway::same_build, Ok)?;
            return instructions::count(&arguments.instructions, &binary).await;
        }
        Scenario::Hits | Scenario::Writes | Scenario::Lag | Scenario::Collapse | Scenario::Brownout => {}
    }
    let gateway = match &arguments.url {
        Some(url) => Gateway::running_at(url),
        None => Gateway::start(arguments.binary.as_deref(), &stage).await?,
    };
    let result = match arguments.scenario {
        Scenario::Hits => hits(&arguments, &gateway).await.and_then(|report| report::print(&report)),
        Scenario::Writes => writes(&arguments, &gateway, &stage).await,
        Scenario::Lag => lag(&arguments, &gateway, &stage).await,
        Scenario::Collapse => collapse(&arguments, &gateway, &stage).await,
        Scenario::Brownout => brownout(&arguments, &gateway, &stage).await,
        Scenario::Tiers | Scenario::Purge | Scenario::Peers | Scenario::Instructions => Ok(()),
    };
    gateway.stop().await?;
    result
}

async fn beside_peers(arguments: &Arguments) -> anyhow::Result<()> {
    let binary = arguments.binary.clone().map_or_else(gateway::same_build, Ok)?;
    rivals::compare(&arguments.peers, binary).await
}

fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(_)) | None => false,
    }
}

fn load(arguments: &Arguments, rate_default: u64) -> Load {
    Load {
        rate: arguments.rate.unwrap_or(rate_default),
        length: Duration::from_secs(arguments.seconds.unwrap_or(20)),
        clients: arguments.clients.unwrap_or(64),
    }
}

fn item_url(base: &str, number: u64) -> String {
    format!("{base}/items/{}", number % ITEMS)
}

async fn hits(arguments: &Arguments, gateway: &Gateway) -> anyhow::Result<Report> {
    let base = gateway.base.clone();
    let read = move |number| Request::get(item_url(&base, number));
    for number in 0..ITEMS {
        let answer = schedule::send_once(read(number)).await.context("the gateway answers no read")?;
        ensure!(!matches!(answer, Answer::Refused(_)), "a read was answered {answer:?}");
    }
    let load = load(arguments, 5_000);
    let cpu_before = gateway.cpu_time()?;
    let measured = schedule::run(load, read).await;
    let mut report = Report::new("hits", load, &measured);
    report.cpu_per_request = cpu_per_request(cpu_before, gateway.cpu_time()?, &measured);
    let others = measured.answered.saturating_sub(measured.hits);
    report.notes.push(format!("{} answers from memory, {others} others", measured.hits));
    Ok(report)
}

async fn writes(arguments: &Arguments, gateway: &Gateway, stage: &Stage) -> anyhow::Result<()> {
    let plan = writes::Plan {
        clients: arguments.clients.unwrap_or(64),
        rounds: arguments.rounds.unwrap_or(3),
        length: Duration::from_secs(arguments.seconds.unwrap_or(5)),
    };
    let lines = writes::run(plan, gateway, stage).await?.lines;
    let title = format!("writes: {} clients, {} rounds", plan.clients, plan.rounds);
    report::print_lines(&title, &lines)
}

async fn lag(arguments: &Arguments, gateway: &Gateway, stage: &Stage) -> anyhow::Result<()> {
    let load = Load {
        rate: arguments.rate.unwrap_or(2_000),
        length: Duration::from_secs(arguments.seconds.unwrap_or(60)),
        clients: arguments.clients.unwrap_or(64),
    };
    let lines = lag::run(lag::Plan { load }, gateway, stage).await?;
    let title = format!("lag: {} changes a second to three destinations, one silent for a while", load.rate);
    report::print_lines(&title, &lines)
}

async fn collapse(arguments: &Arguments, gateway: &Gateway, stage: &Stage) -> anyhow::Result<()> {
    let plan = collapse::Plan {
        clients: arguments.clients.unwrap_or(1_000),
        rounds: arguments.rounds.unwrap_or(5),
        latency: Duration::from_millis(arguments.source_ms.unwrap_or(500)),
    };
    let lines = collapse::run(plan, gateway, stage).await?.lines;
    let title = format!("collapse: {} clients at once on a cold key, {} rounds", plan.clients, plan.rounds);
    report::print_lines(&title, &lines)
}

async fn brownout(arguments: &Arguments, gateway: &Gateway, stage: &Stage) -> anyhow::Result<()> {
    let load = load(arguments, 5_000);
    let latency = Duration::from_millis(arguments.source_ms.unwrap_or(50));
    let lines = brownout::run(brownout::Plan { load, latency }, gateway, stage).await?;
    let title = format!("brownout: {} requests a second, 95 % of them for what is stored", load.rate);
    report::print_lines(&title, &lines)
}

async fn tiers(arguments: &Arguments, stage: &Stage) -> anyhow::Result<()> {
    let plan = tiers::Plan {
        clients: arguments.clients.unwrap_or(64),
        rounds: arguments.rounds.unwrap_or(3),
        responses: arguments.responses.unwrap_or(20_000),
    };
    let lines = tiers::run(plan, arguments.binary.as_deref(), stage).await?;
    let title = format!("tiers: {} clients, {} rounds", plan.clients, plan.rounds);
    report::print_lines(&title, &lines)
}

async fn purge(arguments: &Arguments, stage: &Stage) -> anyhow::Result<()> {
    let plan = purge::Plan {
        clients: arguments.clients.unwrap_or(64),
        rounds: arguments.rounds.unwrap_or(3),
        responses: arguments.responses.unwrap_or(100_000),
    };
    let lines = purge::run(plan, arguments.binary.as_deref(), stage).await?;
    report::print_lines(&format!("purge: by a tag, {} rounds", plan.rounds), &lines)
}

/// Microseconds of the gateway's processor time for each answer; none for a gateway that is not ours.
fn cpu_per_request(
    before: Option<Duration>,
    after: Option<Duration>,
    measured: &Measured,
) -> Option<Latency> {
    let spent = after?.checked_sub(before?)?;
    let answered = u32::try_from(measured.answered).ok().filter(|answered| *answered > 0)?;
    Some(Latency(spent / answered))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments_are_sound_and_bounded() {
        Arguments::command().debug_assert();
        for refused in [["--rate", "200001"], ["--seconds", "0"], ["--clients", "1025"], ["--rounds", "21"]] {
            let given = ["load", "hits"].into_iter().chain(refused);
            assert!(Arguments::try_parse_from(given).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn nothing_but_the_loopback_is_loaded() {
        for (url, loaded) in [
            ("http://127.0.0.1:8080", true),
            ("http://127.8.7.6/", true),
            ("http://[::1]:80/", true),
            ("http://192.0.2.1/", false),
            ("http://[2001:db8::1]/", false),
            ("http://localhost.example/", false),
            ("http://localhost/", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), loaded, "{url}");
        }
    }
}

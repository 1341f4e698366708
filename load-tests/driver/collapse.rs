//! A thousand clients ask at once for what is not stored. Each round has a key of its own; a control
//! round goes straight to the source, and shows what clients and machine alone cost.

use crate::answer::Origin;
use crate::crowd::{Crowd, Round, Seen};
use crate::gateway::Gateway;
use crate::process;
use crate::report::{self, Latency};
use crate::stage::{CHUNK_EVERY, CHUNKS, Stage};
use anyhow::Context;
use std::net::SocketAddr;
use std::time::Duration;

/// What every client has read before a round, so that its connection stands.
const WARM_PATH: &str = "/items/0";
/// A gateway waits so long for a head before a second client's request leads too.
const EXTRA_LEADER_AFTER: Duration = Duration::from_secs(1);

/// The source that is asked.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Answers late, and then all at once.
    Slow,
    /// Answers at once, in parts over two seconds.
    Stream,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Stream => "stream",
        }
    }
}

/// How many, how often, how late.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) clients: u64,
    pub(crate) rounds: u64,
    /// What the slow source waits.
    pub(crate) latency: Duration,
}

impl Plan {
    /// The most forwards of one round that are right.
    fn forwards_max(self, kind: Kind) -> u64 {
        match kind {
            Kind::Slow if self.latency >= EXTRA_LEADER_AFTER => 2,
            Kind::Slow | Kind::Stream => 1,
        }
    }
}

/// A round in figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figures {
    /// Of the first client that was forwarded for.
    leader_first: Duration,
    leader_last: Duration,
    slowest_first: Duration,
    slowest_last: Duration,
    /// From each client's own sending to its first byte: the middle one.
    own_first_p50: Duration,
    /// Until the last request was written.
    sending: Duration,
}

impl Figures {
    /// None where nobody was forwarded for.
    fn of(seen: &[Seen]) -> Option<Self> {
        let led = seen.iter().filter(|seen| seen.origin == Origin::Forwarded);
        let leader = led.min_by_key(|seen| seen.first)?;
        let mut own_first: Vec<_> = seen.iter().map(|seen| seen.first.saturating_sub(seen.sent)).collect();
        own_first.sort_unstable();
        Some(Self {
            leader_first: leader.first,
            leader_last: leader.last,
            slowest_first: seen.iter().map(|seen| seen.first).max()?,
            slowest_last: seen.iter().map(|seen| seen.last).max()?,
            own_first_p50: report::quantile(&own_first, 500).0,
            sending: seen.iter().map(|seen| seen.sent).max()?,
        })
    }
}

/// What the rounds of one kind of source came to; a value for each round.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) forwards: Vec<u64>,
    pub(crate) failed: usize,
    /// The last byte of the last client.
    pub(crate) slowest_last: Vec<Duration>,
    /// From each client's own sending to its first byte: the middle one.
    pub(crate) own_first_p50: Vec<Duration>,
    /// Of the gateway, for each client.
    pub(crate) cpu_each: Vec<Duration>,
}

/// What a run came to.
#[derive(Debug, Default)]
pub(crate) struct Collapsed {
    /// The report.
    pub(crate) lines: Vec<String>,
    pub(crate) slow: Rounds,
    pub(crate) stream: Rounds,
}

/// Plays all rounds.
pub(crate) async fn run(plan: Plan, gateway: &Gateway, stage: &Stage) -> anyhow::Result<Collapsed> {
    stage.set_latency(plan.latency);
    let mut lines = vec![
        format!(
            "slow: 1 KiB after {:?}; stream: {CHUNKS} parts of 1 KiB, the first at once, one every {CHUNK_EVERY:?}",
            plan.latency
        ),
        "each client on a connection that was used before; all times from before the first request of a round"
            .to_owned(),
        "\n| round | forwards | collapsed | stored | failed | first byte: leader | slowest | over | last byte: leader | slowest | over | own p50 to first byte | all sent after |".to_owned(),
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    let (mut costs, mut slow, mut stream) = (Vec::new(), Rounds::default(), Rounds::default());
    for (kind, rounds) in [(Kind::Slow, &mut slow), (Kind::Stream, &mut stream)] {
        direct(plan, kind, stage, &mut lines).await?;
        costs.push(collapsed(plan, kind, (gateway, stage), rounds, &mut lines).await?);
    }
    lines.push(String::new());
    lines.extend(costs);
    if let Some(peak_kib) = gateway.memory_kib("VmHWM")? {
        lines.push(format!("the gateway's memory at its peak (VmHWM): {} MiB", peak_kib >> 10));
    }
    Ok(Collapsed { lines, slow, stream })
}

/// The control: the same crowd, no gateway.
async fn direct(plan: Plan, kind: Kind, stage: &Stage, lines: &mut Vec<String>) -> anyhow::Result<()> {
    let crowd = Crowd::connect(stage.source, plan.clients, WARM_PATH).await?;
    let before = stage.forwards();
    let round = crowd.ask(&format!("/{}/direct", kind.folder())).await?;
    lines.push(row(&format!("{} without gateway", kind.folder()), stage.forwards() - before, &round));
    Ok(())
}

/// The rounds through the gateway; returns what they cost.
async fn collapsed(
    plan: Plan,
    kind: Kind,
    (gateway, stage): (&Gateway, &Stage),
    rounds: &mut Rounds,
    lines: &mut Vec<String>,
) -> anyhow::Result<String> {
    let address: SocketAddr = gateway.base.trim_start_matches("http://").parse()?;
    let folder = kind.folder();
    let mut crowd = Crowd::connect(address, plan.clients, WARM_PATH).await?;
    let idle_kib = gateway.memory_kib("VmRSS")?.context("a gateway of the driver's own")?;
    let (clients, mut own_spent) = (u32::try_from(plan.clients)?, Duration::ZERO);
    for number in 1..=plan.rounds {
        let before = stage.forwards();
        let (cpu, own_cpu) = (gateway.cpu_time()?, process::cpu_time("self")?);
        let round = crowd.ask(&format!("/{folder}/{number}")).await?;
        let spent = gateway.cpu_time()?.zip(cpu).map(|(after, before)| after.saturating_sub(before));
        rounds.cpu_each.push(spent.unwrap_or_default() / clients);
        own_spent += process::cpu_time("self")?.saturating_sub(own_cpu);
        let forwards = stage.forwards() - before;
        lines.push(row(&format!("{folder} {number}"), forwards, &round));
        rounds.forwards.push(forwards);
        rounds.failed += round.failures.len();
        if let Some(figures) = Figures::of(&round.seen) {
            rounds.slowest_last.push(figures.slowest_last);
            rounds.own_first_p50.push(figures.own_first_p50);
        }
        if forwards > plan.forwards_max(kind) {
            lines.push(format!("TOO MANY FORWARDS: {forwards}, at most {}", plan.forwards_max(kind)));
        }
        if let Some(failure) = round.failures.first() {
            lines.push(format!("FAILED: {} clients, the first: {failure}", round.failures.len()));
            crowd = Crowd::connect(address, plan.clients, WARM_PATH).await?;
        }
    }
    let played = u32::try_from(plan.rounds)?;
    Ok(format!(
        "{folder}: processor time for each client: gateway {}, driver and source {}; \
         memory before the rounds, clients connected: {} MiB",
        Latency(rounds.cpu_each.iter().sum::<Duration>() / played),
        Latency(own_spent / clients / played),
        idle_kib >> 10
    ))
}

fn row(name: &str, forwards: u64, round: &Round) -> String {
    let of = |origin| round.seen.iter().filter(|seen| seen.origin == origin).count();
    let counts = format!(
        "| {name} | {forwards} | {} | {} | {} |",
        of(Origin::Collapsed),
        of(Origin::Stored),
        round.failures.len()
    );
    let Some(figures) = Figures::of(&round.seen) else { return format!("{counts} nobody led |") };
    let over = |slowest: Duration, leader: Duration| slowest.as_secs_f64() / leader.as_secs_f64();
    format!(
        "{counts} {} | {} | {:.2} | {} | {} | {:.2} | {} | {} |",
        Latency(figures.leader_first),
        Latency(figures.slowest_first),
        over(figures.slowest_first, figures.leader_first),
        Latency(figures.leader_last),
        Latency(figures.slowest_last),
        over(figures.slowest_last, figures.leader_last),
        Latency(figures.own_first_p50),
        Latency(figures.sending)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sent_ms: u64, first_ms: u64, last_ms: u64, origin: Origin) -> Seen {
        let ms = Duration::from_millis;
        Seen { sent: ms(sent_ms), first: ms(first_ms), last: ms(last_ms), origin }
    }

    #[test]
    fn followers_are_compared_with_the_first_leader() {
        let round = [
            seen(0, 40, 90, Origin::Collapsed),
            seen(1, 30, 80, Origin::Forwarded),
            seen(5, 20, 95, Origin::Stored),
            seen(2, 60, 85, Origin::Forwarded),
        ];
        let ms = Duration::from_millis;
        let figures = Figures::of(&round).unwrap();
        assert_eq!((figures.leader_first, figures.leader_last), (ms(30), ms(80)));
        assert_eq!((figures.slowest_first, figures.slowest_last), (ms(60), ms(95)));
        assert_eq!((figures.own_first_p50, figures.sending), (ms(29), ms(5)));
        assert_eq!(Figures::of(&round[..1]), None, "a follower of nobody");
    }

    #[test]
    fn a_second_forward_is_right_only_where_the_head_is_late() {
        let plan = |latency_ms| Plan { clients: 1, rounds: 1, latency: Duration::from_millis(latency_ms) };
        for (latency_ms, kind, most) in
            [(500, Kind::Slow, 1), (1_500, Kind::Slow, 2), (1_500, Kind::Stream, 1)]
        {
            assert_eq!(plan(latency_ms).forwards_max(kind), most, "{latency_ms} {kind:?}");
        }
    }
}

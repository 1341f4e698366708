//! Acknowledged changes a second, with fsync on: through the gateway in both modes, and beside it, on the
//! same disk in the same run, what others acknowledge durably. Rounds go through all of them in turn, and
//! only ratios within a round are compared.

use crate::gateway::{Act, Gateway};
use crate::peers::{self, RECORD_BYTES};
use crate::pressure::{Pressed, Writers};
use crate::process;
use crate::stage::Stage;
use anyhow::Context;
use std::fmt::Write;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The destination of what is written.
const DESTINATION: &str = "destination";
/// The longest wait for the destination to have every write.
const DELIVERED_WAIT_MAX: Duration = Duration::from_mins(5);
/// Seconds that the source rests longer than the measurement takes.
const REST_LONGER: u64 = 2;
/// How long one client writes until the gateway has been told that the source rests.
const RESTS_AFTER: Duration = Duration::from_millis(200);
/// Between two looks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How many, how often, how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) clients: u64,
    pub(crate) rounds: u64,
    /// Of one measurement.
    pub(crate) length: Duration,
}

/// One round, in answers a second.
struct Round {
    bare: f64,
    redis: anyhow::Result<f64>,
    postgres: anyhow::Result<f64>,
    /// Nothing is carried meanwhile.
    durable: Timed,
    /// The source gets its writes meanwhile.
    accept: Timed,
    /// Of the gateway, for a delivery of what was accepted.
    delivery_cpu: Duration,
    /// Writes that are forwarded and not followed.
    plain: Timed,
    through: Pressed,
    /// Of the gateway, for a change through it and to the destination.
    through_cpu: Duration,
    /// Of driver, source and destination, for the same.
    others_cpu: Duration,
    /// From the last answer to the last delivery.
    delivered_after: Duration,
}

/// Answers, and what of the gateway's time went by for each until the last.
struct Timed {
    pressed: Pressed,
    cpu: Duration,
}

/// What all rounds came to, each figure by round.
pub(crate) struct Written {
    /// Of the report.
    pub(crate) lines: Vec<String>,
    /// Durable answers a second over what others acknowledge; empty where one was not measured.
    pub(crate) over_redis: Vec<f64>,
    pub(crate) over_postgres: Vec<f64>,
    /// What an accepted change costs the gateway beyond a forward while deliveries are paused, in microseconds.
    pub(crate) record_micros: Vec<f64>,
    /// What a change through costs it beyond its forward and its delivery.
    pub(crate) extra_micros: Vec<f64>,
}

impl Written {
    fn of(plan: Plan, rounds: &[Round]) -> Self {
        let over = |rate: fn(&Round) -> Option<f64>| {
            let ratio = |round| Some(Round::durable_rate(round) / rate(round)?);
            rounds.iter().filter_map(ratio).collect()
        };
        Self {
            lines: lines(plan, rounds),
            over_redis: over(|round| round.redis.as_ref().ok().copied()),
            over_postgres: over(|round| round.postgres.as_ref().ok().copied()),
            record_micros: rounds.iter().map(Round::record_micros).collect(),
            extra_micros: rounds.iter().map(Round::extra_micros).collect(),
        }
    }
}

impl Round {
    fn durable_rate(&self) -> f64 {
        self.durable.pressed.rate()
    }

    fn record_micros(&self) -> f64 {
        extra_micros(self.accept.cpu, self.plain.cpu, Duration::ZERO)
    }

    fn extra_micros(&self) -> f64 {
        extra_micros(self.through_cpu, self.plain.cpu, self.delivery_cpu)
    }
}

/// What a whole change costs beyond a forward and a delivery; below zero where they cost more on their own.
fn extra_micros(whole: Duration, forward: Duration, delivery: Duration) -> f64 {
    (whole.as_secs_f64() - forward.as_secs_f64() - delivery.as_secs_f64()) * 1e6
}

/// Plays all rounds.
pub(crate) async fn run(plan: Plan, gateway: &Gateway, stage: &Stage) -> anyhow::Result<Written> {
    let mut rounds = Vec::new();
    for number in 1..=plan.rounds {
        rounds.push(round(plan, gateway, stage).await.with_context(|| format!("round {number}"))?);
    }
    Ok(Written::of(plan, &rounds))
}

async fn round(plan: Plan, gateway: &Gateway, stage: &Stage) -> anyhow::Result<Round> {
    let (folder, Plan { clients, length, .. }) = (gateway.folder()?, plan);
    let bare = peers::append_and_sync(folder, clients, length)?;
    let redis = peers::redis(folder, clients, length).await;
    let postgres = peers::postgres(folder, clients, length).await;
    let address = gateway.base.trim_start_matches("http://").parse()?;
    let writers = |folder| Writers { address, clients, length, folder, body_bytes: RECORD_BYTES };
    let timed = async |writers: Writers| -> anyhow::Result<Timed> {
        let before = gateway.cpu_time()?.context("this gateway is not ours")?;
        let pressed = writers.run().await?;
        let spent = gateway.cpu_time()?.unwrap_or_default().saturating_sub(before);
        Ok(Timed { cpu: spent / u32::try_from(pressed.acknowledged.max(1))?, pressed })
    };
    gateway.destination(DESTINATION, Act::Pause).await?;
    let before = stage.delivered();
    // One write finds out that the source rests.
    stage.rest_source(length.as_secs() + REST_LONGER);
    let first = Writers { clients: 1, length: RESTS_AFTER, ..writers("accepted") }.run().await?;
    let durable = timed(writers("accepted")).await?;
    stage.rest_source(0);
    gateway.destination(DESTINATION, Act::Resume).await?;
    until_delivered(stage, before + first.acknowledged + durable.pressed.acknowledged).await?;
    gateway.destination(DESTINATION, Act::Pause).await?;
    let before = stage.delivered();
    let accept = timed(writers("accepted")).await?;
    let cpu = gateway.cpu_time()?.context("this gateway is not ours")?;
    gateway.destination(DESTINATION, Act::Resume).await?;
    until_delivered(stage, before + accept.pressed.acknowledged).await?;
    let spent = gateway.cpu_time()?.unwrap_or_default().saturating_sub(cpu);
    let delivery_cpu = spent / u32::try_from(accept.pressed.acknowledged.max(1))?;
    let forwarded = timed(writers("plain")).await?;
    let before = stage.delivered();
    let (cpu, own) = (gateway.cpu_time()?.context("this gateway is not ours")?, process::cpu_time("self")?);
    let through = writers("items").run().await?;
    let ended_at = Instant::now();
    until_delivered(stage, before + through.acknowledged).await?;
    let changes = u32::try_from(through.acknowledged.max(1))?;
    let spent = gateway.cpu_time()?.unwrap_or_default().saturating_sub(cpu);
    Ok(Round {
        bare,
        redis,
        postgres,
        durable,
        accept,
        delivery_cpu,
        plain: forwarded,
        through,
        through_cpu: spent / changes,
        others_cpu: process::cpu_time("self")?.saturating_sub(own) / changes,
        delivered_after: ended_at.elapsed(),
    })
}

async fn until_delivered(stage: &Stage, deliveries: u64) -> anyhow::Result<()> {
    let delivered = async {
        while stage.delivered() < deliveries {
            sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(DELIVERED_WAIT_MAX, delivered)
        .await
        .with_context(|| format!("NOT DELIVERED: {} of {deliveries}", stage.delivered()))
}

fn lines(plan: Plan, rounds: &[Round]) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{} clients, {RECORD_BYTES} bytes a change, {:?} each, one after the other in every round; answers a second:",
            plan.clients, plan.length
        ),
        "bare: appends and syncs in groups of as many as there are clients; Redis: XADD, appendfsync always;"
            .to_owned(),
        "PostgreSQL: inserts of one row, prepared; durable: mode accept, source and destination get nothing".to_owned(),
        "meanwhile; accept: the source does, the destination is paused; through: both do; time: the gateway's own for\na change; forward: a write that is not followed; delivery: of what was accepted; extra: what a change through\ncosts beyond those two\n".to_owned(),
        "| round | bare | Redis | PostgreSQL | durable | p50 | p99 | time | accept | p50 | p99 | time | through | p50 | p99 | time | others' | delivered after | forward | delivery | extra |".to_owned(),
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    for (number, round) in (1..).zip(rounds) {
        lines.push(row(number, round));
    }
    for (name, error) in rounds.first().into_iter().flat_map(|round| {
        let failed = |name, rate: &anyhow::Result<f64>| Some((name, rate.as_ref().err()?.to_string()));
        [failed("Redis", &round.redis), failed("PostgreSQL", &round.postgres)].into_iter().flatten()
    }) {
        lines.push(format!("{name} was not measured: {error}"));
    }
    lines.push(String::new());
    let of = |rate: fn(&Round) -> Option<f64>, name: &str, aim: &str| {
        let over = |timed: fn(&Round) -> &Timed| {
            let ratio = |round| Some(timed(round).pressed.rate() / rate(round)?);
            median(rounds.iter().filter_map(ratio).collect())
        };
        let (durable, accept) = (over(|round| &round.durable)?, over(|round| &round.accept)?);
        Some(format!("over {name}: durable {durable:.2}, accept {accept:.2} (medians of rounds){aim}"))
    };
    lines.extend(of(|round| Some(round.bare), "the bare program", ""));
    lines.extend(of(|round| round.redis.as_ref().ok().copied(), "Redis", "; aim: at least 0.5"));
    lines.extend(of(|round| round.postgres.as_ref().ok().copied(), "PostgreSQL", "; aim: at least 2"));
    lines
}

fn row(number: u64, round: &Round) -> String {
    let Round { durable, accept, through, .. } = round;
    let mut row = format!("| {number} | {:.0} ", round.bare);
    for rate in [&round.redis, &round.postgres] {
        let text = rate.as_ref().map_or_else(|_| "-".to_owned(), |rate| format!("{rate:.0}"));
        write!(row, "| {text} ").unwrap_or_default();
    }
    let micros = |time: Duration| time.as_micros();
    let all = [(&durable.pressed, durable.cpu), (&accept.pressed, accept.cpu), (through, round.through_cpu)];
    for (pressed, cpu) in all {
        let (p50, p99) = (pressed.quantile(500), pressed.quantile(990));
        let cpu = micros(cpu);
        write!(row, "| {:.0} | {p50} | {p99} | {cpu} us ", pressed.rate()).unwrap_or_default();
    }
    let (others, after) = (micros(round.others_cpu), round.delivered_after.as_millis());
    let (forward, delivery, extra) =
        (micros(round.plain.cpu), micros(round.delivery_cpu), round.extra_micros());
    write!(row, "| {others} us | {after} ms | {forward} us | {delivery} us | {extra:.0} us |")
        .unwrap_or_default();
    row
}

/// The middle one; of an even number the lower.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_extra_is_neither_forward_nor_delivery() {
        let micros = Duration::from_micros;
        assert!((extra_micros(micros(90), micros(40), micros(30)) - 20.0).abs() < 1e-6);
        assert!(extra_micros(micros(60), micros(40), micros(30)) < 0.0);
    }

    #[test]
    fn the_median_is_the_middle_one() {
        for (values, middle) in [
            (vec![], None),
            (vec![3.0], Some(3.0)),
            (vec![9.0, 1.0], Some(1.0)),
            (vec![9.0, 1.0, 2.0], Some(2.0)),
        ] {
            assert_eq!(median(values), middle);
        }
    }
}

//! What an answer costs from memory, from Redis and from the source, in one run; and the answers from Redis beside
//! what redis-benchmark gets out of the same server, with values of the same size.

use crate::gateway::Gateway;
use crate::peers::Redis;
use crate::readers::{Read, Readers};
use crate::report::Latency;
use crate::stage::Stage;
use anyhow::{Context, bail, ensure};
use std::path::Path;
use std::time::Duration;

/// How often each key is read from memory.
const MEMORY_ROUNDS: u64 = 5;
/// Of a hundred responses so many must be written before they are read.
const WRITTEN_PERCENT_MIN: u64 = 98;
/// Clients of a gateway that fills Redis: few, so that little is dropped.
const SEED_CLIENTS: u64 = 4;
/// How often Redis is filled at most.
const SEEDS_MAX: usize = 4;
/// Of a hundred reads that should have been answered by Redis, so many must have been.
const SHARED_PERCENT_MIN: u64 = 95;

/// How many, how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) clients: u64,
    pub(crate) rounds: u64,
    /// Responses that Redis has.
    pub(crate) responses: u64,
}

/// One phase: what was read, and the processor time that it took the gateway.
struct Phase {
    read: Read,
    spent: Duration,
}

impl Phase {
    /// Processors in use on average.
    fn cores(&self) -> f64 {
        self.spent.as_secs_f64() / self.read.took.as_secs_f64()
    }

    fn each(&self) -> Latency {
        let answered = u32::try_from(self.read.answered.max(1)).unwrap_or(u32::MAX);
        Latency(self.spent / answered)
    }
}

/// Plays all rounds; the lines of the report.
pub(crate) async fn run(plan: Plan, binary: Option<&Path>, stage: &Stage) -> anyhow::Result<Vec<String>> {
    let mut lines = vec![
        format!("{} responses of 1 KiB, each read once from Redis; gateway and Redis are new in each round", plan.responses),
        "processor time is the gateway's, for each answer; a shared hit is also taken into memory, a miss also written to Redis\n".to_owned(),
        "| round | memory a second | each | shared a second | each | miss a second | each | redis-benchmark GET a second | value bytes | shared over GET, per core used |".to_owned(),
        "|---|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    let mut ratios = Vec::new();
    for number in 1..=plan.rounds {
        let (row, ratio) =
            round(plan, number, binary, stage).await.with_context(|| format!("round {number}"))?;
        lines.push(row);
        ratios.push(ratio);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let middle = ratios.get(ratios.len().saturating_sub(1) / 2).copied().unwrap_or_default();
    lines.push(format!("\nshared hits over GET, per core that the gateway used: {middle:.2} (median of rounds); aim: at least 0.5"));
    Ok(lines)
}

async fn round(
    plan: Plan,
    number: u64,
    binary: Option<&Path>,
    stage: &Stage,
) -> anyhow::Result<(String, f64)> {
    let redis = Redis::start().await?;
    seed(plan, &redis, binary, stage).await?;
    let gateway = Gateway::sharing(binary, stage, &redis.url()).await?;
    redis.until_followed(&gateway).await?;
    let shared = phase(&gateway, plan, (0, plan.responses), plan.responses).await?;
    let stored = shared.read.stored * 100 / shared.read.answered.max(1);
    ensure!(stored >= SHARED_PERCENT_MIN, "only {stored} % of the reads were answered by Redis");
    let memory = phase(&gateway, plan, (0, plan.responses), plan.responses * MEMORY_ROUNDS).await?;
    let miss = phase(&gateway, plan, (plan.responses, plan.responses), plan.responses).await?;
    gateway.stop().await?;
    let bytes = redis.value_bytes().await?;
    let gets = redis.gets(plan.clients, plan.responses, bytes).await?;
    redis.stop().await?;
    let ratio = shared.read.rate() / shared.cores() / gets;
    let row = format!(
        "| {number} | {:.0} | {} | {:.0} | {} | {:.0} | {} | {gets:.0} | {bytes} | {ratio:.2} ({:.2} cores) |",
        memory.read.rate(),
        memory.each(),
        shared.read.rate(),
        shared.each(),
        miss.read.rate(),
        miss.each(),
        shared.cores()
    );
    Ok((row, ratio))
}

/// Has Redis filled by gateways that end then: what one drops, because it came too fast, the next one stores.
async fn seed(plan: Plan, redis: &Redis, binary: Option<&Path>, stage: &Stage) -> anyhow::Result<()> {
    let slowly = Plan { clients: plan.clients.min(SEED_CLIENTS), ..plan };
    for _ in 0..SEEDS_MAX {
        let gateway = Gateway::sharing(binary, stage, &redis.url()).await?;
        redis.until_followed(&gateway).await?;
        read(&gateway, slowly, (0, plan.responses), plan.responses).await?;
        let is_full = redis.gets_keys(plan.responses * WRITTEN_PERCENT_MIN / 100).await?;
        gateway.stop().await?;
        if is_full {
            return Ok(());
        }
    }
    bail!("Redis did not get {} responses", plan.responses)
}

async fn phase(gateway: &Gateway, plan: Plan, keys: (u64, u64), requests: u64) -> anyhow::Result<Phase> {
    let before = gateway.cpu_time()?.context("a gateway of the driver's own")?;
    let read = read(gateway, plan, keys, requests).await?;
    let spent = gateway.cpu_time()?.unwrap_or_default().saturating_sub(before);
    Ok(Phase { read, spent })
}

async fn read(gateway: &Gateway, plan: Plan, keys: (u64, u64), requests: u64) -> anyhow::Result<Read> {
    let address = gateway.base.trim_start_matches("http://").parse()?;
    Readers { address, clients: plan.clients, folder: "items".to_owned(), keys, requests }.run().await
}

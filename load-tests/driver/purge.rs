//! What a purge by tag takes where ten responses carry the tag, and where very many do.

use crate::gateway::Gateway;
use crate::peers::Redis;
use crate::pressure::exchange;
use crate::readers::Readers;
use crate::report::{Latency, quantile};
use crate::stage::Stage;
use anyhow::{Context, ensure};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Responses with the tag that few carry.
const FEW: u64 = 10;
/// Soft purges of each tag in a round: they leave the responses where they are.
const SOFT: u32 = 50;

/// How many, how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) clients: u64,
    pub(crate) rounds: u64,
    /// Responses with the tag that many carry.
    pub(crate) responses: u64,
}

/// Plays all rounds; the lines of the report.
pub(crate) async fn run(plan: Plan, binary: Option<&Path>, stage: &Stage) -> anyhow::Result<Vec<String>> {
    let redis = Redis::start().await?;
    let gateway = Gateway::sharing(binary, stage, &redis.url()).await?;
    redis.until_followed(&gateway).await?;
    let admin: SocketAddr =
        gateway.admin.as_deref().unwrap_or_default().trim_start_matches("http://").parse()?;
    let mut operator = TcpStream::connect(admin).await?;
    operator.set_nodelay(true)?;
    let mut lines = vec![
        format!(
            "{FEW} responses carry one tag, {} the other, in memory and in Redis; times are an operator's, until the answer",
            plan.responses
        ),
        format!("soft: the middle of {SOFT}, taken in turn; hard: the one that ends a round\n"),
        "| round | soft, few | soft, many | ratio | hard, few | hard, many |".to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    let mut ratios = Vec::new();
    for number in 1..=plan.rounds {
        for (tag, responses) in [("few", FEW), ("many", plan.responses)] {
            store(&gateway, plan, tag, (0, responses)).await?;
        }
        let (mut few, mut many) = (Vec::new(), Vec::new());
        for _ in 0..SOFT {
            few.push(purge(&mut operator, "few", "soft").await?);
            many.push(purge(&mut operator, "many", "soft").await?);
        }
        let hard = (purge(&mut operator, "few", "hard").await?, purge(&mut operator, "many", "hard").await?);
        // Others in each round: what was asked for twice is hot, and a soft purge has it read anew by itself.
        let left = store(&gateway, plan, "many", (number * FEW, FEW)).await?;
        ensure!(left == 0, "{left} responses outlived their purge");
        few.sort_unstable();
        many.sort_unstable();
        let (few, many) = (quantile(&few, 500), quantile(&many, 500));
        let ratio = many.0.as_secs_f64() / few.0.as_secs_f64();
        lines.push(format!(
            "| {number} | {few} | {many} | {ratio:.2} | {} | {} |",
            Latency(hard.0),
            Latency(hard.1)
        ));
        ratios.push(ratio);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let middle = ratios.get(ratios.len().saturating_sub(1) / 2).copied().unwrap_or_default();
    lines.push(format!("\nmany over few: {middle:.2} (median of rounds); aim: at most 1.2"));
    gateway.stop().await?;
    redis.stop().await?;
    Ok(lines)
}

/// Has responses with the tag stored, from the first so many; how many were already.
async fn store(
    gateway: &Gateway,
    plan: Plan,
    tag: &str,
    (first, responses): (u64, u64),
) -> anyhow::Result<u64> {
    let address = gateway.base.trim_start_matches("http://").parse()?;
    let folder = format!("tagged/{tag}");
    let readers =
        Readers { address, clients: plan.clients, folder, keys: (first, responses), requests: responses };
    Ok(readers.run().await.with_context(|| format!("storing {tag}"))?.stored)
}

async fn purge(operator: &mut TcpStream, tag: &str, mode: &str) -> anyhow::Result<Duration> {
    let order = format!("{{\"tags\":[\"{tag}\"],\"mode\":\"{mode}\"}}");
    let request = format!(
        "POST /v1/purge HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{order}",
        operator.peer_addr()?,
        order.len()
    );
    let begun_at = Instant::now();
    exchange(operator, request.as_bytes()).await?;
    Ok(begun_at.elapsed())
}

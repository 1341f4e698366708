//! Whether a hit costs more where much is stored, and where many are connected.

use super::Run;
use super::client::WARM;
use super::contest::{self, CLIENTS, Entry, Proof};
use super::report::Findings;
use super::server::{Rival, Server};
use super::verdict::Bound;

/// Keys where few are stored.
const FEW: u64 = 1_000;
/// Connections where there are many.
const CROWD: usize = 5_000;
/// A tenth fewer hits in a second of processor time.
const COST_MAX: Bound = Bound::AtMost(1.11);

/// Two gateways, one with few keys and one with a great many, then few and many connections to the first.
pub(crate) async fn measure(run: &Run, found: &mut Findings) -> anyhow::Result<()> {
    let few = Server::start(Rival::Tidegate, &run.setting).await?;
    let many = Server::start(Rival::Tidegate, &run.setting).await?;
    let (fewer, more) = ("1,000 keys", "many keys");
    let entry = Entry { label: fewer, server: &few, ask: WARM, keys: FEW, clients: CLIENTS };
    let entries = [entry, Entry { label: more, server: &many, keys: run.plan.grown, ..entry }];
    let name = format!("growth to {} keys", run.plan.grown);
    let row = contest::run(&name, &entries, Proof::Hits, run.plan.rounds, &run.origin).await?;
    let bounds = [row.over(more, fewer, COST_MAX)];
    found.add(row, bounds);
    let (fewer, more) = ("64 connections", "5,000 connections");
    let entries = [Entry { label: fewer, ..entry }, Entry { label: more, clients: CROWD, ..entry }];
    let name = "growth to 5,000 connections";
    let row = contest::run(name, &entries, Proof::Hits, run.plan.rounds, &run.origin).await?;
    let bounds = [row.over(more, fewer, COST_MAX)];
    found.add(row, bounds);
    few.stop().await?;
    many.stop().await
}

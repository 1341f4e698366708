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

/// How far others fall on the same machine: what of it is the system's.
const OTHERS: [(Rival, [&str; 2]); 3] = [
    (Rival::Nginx, ["nginx, 64 connections", "nginx, 5,000 connections"]),
    (Rival::Bare, ["bare, 64 connections", "bare, 5,000 connections"]),
    (Rival::Constant, ["loop, 64 connections", "loop, 5,000 connections"]),
];

/// Two gateways, one with few keys and one with a great many, then few and many connections to the first.
pub(crate) async fn measure(run: &Run, found: &mut Findings) -> anyhow::Result<()> {
    let few = Server::start(Rival::Tidegate, &run.setting).await?;
    let many = Server::start(Rival::Tidegate, &run.setting).await?;
    let (fewer, more) = ("1,000 keys", "many keys");
    let entry = Entry { label: fewer, server: &few, ask: WARM, keys: FEW, clients: CLIENTS };
    let mut entries = vec![entry, Entry { label: more, server: &many, keys: run.plan.grown, ..entry }];
    let (bare_fewer, bare_more) = ("bare, 1,000 keys", "bare, many keys");
    if let Some(server) = run.server(Rival::Bare) {
        entries.push(Entry { label: bare_fewer, server, ..entry });
        entries.push(Entry { label: bare_more, server, keys: run.plan.grown, ..entry });
    }
    let name = format!("growth to {} keys", run.plan.grown);
    let row = contest::run(&name, &entries, Proof::Hits, run.plan.rounds, &run.origin).await?;
    let bounds = [row.over(more, fewer, COST_MAX), row.over(bare_more, bare_fewer, Bound::Stated)];
    found.add(row, bounds);
    let (fewer, more) = ("64 connections", "5,000 connections");
    let mut entries = vec![Entry { label: fewer, ..entry }, Entry { label: more, clients: CROWD, ..entry }];
    for (rival, labels) in OTHERS {
        let Some(server) = run.server(rival) else { continue };
        for (label, clients) in labels.into_iter().zip([CLIENTS, CROWD]) {
            entries.push(Entry { label, server, clients, ..entry });
        }
    }
    let name = "growth to 5,000 connections";
    let row = contest::run(name, &entries, Proof::Hits, run.plan.rounds, &run.origin).await?;
    let stated = OTHERS.map(|(_, [fewer, more])| row.over(more, fewer, Bound::Stated));
    let bounds = [row.over(more, fewer, COST_MAX)].into_iter().chain(stated);
    found.add(row, bounds.collect::<Vec<_>>());
    few.stop().await?;
    many.stop().await
}

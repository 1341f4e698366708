//! The rows in which one set of servers runs through: hits, forwards, misses.

use super::Run;
use super::client::{Ask, Keys};
use super::contest::{self, CLIENTS, Cell, Entry, Proof, Row};
use super::origin::{BIG_BYTES, SMALL_BYTES};
use super::report::Findings;
use super::server::Rival;
use super::verdict::Bound;
use anyhow::Context;

/// Keys where there are many.
const MANY: u64 = 10_000;
/// What is read from memory, and by whom.
pub(crate) const HIT: Ask = Ask { folder: "hit", fields: "", status: 200, body_bytes: SMALL_BYTES };
const BIG: Ask = Ask { folder: "big", body_bytes: BIG_BYTES, ..HIT };
/// It has a quota that admits everything.
const QUOTA: Ask = Ask { folder: "quota", ..HIT };
/// The client has what is stored.
pub(crate) const UNCHANGED: Ask =
    Ask { fields: "If-None-Match: \"v1\"\r\n", status: 304, body_bytes: 0, ..HIT };
/// Never to be stored.
pub(crate) const PASS: Ask = Ask { folder: "pass", ..HIT };
/// What has not been asked for yet.
const NEW: Ask = Ask { folder: "new", ..HIT };

/// Everybody who stores.
const STORING: [Rival; 7] = [
    Rival::Tidegate,
    Rival::Nginx,
    Rival::Haproxy,
    Rival::Varnish,
    Rival::TrafficServer,
    Rival::Bare,
    Rival::Constant,
];
/// Everybody who forwards.
const FORWARDING: [Rival; 6] =
    [Rival::Tidegate, Rival::Nginx, Rival::Haproxy, Rival::Varnish, Rival::TrafficServer, Rival::BareForward];
/// Beside whom the cost of a miss is said.
const MISSING: [Rival; 4] = [Rival::Tidegate, Rival::Nginx, Rival::Varnish, Rival::Bare];

/// 1 KiB from memory, one key.
pub(crate) async fn one_key(run: &Run, found: &mut Findings) -> anyhow::Result<()> {
    let row = shared(run, "hit, 1 KiB, one key", &STORING, (HIT, 1), Proof::Hits).await?;
    let bounds = [
        row.over_best(Bound::AtMost(0.9)),
        row.over("Tidegate", "loop", Bound::AtMost(1.3)),
        // What the bound leaves to whatever is built on hyper.
        row.over("bare", "loop", Bound::Stated),
        row.over("Tidegate", "bare", Bound::Stated),
    ];
    found.notes.push(row.regime());
    found.add(row, bounds);
    Ok(())
}

/// 1 KiB from memory, many keys.
pub(crate) async fn many_keys(run: &Run, found: &mut Findings) -> anyhow::Result<()> {
    let row = shared(run, "hit, 1 KiB, 10,000 keys", &STORING, (HIT, MANY), Proof::Hits).await?;
    let bounds = [row.over_best(Bound::AtMost(0.9))];
    found.add(row, bounds);
    Ok(())
}

/// 100 KiB from memory.
pub(crate) async fn big(run: &Run, found: &mut Findings) -> anyhow::Result<()> {
    let row = shared(run, "hit, 100 KiB", &STORING, (BIG, 1), Proof::Hits).await?;
    let bounds = [row.over_best(Bound::AtMost(1.0))];
    found.add(row, bounds);
    Ok(())
}

/// The same hit with a quota.
pub(crate) async fn quota(run: &Run, found: &mut Findings) -> anyhow::Result<()> {
    let (name, with) = ("hit with a quota", "with");
    let row = alone(run, name, [(with, QUOTA, 1), ("without", HIT, 1)], Proof::Hits).await?;
    let bounds = [row.over(with, "without", Bound::AtMost(1.1))];
    found.add(row, bounds);
    Ok(())
}

/// The same hit for a client that has it.
pub(crate) async fn conditional(run: &Run, found: &mut Findings) -> anyhow::Result<()> {
    let row = alone(run, "conditional hit", [("200", HIT, 1), ("304", UNCHANGED, 1)], Proof::Hits).await?;
    let bounds = [row.over("304", "200", Bound::AtMost(0.9))];
    found.add(row, bounds);
    Ok(())
}

/// What cannot be stored, many keys.
pub(crate) async fn forward(run: &Run, found: &mut Findings) -> anyhow::Result<()> {
    let name = "forward, 1 KiB, 10,000 keys";
    let row = shared(run, name, &FORWARDING, (PASS, MANY), Proof::Forwards).await?;
    let bounds = [
        row.over("Tidegate", "bare forward", Bound::AtMost(1.25)),
        row.over("Tidegate", "nginx", Bound::AimAtMost(1.3)),
    ];
    found.add(row, bounds);
    Ok(())
}

/// What cannot be stored, one key: nobody may wait for another's answer.
pub(crate) async fn forward_one_key(run: &Run, found: &mut Findings) -> anyhow::Result<()> {
    let name = "forward, 1 KiB, one key";
    let row = shared(run, name, &FORWARDING, (PASS, 1), Proof::Forwards).await?;
    found.add(row, []);
    let (one, many) = ("one key", "10,000 keys");
    let asks = [(one, PASS, 1), (many, PASS, MANY)];
    let row = alone(run, "never storable", asks, Proof::Forwards).await?;
    let bounds = [row.over(one, many, Bound::AtMost(1.15))];
    found.add(row, bounds);
    Ok(())
}

/// What is asked for the first time.
pub(crate) async fn misses(run: &Run, found: &mut Findings) -> anyhow::Result<()> {
    let count = run.plan.misses;
    let mut row = Row { name: format!("miss and store, 1 KiB, {count} keys"), ..Row::default() };
    let servers: Vec<_> = MISSING.iter().filter_map(|rival| run.server(*rival)).collect();
    row.cells = servers.iter().map(|server| Cell::new(server.rival.name())).collect();
    let rounds = u64::try_from(run.plan.rounds.count)?.min(run.plan.miss_rounds);
    for round in 0..rounds {
        for (server, cell) in servers.iter().zip(&mut row.cells) {
            let entry = Entry { label: cell.label, server, ask: NEW, keys: count, clients: CLIENTS };
            let keys = Keys::once(round * count, (round + 1) * count);
            let measured = entry.measure(&keys, Proof::Forwards, &run.origin).await;
            cell.add(measured.with_context(|| cell.label)?);
        }
    }
    let beside =
        [row.over("Tidegate", "nginx", Bound::Stated), row.over("Tidegate", "Varnish", Bound::Stated)];
    found.add(row, beside);
    Ok(())
}

/// A row of all `rivals` that run.
async fn shared(
    run: &Run,
    name: &str,
    rivals: &[Rival],
    (ask, keys): (Ask, u64),
    proof: Proof,
) -> anyhow::Result<Row> {
    let servers = rivals.iter().filter_map(|rival| run.server(*rival));
    let entries: Vec<_> = servers
        .map(|server| Entry { label: server.rival.name(), server, ask, keys, clients: CLIENTS })
        .collect();
    contest::run(name, &entries, proof, run.plan.rounds, &run.origin).await
}

/// A row of Tidegate alone, in two states.
async fn alone(
    run: &Run,
    name: &str,
    asks: [(&'static str, Ask, u64); 2],
    proof: Proof,
) -> anyhow::Result<Row> {
    let server = run.server(Rival::Tidegate).context("Tidegate does not run")?;
    let entries = asks.map(|(label, ask, keys)| Entry { label, server, ask, keys, clients: CLIENTS });
    contest::run(name, &entries, proof, run.plan.rounds, &run.origin).await
}

//! One row: servers that do the same work in turn, round after round, and what it costs each of them.

use super::client::{Ask, Clients, Keys};
use super::origin::Origin;
use super::report::Finding;
use super::server::{Rival, Server};
use super::verdict::{self, Bound, Spread};
use crate::process;
use anyhow::{Context, bail, ensure};
use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;

/// Connections, where nothing else is said.
pub(crate) const CLIENTS: usize = 64;
/// How often all keys are read until each of them is a hit.
const FILLS_MAX: usize = 6;
/// What is run unmeasured before the first round.
const WARM_UP: Duration = Duration::from_millis(200);

/// How the source shows that the servers did the work they were to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It was not asked at all.
    Hits,
    /// It was asked for every answer.
    Forwards,
}

impl Proof {
    fn check(self, answered: u64, asked: u64) -> anyhow::Result<()> {
        match self {
            Self::Hits => ensure!(asked == 0, "{asked} of {answered} were no hits"),
            Self::Forwards => ensure!(asked >= answered, "{asked} forwards for {answered} answers"),
        }
        Ok(())
    }
}

/// One server in a row.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) label: &'static str,
    pub(crate) server: &'a Server,
    pub(crate) ask: Ask,
    pub(crate) keys: u64,
    pub(crate) clients: usize,
}

/// What a row came to.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) cells: Vec<Cell>,
    /// Who could not do the work, and why.
    pub(crate) left_out: Vec<String>,
}

/// What the rounds of one server came to.
#[derive(Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) label: &'static str,
    /// Microseconds of processor time for an answer.
    pub(crate) micros: Vec<f64>,
    /// Answers a second.
    pub(crate) rates: Vec<f64>,
    /// The same of the driver, where it is this program that asks; its source is in it.
    pub(crate) driver_micros: Vec<f64>,
    /// How often one of the server's threads fell asleep for an answer.
    pub(crate) sleeps: Vec<f64>,
}

/// How often, how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    pub(crate) count: usize,
    pub(crate) length: Duration,
}

/// Runs a row. A server that cannot do the work is left out by name, but never one of ours.
pub(crate) async fn run(
    name: &str,
    entries: &[Entry<'_>],
    proof: Proof,
    rounds: Rounds,
    origin: &Origin,
) -> anyhow::Result<Row> {
    let mut row = Row { name: name.to_owned(), ..Row::default() };
    let mut fit = Vec::new();
    for entry in entries {
        match entry.prepare(proof, origin).await {
            Ok(()) => {
                row.cells.push(Cell::new(entry.label));
                fit.push(entry);
            }
            Err(fault) => row.leave_out(entry, &fault)?,
        }
    }
    for _ in 0..rounds.count {
        for (entry, at) in fit.iter().zip(0..) {
            let keys = Keys::Any { of: entry.keys, during: rounds.length };
            let measured = entry.measure(&keys, proof, origin).await;
            let Some(cell) = row.cells.get_mut(at) else { bail!("a row lost a cell") };
            match measured {
                Ok(measured) => cell.add(measured),
                Err(fault) => row.leave_out(entry, &fault)?,
            }
        }
    }
    // One that failed in the middle is out of all rounds.
    row.cells.retain(|cell| cell.micros.len() == rounds.count);
    Ok(row)
}

/// One round of one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    answered: u64,
    cpu: Duration,
    took: Duration,
    /// Of this program itself.
    own: Duration,
    /// How often one of the server's threads had nothing to do.
    sleeps: u64,
}

impl Measured {
    /// Microseconds of the server's processor time for an answer.
    pub(crate) fn micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / number(self.answered)
    }
}

fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// What was spent before a round.
pub(crate) struct Watch<'a> {
    server: &'a Server,
    cpu: Duration,
    own: Duration,
    sleeps: u64,
    begun_at: Instant,
}

impl<'a> Watch<'a> {
    pub(crate) fn begin(server: &'a Server) -> anyhow::Result<Self> {
        let (own, sleeps) = (process::cpu_time("self")?, server.sleeps()?);
        Ok(Self { server, cpu: server.cpu_time()?, own, sleeps, begun_at: Instant::now() })
    }

    /// What was spent since, for so many answers.
    pub(crate) fn end(self, answered: u64) -> anyhow::Result<Measured> {
        let took = self.begun_at.elapsed();
        ensure!(answered > 0, "no answer");
        let cpu = self.server.cpu_time()?.checked_sub(self.cpu).context("processor time went back")?;
        let own = process::cpu_time("self")?.saturating_sub(self.own);
        // A thread that has ended takes its count with it.
        let sleeps = self.server.sleeps()?.saturating_sub(self.sleeps);
        Ok(Measured { answered, cpu, took, own, sleeps })
    }
}

impl Entry<'_> {
    /// Brings it to where it is measured.
    async fn prepare(&self, proof: Proof, origin: &Origin) -> anyhow::Result<()> {
        let mut clients = Clients::connect(self.server.address, CLIENTS).await?;
        if proof == Proof::Hits {
            self.fill(&mut clients, origin).await?;
        }
        clients.run(self.ask, &Keys::Any { of: self.keys, during: WARM_UP }).await?;
        Ok(())
    }

    /// Reads all keys until none of them is asked of the source any more.
    async fn fill(&self, clients: &mut Clients, origin: &Origin) -> anyhow::Result<()> {
        for _ in 0..FILLS_MAX {
            let asked = origin.asked();
            clients.run(self.ask, &Keys::once(0, self.keys)).await?;
            if origin.asked() == asked {
                return Ok(());
            }
        }
        bail!("not all of {} keys are hits, however often they are read", self.keys)
    }

    /// One round.
    pub(crate) async fn measure(
        &self,
        keys: &Keys,
        proof: Proof,
        origin: &Origin,
    ) -> anyhow::Result<Measured> {
        let mut clients = Clients::connect(self.server.address, self.clients).await?;
        let (asked, watch) = (origin.asked(), Watch::begin(self.server)?);
        let answered = clients.run(self.ask, keys).await?;
        let measured = watch.end(answered)?;
        proof.check(answered, origin.asked() - asked)?;
        Ok(measured)
    }
}

impl Cell {
    pub(crate) fn new(label: &'static str) -> Self {
        Self { label, micros: Vec::new(), rates: Vec::new(), driver_micros: Vec::new(), sleeps: Vec::new() }
    }

    pub(crate) fn add(&mut self, measured: Measured) {
        let Measured { answered, took, own, sleeps, .. } = measured;
        let answered = number(answered);
        self.micros.push(measured.micros());
        self.rates.push(answered / took.as_secs_f64());
        self.driver_micros.push(own.as_secs_f64() * 1e6 / answered);
        self.sleeps.push(number(sleeps) / answered);
    }

    pub(crate) fn spread(&self) -> Option<Spread> {
        Spread::of(&self.micros)
    }
}

impl Row {
    fn leave_out(&mut self, entry: &Entry<'_>, fault: &anyhow::Error) -> anyhow::Result<()> {
        let said = format!("{}: {} left out: {fault:#}", self.name, entry.label);
        ensure!(Rival::PEERS.contains(&entry.server.rival), "{said}");
        if !self.left_out.iter().any(|known| known.contains(entry.label)) {
            self.left_out.push(said);
        }
        Ok(())
    }

    pub(crate) fn cell(&self, label: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.label == label)
    }

    /// Under which load it was measured: how often each fell asleep for an answer, and what the driver took.
    pub(crate) fn regime(&self) -> String {
        let median = |values: &[f64]| Spread::of(values).map_or(0.0, |spread| spread.median);
        let cell = |cell: &Cell| {
            let (sleeps, own) = (median(&cell.sleeps), median(&cell.driver_micros));
            format!("{} {sleeps:.2}, {own:.1}", cell.label)
        };
        let cells: Vec<_> = self.cells.iter().map(cell).collect();
        format!(
            "{}: sleeps of a server and microseconds of the driver for an answer: {}",
            self.name,
            cells.join("; ")
        )
    }

    /// The peer that costs least at the median.
    pub(crate) fn best_peer(&self) -> Option<&'static str> {
        let peer = |cell: &&Cell| Rival::PEERS.iter().any(|peer| peer.name() == cell.label);
        let median = |cell: &Cell| cell.spread().map_or(f64::MAX, |spread| spread.median);
        let best = |one: &&Cell, other: &&Cell| median(one).total_cmp(&median(other));
        self.cells.iter().filter(peer).min_by(best).map(|cell| cell.label)
    }

    /// What one costs over what another costs, by rounds; none where one of them was left out.
    pub(crate) fn over(&self, own: &str, other: &str, bound: Bound) -> Option<Finding> {
        let ratios = verdict::ratios(&self.cell(own)?.micros, &self.cell(other)?.micros);
        let compared = format!("{own} / {other}");
        Some(Finding::new(&self.name, compared, Spread::of(&ratios)?, bound))
    }

    /// The same over the best peer.
    pub(crate) fn over_best(&self, bound: Bound) -> Option<Finding> {
        let best = self.best_peer()?;
        let mut finding = self.over(Rival::Tidegate.name(), best, bound)?;
        finding.compared = format!("Tidegate / best peer ({best})");
        Some(finding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[(&'static str, &[f64])]) -> Row {
        let cell =
            |(label, micros): &(&'static str, &[f64])| Cell { micros: micros.to_vec(), ..Cell::new(label) };
        Row { name: "hit".to_owned(), cells: cells.iter().map(cell).collect(), left_out: Vec::new() }
    }

    #[test]
    fn the_best_peer_is_a_peer_and_has_the_lowest_median() {
        let row = row(&[
            ("loop", &[1.0; 3]),
            ("nginx", &[4.0, 9.0, 5.0]),
            ("haproxy", &[6.0, 4.5, 1.0]),
            ("Tidegate", &[2.0, 3.0, 1.0]),
        ]);
        assert_eq!(row.best_peer(), Some("haproxy"));
        let finding = row.over_best(Bound::AtMost(0.9)).unwrap();
        assert_eq!(finding.compared, "Tidegate / best peer (haproxy)");
        assert!((finding.value.lowest - 1.0 / 3.0).abs() < 1e-9 && finding.value.highest <= 1.0);
        assert!(row.over("Tidegate", "Varnish", Bound::Stated).is_none(), "it was left out");
    }

    #[test]
    fn the_source_shows_hits_and_forwards() {
        for (proof, asked, holds) in [
            (Proof::Hits, 0, true),
            (Proof::Hits, 1, false),
            (Proof::Forwards, 9, false),
            (Proof::Forwards, 10, true),
        ] {
            assert_eq!(proof.check(10, asked).is_ok(), holds, "{proof:?} {asked}");
        }
    }
}

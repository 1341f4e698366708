//! Changes at a steady rate to three destinations, of which one takes deliveries and never answers for a
//! while. The other two must not notice, and the gateway's memory must not grow.

use crate::gateway::Gateway;
use crate::report::{self, Latency};
use crate::schedule::{self, Load, Request};
use crate::stage::{Arrivals, DESTINATIONS, MUTABLE, Stage, Voice};
use anyhow::{Context, ensure};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Before the first phase: everybody is connected, and nothing is measured.
const WARM_UP: Duration = Duration::from_secs(5);
/// The longest wait for all destinations to have every change, the silenced one included.
const ARRIVED_WAIT_MAX: Duration = Duration::from_mins(5);
/// Between two looks whether they have, and at the memory.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Keys that are written.
const KEYS: u64 = 4_096;

/// How much, and how long with the fault; without it a third of that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) load: Load,
}

/// When each change was sent, in microseconds from `begun_at`.
struct Sent {
    begun_at: Instant,
    at: Vec<AtomicU64>,
    next: AtomicU64,
}

/// What one phase measured.
struct Phase {
    name: &'static str,
    changes: std::ops::Range<u64>,
    failed: u64,
    resident_kib: u64,
    resident_max_kib: u64,
}

/// Plays the phases; the lines of the report.
pub(crate) async fn run(plan: Plan, gateway: &Gateway, stage: &Stage) -> anyhow::Result<Vec<String>> {
    let calm = Load { length: plan.load.length / 3, ..plan.load };
    let phases = [
        ("warm-up", Load { length: WARM_UP, ..plan.load }, Voice::Answers),
        ("before", calm, Voice::Answers),
        ("during", plan.load, Voice::Silent),
        ("after", calm, Voice::Answers),
    ];
    let changes: u64 = phases.iter().map(|(_, load, _)| load.requests()).sum();
    let begun_at = Instant::now();
    let room = usize::try_from(changes)?;
    let at = (0..room).map(|_| AtomicU64::new(0)).collect();
    let sent = Arc::new(Sent { begun_at, at, next: AtomicU64::new(0) });
    stage.note_arrivals(Arrivals::new(begun_at, room))?;
    let mut measured = Vec::new();
    for (name, load, voice) in phases {
        stage.last_destination(voice);
        measured.push(phase(name, load, gateway, &sent).await?);
    }
    stage.last_destination(Voice::Answers);
    let caught_up = all_arrived(stage, changes).await?;
    lines(plan, stage, &sent, &measured, caught_up)
}

async fn phase(name: &'static str, load: Load, gateway: &Gateway, sent: &Arc<Sent>) -> anyhow::Result<Phase> {
    let first = sent.next.load(Ordering::Relaxed);
    let resident = || gateway.memory_kib("VmRSS").map(Option::unwrap_or_default);
    let (resident_kib, base, noted) = (resident()?, gateway.base.clone(), sent.clone());
    let write = move |_| {
        let number = noted.next.fetch_add(1, Ordering::Relaxed);
        if let Some(at) = usize::try_from(number).ok().and_then(|number| noted.at.get(number)) {
            at.store(
                u64::try_from(noted.begun_at.elapsed().as_micros()).unwrap_or(u64::MAX),
                Ordering::Relaxed,
            );
        }
        Request::put(format!("{base}/followed/{}", number % KEYS), number.to_string())
    };
    let mut resident_max_kib = resident_kib;
    let mut running = std::pin::pin!(schedule::run(load, write));
    let run = loop {
        tokio::select! {
            run = &mut running => break run,
            () = sleep(LOOK_EVERY) => resident_max_kib = resident_max_kib.max(resident()?),
        }
    };
    let changes = first..sent.next.load(Ordering::Relaxed);
    Ok(Phase { name, changes, failed: run.failed, resident_kib, resident_max_kib })
}

/// Waits until every destination has every change; how long that took.
async fn all_arrived(stage: &Stage, changes: u64) -> anyhow::Result<Duration> {
    let arrivals = stage.arrivals().context("no arrivals are noted")?;
    let (waited_from, mut next) = (Instant::now(), [0; DESTINATIONS]);
    loop {
        for (destination, next) in next.iter_mut().enumerate() {
            while arrivals.of(destination, *next).is_some() {
                *next += 1;
            }
        }
        if next.iter().all(|next| u64::try_from(*next).is_ok_and(|next| next >= changes)) {
            return Ok(waited_from.elapsed());
        }
        ensure!(waited_from.elapsed() < ARRIVED_WAIT_MAX, "NOT DELIVERED: {next:?} of {changes} in order");
        sleep(LOOK_EVERY).await;
    }
}

/// From sending to arrival, sorted.
fn lags(stage: &Stage, sent: &Sent, phase: &Phase, destination: usize) -> anyhow::Result<Vec<Duration>> {
    let arrivals = stage.arrivals().context("no arrivals are noted")?;
    let mut lags = Vec::new();
    for number in phase.changes.clone() {
        let number = usize::try_from(number)?;
        let arrived = arrivals.of(destination, number);
        let sent = sent.at.get(number).map(|at| Duration::from_micros(at.load(Ordering::Relaxed)));
        lags.extend(arrived.zip(sent).map(|(arrived, sent)| arrived.saturating_sub(sent)));
    }
    lags.sort_unstable();
    Ok(lags)
}

fn lines(
    plan: Plan,
    stage: &Stage,
    sent: &Sent,
    phases: &[Phase],
    caught_up: Duration,
) -> anyhow::Result<Vec<String>> {
    let mut lines = vec![
        format!(
            "{} changes a second of {KEYS} keys; lag: from a change's sending to its arrival, answer of the source and fsync included",
            plan.load.rate
        ),
        format!(
            "destination {} takes deliveries and never answers for {:?}\n",
            MUTABLE + 1,
            plan.load.length
        ),
        "| phase | changes | failed | lag 1: p50 | p99 | lag 2: p50 | p99 | memory at its start | at most |"
            .to_owned(),
        "|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    let mut p99s = Vec::new();
    for phase in phases {
        let changes = phase.changes.end.saturating_sub(phase.changes.start);
        let mut row = format!("| {} | {changes} | {} ", phase.name, phase.failed);
        let mut worst = Latency(Duration::ZERO);
        for destination in 0..MUTABLE {
            let lags = lags(stage, sent, phase, destination)?;
            let (p50, p99) = (report::quantile(&lags, 500), report::quantile(&lags, 990));
            write!(row, "| {p50} | {p99} ")?;
            worst.0 = worst.0.max(p99.0);
        }
        p99s.push(worst.0.as_secs_f64());
        write!(row, "| {} MiB | {} MiB |", phase.resident_kib >> 10, phase.resident_max_kib >> 10)?;
        lines.push(row);
    }
    lines.push(String::new());
    lines.push(format!("every destination had every change {caught_up:.1?} after the last answer"));
    if let (Some([_, before, during, _]), Some([_, calm, fault, _])) = (p99s.get(..4), phases.get(..4)) {
        let mib = |kib: u64| f64::from(u32::try_from(kib >> 10).unwrap_or(u32::MAX).max(1));
        lines.push(format!(
            "p99 lag of the other two, during over before: {:.2}; aim: at most 1.1",
            during / before
        ));
        let memory = mib(fault.resident_max_kib) / mib(calm.resident_max_kib);
        lines.push(format!("memory, most during over most before: {memory:.2}; aim: at most 1.1"));
    }
    Ok(lines)
}

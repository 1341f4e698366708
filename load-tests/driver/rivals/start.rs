//! From exec to the first answer: with nothing in the journal, and with many changes that are unsettled.

use super::Run;
use super::client::Clients;
use super::contest::CLIENTS;
use super::report::{Finding, Findings};
use super::server::{Rival, Server, new_folder};
use super::verdict::{Bound, Spread};
use crate::pressure::Writers;
use anyhow::{Context, ensure};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// The row's name.
const NAME: &str = "start, exec to first answer";
/// What Tidegate may take, in milliseconds: with an empty journal, and with a full one.
const EMPTY_MS_MAX: f64 = 30.0;
const FULL_MS_MAX: f64 = 300.0;
/// The longest wait for a first answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// Between two attempts to connect.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// How long changes are made at once, and how often at most.
const WRITE_FOR: Duration = Duration::from_secs(2);
const WRITES_MAX: usize = 60;
/// Whose start is measured.
const STARTING: [Rival; 3] = [Rival::Tidegate, Rival::Nginx, Rival::Bare];

/// Starts each some times, then Tidegate with what an earlier one left.
pub(crate) async fn measure(run: &Run, found: &mut Findings) -> anyhow::Result<()> {
    for rival in STARTING.into_iter().filter(|rival| run.server(*rival).is_some()) {
        let mut times = Vec::new();
        for _ in 0..run.plan.starts {
            times.push(started(run, rival, new_folder()?).await?.1);
        }
        let bound = match rival {
            Rival::Tidegate => Bound::AtMost(EMPTY_MS_MAX),
            _ => Bound::Stated,
        };
        add(found, format!("{}, ms", rival.name()), &times, bound);
    }
    let (mut folder, unsettled) = unsettled(run).await?;
    let mut times = Vec::new();
    for _ in 0..run.plan.starts {
        let (left, time) = started(run, Rival::Tidegate, folder).await?;
        times.push(time);
        folder = left;
    }
    add(found, format!("Tidegate, {unsettled} unsettled changes, ms"), &times, Bound::AtMost(FULL_MS_MAX));
    Ok(())
}

fn add(found: &mut Findings, compared: String, times: &[Duration], bound: Bound) {
    let millis: Vec<_> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    found.figures.extend(Spread::of(&millis).map(|value| Finding::new(NAME, compared, value, bound)));
}

/// Starts one and kills it once it has answered; its folder, and how long it took.
async fn started(run: &Run, rival: Rival, folder: TempDir) -> anyhow::Result<(TempDir, Duration)> {
    let server = Server::launch(rival, &run.setting, folder)?;
    while Clients::connect(server.address, 1).await.is_err() {
        ensure!(server.launched_at.elapsed() < ANSWER_WAIT_MAX, "{} does not answer", rival.name());
        sleep(LOOK_EVERY).await;
    }
    let time = server.launched_at.elapsed();
    Ok((server.kill().await?, time))
}

/// A folder with a journal in which that many changes or more wait for a destination that is not there.
async fn unsettled(run: &Run) -> anyhow::Result<(TempDir, u64)> {
    let server = Server::start(Rival::Tidegate, &run.setting).await?;
    let writers = Writers {
        address: server.address,
        clients: u64::try_from(CLIENTS)?,
        length: WRITE_FOR,
        folder: "items",
        body_bytes: crate::peers::RECORD_BYTES,
    };
    let (mut changes, begun_at) = (0, Instant::now());
    for _ in 0..WRITES_MAX {
        if changes >= run.plan.unsettled {
            return Ok((server.kill().await?, changes));
        }
        changes += writers.run().await?.acknowledged;
    }
    Err(anyhow::anyhow!("only {changes} changes in {:?}", begun_at.elapsed()))
        .context("too few changes for a start")
}

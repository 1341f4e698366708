//! What a stored response of 1 KiB takes: the growth of all memory while so many are stored.

use super::Run;
use super::client::{Clients, Keys, WARM};
use super::contest::CLIENTS;
use super::report::{Finding, Findings};
use super::server::{Rival, Server};
use super::verdict::{Bound, Spread};
use anyhow::{Context, ensure};

/// The row's name.
const NAME: &str = "memory for a stored 1 KiB";
/// The most that Tidegate may take for each.
const BYTES_MAX: f64 = 1_700.0;
/// Stored before the measurement, so that what is made once is made.
const BEFORE: u64 = 1_000;
/// Whose memory is compared; that of haproxy is allocated at the start.
const STORING: [Rival; 5] =
    [Rival::Tidegate, Rival::Nginx, Rival::Varnish, Rival::TrafficServer, Rival::Bare];

/// Starts each anew and fills it.
pub(crate) async fn measure(run: &Run, found: &mut Findings) -> anyhow::Result<()> {
    for rival in STORING.into_iter().filter(|rival| run.server(*rival).is_some()) {
        let bound = match rival {
            Rival::Tidegate => Bound::AtMost(BYTES_MAX),
            _ => Bound::Stated,
        };
        match bytes_each(run, rival).await {
            Ok(bytes) => {
                let compared = format!("{}, bytes each of {}", rival.name(), run.plan.kept);
                found.figures.push(Finding::new(NAME, compared, Spread::single(bytes), bound));
            }
            Err(fault) if Rival::PEERS.contains(&rival) => {
                found.notes.push(format!("{NAME}: {} left out: {fault:#}", rival.name()));
            }
            Err(fault) => return Err(fault),
        }
    }
    found.notes.push(format!("{NAME}: haproxy left out: its cache is allocated at the start"));
    Ok(())
}

async fn bytes_each(run: &Run, rival: Rival) -> anyhow::Result<f64> {
    let server = Server::start(rival, &run.setting).await?;
    let mut clients = Clients::connect(server.address, CLIENTS).await?;
    let (first, end) = (BEFORE, BEFORE + run.plan.kept);
    for _ in 0..2 {
        clients.run(WARM, &Keys::once(0, first)).await?;
    }
    let before = server.memory_bytes()?;
    clients.run(WARM, &Keys::once(first, end)).await?;
    let after = server.memory_bytes()?;
    let asked = run.origin.asked();
    clients.run(WARM, &Keys::once(first, end)).await?;
    let lost = run.origin.asked() - asked;
    ensure!(lost == 0, "{lost} of {} are no hits any more", run.plan.kept);
    server.stop().await?;
    let grown = u32::try_from(after.saturating_sub(before) / 1024).context("grown beyond measure")?;
    Ok(f64::from(grown) * 1024.0 / f64::from(u32::try_from(run.plan.kept)?))
}

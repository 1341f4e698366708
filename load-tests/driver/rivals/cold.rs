//! A crowd on one cold key: the scenario `collapse`, its figures held against bounds.

use super::report::{Finding, Findings};
use super::verdict::{Bound, Spread};
use crate::collapse::{self, Collapsed, Plan};
use crate::gateway::Gateway;
use crate::stage::Stage;
use anyhow::ensure;
use std::path::Path;
use std::time::Duration;

/// The row's name.
pub(crate) const NAME: &str = "1,000 clients on one cold key";
/// Clients that ask at once.
const CROWD: u64 = 1_000;
/// What the source waits, where it answers late.
const SOURCE_WAITS: Duration = Duration::from_millis(100);
/// Until the last client has its answer then, in milliseconds.
const LAST_MS_MAX: f64 = 160.0;
/// Until a client has the first byte of what the source streams, in milliseconds, at the median.
const FIRST_MS_MAX: f64 = 30.0;
/// Processor time for each client of the stream, in microseconds.
const MICROS_MAX: f64 = 120.0;

/// Runs it; its own table goes to the notes.
pub(crate) async fn measure(rounds: u64, binary: &Path, found: &mut Findings) {
    match collapsed(rounds, binary).await {
        Ok(Collapsed { lines, slow, stream }) => {
            found.notes.push(format!("\n{NAME}, as in make load-collapse:"));
            found.notes.extend(lines);
            let millis = |time: &Duration| time.as_secs_f64() * 1e3;
            let micros = |time: &Duration| time.as_secs_f64() * 1e6;
            let last: Vec<_> = slow.slowest_last.iter().map(millis).collect();
            let first: Vec<_> = stream.own_first_p50.iter().map(millis).collect();
            let cost: Vec<_> = stream.cpu_each.iter().map(micros).collect();
            for (compared, values, most) in [
                ("source of 100 ms: the last client done, ms", last, LAST_MS_MAX),
                ("source that streams: first byte at the median, ms", first, FIRST_MS_MAX),
                ("source that streams: Tidegate, microseconds a client", cost, MICROS_MAX),
            ] {
                let add = |value| Finding::new(NAME, compared.to_owned(), value, Bound::AtMost(most));
                found.figures.extend(Spread::of(&values).map(add));
            }
        }
        Err(fault) => found.broken(NAME, &fault),
    }
}

async fn collapsed(rounds: u64, binary: &Path) -> anyhow::Result<Collapsed> {
    let stage = Stage::start().await?;
    let gateway = Gateway::start(Some(binary), &stage).await?;
    let plan = Plan { clients: CROWD, rounds, latency: SOURCE_WAITS };
    let collapsed = collapse::run(plan, &gateway, &stage).await?;
    gateway.stop().await?;
    for (kind, rounds) in [("slow", &collapsed.slow), ("stream", &collapsed.stream)] {
        ensure!(rounds.failed == 0, "{kind}: {} clients got no good answer", rounds.failed);
        ensure!(rounds.forwards.iter().all(|count| *count == 1), "{kind}: forwards {:?}", rounds.forwards);
    }
    Ok(collapsed)
}

//! `backlog`: what may wait for one destination before it is detached, so that it does not fill the
//! journal that all the others need.

use super::delivery::Command;
use super::engine::Inner;
use super::journal::record::{Record, Unwritten};
use super::journal::sqlite;
use super::settings::DestinationSettings;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The next look comes after this many times what the last one took: it may read much.
const REST_FACTOR: u32 = 20;

/// Detaches a destination whenever more than its `backlog` waits for it.
pub(super) async fn keep_within(
    inner: Arc<Inner>,
    destination: i64,
    settings: watch::Receiver<Arc<DestinationSettings>>,
    worker: mpsc::Sender<Command>,
) {
    loop {
        let began_at = inner.clock.now();
        let (name, backlog_bytes) = {
            let settings = settings.borrow();
            (settings.name.clone(), settings.backlog_bytes)
        };
        let Some(bytes) = backlog_bytes else {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        };
        match look(&inner, destination, bytes).await {
            Ok(false) => {}
            Ok(true) => {
                tracing::error!(
                    destination = %name, backlog_bytes = bytes,
                    "a destination is detached: more than its backlog waits for it, and nothing is kept for \
                     it any more; resume it, then compare and repair what it has"
                );
                // A worker that is gone belongs to a process that stops.
                drop(worker.send(Command::Detach).await);
            }
            Err(Unwritten) => tracing::warn!(destination = %name, "its backlog could not be read"),
        }
        let took = inner.clock.now().since(began_at);
        tokio::time::sleep(took.saturating_mul(REST_FACTOR).max(LOOK_EVERY)).await;
    }
}

/// Whether it was detached by this look.
async fn look(inner: &Inner, destination: i64, bytes: u64) -> Result<bool, Unwritten> {
    let exceeds = move |store: &sqlite::Store| sqlite::exceeds(store, destination, bytes);
    if !inner.journal.readers().read(exceeds).await? {
        return Ok(false);
    }
    inner.journal.write(Record::Detach { destination }).await.map(|_| true)
}

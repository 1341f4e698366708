//! Reads of the journal, off the runtime's threads, on connections of their own.

use super::Shared;
use super::record::Unwritten;
use super::sqlite::{self, SqlError, Store};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Reads at once; more wait.
const READERS: usize = 4;

/// Connections for reading, opened when first needed.
#[derive(Clone, Debug)]
pub(crate) struct Readers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    idle: Mutex<Vec<Store>>,
    permits: Arc<Semaphore>,
    shared: Arc<Shared>,
}

impl Readers {
    pub(super) fn new(folder: PathBuf, shared: Arc<Shared>) -> Self {
        let permits = Arc::new(Semaphore::new(READERS));
        Self(Arc::new(Inner { folder, idle: Mutex::new(Vec::new()), permits, shared }))
    }

    /// Runs a query on a thread that may wait for the disk.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Store) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, Unwritten> {
        let permit = Arc::clone(&self.0.permits).acquire_owned().await.map_err(|_| Unwritten)?;
        let inner = Arc::clone(&self.0);
        let run = move || {
            let _permit = permit;
            let idle = inner.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let store = match idle {
                Some(store) => store,
                None => sqlite::open_reader(&inner.folder)?,
            };
            let answer = query(&store)?;
            // A connection that met an error is not used again.
            if !inner.permits.is_closed() {
                inner.idle.lock().unwrap_or_else(PoisonError::into_inner).push(store);
            }
            Ok::<T, SqlError>(answer)
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                if sqlite::is_corrupt(&error) {
                    self.0.shared.found_corrupt(&error);
                }
                tracing::warn!(%error, "the journal could not be read");
                Err(Unwritten)
            }
            Err(_) => Err(Unwritten),
        }
    }

    /// Waits for reads under way and closes every connection.
    pub(super) async fn close(&self) {
        let all = u32::try_from(READERS).unwrap_or(u32::MAX);
        // It only fails when it has been closed before.
        drop(self.0.permits.acquire_many(all).await);
        self.0.permits.close();
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

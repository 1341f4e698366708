//! Writes that go through wait for the accepted ones of their key before them (I3).
//!
//! What is accepted later, while such a write waits, is not waited for: nobody told its client that it
//! came first.

use crate::sync::engine::Inner;
use crate::sync::error::RecordError;
use crate::sync::journal::record::Unwritten;
use crate::sync::journal::sqlite::{self, Backlog};
use crate::sync::turns::WAIT_MAX;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Writes that wait for accepted ones at once, all keys together.
const WAITERS_MAX: usize = 1024;

/// The keys that are waited for.
#[derive(Debug, Default)]
pub(in crate::sync) struct Earlier(Mutex<HashMap<String, Watched>>);

#[derive(Debug)]
struct Watched {
    moved: Arc<Notify>,
    waiters: usize,
}

/// One that waits, until dropped.
struct Waiter<'a> {
    earlier: &'a Earlier,
    key: &'a str,
    moved: Arc<Notify>,
}

impl Earlier {
    /// An accepted change of the key has moved on.
    pub(super) fn moved(&self, key: &str) {
        if let Some(watched) = self.keys().get(key) {
            watched.moved.notify_waiters();
        }
    }

    fn enter<'a>(&'a self, key: &'a str) -> Option<Waiter<'a>> {
        let mut keys = self.keys();
        if keys.values().map(|watched| watched.waiters).sum::<usize>() >= WAITERS_MAX {
            return None;
        }
        let fresh = || Watched { moved: Arc::new(Notify::new()), waiters: 0 };
        let watched = keys.entry(key.to_owned()).or_insert_with(fresh);
        watched.waiters += 1;
        Some(Waiter { earlier: self, key, moved: Arc::clone(&watched.moved) })
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<String, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut keys = self.earlier.keys();
        if let Some(watched) = keys.get_mut(self.key) {
            watched.waiters = watched.waiters.saturating_sub(1);
            if watched.waiters == 0 {
                keys.remove(self.key);
            }
        }
    }
}

/// Waits until every change of the key that has been accepted until now has its outcome.
///
/// # Errors
/// [`RecordError::KeyBusy`] where that takes too long, needs an operator, or too many wait already.
pub(in crate::sync) async fn after_accepted(
    inner: &Inner,
    source: &str,
    key: &str,
) -> Result<(), RecordError> {
    // Nothing was ever accepted here: nothing is read.
    if *inner.journal.newest_accepted().borrow() == 0 {
        return Ok(());
    }
    let Some(before) = read(inner, source, key).await? else { return Ok(()) };
    if before.parked {
        return Err(RecordError::KeyBusy);
    }
    let waiter = inner.earlier.enter(key).ok_or(RecordError::KeyBusy)?;
    let done = async {
        loop {
            let moved = waiter.moved.notified();
            tokio::pin!(moved);
            // From here on no move is missed.
            moved.as_mut().enable();
            match read(inner, source, key).await? {
                Some(left) if left.oldest <= before.newest => moved.await,
                Some(_) | None => return Ok(()),
            }
        }
    };
    tokio::time::timeout(WAIT_MAX, done).await.unwrap_or(Err(RecordError::KeyBusy))
}

async fn read(inner: &Inner, source: &str, key: &str) -> Result<Option<Backlog>, RecordError> {
    let (source, key) = (source.to_owned(), key.to_owned());
    let read = inner.journal.readers().read(move |store| sqlite::backlog(store, &source, &key)).await;
    read.map_err(|Unwritten| RecordError::Unavailable)
}

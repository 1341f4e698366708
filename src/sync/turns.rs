//! Turns: writes of one key pass the gateway one at a time, in the order they came (I3).
//!
//! A write holds its key's turn from before its intent until its outcome is queued in the journal; a
//! change in doubt holds it until it is resolved. At the bounds whoever waits is sent away.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Writes that wait for one key.
pub(super) const WAITERS_MAX: usize = 64;
/// How long a write waits for its key.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(30);

/// The keys that are being written.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<String, Lane>>>);

#[derive(Debug)]
struct Lane {
    semaphore: Arc<Semaphore>,
    /// Whoever holds or wants the turn.
    users: usize,
    holder: Holder,
}

/// What the turn is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Write,
    Doubt,
}

/// Too many wait for this key, or for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Busy {
    /// For others' writes.
    Writes,
    /// For a change in doubt.
    Doubt,
}

/// The right to write a key; given back when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    permit: Option<OwnedSemaphorePermit>,
    user: User,
}

/// Counts somebody at a key, until dropped.
#[derive(Debug)]
struct User {
    turns: Turns,
    key: String,
}

impl Turns {
    /// Waits for the key's turn.
    pub(super) async fn take(&self, key: &str) -> Result<Turn, Busy> {
        let (user, semaphore) = self.enter(key, WAITERS_MAX).ok_or_else(|| self.busy(key))?;
        match tokio::time::timeout(WAIT_MAX, semaphore.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Turn { permit: Some(permit), user }),
            Ok(Err(_)) | Err(_) => Err(self.busy(key)),
        }
    }

    /// The turn of a key that nobody uses yet; `None` where somebody does.
    pub(super) fn take_unused(&self, key: &str) -> Option<Turn> {
        let (user, semaphore) = self.enter(key, 0)?;
        Some(Turn { permit: semaphore.try_acquire_owned().ok(), user })
    }

    /// Whoever holds or wants a key's turn.
    #[cfg(test)]
    pub(super) fn users(&self, key: &str) -> usize {
        self.lanes().get(key).map_or(0, |lane| lane.users)
    }

    fn enter(&self, key: &str, others_max: usize) -> Option<(User, Arc<Semaphore>)> {
        let mut lanes = self.lanes();
        let fresh = || Lane { semaphore: Arc::new(Semaphore::new(1)), users: 0, holder: Holder::Write };
        let lane = lanes.entry(key.to_owned()).or_insert_with(fresh);
        if lane.users > others_max {
            return None;
        }
        lane.users += 1;
        Some((User { turns: self.clone(), key: key.to_owned() }, Arc::clone(&lane.semaphore)))
    }

    /// What whoever is sent away has waited for.
    fn busy(&self, key: &str) -> Busy {
        match self.lanes().get(key).map(|lane| lane.holder) {
            Some(Holder::Doubt) => Busy::Doubt,
            Some(Holder::Write) | None => Busy::Writes,
        }
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<String, Lane>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// It is held until a doubt is resolved.
    pub(super) fn is_in_doubt(&self) {
        self.hold(Holder::Doubt);
    }

    fn hold(&self, holder: Holder) {
        if let Some(lane) = self.user.turns.lanes().get_mut(&self.user.key) {
            lane.holder = holder;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.hold(Holder::Write);
        // Before the user goes, so that a lane is never forgotten while its permit is out.
        drop(self.permit.take());
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut lanes = self.turns.lanes();
        if let Some(lane) = lanes.get_mut(&self.key) {
            lane.users = lane.users.saturating_sub(1);
            if lane.users == 0 {
                lanes.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn i3_turns_pass_in_order_and_leave_nothing() {
        let turns = Turns::default();
        let first = turns.take("k").await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for number in 0..3 {
            let (turns, order) = (turns.clone(), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let _turn = turns.take("k").await.unwrap();
                order.lock().unwrap().push(number);
            }));
            tokio::task::yield_now().await;
        }
        assert!(turns.take("other").await.is_ok(), "another key does not wait");
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
        assert!(turns.lanes().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn i10_at_the_bounds_a_write_is_sent_away() {
        let turns = Turns::default();
        let held = turns.take("k").await.unwrap();
        let waiting: Vec<_> = (0..WAITERS_MAX)
            .map(|_| {
                let turns = turns.clone();
                tokio::spawn(async move { turns.take("k").await.is_err() })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(turns.take("k").await.err(), Some(Busy::Writes), "one more than may wait");
        held.is_in_doubt();
        assert_eq!(turns.take("k").await.err(), Some(Busy::Doubt));
        for task in waiting {
            assert!(task.await.unwrap(), "waited for too long");
        }
        assert!(turns.take_unused("k").is_none());
        assert!(turns.take_unused("free").is_some());
    }
}

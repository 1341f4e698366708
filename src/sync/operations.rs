//! What operators have ordered and what takes its time: how far it is, and stopping it.
//!
//! Operations live in memory. A restart ends them where they stand: dead letters that were not reached stay
//! dead, keys that were not reached are not replayed; what was begun is in the journal and goes on.

use super::error::CommandError;
use crate::clock::Timestamp;
use serde::Serialize;
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// Operations under way at once, and so many of those that ended are told of.
const OPERATIONS_MAX: usize = 32;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = OperationKind)]
pub enum Kind {
    /// Dead letters are sent again.
    Redrive,
    /// Dead letters are given up.
    Discard,
    /// Delivered history is sent again.
    Replay,
}

/// Whether it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = OperationState)]
pub enum Stage {
    /// It does.
    Running,
    /// All of it is done.
    Finished,
    /// An operator or the end of the process stopped it.
    Stopped,
    /// The journal did.
    Failed,
}

/// An operation, as `GET /v1/operations` shows it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct OperationView {
    /// Its number, of this run of the gateway.
    pub id: u64,
    /// `redrive`, `discard`, `replay`.
    pub kind: Kind,
    /// Toward whom; `None`: every destination.
    pub destination: Option<String>,
    /// `running`, `finished`, `stopped`, `failed`.
    pub state: Stage,
    /// How many it concerned when it was ordered.
    pub count: u64,
    /// How many of them are done: dead letters that wait again or are given up, changes that were replayed.
    pub done: u64,
    /// Those that would have put an older change after a newer one, or whose key is parked.
    pub left_out: u64,
    /// At most so many a second.
    #[schema(value_type = Option<u32>)]
    pub rate: Option<NonZeroU32>,
    /// When it began.
    pub started_at: Timestamp,
    /// Of a replay: keys whose first change is before this have been reached; it is continued from here.
    pub reached: Option<Timestamp>,
}

/// One of them, shared with the task that does it.
#[derive(Debug)]
pub(super) struct Operation {
    view: Mutex<OperationView>,
    stop: CancellationToken,
}

impl Operation {
    /// Changes what is told of it.
    pub(super) fn note(&self, change: impl FnOnce(&mut OperationView)) {
        change(&mut unpoisoned(&self.view));
    }

    fn view(&self) -> OperationView {
        unpoisoned(&self.view).clone()
    }

    /// Does the work until it ends or is stopped.
    pub(super) async fn run(&self, work: impl Future<Output = Result<(), CommandError>>) {
        let state = match self.stop.run_until_cancelled(work).await {
            Some(Ok(())) => Stage::Finished,
            Some(Err(error)) => {
                tracing::error!(%error, operation = ?self.view(), "an operation failed");
                Stage::Failed
            }
            None => Stage::Stopped,
        };
        self.note(|view| view.state = state);
        let OperationView { id, kind, count, done, left_out, reached, .. } = self.view();
        let reached = reached.map(Timestamp::as_millis);
        tracing::info!(id, ?kind, ?state, count, done, left_out, reached, "an operation ended");
    }
}

/// Those under way, and the last ones that ended.
#[derive(Debug, Default)]
pub(super) struct Operations(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    last_id: u64,
    /// The newest first.
    operations: VecDeque<Arc<Operation>>,
}

impl Operations {
    /// Begins one; `view` tells of it, but for its number.
    pub(super) fn begin(
        &self,
        view: OperationView,
        stop: CancellationToken,
    ) -> Result<(u64, Arc<Operation>), CommandError> {
        let mut known = unpoisoned(&self.0);
        let running =
            || known.operations.iter().map(|one| one.view()).filter(|one| one.state == Stage::Running);
        if running().count() >= OPERATIONS_MAX {
            return Err(CommandError::TooManyOperations);
        }
        let is_replay = |one: &OperationView| one.kind == Kind::Replay && one.destination == view.destination;
        if is_replay(&view) && running().any(|one| is_replay(&one)) {
            return Err(CommandError::ReplayUnderWay);
        }
        let mut ended = 0;
        known.operations.retain(|one| {
            ended += usize::from(one.view().state != Stage::Running);
            one.view().state == Stage::Running || ended < OPERATIONS_MAX
        });
        known.last_id += 1;
        let id = known.last_id;
        let operation = Arc::new(Operation { view: Mutex::new(OperationView { id, ..view }), stop });
        known.operations.push_front(Arc::clone(&operation));
        Ok((id, operation))
    }

    /// All of them, the newest first.
    pub(super) fn list(&self) -> Vec<OperationView> {
        unpoisoned(&self.0).operations.iter().map(|one| one.view()).collect()
    }

    /// Stops one; one that has ended stays as it is.
    pub(super) fn stop(&self, id: u64) -> Result<OperationView, CommandError> {
        let known = unpoisoned(&self.0);
        let named = known.operations.iter().find(|one| one.view().id == id);
        let operation = named.ok_or(CommandError::UnknownOperation)?;
        operation.stop.cancel();
        Ok(operation.view())
    }
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(kind: Kind, destination: &str) -> OperationView {
        OperationView {
            id: 0,
            kind,
            destination: Some(destination.to_owned()),
            state: Stage::Running,
            count: 1,
            done: 0,
            left_out: 0,
            rate: None,
            started_at: Timestamp::default(),
            reached: None,
        }
    }

    #[tokio::test]
    async fn i10_operations_are_bounded_and_one_replay_runs_for_a_destination() {
        let operations = Operations::default();
        let begin = |kind, name: &str| operations.begin(view(kind, name), CancellationToken::new());
        let (id, first) = begin(Kind::Replay, "a").unwrap();
        assert!(matches!(begin(Kind::Replay, "a"), Err(CommandError::ReplayUnderWay)));
        begin(Kind::Replay, "b").unwrap();
        operations.stop(id).unwrap();
        first.run(std::future::pending()).await;
        assert_eq!(operations.stop(id).unwrap().state, Stage::Stopped);
        begin(Kind::Replay, "a").unwrap();
        for _ in 2..OPERATIONS_MAX {
            begin(Kind::Redrive, "a").unwrap();
        }
        assert!(matches!(begin(Kind::Redrive, "a"), Err(CommandError::TooManyOperations)));
        assert!(matches!(operations.stop(0), Err(CommandError::UnknownOperation)));
        for number in 0..200 {
            let id = operations.list()[0].id;
            operations.stop(id).unwrap();
            let newest = Arc::clone(&unpoisoned(&operations.0).operations[0]);
            newest.run(std::future::pending()).await;
            begin(Kind::Redrive, "a").unwrap_or_else(|error| panic!("{number}: {error}"));
        }
        assert!(operations.list().len() <= 2 * OPERATIONS_MAX);
    }
}

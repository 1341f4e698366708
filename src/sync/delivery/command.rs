//! What operators ask of a worker, and what it tells.

use super::replay::Ordered;
use super::worker::{Attachment, Worker};
use crate::clock::Timestamp;
use crate::sync::Run;
use crate::sync::journal::Journal;
use crate::sync::journal::record::{Record, Step, Unwritten};
use crate::sync::journal::sqlite::{self, Buried};
use crate::sync::settings::OnFailure;
use crate::sync::status::{DeadLetterFilter, DestinationState};
use futures_util::future::try_join_all;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What is done with dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync) enum Act {
    /// They are sent again.
    Redrive,
    /// They are given up.
    Discard,
}

/// A request to a worker.
#[derive(Debug)]
pub(in crate::sync) enum Command {
    Status(oneshot::Sender<WorkerStatus>),
    Pause,
    Resume,
    /// The journal keeps nothing for it any more.
    Detach,
    /// A fault of Tidegate's own.
    #[cfg(test)]
    Panic,
    /// One step: at most `limit` dead letters after a sequence.
    DeadLetters {
        filter: DeadLetterFilter,
        act: Act,
        run: Run,
        after: u64,
        limit: u32,
        done: oneshot::Sender<Result<Acted, Unwritten>>,
    },
    Replay(Ordered),
}

/// What a step came to.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::sync) struct Acted {
    pub(in crate::sync) count: u64,
    /// Those whose key has got a newer change.
    pub(in crate::sync) left_out: u64,
    /// Where the next step begins; `None`: there are no more.
    pub(in crate::sync) next: Option<u64>,
}

/// What a worker knows that the journal does not.
#[derive(Clone, Debug)]
pub(in crate::sync) struct WorkerStatus {
    pub(in crate::sync) state: DestinationState,
    pub(in crate::sync) breaker: &'static str,
    pub(in crate::sync) concurrency: u64,
    /// Sequences of the attempts under way.
    pub(in crate::sync) in_flight: Vec<u64>,
    pub(in crate::sync) cursor: u64,
    /// Deliveries up to the cursor that have no row, the ones in flight among them.
    pub(in crate::sync) rowless: u64,
    pub(in crate::sync) oldest_rowless: Option<u64>,
    pub(in crate::sync) last_error: Option<String>,
    pub(in crate::sync) next_admission: Option<Timestamp>,
}

impl Worker {
    pub(super) async fn obey(&mut self, command: Command) {
        match command {
            // Whoever asked may have gone.
            Command::Status(reply) => drop(reply.send(self.status())),
            Command::Pause => self.course.pause(),
            Command::Resume => {
                self.course.resume();
                if self.attachment == Attachment::Detached {
                    self.attachment = Attachment::Returning;
                }
            }
            Command::Detach => self.attachment = Attachment::Detached,
            #[cfg(test)]
            Command::Panic => panic!("asked for by a test"),
            Command::DeadLetters { filter, act, run, after, limit, done } => {
                let page = self.buried(filter, after, limit).await;
                let outcome = match page {
                    Ok(page) => self.act_on(page, act, run).await,
                    Err(Unwritten) => Err(Unwritten),
                };
                drop(done.send(outcome));
            }
            Command::Replay(ordered) => {
                self.course.replays.order(ordered);
                self.begin_replay().await;
            }
        }
    }

    fn status(&self) -> WorkerStatus {
        let (now, course) = (self.clock.now(), &self.course);
        let (oldest_rowless, rowless) = course.lanes.rowless();
        let is_attached = self.attachment == Attachment::Attached;
        let state = if is_attached { course.pace.state(now) } else { DestinationState::Detached };
        WorkerStatus {
            state,
            breaker: course.pace.breaker(now).as_str(),
            concurrency: course.pace.concurrency() as u64,
            in_flight: course.in_flight.values().copied().collect(),
            cursor: course.lanes.cursor(),
            rowless: if is_attached { rowless } else { 0 },
            oldest_rowless: oldest_rowless.filter(|_| is_attached),
            last_error: self.last_error.clone(),
            next_admission: course.pace.next_admission(now),
        }
    }

    async fn buried(
        &self,
        filter: DeadLetterFilter,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Buried>, Unwritten> {
        let destination = self.known.id;
        let query = move |store: &sqlite::Store| sqlite::buried(store, destination, &filter, after, limit);
        self.journal.readers().read(query).await
    }

    /// The worker itself does it, between two decisions, so that nothing newer of these keys can
    /// begin meanwhile (I3).
    async fn act_on(&mut self, page: Vec<Buried>, act: Act, run: Run) -> Result<Acted, Unwritten> {
        let next = page.last().map(|last| last.sequence);
        let found = page.len() as u64;
        let chosen: Vec<Buried> = page.into_iter().filter(|buried| self.may(act, buried)).collect();
        let left_out = found - chosen.len() as u64;
        let count = match run {
            Run::Real if !chosen.is_empty() => self.raise(act, chosen).await?,
            Run::Real | Run::Dry => chosen.len() as u64,
        };
        Ok(Acted { count, left_out, next })
    }

    fn may(&self, act: Act, buried: &Buried) -> bool {
        let is_sent = act == Act::Discard || self.attachment == Attachment::Attached;
        let may = is_sent && self.course.may_raise(act, buried);
        if !may {
            tracing::info!(key = %buried.key, sequence = buried.sequence, "left out: its key has got a newer change, or the destination is detached");
        }
        may
    }

    async fn raise(&mut self, act: Act, chosen: Vec<Buried>) -> Result<u64, Unwritten> {
        let keys: BTreeSet<Arc<str>> = chosen.iter().map(|buried| Arc::clone(&buried.key)).collect();
        let sequences = chosen.iter().map(|buried| buried.sequence).collect();
        let destination = self.known.id;
        let record = match act {
            Act::Redrive => {
                for key in &keys {
                    self.course.covered.forget(key);
                }
                let rows = self.course.make_way(&keys);
                self.submit(Step::Spill { rows }).await?;
                Record::Redrive { destination, sequences, on_failure: self.course.settings.on_failure }
            }
            Act::Discard => Record::Discard { destination, sequences },
        };
        let count = self.journal.write(record).await?;
        let on_failure = self.course.settings.on_failure;
        let arranged = keys.iter().map(|key| arrange(&self.journal, destination, key, on_failure, 0));
        // Together, so that their records share groups.
        try_join_all(arranged).await?;
        for key in &keys {
            self.course.lanes.revive(key);
        }
        Ok(count)
    }
}

/// Marks what waits of a key as parked or not, after a sequence, step by step.
pub(super) async fn arrange(
    journal: &Journal,
    destination: i64,
    key: &Arc<str>,
    on_failure: OnFailure,
    mut after: u64,
) -> Result<(), Unwritten> {
    loop {
        let step = Record::Arrange { destination, key: Arc::clone(key), on_failure, after };
        match journal.write(step).await? {
            0 => return Ok(()),
            marked_to => after = marked_to,
        }
    }
}

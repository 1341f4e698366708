//! What a worker makes of a read of a source: it is sent, or was not needed, or the delivery waits.

use super::budget::Charge;
use super::carrier::Read;
use super::course::{After, Course};
use super::decide::Answered;
use super::key_state::Entry;
use super::outcome::{Code, Failure, Outcome};
use super::reads::{Trouble, Unread, Unsent};
use super::retry::{self, Standing};
use super::state::Seen;
use super::worker::{READ_AGAIN_AFTER, Worker};
use crate::clock::Timestamp;
use crate::sync::journal::record::{Settled, Step};
use crate::telemetry::metrics as names;
use metrics::counter;
use std::sync::Arc;
use std::time::Duration;

/// What a read of a source met; `None`: the journal could not be read.
pub(super) struct ReadEnded {
    pub(super) key: Arc<str>,
    pub(super) entry: Entry,
    pub(super) read: Option<Read>,
    pub(super) began_at: Timestamp,
}

/// What follows a read.
pub(super) enum AfterRead {
    /// It is sent next, or read again later; the journal hears nothing.
    Nothing,
    /// This is recorded.
    Recorded(Step, After),
    /// The source did not tell; this is recorded.
    Unread { unread: Unread, trouble: Trouble, step: Step, after: After },
    /// The change is damaged.
    Answered(Box<Answered>),
}

impl Course {
    /// What follows a read of a source. What is recorded has a place until it is durable. `random` gives
    /// numbers in 0..=1.
    pub(super) fn read(
        &mut self,
        ended: ReadEnded,
        now: Timestamp,
        mut random: impl FnMut() -> f64,
    ) -> AfterRead {
        let ReadEnded { key, entry, read, began_at } = ended;
        let paid = self.reads.charge(&key);
        if let Some(Read::Seen(Seen::State(snapshot))) = read {
            self.reads.arrived(Unsent { key, entry, snapshot, charge: paid });
            if self.pace.is_paused() {
                self.pause();
            }
            return AfterRead::Nothing;
        }
        if paid == Charge::Made {
            self.budget.give_back();
        }
        let Entry { sequence, ref past, .. } = entry;
        if let Some(Read::Seen(Seen::Unread(mut unread))) = read {
            let retry = &self.settings.retry;
            unread.retry_after = unread.retry_after.map(|asked| asked.min(retry.after_cap));
            let wait = |failures| retry::backoff(retry, failures, random());
            let (next_at, trouble) = self.reads.failed(&key, &entry, &unread, now, wait);
            self.take_place(&key, sequence);
            let (past, behind, last_error) = (past.clone(), self.lanes.defer(&key, past), unread.summary());
            let destination_waits_until = None;
            let step =
                Step::Defer { key, sequence, past, next_at, last_error, behind, destination_waits_until };
            return AfterRead::Unread { unread, trouble, step, after: After::WaitUntil(next_at) };
        }
        self.reads.left(&key, &entry);
        match read {
            None | Some(Read::Seen(Seen::State(_) | Seen::Unread(_))) => {
                self.lanes.wait(&key, now.plus(READ_AGAIN_AFTER));
                AfterRead::Nothing
            }
            Some(Read::Seen(Seen::Covered)) => {
                self.take_place(&key, sequence);
                self.lanes.settle_head(&key);
                let (settled, attempts) = (Settled::Superseded, past.attempts);
                AfterRead::Recorded(Step::Settle { key, sequence, settled, attempts }, After::GoOn)
            }
            Some(Read::Damaged(change)) => {
                self.take_place(&key, sequence);
                let outcome = Outcome::Permanent(Failure::of(Code::Damaged));
                let standing = Standing::Aside;
                let (round_trip, state) = (Duration::ZERO, None);
                AfterRead::Answered(Box::new(Answered {
                    key,
                    entry,
                    standing,
                    began_at,
                    change,
                    outcome,
                    round_trip,
                    state,
                }))
            }
        }
    }
}

impl Worker {
    /// Decides what follows a read of a source.
    pub(super) async fn take_read(&mut self, ended: ReadEnded) {
        let key = Arc::clone(&ended.key);
        let (step, after) = match self.course.read(ended, self.clock.now(), fastrand::f64) {
            AfterRead::Nothing => return,
            AfterRead::Answered(answered) => return self.take_answer(*answered).await,
            AfterRead::Recorded(step, after) => (step, after),
            AfterRead::Unread { unread, trouble, step, after } => {
                self.note_unread(&key, &unread, trouble);
                (step, after)
            }
        };
        self.record(key, step, after).await;
        self.spill_laggards().await;
    }

    fn note_unread(&mut self, key: &Arc<str>, unread: &Unread, trouble: Trouble) {
        let (name, summary) = (&self.known.name, unread.summary());
        counter!(names::DELIVERIES_UNREAD, "destination" => name.clone(), "source" => unread.source.clone())
            .increment(1);
        match trouble {
            Trouble::New => {
                tracing::warn!(destination = %name, %key, %summary, "a delivery waits for its source");
            }
            Trouble::Known => {
                tracing::debug!(destination = %name, %key, %summary, "a delivery waits for its source");
            }
        }
        self.last_error = Some(summary);
    }
}

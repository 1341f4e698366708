//! One attempt from its record to its outcome: reads the change, in `format = "state"` its source too, and
//! sends it.

use super::attempt::Sender;
use super::key_state::Entry;
use super::outcome::{Before, Code, Failure, Outcome};
use super::request::Delivery;
use super::state::States;
use crate::clock::Clock;
use crate::sync::change::ChangeId;
use crate::sync::engine::Inner;
use crate::sync::failpoint;
use crate::sync::journal::Journal;
use crate::sync::journal::record::Head;
use crate::sync::journal::sqlite::Stored;
use crate::sync::settings::{DestinationSettings, Format};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// The way of one destination's deliveries.
#[derive(Debug)]
pub(super) struct Carrier {
    journal: Arc<Journal>,
    sender: Sender,
    clock: Clock,
    /// `None`: it gets what was written.
    states: Option<States>,
}

/// What an attempt came to.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) change: ChangeId,
    pub(super) outcome: Outcome,
    pub(super) round_trip: Duration,
}

impl Carrier {
    pub(super) fn new(settings: &DestinationSettings, inner: &Arc<Inner>) -> Self {
        let states = match settings.format {
            Format::State => Some(States::new(Arc::clone(inner))),
            Format::Replay | Format::CloudEvents => None,
        };
        let clock = inner.clock.clone();
        let sender = Sender::new(settings, clock.clone());
        Self { journal: Arc::clone(&inner.journal), sender, clock, states }
    }

    /// `None`: the journal, or the source, could not be read; nothing was attempted.
    pub(super) async fn carry(&self, key: &Arc<str>, entry: &Entry) -> Option<Carried> {
        let stored = self.journal.load(entry.sequence).await.ok()?;
        failpoint::reach(failpoint::DELIVERY_BEFORE_ATTEMPT);
        let mut sent_at = self.clock.now();
        let (change, outcome) = match stored {
            Some(Stored::Sound { id, head, body }) => {
                let outcome = match &self.states {
                    None => self.send(id, key, entry, &head, body).await,
                    Some(states) if states.covers(key, entry.sequence) => Outcome::Superseded,
                    Some(states) => {
                        let read = states.read(Arc::unwrap_or_clone(head), key).await?;
                        sent_at = self.clock.now();
                        let outcome = self.send(id, key, entry, &read.head, read.body).await;
                        if matches!(outcome, Outcome::Delivered | Outcome::Absent(_)) {
                            states.delivered(key, entry.sequence, read.as_of);
                        }
                        outcome
                    }
                };
                (id, outcome)
            }
            Some(Stored::Damaged { id }) => (id, Outcome::Permanent(Failure::of(Code::Damaged))),
            // A change that waits is never deleted: its row is lost.
            None => (ChangeId(uuid::Uuid::nil()), Outcome::Permanent(Failure::of(Code::Damaged))),
        };
        failpoint::reach(failpoint::DELIVERY_AFTER_ATTEMPT);
        Some(Carried { change, outcome, round_trip: self.clock.now().since(sent_at) })
    }

    async fn send(&self, id: ChangeId, key: &str, entry: &Entry, head: &Head, body: Bytes) -> Outcome {
        let Entry { sequence, past, .. } = entry;
        let attempt = past.attempts.saturating_add(1);
        let before = if past.answer_lost { Before::AnswerLost } else { Before::Nothing };
        let delivery = Delivery { id, key, sequence: *sequence, attempt, head, body, replay: past.replay };
        self.sender.attempt(delivery, before).await
    }
}

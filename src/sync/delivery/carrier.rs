//! One attempt from its record to its outcome: reads the change, and sends it. In `format = "state"` its
//! source is read before, apart from any attempt.

use super::attempt::Sender;
use super::covered::Target;
use super::key_state::Entry;
use super::outcome::{Before, Code, Failure, Outcome};
use super::request::Delivery;
use super::state::{self, Seen, Snapshot};
use crate::clock::Clock;
use crate::sync::change::ChangeId;
use crate::sync::engine::Inner;
use crate::sync::failpoint;
use crate::sync::journal::record::{Head, Unwritten};
use crate::sync::journal::sqlite::Stored;
use crate::sync::settings::DestinationSettings;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// The way of one destination's deliveries.
#[derive(Debug)]
pub(super) struct Carrier {
    inner: Arc<Inner>,
    destination: i64,
    sender: Sender,
    clock: Clock,
}

/// What an attempt sends.
#[derive(Debug)]
pub(super) enum Content {
    /// The change as it was recorded.
    Change,
    /// What its source has.
    State(Box<Snapshot>),
}

/// What an attempt came to.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) change: ChangeId,
    pub(super) outcome: Outcome,
    pub(super) round_trip: Duration,
    /// What the destination has, if it took it: a target, and as of when.
    pub(super) state: Option<(Target, u64)>,
}

/// What a read of a source came to.
#[derive(Debug)]
pub(super) enum Read {
    Seen(Seen),
    /// The record of the change does not match.
    Damaged(ChangeId),
}

impl Carrier {
    pub(super) fn new(destination: i64, settings: &DestinationSettings, inner: &Arc<Inner>) -> Self {
        let clock = inner.clock.clone();
        let sender = Sender::new(settings, clock.clone());
        Self { inner: Arc::clone(inner), destination, sender, clock }
    }

    /// `None`: the journal could not be read; nothing was attempted.
    pub(super) async fn carry(&self, key: &str, entry: &Entry, content: Content) -> Option<Carried> {
        let (change, head, body, state) = match content {
            Content::Change => match self.load(entry).await.ok()? {
                Stored::Sound { id, head, body } => (id, head, body, None),
                Stored::Damaged { id: change } => {
                    let outcome = Outcome::Permanent(Failure::of(Code::Damaged));
                    return Some(Carried { change, outcome, round_trip: Duration::ZERO, state: None });
                }
            },
            Content::State(snapshot) => {
                let Snapshot { change, head, body, target, as_of } = *snapshot;
                (change, Arc::new(head), body, Some((target, as_of)))
            }
        };
        failpoint::reach(failpoint::DELIVERY_BEFORE_ATTEMPT);
        let sent_at = self.clock.now();
        let outcome = self.send(change, key, entry, &head, body).await;
        failpoint::reach(failpoint::DELIVERY_AFTER_ATTEMPT);
        Some(Carried { change, outcome, round_trip: self.clock.now().since(sent_at), state })
    }

    /// Reads what the source of a change has, unless the destination has it. `None`: the journal could not
    /// be read.
    pub(super) async fn read(&self, key: &str, entry: &Entry, covered: &[Target]) -> Option<Read> {
        Some(match self.load(entry).await.ok()? {
            Stored::Sound { id, head, .. } => {
                Read::Seen(state::read(&self.inner, id, Arc::unwrap_or_clone(head), key, covered).await)
            }
            Stored::Damaged { id } => Read::Damaged(id),
        })
    }

    async fn load(&self, entry: &Entry) -> Result<Stored, Unwritten> {
        self.inner.journal.load(entry.sequence, self.destination).await
    }

    async fn send(&self, id: ChangeId, key: &str, entry: &Entry, head: &Head, body: Bytes) -> Outcome {
        let Entry { sequence, past, .. } = entry;
        let attempt = past.attempts.saturating_add(1);
        let before = if past.answer_lost { Before::AnswerLost } else { Before::Nothing };
        let delivery = Delivery { id, key, sequence: *sequence, attempt, head, body, replay: past.replay };
        self.sender.attempt(delivery, before).await
    }
}

//! What operators are told about changes and destinations (the admin API's shapes).

use super::change::ChangeId;
use super::delivery::outcome::Code;
use super::journal::sqlite::change_state;
use crate::clock::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// A destination, as `GET /v1/destinations` shows it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct DestinationStatus {
    /// Its name.
    pub name: String,
    /// `running`, `paused`, `held`, `disabled`, `detached`.
    pub state: DestinationState,
    /// Deliveries that wait, those parked left out.
    pub pending: u64,
    /// Attempts under way.
    pub in_flight: u64,
    /// Age in seconds of the oldest change that waits, is in flight or held.
    pub lag_seconds: f64,
    /// `closed`, `open`, `half-open`.
    pub breaker: &'static str,
    /// Deliveries allowed at once now.
    pub concurrency: u64,
    /// Keys that wait behind a dead letter.
    pub parked_keys: u64,
    /// Dead letters kept.
    pub dead_letters: u64,
    /// What went wrong last, without secrets.
    pub last_error: Option<String>,
    /// When the next attempt is due, in milliseconds since the Unix epoch.
    pub next_attempt_at: Option<Timestamp>,
}

/// A destination's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DestinationState {
    /// It gets what is due.
    Running,
    /// An operator holds it.
    Paused,
    /// Its breaker is open, or it refuses Tidegate as such.
    Held,
    /// It is not configured any more.
    Disabled,
    /// It fell behind its `backlog`.
    Detached,
}

/// Which changes to list.
#[derive(Clone, Debug, Default)]
pub struct ChangeFilter {
    /// Only in this state.
    pub state: Option<ChangeState>,
    /// Only those with a delivery to it.
    pub destination: Option<String>,
    /// Only of this key.
    pub key: Option<String>,
    /// At most so many; bounded by the engine.
    pub limit: Option<u32>,
    /// Only after this change; one that is not kept any more stands for the time at which it was made.
    pub after: Option<ChangeId>,
}

/// What has become of a change. The numbers are those of the journal's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum ChangeState {
    /// Recorded; the source has not answered yet.
    Intent = change_state::INTENT,
    /// Nobody knows whether the source did it.
    InDoubt = change_state::IN_DOUBT,
    /// The source did it.
    Committed = change_state::COMMITTED,
    /// The source was read again: what it has is delivered.
    Reconciled = change_state::RECONCILED,
    /// The source did not do it.
    Aborted = change_state::ABORTED,
    /// It is durable, and its source does not have it yet.
    Accepted = change_state::ACCEPTED,
    /// It was accepted, and its source has refused it.
    DeadLetter = change_state::REFUSED,
    /// Its records do not match, whatever else it is: listed beside the states.
    Damaged = change_state::DAMAGED,
}

impl ChangeState {
    const ALL: [Self; 8] = [
        Self::Intent,
        Self::InDoubt,
        Self::Committed,
        Self::Reconciled,
        Self::Aborted,
        Self::Accepted,
        Self::DeadLetter,
        Self::Damaged,
    ];

    /// The words that [`ChangeState::parse`] reads.
    pub const WORDS: [&'static str; 8] = {
        let [intent, in_doubt, committed, reconciled, aborted, accepted, refused] = change_state::WORDS;
        [intent, in_doubt, committed, reconciled, aborted, accepted, refused, "damaged"]
    };

    /// Reads a state as [`ChangeView::state`] says it.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let named = Self::ALL.into_iter().zip(Self::WORDS);
        named.into_iter().find(|(_, own)| *own == word).map(|(state, _)| state)
    }
}

/// A change as operators see it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ChangeView {
    /// Its id.
    pub id: String,
    /// Its key.
    pub key: String,
    /// Its sequence; `None` while it has no place in its lane yet.
    pub sequence: Option<u64>,
    /// `intent`, `accepted`, `dead-letter` (of its source), `committed`, `aborted`, `in-doubt`, `reconciled`.
    pub state: String,
    /// The route's name.
    pub route: String,
    /// The source's name.
    pub source: String,
    /// Its method.
    pub method: String,
    /// Its path, as the source knows it.
    pub target: String,
    /// When its intent was recorded.
    pub recorded_at: Timestamp,
    /// How it stands toward its source, where it is accepted and has no outcome yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_source: Option<AtSourceView>,
    /// Its deliveries.
    pub deliveries: Vec<DeliveryView>,
}

/// An accepted change on its way to its source.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct AtSourceView {
    /// `waiting`, `parked`, `dead-letter`.
    pub state: String,
    /// Attempts made.
    pub attempts: u32,
    /// When the next attempt is due, after one that failed.
    pub next_attempt_at: Option<Timestamp>,
    /// What the last attempt met.
    pub last_error: Option<String>,
}

/// The accepted changes of one source.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptedStatus {
    /// The source's name.
    pub source: String,
    /// Changes that it has not done yet, parked ones among them.
    pub waiting: u64,
    /// Age in seconds of the oldest of them.
    pub lag_seconds: f64,
    /// Dead letters kept.
    pub dead_letters: u64,
}

/// One change on its way to one destination.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct DeliveryView {
    /// The destination's name.
    pub destination: String,
    /// `waiting`, `in-flight`, `delivered`, `absent`, `superseded`, `parked`, `dead-letter`, `discarded`,
    /// `missed`: the destination was detached then, and is never sent it.
    pub state: String,
    /// Attempts that have ended, those of earlier deliveries of the same change among them; `None`: a journal
    /// of before format 3 did not keep how many it took.
    pub attempts: Option<u32>,
    /// When the destination had it, last.
    pub settled_at: Option<Timestamp>,
    /// When the next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
    /// What the last attempt met.
    pub last_error: Option<String>,
}

/// Why deliveries are dead letters.
pub const DEAD_LETTER_CODES: [&str; Code::WORDS.len()] = Code::WORDS;

/// Which dead letters are meant.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    /// Only of this change.
    pub change: Option<ChangeId>,
    /// Only of this destination.
    pub destination: Option<String>,
    /// Only of this source.
    pub source: Option<String>,
    /// Only with this code.
    pub code: Option<String>,
    /// Only keys that begin so.
    pub key_prefix: Option<String>,
    /// Only those that died at or after.
    pub since: Option<Timestamp>,
    /// Only those that died before.
    pub until: Option<Timestamp>,
}

/// Dead letters, as `GET /v1/dead-letters` shows them.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct DeadLetters {
    /// Those that match, in key order.
    pub dead_letters: Vec<DeadLetterView>,
    /// There are more than are shown at once.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// What to ask for as `after` then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A dead letter as operators see it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct DeadLetterView {
    /// The change's id.
    pub change: String,
    /// The destination's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// The source's name, where it is a source that refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The change's key.
    pub key: String,
    /// The change's sequence; `None` before its source has done it.
    pub sequence: Option<u64>,
    /// The outcome's class: `permanent`, `retry`.
    pub class: String,
    /// One of [`DEAD_LETTER_CODES`].
    pub code: String,
    /// The last answer's status.
    pub status: Option<u16>,
    /// Attempts made.
    pub attempts: u32,
    /// The first attempt.
    pub first_at: Timestamp,
    /// The last attempt.
    pub last_at: Timestamp,
    /// At most 1 KiB of the last answer; what cannot be printed is replaced, and so are secrets.
    pub answer: String,
}

/// What `tidegate journal check` found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AtRestReport {
    /// Whether nothing is damaged.
    pub sound: bool,
    /// The version of its format.
    pub format: i64,
    /// How many changes are in each state.
    pub changes: BTreeMap<&'static str, u64>,
    /// Every destination that the journal knows.
    pub destinations: Vec<AtRestDestination>,
    /// Changes without an outcome.
    pub in_doubt_count: u64,
    /// The ids of the oldest of them.
    pub in_doubt: Vec<String>,
    /// Changes whose records do not match their checksums.
    pub damaged_count: u64,
    /// The first of them.
    pub damaged: Vec<AtRestDamage>,
    /// What else is damaged.
    pub faults: Vec<String>,
    /// What a power cut explains too.
    pub notes: Vec<String>,
}

/// A destination in a journal at rest.
#[derive(Clone, Debug, Serialize)]
pub struct AtRestDestination {
    /// Its name.
    pub name: String,
    /// The sequence up to which everything is settled or has a row of its own.
    pub frontier: u64,
    /// Deliveries that wait, those parked left out.
    pub pending: u64,
    /// Keys that wait behind a dead letter.
    pub parked_keys: u64,
    /// Dead letters kept.
    pub dead_letters: u64,
    /// Whether an operator holds it.
    pub paused: bool,
}

/// A damaged change in a journal at rest, as far as it can be read.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AtRestDamage {
    /// The number of its row.
    pub number: i64,
    /// Its id.
    pub id: Option<String>,
    /// Its key.
    pub key: Option<String>,
    /// Its sequence.
    pub sequence: Option<u64>,
}

/// Whether the journal takes changes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalState {
    /// It does.
    Accepts,
    /// It is full: 507.
    Full,
    /// It cannot be written, or stops: 503.
    Unavailable,
    /// It is damaged: 503.
    Damaged,
}

//! What a client's Idempotency-Key holds: that its write runs, and later its answer.
//!
//! ```text
//! claim -> another write has the key now       Running; OtherContent where it is not the same write
//!       -> the journal knows the key           OtherContent
//!       |    its answer is kept                Answered: nothing is sent
//!       |    its change was accepted           Accepted: the same 202
//!       |    its change is open or in doubt    InDoubt
//!       |    committed, without an answer      Unkept: the write has happened, and must not again
//!       |    aborted, without an answer        New: the source did nothing
//!       -> nobody knows it                     New
//! ```
//! A [`Claim`] keeps others away until the outcome is durable; its row is written with the intent, its
//! answer with the outcome, so that a crash leaves the key as it leaves the change. Keys and who sent
//! them are known here by hashes only (I12).

use super::change::ChangeId;
use super::engine::Engine;
use super::journal::sqlite;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a key is remembered, from its first write on.
pub(super) const KEPT: Duration = Duration::from_hours(24);
/// The largest body of an answer that is kept, in bytes.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Keys whose writes are under way at once; beyond, a write with a key is sent away.
const RUNNING_MAX: usize = 65_536;

/// SHA-256 over length-prefixed parts, which cannot run into each other.
pub type Hash = [u8; 32];

/// A client's key, as it is told from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientKey {
    /// The route, who asks, and the key itself.
    pub scope: Hash,
    /// What is asked: method, target and content.
    pub fingerprint: Hash,
}

/// An answer as it is given again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Its status and fields.
    pub head: KeptHead,
    /// Its content.
    pub body: Bytes,
}

/// What of an answer is not content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptHead {
    /// Its status.
    pub status: u16,
    /// Its end-to-end fields.
    pub fields: Vec<(String, Vec<u8>)>,
}

/// Who may use a key.
#[derive(Debug)]
pub enum Claimed {
    /// This write: it goes to the source.
    New(Claim),
    /// Nobody: it was answered, for this change.
    Answered(ChangeId, Box<KeptAnswer>),
    /// Nobody: it was accepted, as this change.
    Accepted(ChangeId),
}

/// Why a write with a key is not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The key was used for another write: 422.
    #[error("this Idempotency-Key was used for another method, target or content; use a new one")]
    OtherContent,
    /// The first write with the key is under way: 409.
    #[error("the first request with this Idempotency-Key is still running; try again")]
    Running,
    /// What became of it is not known yet: 409.
    #[error(
        "whether the first request with this Idempotency-Key was carried out is not known yet; try again"
    )]
    InDoubt(ChangeId),
    /// It was carried out, and its answer was not kept: 409.
    #[error(
        "the first request with this Idempotency-Key was carried out; its answer was not kept, read the target"
    )]
    Unkept(ChangeId),
    /// What is kept of it is damaged: 409.
    #[error(
        "what became of the first request with this Idempotency-Key cannot be told: its record is damaged; read the target"
    )]
    Damaged,
    /// Too many keys are in use at once: 503.
    #[error("too many requests with an Idempotency-Key are under way")]
    Crowded,
    /// The journal cannot be read: 503.
    #[error("the journal cannot be read")]
    Unavailable,
}

impl ClaimError {
    /// The word for the metric.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::OtherContent => "other-content",
            Self::Running => "running",
            Self::InDoubt(_) => "in-doubt",
            Self::Unkept(_) => "unkept",
            Self::Damaged => "damaged",
            Self::Crowded => "crowded",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What the journal knows of a key.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// As it was written.
    Sound { fingerprint: Vec<u8>, change: ChangeId, fate: Fate, answer: Option<KeptAnswer> },
    /// Not as it was written: what became of its write cannot be told.
    Damaged,
}

/// What became of the change of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    Happened,
    Aborted,
    /// Its client was answered before its source was asked, whatever has become of it.
    Accepted,
}

/// The keys of the writes that are under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Running(Arc<Mutex<HashMap<Hash, Hash>>>);

/// The right to write with a key; given back when dropped.
#[derive(Debug)]
pub struct Claim {
    pub(super) key: ClientKey,
    running: Running,
}

impl Running {
    fn enter(&self, key: ClientKey) -> Result<Claim, ClaimError> {
        let mut all = self.all();
        let crowded = all.len() >= RUNNING_MAX;
        match all.entry(key.scope) {
            Entry::Occupied(other) if *other.get() == key.fingerprint => Err(ClaimError::Running),
            Entry::Occupied(_) => Err(ClaimError::OtherContent),
            Entry::Vacant(_) if crowded => Err(ClaimError::Crowded),
            Entry::Vacant(free) => {
                free.insert(key.fingerprint);
                Ok(Claim { key, running: self.clone() })
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Hash, Hash>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.running.all().remove(&self.key.scope);
    }
}

impl Engine {
    /// Claims a key for a write, or finds what became of the first one that used it. The claim belongs into
    /// the write's [`super::Draft`].
    ///
    /// # Errors
    /// [`ClaimError`]: nothing may be sent.
    pub async fn claim(&self, key: ClientKey) -> Result<Claimed, ClaimError> {
        let claim = self.inner.running.enter(key)?;
        let now = self.inner.clock.now();
        let readers = self.inner.journal.readers();
        let known = readers.read(move |store| sqlite::answer(store, key.scope, now)).await;
        match known.map_err(|_| ClaimError::Unavailable)? {
            Some(known) => known.meets(claim),
            None => Ok(Claimed::New(claim)),
        }
    }
}

impl Known {
    /// What it says to a write that wants the key.
    fn meets(self, claim: Claim) -> Result<Claimed, ClaimError> {
        let Self::Sound { fingerprint, change, fate, answer } = self else { return Err(ClaimError::Damaged) };
        if fingerprint != claim.key.fingerprint {
            return Err(ClaimError::OtherContent);
        }
        match (answer, fate) {
            (_, Fate::Accepted) => Ok(Claimed::Accepted(change)),
            (Some(answer), _) => Ok(Claimed::Answered(change, Box::new(answer))),
            (None, Fate::Open) => Err(ClaimError::InDoubt(change)),
            (None, Fate::Happened) => Err(ClaimError::Unkept(change)),
            (None, Fate::Aborted) => Ok(Claimed::New(claim)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ClientKey = ClientKey { scope: [1; 32], fingerprint: [2; 32] };

    #[test]
    fn a_key_is_claimed_by_one_write_at_a_time() {
        let running = Running::default();
        let claim = running.enter(KEY).unwrap();
        assert_eq!(running.enter(KEY).err(), Some(ClaimError::Running));
        let other = ClientKey { fingerprint: [3; 32], ..KEY };
        assert_eq!(running.enter(other).err(), Some(ClaimError::OtherContent));
        assert!(running.enter(ClientKey { scope: [4; 32], ..KEY }).is_ok());
        drop(claim);
        assert!(running.enter(other).is_ok());
        assert!(running.all().is_empty());
    }

    #[test]
    fn what_the_journal_says_to_a_second_write() {
        let change = ChangeId(uuid::Uuid::nil());
        let head = KeptHead { status: 201, fields: Vec::new() };
        let kept = || Some(KeptAnswer { head: head.clone(), body: Bytes::new() });
        for (fingerprint, fate, answer, met) in [
            (2, Fate::Happened, kept(), "answered"),
            (2, Fate::Aborted, kept(), "answered"),
            (2, Fate::Open, None, "in doubt"),
            (2, Fate::Happened, None, "unkept"),
            (2, Fate::Aborted, None, "new"),
            (2, Fate::Accepted, None, "accepted"),
            (3, Fate::Accepted, None, "other"),
            (3, Fate::Happened, kept(), "other"),
            (3, Fate::Aborted, None, "other"),
        ] {
            let known = Known::Sound { fingerprint: vec![fingerprint; 32], change, fate, answer };
            let got = match known.meets(Running::default().enter(KEY).unwrap()) {
                Ok(Claimed::New(_)) => "new",
                Ok(Claimed::Answered(id, _)) if id == change => "answered",
                Ok(Claimed::Accepted(id)) if id == change => "accepted",
                Err(ClaimError::OtherContent) => "other",
                Err(ClaimError::InDoubt(_)) => "in doubt",
                Err(ClaimError::Unkept(_)) => "unkept",
                got => panic!("{got:?}"),
            };
            assert_eq!(got, met, "{fingerprint} {fate:?}");
        }
    }
}

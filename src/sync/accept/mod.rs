//! Accepted changes: the client has its 202, the source is asked later, in the order of each key.
//!
//! ```text
//!            due, its key's turn taken                2xx
//! NEXT ---------------------------------> AT SOURCE -------> committed: delivered like any other
//!  ^ ^                                     |  |  |
//!  | +------ backoff, Retry-After ---------+  |  +-- POST, PATCH: answer lost --> in doubt
//!  |                                          +-- refused, given up --> DEAD LETTER of the source
//! BEHIND (an earlier one of its key)  PARKED (on_refusal) <--+    redriven, discarded
//! ```
//!
//! The journal is the queue: its rows say who is next of each key, so a source that is down costs
//! disk and not memory, and a restart goes on where it was. A write of the key by `through` waits for
//! what was accepted before it (`earlier`), and both take the key's turn: one at a time (I3).

mod carry;
mod earlier;
mod operate;
mod verdict;
mod worker;

pub(super) use earlier::{Earlier, after_accepted};
pub(super) use worker::{Handle, carry_to, start};

use super::change::{ChangeId, Draft, DraftKey};
use super::engine::{Engine, new_id};
use super::error::RecordError;
use super::journal::at_source::Acceptance;
use super::journal::record::{NewChange, Record, Unwritten};
use super::settings::OnRefusal;
use super::status::AcceptedStatus;
use http::HeaderMap;
use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Engine {
    /// Makes a change durable whose client is answered then; its source is asked later.
    ///
    /// # Errors
    /// [`RecordError`]: nothing is recorded.
    pub async fn accept(&self, draft: Draft, on_refusal: OnRefusal) -> Result<ChangeId, RecordError> {
        self.inner.has_room()?;
        let id = ChangeId(new_id(&self.inner.clock));
        let conditions = conditions(&draft.fields);
        // What is known of the source now is no news once it is asked.
        let head = draft.head(None);
        let (key, turn) = match draft.key {
            DraftKey::Known(key) => (key.clone(), Some(key)),
            DraftKey::FromLocation { otherwise } => (otherwise, None),
        };
        let change = NewChange {
            id,
            key,
            destinations: draft.destinations,
            head,
            body: draft.body,
            recorded_at: self.inner.clock.now(),
            client_key: draft.claim.as_ref().map(|claim| claim.key),
            for_source: None,
            accepted: Some(Acceptance { turn, on_refusal, conditions }),
        };
        let (inner, claim) = (Arc::clone(&self.inner), draft.claim);
        // In a task of its own: a client that leaves must not free its key before the journal has it.
        let recorded = self.inner.tasks.spawn(async move {
            let recorded = inner.journal.write(Record::Intent(Box::new(change))).await;
            drop(claim);
            recorded
        });
        match recorded.await {
            Ok(Ok(_)) => Ok(id),
            Ok(Err(Unwritten)) => Err(self.inner.unwritten()),
            Err(_) => Err(RecordError::Unavailable),
        }
    }

    /// What every source still has to do of what was accepted, computed now; one that is not configured any more
    /// where something is left for it.
    ///
    /// # Errors
    /// [`super::CommandError::Unavailable`]: the journal cannot be read.
    pub async fn accepted(&self) -> Result<Vec<AcceptedStatus>, super::CommandError> {
        let figures = self.inner.journal.readers().read(super::journal::sqlite::accepted_figures).await?;
        let now = self.inner.clock.now();
        let roster = self.inner.roster.load();
        let configured = roster.sources.iter().map(|handle| handle.source.as_str());
        let names: BTreeSet<&str> =
            configured.chain(figures.iter().map(|figures| figures.source.as_str())).collect();
        let status = |source: &str| {
            let found = figures.iter().find(|figures| figures.source == source);
            AcceptedStatus {
                source: source.to_owned(),
                waiting: found.map_or(0, |figures| figures.waiting),
                lag_seconds: found
                    .and_then(|figures| figures.oldest)
                    .map_or(0.0, |oldest| now.since(oldest).as_secs_f64()),
                dead_letters: found.map_or(0, |figures| figures.dead_letters),
            }
        };
        Ok(names.into_iter().map(status).collect())
    }
}

/// The request's preconditions. The source evaluates them when it is asked: one that fails is a
/// refusal. An answer of ours would be a guess, and a write without them could undo another's.
fn conditions(fields: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let names = [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];
    let kept = fields.iter().filter(|(name, _)| names.contains(name));
    kept.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

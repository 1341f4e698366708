//! Changes in doubt: the source may have acted or not, so it is read again until it decides.
//!
//! The key's turn is held meanwhile, so that no later write overtakes the answer. What is read is
//! what is delivered, under the same id: who wrote it is unknown, but after it every destination
//! has what the source has. Where the source takes a write again, it is sent once more before it is read
//! (`repeat`). Any other POST cannot be read back: it is kept and listed for an operator. Nothing is stored
//! for the key meanwhile, and what was, is fenced at the start and at the end. An operator may decide any
//! doubt ([`super::Engine::resolve`]), which ends its resolver.

use super::change::ChangeId;
use super::engine::Inner;
use super::journal::record::{Head, Keyed, Record, Suspect, Unwritten, Verdict, fields_in_place};
use super::journal::sqlite::{self, Stored};
use super::ports::{Fenced, Hold, ReadSource, SourceState};
use super::settings::{Addresses, Repeats};
use super::turns::Turn;
use crate::clock::Timestamp;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Between two reads of a source that does not decide, at first; doubles.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
/// The longest time between two reads.
const AGAIN_MAX: Duration = Duration::from_mins(1);
/// Between the two reads that confirm an absence, or at one of several addresses that nothing was written.
const CONFIRM_AFTER: Duration = Duration::from_secs(1);
/// Reads of sources at once, all doubts together.
pub(super) const READS_MAX: usize = 8;
/// How long a source may act where its timeout is not known.
const TIMEOUT_UNKNOWN: Duration = Duration::from_mins(1);
/// Changes without an outcome that are read at once at start.
const PAGE: u32 = 200;

/// What the resolver needs of a change.
#[derive(Clone, Debug)]
pub(super) struct Doubt {
    pub(super) id: ChangeId,
    pub(super) head: Head,
    /// Whether it may be sent again.
    pub(super) repeats: Repeats,
}

/// The doubts that are being resolved.
#[derive(Debug, Default)]
pub(super) struct Doubts(Mutex<HashMap<ChangeId, CancellationToken>>);

impl Doubts {
    fn enter(&self, id: ChangeId) -> CancellationToken {
        self.all().entry(id).or_default().clone()
    }

    fn leave(&self, id: ChangeId) {
        self.all().remove(&id);
    }

    /// An operator has decided: its resolver ends, and gives the key's turn back.
    pub(super) fn decided(&self, id: ChangeId) {
        if let Some(resolver) = self.all().get(&id) {
            resolver.cancel();
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<ChangeId, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From when the source's timeout counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    pub(super) since: Timestamp,
}

impl Inner {
    /// Puts a change in doubt and starts resolving it; tells when the first fence has moved.
    pub(super) fn resolve(
        self: &Arc<Self>,
        doubt: Doubt,
        turn: Option<Turn>,
        waits: Waits,
    ) -> oneshot::Receiver<()> {
        let (moved, fenced) = oneshot::channel();
        let (inner, id) = (Arc::clone(self), doubt.id);
        let decided = self.doubts.enter(id);
        let work = async move {
            let stop = inner.stop.clone();
            // What is open when the process stops is found again at the next start.
            stop.run_until_cancelled(inner.run_doubt(doubt, turn, waits, moved, decided)).await;
            inner.doubts.leave(id);
        };
        self.tasks.spawn_on(work, &self.runtime);
        fenced
    }

    async fn run_doubt(
        &self,
        doubt: Doubt,
        turn: Option<Turn>,
        waits: Waits,
        moved: oneshot::Sender<()>,
        decided: CancellationToken,
    ) {
        if let Some(turn) = &turn {
            turn.is_in_doubt();
        }
        let hold = self.fence(&doubt.head).await;
        // At start, and where an intent was dropped, nobody waits for it.
        moved.send(()).unwrap_or_default();
        let id = doubt.id;
        tracing::warn!(change = %id, source = %doubt.head.source, "a change is in doubt; the source will be read");
        if self.journal.write(Record::outcome(id, Verdict::InDoubt)).await.is_err() {
            return;
        }
        if doubt.head.method() == Method::POST && doubt.repeats != Repeats::ByKey {
            tracing::warn!(change = %id, "a POST in doubt waits for an operator");
            return;
        }
        let timeout = self.configured.load().source_timeouts.get(&doubt.head.source).copied();
        let readable_at = waits.since.plus(timeout.unwrap_or(TIMEOUT_UNKNOWN));
        let reading = async {
            tokio::time::sleep(readable_at.since(self.clock.now())).await;
            self.read_until_decided(&doubt).await
        };
        // `None`: an operator has decided, and what that made old is fenced.
        if let Some(verdict) = decided.run_until_cancelled(reading).await {
            tracing::info!(change = %id, decided = verdict_word(&verdict), "a change is no longer in doubt");
            if self.journal.write(Record::outcome(id, verdict)).await.is_ok() {
                drop(self.fence(&doubt.head).await);
            }
        }
        drop(hold);
        drop(turn);
    }

    async fn read_until_decided(&self, doubt: &Doubt) -> Verdict {
        let (mut pause, mut before) = (AGAIN_FIRST, Seen::Nothing);
        loop {
            let addresses = self.addresses(&doubt.head.source);
            if doubt.repeats == Repeats::ByKey
                && let Some(verdict) = self.repeat(doubt).await
            {
                return verdict;
            }
            let state = match doubt.head.method() {
                Method::POST => SourceState::UNANSWERED,
                _ => self.read(doubt).await,
            };
            match decide(&doubt.head, addresses, state, before) {
                Decision::Verdict(verdict) => return verdict,
                Decision::Confirm(seen) => {
                    before = seen;
                    tokio::time::sleep(CONFIRM_AFTER).await;
                }
                Decision::Again => {
                    before = Seen::Nothing;
                    tokio::time::sleep(pause).await;
                    if pause < AGAIN_MAX {
                        pause = (pause * 2).min(AGAIN_MAX);
                        tracing::warn!(change = %doubt.id, source = %doubt.head.source, ?pause,
                            "the source does not decide a change in doubt; its key waits");
                    }
                }
            }
        }
    }

    fn addresses(&self, source: &str) -> Addresses {
        self.configured.load().sources.get(source).map_or(Addresses::One, |source| source.addresses)
    }

    async fn read(&self, doubt: &Doubt) -> SourceState {
        let Ok(_permit) = self.source_reads.acquire().await else { return SourceState::UNANSWERED };
        let request = ReadSource {
            source: doubt.head.source.clone(),
            authority: doubt.head.authority.clone(),
            path_and_query: doubt.head.path_and_query.clone(),
            accept: doubt.head.fields().get(header::ACCEPT).cloned(),
            known_etag: strong(doubt.head.known_etag.as_deref()).and_then(|etag| etag.parse().ok()),
        };
        (self.ports.read_source)(request).await
    }

    /// Moves the fence of what a change may have made old; nothing of it is stored until what is returned
    /// is dropped.
    pub(super) async fn fence(&self, head: &Head) -> Hold {
        let fenced = Fenced {
            route: head.route.clone(),
            authority: head.authority.clone(),
            path_and_query: head.client_path_and_query.clone(),
        };
        (self.ports.fence)(fenced).await
    }

    /// At start every change without an outcome is in doubt. Turns are taken before anything else
    /// can write, oldest first.
    pub(super) async fn resolve_all(self: &Arc<Self>) -> Result<(), Unwritten> {
        let mut after = 0;
        let started_at = self.clock.now();
        loop {
            let page =
                self.journal.readers().read(move |store| sqlite::open_changes(store, after, PAGE)).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = *last;
            for (number, open) in page {
                let head = match open.content {
                    Stored::Sound { head, .. } => Arc::unwrap_or_clone(head),
                    Stored::Damaged { id } => {
                        self.journal.quarantine(vec![Suspect::Number(number)]).await;
                        tracing::error!(change = %id, "a change in doubt is damaged; it cannot be resolved");
                        continue;
                    }
                };
                let is_post = head.method() == Method::POST;
                let configured = self.configured.load();
                let source = configured.sources.get(&head.source).filter(|_| open.for_source.is_some());
                let repeats = source.map_or(Repeats::ByMethod, |source| source.repeats);
                let is_repeated = repeats == Repeats::ByKey;
                if is_post && open.known_in_doubt && !is_repeated {
                    continue;
                }
                // A POST is in turn where its key was known, and waited for only where it is sent again.
                let in_turn = match &open.for_source {
                    Some(for_source) if is_post => is_repeated && for_source.keyed == Keyed::Before,
                    Some(_) | None => !is_post,
                };
                let turn = if in_turn { self.turns.take_unused(&open.key) } else { None };
                // When the process ended is unknown; a write left before that.
                drop(self.resolve(Doubt { id: open.id, head, repeats }, turn, Waits { since: started_at }));
            }
        }
    }
}

/// What the read before this one saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    Absent,
    Unchanged,
}

enum Decision {
    Verdict(Verdict),
    Confirm(Seen),
    Again,
}

/// What a read of the source says about a change in doubt. Of several addresses one that lags behind may
/// still have what was before: then a later read must say so too.
fn decide(head: &Head, addresses: Addresses, state: SourceState, before: Seen) -> Decision {
    let state = match state {
        SourceState::Present { etag, .. } if unchanged(head.known_etag.as_deref(), etag.as_ref()) => {
            SourceState::Unchanged
        }
        state => state,
    };
    match state {
        SourceState::Unreadable(_) => Decision::Again,
        SourceState::Absent if head.method() != Method::DELETE && before != Seen::Absent => {
            Decision::Confirm(Seen::Absent)
        }
        SourceState::Unchanged if addresses == Addresses::Several && before != Seen::Unchanged => {
            Decision::Confirm(Seen::Unchanged)
        }
        SourceState::Unchanged => Decision::Verdict(Verdict::Aborted),
        SourceState::Absent => reconciled(head, &Method::DELETE, &HeaderMap::new(), Bytes::new()),
        SourceState::Present { fields, body, .. } => reconciled(head, &Method::PUT, &fields, body),
    }
}

fn reconciled(head: &Head, method: &Method, fields: &HeaderMap, body: Bytes) -> Decision {
    let fields = fields_in_place(head, fields);
    let head = Head { method: method.to_string(), fields, ..head.clone() };
    Decision::Verdict(Verdict::Reconciled { head: Box::new(head), body })
}

/// RFC 9110 8.8.3.2: only strong tags tell that nothing was written.
fn strong(etag: Option<&str>) -> Option<&str> {
    etag.filter(|etag| etag.starts_with('"'))
}

fn unchanged(known: Option<&str>, now: Option<&HeaderValue>) -> bool {
    let now = now.and_then(|value| value.to_str().ok());
    strong(known).is_some_and(|known| now == Some(known))
}

fn verdict_word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Committed { .. } => "committed",
        Verdict::Aborted => "aborted",
        Verdict::InDoubt => "in-doubt",
        Verdict::Reconciled { .. } => "reconciled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, known_etag: Option<&str>) -> Head {
        Head {
            route: "r".into(),
            source: "s".into(),
            method: method.into(),
            authority: "h".into(),
            client_path_and_query: "/".into(),
            path_and_query: "/".into(),
            fields: Vec::new(),
            known_etag: known_etag.map(str::to_owned),
        }
    }

    fn present(etag: &'static str) -> SourceState {
        let etag = Some(HeaderValue::from_static(etag));
        SourceState::Present { etag, fields: HeaderMap::new(), body: Bytes::from_static(b"x") }
    }

    #[test]
    fn i2_what_a_read_decides() {
        let one = Addresses::One;
        for (method, known, addresses, state, before, decided) in [
            ("PUT", None, one, SourceState::UNANSWERED, Seen::Nothing, "again"),
            ("PUT", Some("\"1\""), one, present("\"1\""), Seen::Nothing, "aborted"),
            ("PUT", Some("\"1\""), one, SourceState::Unchanged, Seen::Nothing, "aborted"),
            ("PUT", Some("\"1\""), Addresses::Several, SourceState::Unchanged, Seen::Nothing, "confirm"),
            ("PUT", Some("\"1\""), Addresses::Several, present("\"1\""), Seen::Unchanged, "aborted"),
            ("PUT", Some("\"1\""), Addresses::Several, SourceState::Absent, Seen::Unchanged, "confirm"),
            ("PUT", Some("\"1\""), Addresses::Several, present("\"2\""), Seen::Unchanged, "PUT"),
            ("PUT", Some("\"1\""), one, present("\"2\""), Seen::Nothing, "PUT"),
            ("PUT", Some("W/\"1\""), one, present("W/\"1\""), Seen::Nothing, "PUT"),
            ("PUT", None, one, present("\"1\""), Seen::Nothing, "PUT"),
            ("PATCH", None, one, SourceState::Absent, Seen::Nothing, "confirm"),
            ("PATCH", None, one, SourceState::Absent, Seen::Absent, "DELETE"),
            ("DELETE", None, one, SourceState::Absent, Seen::Nothing, "DELETE"),
            ("DELETE", Some("\"1\""), one, present("\"1\""), Seen::Nothing, "aborted"),
        ] {
            let got = match decide(&head(method, known), addresses, state, before) {
                Decision::Again => "again".to_owned(),
                Decision::Confirm(_) => "confirm".to_owned(),
                Decision::Verdict(Verdict::Reconciled { head, .. }) => head.method,
                Decision::Verdict(verdict) => verdict_word(&verdict).to_owned(),
            };
            assert_eq!(got, decided, "{method} {known:?}");
        }
    }
}

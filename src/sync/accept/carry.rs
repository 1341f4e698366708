//! One accepted change on its way to its source: its turn, the attempt, and what is written of it.

use super::verdict::{Sent, Verdict};
use crate::clock::Timestamp;
use crate::sync::change::ChangeId;
use crate::sync::delivery::outcome::{Code, Failure, Outcome};
use crate::sync::delivery::retry::{self, Next, Standing, Whole};
use crate::sync::engine::Inner;
use crate::sync::failpoint;
use crate::sync::journal::Health;
use crate::sync::journal::at_source::AtSource;
use crate::sync::journal::record::{self, Burial, Head, Past, Record};
use crate::sync::journal::sqlite::{Due, Stored, ToSend};
use crate::sync::key::bounded;
use crate::sync::ports::WriteSource;
use crate::sync::resolve::{Doubt, Waits};
use crate::sync::settings::{OnFailure, Repeats, SourceSettings};
use crate::sync::turns::Turn;
use crate::telemetry::metrics as names;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use metrics::counter;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

/// Until a key that others use is tried again.
const TURN_AGAIN: Duration = Duration::from_secs(1);
/// How long nothing is sent after the source was not asked, to spare it or for want of room, or after
/// the journal failed.
const REST: Duration = Duration::from_secs(1);

/// What carries accepted changes to one source.
#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) inner: Arc<Inner>,
    pub(super) settings: SourceSettings,
    /// Attempts at once.
    pub(super) places: Semaphore,
    /// Nothing is sent before, in milliseconds since the epoch.
    pub(super) rest_until: Arc<AtomicU64>,
    /// What only waits ends with it.
    pub(super) leave: CancellationToken,
}

/// A change that may be sent, as it was read.
struct Carried {
    number: i64,
    id: ChangeId,
    /// Its key's turn; `None`: it waits for no other.
    turn: Option<Turn>,
    past: Past,
    on_failure: OnFailure,
}

impl Carrier {
    pub(super) fn rests_until(&self) -> Timestamp {
        Timestamp::from_millis(self.rest_until.load(Ordering::Relaxed))
    }

    /// Nothing is sent until then.
    fn rest(&self, until: Timestamp) {
        self.rest_until.fetch_max(until.as_millis(), Ordering::Relaxed);
    }

    /// Carries one change, and returns once what was decided of it is durable, or nothing was done.
    pub(super) async fn carry(&self, due: &Due) {
        // What only waits ends with its worker.
        let admitted = self.leave.run_until_cancelled(self.admitted(due)).await.flatten();
        let Some((turn, _place)) = admitted else { return };
        let now = self.inner.clock.now();
        if now < self.rests_until() || self.leave.is_cancelled() {
            return;
        }
        // I11: nothing goes to the source while nothing can be written of it.
        if self.inner.journal.health() == Health::Failed {
            return self.rest(now.plus(REST));
        }
        let number = due.number;
        match self.inner.journal.to_send(due).await {
            Ok(Some(to_send)) => self.send(number, turn, to_send, now).await,
            // An operator's call came between.
            Ok(None) => {}
            Err(_) => self.rest(now.plus(REST)),
        }
    }

    /// Its key's turn, where it has one, and a place; `None`: not now.
    async fn admitted(&self, due: &Due) -> Option<(Option<Turn>, SemaphorePermit<'_>)> {
        let turn = match &due.turn {
            None => None,
            Some(key) => Some(self.inner.turns.take(key).await),
        };
        if let Some(Err(_)) = turn {
            tokio::time::sleep(TURN_AGAIN).await;
            return None;
        }
        let turn = turn.and_then(Result::ok);
        Some((turn, self.places.acquire().await.ok()?))
    }

    async fn send(&self, number: i64, turn: Option<Turn>, to_send: ToSend, began_at: Timestamp) {
        let ToSend { content, conditions, past, parks, sent } = to_send;
        let on_failure = if parks { OnFailure::ParkKey } else { OnFailure::Skip };
        let past = Past { answer_lost: past.answer_lost || sent, ..past };
        let (id, head, body) = match content {
            Stored::Sound { id, head, body } => (id, head, body),
            Stored::Damaged { id } => {
                self.inner.journal.quarantine(vec![record::Suspect::Number(number)]).await;
                tracing::error!(change = %id, "an accepted change is damaged and is not sent");
                let carried = Carried { number, id, turn, past, on_failure };
                return self.failed(carried, &Outcome::Permanent(Failure::of(Code::Damaged)), began_at).await;
            }
        };
        let method = head.method();
        let known = Sent { method: &method, repeats: self.settings.repeats, answer_lost: past.answer_lost };
        if sent && !known.may_repeat() {
            return self.in_doubt(id, Arc::unwrap_or_clone(head), turn).await;
        }
        // A plain PUT says the same twice; of anything else a crash must not hide that it was sent.
        let must_be_marked = method != Method::PUT || !conditions.is_empty();
        let mark = Record::AtSource(Box::new(AtSource::Sending { number }));
        if must_be_marked && self.inner.journal.write(mark).await.is_err() {
            return self.rest(began_at.plus(REST));
        }
        let request = self.request(id, &head, &conditions, body);
        let written = (self.inner.ports.write_source)(request).await;
        failpoint::reach(failpoint::SOURCE_ANSWERED);
        let verdict = known.verdict(written, self.inner.clock.wall());
        counter!(names::ACCEPTED_ATTEMPTS, "source" => self.settings.name.clone(), "outcome" => verdict.as_str())
            .increment(1);
        match verdict {
            Verdict::Committed(location) => {
                // Where it kept no order, its place is that of what it made.
                let key = location.map(bounded).filter(|_| turn.is_none());
                let verdict = record::Verdict::Committed { key };
                self.record(Record::outcome(id, verdict), turn).await;
            }
            Verdict::InDoubt => self.in_doubt(id, Arc::unwrap_or_clone(head), turn).await,
            Verdict::Held => self.held(number, past, turn).await,
            Verdict::Failed(outcome) => {
                let carried = Carried { number, id, turn, past, on_failure };
                self.failed(carried, &outcome, began_at).await;
            }
        }
    }

    fn request(
        &self,
        id: ChangeId,
        head: &Head,
        conditions: &[(String, Vec<u8>)],
        body: Bytes,
    ) -> WriteSource {
        let mut fields = head.fields();
        let parsed = conditions.iter().filter_map(|(name, value)| {
            Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(value).ok()?))
        });
        for (name, value) in parsed {
            fields.append(name, value);
        }
        WriteSource {
            source: self.settings.name.clone(),
            route: head.route.clone(),
            method: head.method(),
            authority: head.authority.clone(),
            client_path_and_query: head.client_path_and_query.clone(),
            path_and_query: head.path_and_query.clone(),
            fields,
            idempotency_key: format!("\"{id}\""),
            body,
        }
    }

    /// Queues a record, gives the key's turn back, and waits until it is durable.
    async fn record(&self, record: Record, turn: Option<Turn>) {
        let queued = self.inner.journal.submit(record).await;
        // In the journal's queue the order of the key is settled: its next write may begin (I3).
        drop(turn);
        let durable = match queued {
            Ok(told) => told.await.is_ok_and(|told| told.is_ok()),
            Err(_) => false,
        };
        if !durable {
            tracing::error!(source = %self.settings.name, "what became of an accepted change is not written");
        }
    }

    /// Takes it out of the queue before anybody else looks at it; the resolver goes on.
    async fn in_doubt(&self, id: ChangeId, head: Head, turn: Option<Turn>) {
        let verdict = record::Verdict::InDoubt;
        self.record(Record::outcome(id, verdict), None).await;
        let waits = Waits { since: self.inner.clock.now() };
        // The write moved the fence already.
        drop(self.inner.resolve(Doubt { id, head, repeats: Repeats::ByMethod }, turn, waits));
    }

    /// It was not sent: no attempt is counted, and the source is left alone for a moment.
    async fn held(&self, number: i64, past: Past, turn: Option<Turn>) {
        let next_at = self.inner.clock.now().plus(REST);
        self.rest(next_at);
        let last_error = "the source is left alone for a moment".to_owned();
        let step = AtSource::Defer { number, past, next_at, last_error, rest_until: None };
        self.record(Record::AtSource(Box::new(step)), turn).await;
    }

    async fn failed(&self, carried: Carried, outcome: &Outcome, began_at: Timestamp) {
        let Carried { number, id, turn, past, on_failure } = carried;
        let now = self.inner.clock.now();
        let failure = outcome.failure();
        let mut past = Past {
            attempts: past.attempts.saturating_add(1),
            waited_millis: past.waited_millis.saturating_add(millis(now.since(began_at))),
            first_at: past.first_at.or(Some(began_at)),
            answer_lost: past.answer_lost || failure.is_some_and(|failure| failure.answer_lost),
            ..past
        };
        let retry = &self.settings.retry;
        let next = retry::next(outcome, &past, retry, on_failure, Standing::Open, fastrand::f64());
        let source = &self.settings.name;
        let last_error = failure.map(summary).unwrap_or_default();
        let step = match next {
            Next::Wait { delay, whole } => {
                past.waited_millis = past.waited_millis.saturating_add(millis(delay));
                let next_at = now.plus(delay);
                let rest_until = (whole == Whole::Destination).then_some(next_at);
                if let Some(until) = rest_until {
                    self.rest(until);
                }
                tracing::debug!(%source, change = %id, last_error, "an accepted change waits");
                AtSource::Defer { number, past, next_at, last_error, rest_until }
            }
            Next::Bury { class, code } => {
                let code = code.as_str();
                tracing::warn!(%source, change = %id, code, last_error, "an accepted change is a dead letter of its source");
                let (status, answer) = failure.map(|f| (f.status, f.answer.clone())).unwrap_or_default();
                let burial = Box::new(Burial { change: id, class, code, status, last_at: now, answer });
                AtSource::Bury { number, past, burial }
            }
            // No outcome of a source: what settles a change is its verdict.
            Next::Settle(_) | Next::Hold => {
                let next_at = now.plus(retry.cap);
                AtSource::Defer { number, past, next_at, last_error, rest_until: None }
            }
        };
        self.record(Record::AtSource(Box::new(step)), turn).await;
    }
}

/// For logs and the admin API; holds nothing of the request.
fn summary(failure: &Failure) -> String {
    match failure.status {
        Some(status) => format!("the source answered {status}"),
        None => failure.code.as_str().to_owned(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! A durable intent: what the gateway holds while it asks the source.

use super::answers::{Claim, KeptAnswer};
use super::change::ChangeId;
use super::engine::Inner;
use super::error::RecordError;
use super::failpoint;
use super::journal::Health;
use super::journal::record::{Record, Verdict};
use super::key::bounded;
use super::resolve::{Doubt, Waits};
use super::turns::Turn;
use http::{HeaderValue, Method};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long an answer waits for its outcome to be durable while the journal fails. The intent is
/// durable, so that the change is in doubt if the process ends before.
const OUTCOME_WAIT: Duration = Duration::from_secs(10);

/// A durable intent. Dropped without an outcome it leaves the change in doubt, once it has been sent.
#[derive(Debug)]
pub struct Intent {
    open: Option<Open>,
    id: ChangeId,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) inner: Arc<Inner>,
    pub(super) id: ChangeId,
    pub(super) method: Method,
    /// `None`: writes of this kind are not serialised.
    pub(super) turn: Option<Turn>,
    /// The key where the answer has no Location; `None`: the intent's key stands.
    pub(super) otherwise: Option<String>,
    /// The client's Idempotency-Key: nobody else writes with it until the outcome is durable.
    pub(super) claim: Option<Claim>,
    /// The Idempotency-Key that the source gets where the client sent none.
    pub(super) own_key: Option<HeaderValue>,
    pub(super) stage: Stage,
    pub(super) doubt: Doubt,
}

/// Whether the source may have seen the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing has left.
    Recorded,
    /// It may be on its way.
    Sent,
}

impl Intent {
    pub(super) fn new(open: Open) -> Self {
        Self { id: open.id, open: Some(open) }
    }

    /// The change's id, for `Tidegate-Change`.
    #[must_use]
    pub fn id(&self) -> ChangeId {
        self.id
    }

    /// The Idempotency-Key that the source gets where the client sent none: of a source that takes a write
    /// again.
    #[must_use]
    pub fn own_key(&self) -> Option<&HeaderValue> {
        self.open.as_ref()?.own_key.as_ref()
    }

    /// Whether the answer is kept for the client's Idempotency-Key.
    #[must_use]
    pub fn keeps_answer(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.claim.is_some())
    }

    /// The request goes out from here on. An intent that is dropped before this word is aborted.
    pub fn sent(&mut self) {
        if let Some(open) = &mut self.open {
            open.stage = Stage::Sent;
        }
    }

    /// The source did it. `location` is the path of the answer's Location in the source's own
    /// space, for keys that want it. Returns once what must be durable before the client is
    /// answered is durable: for POST, where the client sent an Idempotency-Key, and for every method while
    /// the journal fails, the outcome, with the answer that is kept; else nothing.
    ///
    /// # Errors
    /// [`RecordError::Undecided`]: the outcome is not durable and had to be, so that it must not be
    /// acknowledged (I2, I11); after a crash the change would be in doubt.
    pub async fn commit(
        mut self,
        location: Option<String>,
        answer: Option<KeptAnswer>,
    ) -> Result<(), RecordError> {
        failpoint::reach(failpoint::SOURCE_ANSWERED);
        let open = self.open.take().ok_or(RecordError::Undecided)?;
        let must_be_durable = open.method == Method::POST
            || open.claim.is_some()
            || open.inner.journal.health() == Health::Failed;
        let key = open.otherwise.clone().map(|otherwise| location.map_or(otherwise, bounded));
        let Finishing { queued, durable } = open.finish(Verdict::Committed { key }, answer);
        // In the queue it is before whatever is asked of the journal once the client knows.
        if tokio::time::timeout(OUTCOME_WAIT, queued).await.is_err() {
            tracing::error!(change = %self.id, "the outcome of a change is not queued yet");
        }
        if must_be_durable { self.id.is_durable(durable).await } else { Ok(()) }
    }

    /// The source refused it, or it was never sent. `answer` is kept where the client sent an
    /// Idempotency-Key; then it returns once the outcome is durable.
    ///
    /// # Errors
    /// [`RecordError::Undecided`]: an answer that is to be kept is not durable.
    pub async fn refused(mut self, answer: Option<KeptAnswer>) -> Result<(), RecordError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let (is_claimed, is_kept) = (open.claim.is_some(), answer.is_some());
        let Finishing { durable, .. } = open.finish(Verdict::Aborted, answer);
        // Whoever repeats the write finds its key free, or its answer.
        let durable = if is_claimed { self.id.is_durable(durable).await } else { Ok(()) };
        if is_kept { durable } else { Ok(()) }
    }

    /// Nobody knows: the resolver reads the source. Returns once the fence of what the change may
    /// have made old has moved (I5).
    pub async fn doubt(mut self) {
        if let Some(open) = self.open.take() {
            // The fence is not heard of where the engine stops: then nothing is stored any more.
            open.doubt().await.unwrap_or_default();
        }
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        match self.open.take() {
            Some(open) if open.stage == Stage::Sent => drop(open.doubt()),
            Some(open) => drop(open.finish(Verdict::Aborted, None)),
            None => {}
        }
    }
}

impl ChangeId {
    /// Waits until the outcome of this change is durable.
    async fn is_durable(self, durable: oneshot::Receiver<()>) -> Result<(), RecordError> {
        if matches!(tokio::time::timeout(OUTCOME_WAIT, durable).await, Ok(Ok(()))) {
            return Ok(());
        }
        tracing::error!(change = %self, "the outcome of a change is not durable");
        Err(RecordError::Undecided)
    }
}

/// An outcome on its way into the journal.
struct Finishing {
    /// It stands in the journal's queue, or never will.
    queued: oneshot::Receiver<()>,
    /// It is durable; closed without a word where it never will be.
    durable: oneshot::Receiver<()>,
}

impl Open {
    /// Queues the outcome, then gives the key's turn back; tells when it is durable. Runs in a task
    /// of its own, so that a client that leaves changes nothing.
    fn finish(self, verdict: Verdict, answer: Option<KeptAnswer>) -> Finishing {
        let Self { inner, id, turn, claim, .. } = self;
        let record = Record::Outcome { change: id, verdict, answer: answer.map(Box::new) };
        let (in_queue, queued) = oneshot::channel();
        let (done, durable) = oneshot::channel();
        let runtime = inner.runtime.clone();
        let tasks = inner.tasks.clone();
        tasks.spawn_on(
            async move {
                let outcome = inner.journal.submit(record).await;
                // In the journal's queue the order of this key is settled: the next may begin (I3).
                drop(turn);
                in_queue.send(()).unwrap_or_default();
                let Ok(told) = outcome else {
                    tracing::error!(change = %id, "the journal is closed; a change is in doubt");
                    return;
                };
                let told = told.await;
                // From here on the journal tells what became of the key.
                drop(claim);
                if let Ok(Ok(_)) = told {
                    // Nobody waits for it but the answer to a POST.
                    done.send(()).unwrap_or_default();
                } else {
                    tracing::error!(change = %id, "the outcome of a change is lost; it is in doubt");
                }
            },
            &runtime,
        );
        Finishing { queued, durable }
    }

    /// Begins a doubt; tells when its first fence has moved.
    fn doubt(self) -> oneshot::Receiver<()> {
        // The request may have left only now: it waited for a place toward the source before.
        let waits = Waits { since: self.inner.clock.now() };
        self.inner.resolve(self.doubt, self.turn, waits)
    }
}

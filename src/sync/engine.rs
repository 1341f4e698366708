//! The engine: starts its parts, records changes, stops in order.

use super::accept::{self, Earlier};
use super::answers::Running;
use super::change::{ChangeId, Draft, DraftKey};
use super::destinations::WorkerHandle;
use super::error::{OpenError, RecordError};
use super::in_force::{Configured, Roster};
use super::intent::{Intent, Open, Stage};
use super::journal::record::{Enlisted, ForSource, Keyed, NewChange, Record, Unwritten};
use super::journal::sqlite::{self, Forgetting, KnownDestination};
use super::journal::{Health, Journal, Room};
use super::operations::Operations;
use super::ports::Ports;
use super::resolve::{Doubt, Doubts, READS_MAX};
use super::settings::{DestinationSettings, Removed, Repeats, Settings};
use super::status::JournalState;
use super::turns::{Turn, Turns};
use crate::clock::Clock;
use arc_swap::ArcSwap;
use http::HeaderValue;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// Between two looks for changes whose retention is over.
const RETENTION_EVERY: Duration = Duration::from_secs(5);
/// The same while the journal is short of room: it also looks how much there is.
const RETENTION_EVERY_SQUEEZED: Duration = Duration::from_secs(1);
/// Between two steps of a pass, each of which takes the writer some ten milliseconds.
const RETENTION_PAUSE: Duration = Duration::from_millis(20);

/// The sync engine: records changes and sees them delivered.
#[derive(Debug)]
pub struct Engine {
    pub(super) inner: Arc<Inner>,
    pub(super) operations: Operations,
}

/// What outlives a call: intents and doubts hold it.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) journal: Arc<Journal>,
    pub(super) clock: Clock,
    pub(super) ports: Ports,
    pub(super) turns: Turns,
    pub(super) earlier: Earlier,
    pub(super) doubts: Doubts,
    pub(super) running: Running,
    /// What the configuration in force says; [`super::in_force`] replaces it, and the workers.
    pub(super) configured: ArcSwap<Configured>,
    pub(super) roster: ArcSwap<Roster>,
    /// Held while either is being changed.
    pub(super) changing: Arc<tokio::sync::Mutex<()>>,
    pub(super) source_reads: Semaphore,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    aborts: Mutex<Vec<AbortHandle>>,
}

impl Engine {
    /// Opens the journal, resolves what was left in doubt, and starts delivering.
    ///
    /// # Errors
    /// [`OpenError`]: the folder is not writable or another process has it.
    pub async fn start(settings: Settings, clock: Clock, ports: Ports) -> Result<Arc<Self>, OpenError> {
        let configured = ArcSwap::from_pointee(Configured::of(&settings));
        let Settings { data, max_size_bytes, destinations, removed, sources, .. } = settings;
        let enlisted = destinations.iter().map(Enlisted::from).collect();
        let (folder, journal_clock) = (data.clone(), clock.clone());
        let open = move || Journal::open(&folder, max_size_bytes, enlisted, journal_clock);
        let unusable =
            |cause: Box<dyn std::error::Error + Send + Sync>| OpenError::Unusable { folder: data, cause };
        let journal = match tokio::task::spawn_blocking(open).await {
            Ok(opened) => Arc::new(opened?),
            Err(error) => return Err(unusable(error.into())),
        };
        let known = match journal.readers().read(sqlite::destinations).await {
            Ok(known) => known,
            Err(error) => return Err(unusable(error.into())),
        };
        let inner = Arc::new(Inner {
            journal,
            clock,
            ports,
            turns: Turns::default(),
            earlier: Earlier::default(),
            doubts: Doubts::default(),
            running: Running::default(),
            configured,
            roster: ArcSwap::default(),
            changing: Arc::default(),
            source_reads: Semaphore::new(READS_MAX),
            runtime: tokio::runtime::Handle::current(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            aborts: Mutex::default(),
        });
        // What is in doubt has its turns before accepted changes ask for theirs.
        let launched = async {
            let destinations = inner.launch(&known, destinations, removed).await?;
            let sources = accept::start(&inner, sources).await?;
            inner.roster.store(Arc::new(Roster::new(destinations, sources)));
            Ok::<_, Unwritten>(())
        };
        match launched.await {
            Ok(()) => Ok(Arc::new(Self { inner, operations: Operations::default() })),
            Err(error) => {
                inner.stop.cancel();
                inner.journal.close().await;
                Err(unusable(error.into()))
            }
        }
    }

    /// Waits for the key's turn and makes the intent durable (I1, I3). `known_etag` finds the strong
    /// `ETag` that the target has now; it is asked within the turn, so that no other write of the key
    /// comes between.
    ///
    /// # Errors
    /// [`RecordError`]: nothing is recorded and nothing may be sent.
    pub async fn begin(
        self: &Arc<Self>,
        draft: Draft,
        known_etag: impl Future<Output = Option<String>>,
    ) -> Result<Intent, RecordError> {
        self.inner.has_room()?;
        if let DraftKey::Known(key) = &draft.key {
            accept::after_accepted(&self.inner, &draft.source, key).await?;
        }
        let turn = match &draft.key {
            DraftKey::Known(key) => Some(self.inner.turns.take(key).await?),
            DraftKey::FromLocation { .. } => None,
        };
        self.inner.has_room()?;
        let known_etag = known_etag.await;
        let inner = Arc::clone(&self.inner);
        let (done, recorded) = oneshot::channel();
        // In a task of its own: a client that leaves must not leave an intent that nobody holds.
        self.inner.tasks.spawn(async move {
            let recorded = inner.record(draft, known_etag, turn).await;
            if let Err(Ok(unwanted)) = done.send(recorded) {
                drop(unwanted);
            }
        });
        recorded.await.unwrap_or(Err(RecordError::Unavailable))
    }

    /// Whether the journal takes a change now.
    #[must_use]
    pub fn journal_state(&self) -> JournalState {
        match self.inner.has_room() {
            Ok(()) => JournalState::Accepts,
            Err(RecordError::Full) => JournalState::Full,
            Err(_) if self.inner.journal.health() == Health::Damaged => JournalState::Damaged,
            Err(_) => JournalState::Unavailable,
        }
    }

    /// Stops delivering, waits for attempts in flight up to `grace`, checkpoints, closes.
    pub async fn stop(&self, grace: Duration) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        if tokio::time::timeout(grace, self.inner.tasks.wait()).await.is_err() {
            tracing::warn!("attempts under way are given up; they are sent again at the next start");
        }
        for worker in self.inner.aborts.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            worker.abort();
        }
        self.inner.journal.close().await;
    }
}

impl Inner {
    /// Starts a worker for every destination, then what resolves doubts, then retention.
    async fn launch(
        self: &Arc<Self>,
        known: &[KnownDestination],
        destinations: Vec<DestinationSettings>,
        removed: Removed,
    ) -> Result<Vec<WorkerHandle>, Unwritten> {
        let mut workers = Vec::new();
        for left in known.iter().filter(|known| destinations.iter().all(|it| it.name != known.name)) {
            self.retire(left, removed).await?;
        }
        for settings in destinations {
            if let Some(known) = known.iter().find(|known| known.name == settings.name) {
                workers.push(self.deliver_to(known.clone(), settings).await?);
            }
        }
        self.resolve_all().await?;
        let retention = Arc::clone(self);
        self.tasks.spawn(async move {
            let stop = retention.stop.clone();
            stop.run_until_cancelled(retention.retain()).await;
        });
        Ok(workers)
    }

    /// Runs a worker's task, which is aborted where it does not end in time at the stop.
    pub(super) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.tasks.spawn_on(task, &self.runtime).abort_handle();
        let mut aborts = self.aborts.lock().unwrap_or_else(PoisonError::into_inner);
        aborts.retain(|task| !task.is_finished());
        aborts.push(handle);
    }

    pub(super) fn has_room(&self) -> Result<(), RecordError> {
        if self.stop.is_cancelled() {
            return Err(RecordError::Unavailable);
        }
        match (self.journal.health(), self.journal.room()) {
            (Health::Failed | Health::Sound, Room::Full) => Err(RecordError::Full),
            (Health::Failed | Health::Damaged, _) => Err(RecordError::Unavailable),
            (Health::Sound, Room::Enough | Room::Squeezed) => Ok(()),
        }
    }

    /// Why an intent was not written.
    pub(super) fn unwritten(&self) -> RecordError {
        self.has_room().err().unwrap_or(RecordError::Unavailable)
    }

    async fn record(
        self: Arc<Self>,
        draft: Draft,
        known_etag: Option<String>,
        turn: Option<Turn>,
    ) -> Result<Intent, RecordError> {
        let id = ChangeId(new_id(&self.clock));
        let configured = self.configured.load_full();
        let repeats =
            configured.sources.get(&*draft.source).is_some_and(|source| source.repeats == Repeats::ByKey);
        let head = draft.head(known_etag);
        let (key, otherwise) = match draft.key {
            DraftKey::Known(key) => (key, None),
            DraftKey::FromLocation { otherwise } => (otherwise.clone(), Some(otherwise)),
        };
        let keyed = if otherwise.is_some() { Keyed::ByLocation } else { Keyed::Before };
        let for_source = repeats.then(|| ForSource::of(&draft.fields, id, keyed));
        let own_key = for_source.as_ref().and_then(|_| idempotency_key(id));
        let repeats = if repeats { Repeats::ByKey } else { Repeats::ByMethod };
        let doubt = Doubt { id, head: head.clone(), repeats };
        let change = NewChange {
            id,
            key,
            destinations: draft.destinations,
            head,
            body: draft.body,
            recorded_at: self.clock.now(),
            accepted: None,
            client_key: draft.claim.as_ref().map(|claim| claim.key),
            for_source,
        };
        self.journal.write(Record::Intent(Box::new(change))).await.map_err(|Unwritten| self.unwritten())?;
        let (method, claim, stage) = (draft.method, draft.claim, Stage::Recorded);
        Ok(Intent::new(Open { id, method, turn, otherwise, claim, own_key, stage, doubt, inner: self }))
    }

    async fn retain(&self) {
        let mut after = 0;
        loop {
            let room = self.journal.room();
            let (horizon, forgetting) = match room {
                Room::Enough => (self.configured.load().retention, Forgetting::Expired),
                // Delivered history and contents of kept answers go first when the journal fills up.
                Room::Squeezed | Room::Full => (Duration::ZERO, Forgetting::Contents),
            };
            let now = self.clock.now().as_millis();
            let kept = u64::try_from(horizon.as_millis()).unwrap_or(u64::MAX);
            let before = crate::clock::Timestamp::from_millis(now.saturating_sub(kept));
            after = self.journal.retain(before, after).await.unwrap_or_default();
            let forgotten = self.journal.write(Record::ForgetAnswers(forgetting)).await.unwrap_or_default();
            let pause = match (after, forgotten, room) {
                (0, 0, Room::Enough) => RETENTION_EVERY,
                (0, 0, Room::Squeezed | Room::Full) => RETENTION_EVERY_SQUEEZED,
                _ => RETENTION_PAUSE,
            };
            tokio::time::sleep(pause).await;
        }
    }
}

/// The Idempotency-Key of a change, as a structured string.
pub(super) fn idempotency_key(id: ChangeId) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("\"{id}\"")).ok()
}

/// A version 7 UUID of the engine's own clock.
pub(super) fn new_id(clock: &Clock) -> Uuid {
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    uuid::Builder::from_unix_timestamp_millis(clock.now().as_millis(), &random).into_uuid()
}

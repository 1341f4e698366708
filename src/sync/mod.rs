//! Changes and their deliveries.

pub mod change;
pub mod status;

pub use change::{ChangeId, Draft, DraftKey, KeySource, KeyTemplate, Version};
pub use status::{ChangeFilter, ChangeView, DeadLetterFilter, DeadLetterView, DestinationStatus};

use crate::clock::Clock;
use crate::secret::{Endpoint, Secret};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What the sync engine is built from (`[sync]` and every `[[destination]]`).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of the journal.
    pub data: PathBuf,
    /// How long delivered changes are kept.
    pub retention: Duration,
    /// Largest journal, in bytes.
    pub max_size_bytes: u64,
    /// Who must follow.
    pub destinations: Vec<DestinationSettings>,
    /// Per source: how long it may still act on a request that was sent to it (its `timeout`).
    pub source_timeouts: Vec<(String, Duration)>,
}

/// A destination (`[[destination]]`).
#[derive(Clone, Debug)]
pub struct DestinationSettings {
    /// Its name.
    pub name: String,
    /// Where it is; the change's path and query are appended.
    pub url: Endpoint,
    /// Deliveries at once.
    pub concurrency: usize,
    /// Until the whole answer of an attempt.
    pub timeout: Duration,
    /// What a dead letter does to the later changes of its key.
    pub on_failure: OnFailure,
    /// When to try again.
    pub retry: RetrySettings,
    /// When to stop trying for a while.
    pub breaker: BreakerSettings,
    /// Fields of every delivery; the values may be secrets.
    pub headers: Vec<(http::HeaderName, Secret)>,
}

/// What a dead letter does to the later changes of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// They wait until it is redriven or discarded.
    ParkKey,
    /// There is no dead letter: the key waits and is tried again at `cap` without end.
    Block,
    /// They go on.
    Skip,
}

/// When a failed attempt is repeated (full jitter).
#[derive(Clone, Copy, Debug)]
pub struct RetrySettings {
    /// The first step.
    pub base: Duration,
    /// The largest step.
    pub cap: Duration,
    /// After this long a delivery becomes a dead letter.
    pub give_up: Duration,
    /// The longest Retry-After that is obeyed.
    pub after_cap: Duration,
    /// After so many attempts a delivery becomes a dead letter; `None`: no such bound.
    pub attempts: Option<u32>,
}

/// When a destination is left alone for a while.
#[derive(Clone, Copy, Debug)]
pub struct BreakerSettings {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it is open the first time; doubles.
    pub open: Duration,
    /// The longest it is open.
    pub open_cap: Duration,
}

/// A route's sync policy (`[route.sync]`).
#[derive(Clone, Debug)]
pub struct RouteSync {
    /// What orders changes.
    pub key: KeyTemplate,
    /// Who gets them.
    pub destinations: Vec<String>,
    /// The largest body of a change, in bytes.
    pub body_bytes_max: u64,
}

/// How the engine reaches what lies on its own floor: given by `app`.
pub struct Ports {
    /// Reads the state that a source has now.
    pub read_source: Box<dyn Fn(ReadSource) -> BoxFuture<'static, SourceState> + Send + Sync>,
    /// Moves the fence of what a change made old; called when a doubt begins and when it ends.
    pub fence: Box<dyn Fn(Fenced) -> BoxFuture<'static, ()> + Send + Sync>,
}

/// A read that resolves a change in doubt: a GET past every cache.
#[derive(Clone, Debug)]
pub struct ReadSource {
    /// The source's name.
    pub source: String,
    /// The authority that the client asked.
    pub authority: String,
    /// Path and query as the source knows them.
    pub path_and_query: String,
    /// The Accept field kept with the change.
    pub accept: Option<HeaderValue>,
}

/// What a source answered to a [`ReadSource`].
#[derive(Clone, Debug)]
pub enum SourceState {
    /// 2xx: what it has.
    Present {
        /// Its strong ETag, if any.
        etag: Option<HeaderValue>,
        /// Content-* fields of the representation.
        fields: HeaderMap,
        /// The representation.
        body: Bytes,
    },
    /// 404 or 410.
    Absent,
    /// No answer that decides; asked again later.
    Unreadable,
}

/// What a change made old, as the cache knows it.
#[derive(Clone, Debug)]
pub struct Fenced {
    /// The route's name.
    pub route: String,
    /// The authority that the client asked.
    pub authority: String,
    /// The client's path and query.
    pub path_and_query: String,
}

/// Why a change cannot be recorded; nothing was sent to the source.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The journal is full: 507.
    #[error("the journal is full")]
    Full,
    /// The journal cannot write: 503.
    #[error("the journal cannot be written")]
    Unavailable,
    /// Too many writes of this key wait already: 503.
    #[error("too many writes of this key are waiting")]
    KeyBusy,
}

/// Why the engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the journal.
    #[error("the journal folder {folder} is in use by another process; stop it or set another sync.data")]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder or the file cannot be used.
    #[error("the journal in {folder} cannot be opened: {cause}")]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// What the system or SQLite said.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why an operator's call was refused.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No such destination.
    #[error("there is no destination of that name")]
    UnknownDestination,
    /// The journal cannot be read or written.
    #[error("the journal cannot be used at the moment")]
    Unavailable,
}

/// The sync engine: records changes and sees them delivered.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// Opens the journal, resolves what was left in doubt, and starts delivering.
    ///
    /// # Errors
    /// [`OpenError`]: the folder is not writable or another process has it.
    pub async fn start(settings: Settings, clock: Clock, ports: Ports) -> Result<Arc<Self>, OpenError> {
        let _ = (settings, clock, ports);
        unimplemented!()
    }

    /// Waits for the key's turn and makes the intent durable (I1, I3).
    ///
    /// # Errors
    /// [`RecordError`]: nothing is recorded and nothing may be sent.
    pub async fn begin(self: &Arc<Self>, draft: Draft) -> Result<Intent, RecordError> {
        let _ = draft;
        unimplemented!()
    }

    /// Every destination's state, computed now.
    pub async fn destinations(&self) -> Result<Vec<DestinationStatus>, CommandError> {
        unimplemented!()
    }

    /// Changes with their deliveries, newest last.
    pub async fn changes(&self, filter: ChangeFilter) -> Result<Vec<ChangeView>, CommandError> {
        let _ = filter;
        unimplemented!()
    }

    /// One change with its deliveries and attempts.
    pub async fn change(&self, id: ChangeId) -> Result<Option<ChangeView>, CommandError> {
        let _ = id;
        unimplemented!()
    }

    /// Dead letters that match.
    pub async fn dead_letters(&self, filter: DeadLetterFilter) -> Result<Vec<DeadLetterView>, CommandError> {
        let _ = filter;
        unimplemented!()
    }

    /// Sends matching dead letters again, in key order; how many.
    pub async fn redrive(&self, filter: DeadLetterFilter, run: Run) -> Result<u64, CommandError> {
        let _ = (filter, run);
        unimplemented!()
    }

    /// Discards matching dead letters; what was parked behind them goes on; how many.
    pub async fn discard(&self, filter: DeadLetterFilter, run: Run) -> Result<u64, CommandError> {
        let _ = (filter, run);
        unimplemented!()
    }

    /// Holds a destination, across restarts.
    pub async fn pause(&self, name: &str) -> Result<(), CommandError> {
        let _ = name;
        unimplemented!()
    }

    /// Releases a destination, and ends its waits.
    pub async fn resume(&self, name: &str) -> Result<(), CommandError> {
        let _ = name;
        unimplemented!()
    }

    /// Whether the journal can accept a change now.
    #[must_use]
    pub fn accepts(&self) -> bool {
        unimplemented!()
    }

    /// Stops delivering, waits for attempts in flight up to `grace`, checkpoints, closes.
    pub async fn stop(&self, grace: Duration) {
        let _ = grace;
        unimplemented!()
    }
}

/// Whether an operator's call acts or only counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Act.
    Real,
    /// Count only.
    Dry,
}

/// A durable intent. Dropped without an outcome it leaves the change in doubt.
#[derive(Debug)]
pub struct Intent {}

impl Intent {
    /// The change's id, for `Tidegate-Change`.
    #[must_use]
    pub fn id(&self) -> ChangeId {
        unimplemented!()
    }

    /// The source did it. `location` is the path of the answer's Location in the source's own
    /// space, for keys that want it. Returns once what must be durable before the client is
    /// answered is durable: for POST the outcome, else nothing.
    pub async fn commit(self, location: Option<String>) -> Version {
        let _ = location;
        unimplemented!()
    }

    /// The source refused it, or it was never sent.
    pub fn abort(self) {
        unimplemented!()
    }

    /// Nobody knows: the resolver reads the source.
    pub fn doubt(self) {
        unimplemented!()
    }
}

//! What the sync engine is built from.

use super::KeyTemplate;
use super::signature::SigningKey;
use crate::secret::{Endpoint, Secret};
use crate::tls::ClientTls;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
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
    /// What becomes of changes for a destination that is not configured any more.
    pub removed: Removed,
    /// Who has the data, and how accepted writes are sent there.
    pub sources: Vec<SourceSettings>,
    /// Per source: how long it may still act on a request that was sent to it (its `timeout`).
    pub source_timeouts: Vec<(String, Duration)>,
}

/// What becomes of the unsettled changes of a destination that is not configured any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// They are kept until it is configured again.
    Drain,
    /// They are given up.
    Drop,
}

/// Where a destination starts that the journal does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the next change.
    Now,
    /// At the oldest change that is kept, of these routes: those that name it now.
    Retention {
        /// Names of routes.
        routes: Vec<String>,
    },
}

/// A destination (`[[destination]]`).
#[derive(Clone, Debug)]
pub struct DestinationSettings {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: Endpoint,
    /// What it gets.
    pub format: Format,
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
    /// The most bytes that may wait for it; beyond them it is detached.
    pub backlog_bytes: Option<u64>,
    /// Where it starts.
    pub start: Start,
    /// The most attempts in a time; `None`: no such bound.
    pub rate: Option<RateSettings>,
    /// What deliveries are signed with; empty: they are not.
    pub secrets: Vec<SigningKey>,
    /// Which resolved addresses may be connected to.
    pub allow: Allow,
    /// How it is verified, and what it is shown, where its URL says https.
    pub tls: ClientTls,
    /// Other classes for statuses.
    pub outcome: BTreeMap<u16, Class>,
    /// Fields of every delivery; the values may be secrets.
    pub headers: Vec<(http::HeaderName, Secret)>,
}

/// What a destination gets of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The request as it was, at its path and query behind the URL.
    Replay,
    /// What the source has after the change: a PUT of it, or a DELETE where it has nothing.
    State,
    /// A `CloudEvents` 1.0 event in binary mode, posted to the URL itself.
    CloudEvents,
}

/// The most attempts in a time.
#[derive(Clone, Copy, Debug)]
pub struct RateSettings {
    /// So many.
    pub requests: NonZeroU32,
    /// In this time.
    pub per: Duration,
}

/// Which resolved addresses may be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    /// All.
    Any,
    /// Those that the whole Internet can reach.
    Public,
    /// Those within these networks.
    Networks(Vec<IpNet>),
}

/// What an answer means for its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The destination has the change.
    Delivered,
    /// It does not have what is deleted.
    Absent,
    /// Later, perhaps.
    Retry,
    /// It refuses Tidegate as such.
    Hold,
    /// It has something newer.
    Superseded,
    /// Never, as it is.
    Permanent,
}

/// How the accepted writes of a source are sent to it (`[[source]]`).
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Its name.
    pub name: String,
    /// Its `concurrency`, all causes together; accepted writes get a part of it.
    pub concurrency: usize,
    /// Which writes may be sent again after a lost answer.
    pub repeats: Repeats,
    /// When a failed attempt is repeated.
    pub retry: RetrySettings,
    /// Whether a read may meet another address than a write did.
    pub addresses: Addresses,
}

/// How many addresses a source has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// What was written is read at the same place.
    One,
    /// A read may meet one that lags behind.
    Several,
}

/// Which writes a source takes twice without doing them twice (`idempotent`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeats {
    /// Those of idempotent methods, PUT and DELETE (RFC 9110 9.2.2).
    ByMethod,
    /// All: it knows them again by their Idempotency-Key.
    ByKey,
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
    /// When the client is answered.
    pub mode: SyncMode,
}

/// When the client of a synced write is answered (`mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// When the source has.
    Through,
    /// Once the change is durable; the source is asked later.
    Accept(OnRefusal),
}

/// What a refusal of the source does to the later accepted changes of the key (`on_refusal`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRefusal {
    /// They go on.
    Skip,
    /// They wait until the refused one is redriven or discarded.
    ParkKey,
}

//! The log of purges that all gateways of a namespace append to and follow (I5).
//!
//! A position in the log says what a forward had seen, to every gateway; it is compared only within
//! one epoch. A new epoch begins when the log is found empty or older than what is known: then
//! everything in memory is validated once, and what others have not confirmed is sent again.
//! A replica that has just started reads the log behind its checkpoint, which tells what it has lost, too.
//! While a purge is unsent, or the log is not followed, the shared tier is neither read nor written.

mod audit;
mod checkpoint;
mod compact;
mod follow;
mod heard;
mod kept;
mod losses;
mod outbox;
mod own;
mod roster;
mod seal;
mod seen;
mod trail;

pub use roster::PurgeStatus;

use super::positions::Positions;
use super::tables::Tables;
use super::{Fence, Purge, PurgeMode, PurgeScope};
use crate::cache::SharedSettings;
use crate::clock::{Clock, Timestamp};
use crate::redis::{LogExtent, LogPosition, Patience, Redis, Unavailable};
use heard::Heard;
use kept::Kept;
use outbox::Outbox;
use own::{Own, Place};
use roster::Peer;
use seal::Seal;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use trail::Trail;

/// Epochs that were left and are remembered; none of them is entered again.
const LEFT_MAX: usize = 64;
/// Entries that the log keeps, about.
const LOG_LENGTH: usize = 100_000;
/// What a caller waits for Redis to have its purge.
const PURGE_BUDGET: Duration = Duration::from_millis(75);
/// Between two attempts to send what could not be sent, or to follow again.
const PAUSE: Duration = Duration::from_millis(50);
/// Not having heard of the log for so long is being cut off from it.
const CUT_OFF_AFTER: Duration = Duration::from_secs(1);

/// What a stored response's forward had seen, as every gateway of the namespace understands it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) epoch: u64,
    pub(crate) position: LogPosition,
}

/// An entry of the log.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    gateway: u64,
    number: u64,
    mode: PurgeMode,
    purges: Vec<Purge>,
}

/// Tells others of purges and hears of theirs. Dropping it ends both.
#[derive(Debug)]
pub(crate) struct Log {
    shared: Arc<Following>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

#[derive(Debug)]
struct Following {
    redis: Arc<Redis>,
    tables: Arc<Tables>,
    clock: Clock,
    /// Tells this gateway's entries from others'; drawn at start.
    gateway: u64,
    log_key: String,
    epoch_key: String,
    roster_key: String,
    checkpoint_key: String,
    max_unverified: Duration,
    seal: Seal,
    /// Where it is noted how far the log was read.
    data: Option<PathBuf>,
    state: Mutex<State>,
    /// Something waits in the outbox.
    outgoing: Notify,
    /// The outbox has to be kept in the file, or is empty again.
    to_keep: Notify,
    /// Unsent purges up to this number are in the file; closed where there is none.
    kept_to: watch::Sender<u64>,
    keeping: Keeping,
    /// When the end of the log was last seen, in milliseconds.
    verified_at: AtomicU64,
    /// Whether the connection to the log was lost since.
    is_lost: AtomicBool,
    /// What the clock of Redis is ahead of this process's, in milliseconds.
    ahead_millis: AtomicI64,
    /// An entry was applied.
    moved: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    epoch: Option<u64>,
    last: LogPosition,
    /// Up to that at least so many entries were ever appended; `None`: it is not known.
    appended: Option<u64>,
    /// What is before it in the log was never seen here: positions before it mean nothing.
    floor: LogPosition,
    /// Of how many entries the log is, where it was trimmed.
    kept: Option<u64>,
    /// What it had when it was last looked at.
    extent: Option<LogExtent>,
    trail: Trail,
    /// Epochs that were in force before. One of them can only come back with what was in Redis then.
    left: VecDeque<u64>,
    /// How far an earlier run had read, until that is checked.
    seen_before: Option<Place>,
    positions: Positions,
    outbox: Outbox,
    heard: Heard,
    own: Own,
    /// The replicas as their lines last told.
    peers: Vec<Peer>,
    reading: Reading,
}

/// Where purges wait that Redis does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    /// In a file too: they are sent at the next start.
    OnDisk,
    InMemory,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reading {
    /// Not at the end of the log; what is in Redis cannot be judged.
    #[default]
    Behind,
    /// At its end a moment ago.
    Following,
}

impl Log {
    /// Starts to follow; needs a running Tokio, but no running Redis. What an earlier run could not send
    /// is purged here, and sent.
    pub(crate) fn start(
        settings: &SharedSettings,
        redis: Arc<Redis>,
        tables: Arc<Tables>,
        clock: Clock,
    ) -> Self {
        let key = |name: &str| format!("{}:{name}", settings.namespace);
        let kept = settings.data.as_deref().map(Kept::open);
        let shared = Arc::new(Following {
            redis,
            tables,
            gateway: fastrand::u64(..),
            log_key: key("purges"),
            epoch_key: key("epoch"),
            roster_key: key("replicas"),
            checkpoint_key: key("checkpoint"),
            max_unverified: settings.max_unverified,
            seal: Seal::of(settings),
            data: settings.data.clone(),
            state: Mutex::new(State {
                seen_before: settings.data.as_deref().and_then(seen::read),
                ..State::default()
            }),
            outgoing: Notify::new(),
            to_keep: Notify::new(),
            kept_to: watch::Sender::new(0),
            keeping: if kept.is_some() { Keeping::OnDisk } else { Keeping::InMemory },
            verified_at: AtomicU64::new(clock.now().as_millis()),
            is_lost: AtomicBool::new(false),
            ahead_millis: AtomicI64::new(0),
            moved: watch::Sender::new(()),
            clock,
        });
        tracing::info!(replica = shared.name(), "following the log of purges");
        let mut tasks = vec![
            tokio::spawn(follow::follow(Arc::clone(&shared))),
            tokio::spawn(outbox::send(Arc::clone(&shared))),
            tokio::spawn(roster::sign(Arc::clone(&shared))),
            tokio::spawn(compact::write(Arc::clone(&shared))),
        ];
        if let Some((file, records)) = kept {
            let now = shared.clock.now();
            for record in records {
                drop(shared.apply(record.purges, record.mode, now));
            }
            tasks.push(tokio::spawn(kept::keep(Arc::clone(&shared), file, shared.tables.fence().0)));
        }
        Self { shared, _tasks: tasks.into_iter().map(AbortOnDropHandle::new).collect() }
    }

    /// Applies purges here and tells the others; waits a bounded time for Redis to have them.
    pub(crate) async fn purge(
        &self,
        purges: Vec<Purge>,
        mode: PurgeMode,
        now: Timestamp,
        patience: &Patience,
    ) -> (Fence, PurgeScope) {
        let budget = patience.left(PURGE_BUDGET);
        let (number, sent) = self.shared.apply(purges, mode, now);
        // Not worth waiting for while nothing can be sent.
        if self.shared.redis.is_connected() {
            let sent = async {
                let sent = tokio::time::timeout(budget, sent).await;
                sent.map_err(|_| Unavailable::TimedOut)?.map_err(|_| Unavailable::Lost)
            };
            let is_sent = patience.spent_on(sent).await.is_ok();
            return (number, if is_sent { PurgeScope::Shared } else { PurgeScope::Local });
        }
        if self.shared.keeping == Keeping::OnDisk {
            let mut kept = self.shared.kept_to.subscribe();
            let until = Instant::now() + PURGE_BUDGET;
            // Whatever comes of it, the purge holds here.
            drop(tokio::time::timeout_at(until, kept.wait_for(|to| *to >= number.0)).await);
        }
        (number, PurgeScope::Local)
    }

    /// Which replicas have applied an own purge; `None`: it is not known.
    pub(crate) async fn status(&self, number: u64) -> Option<PurgeStatus> {
        self.shared.status(number).await
    }

    /// How many replicas are at work, this one included, as far as is known.
    pub(crate) fn replicas(&self) -> usize {
        self.shared.replicas()
    }

    /// Tells the other replicas that this one is gone.
    pub(crate) async fn leave(&self) {
        self.shared.sign_off().await;
    }

    /// What tells this gateway's purges from others'.
    pub(crate) fn gateway(&self) -> u64 {
        self.shared.gateway
    }

    /// Waits until a purge of another gateway was applied here; the fence of what was asked for since.
    /// `None`: not by then, or Redis does not answer.
    pub(crate) async fn hears_of(&self, gateway: u64, number: u64, until: Instant) -> Option<Fence> {
        let mut moved = self.shared.moved.subscribe();
        loop {
            let heard = self.shared.state().heard.fence_of(gateway, number);
            if heard.is_some() || !self.shared.redis.is_connected() {
                return heard;
            }
            tokio::time::timeout_at(until, moved.changed()).await.ok()?.ok()?;
        }
    }

    /// The stamp of a forward that began at `fence`; `None`: not to be shared.
    pub(crate) fn stamp(&self, fence: Fence) -> Option<Stamp> {
        let state = self.shared.state();
        let epoch = state.trusted()?;
        Some(Stamp { epoch, position: state.positions.position_of(fence)? })
    }

    /// The fence here of what another gateway stamped; `None`: it cannot be judged.
    pub(crate) fn fence_of(&self, stamp: Stamp) -> Option<Fence> {
        let state = self.shared.state();
        if state.trusted()? != stamp.epoch {
            return None;
        }
        if stamp.position < state.floor {
            // What was purged before the floor is not known: everything that old is validated.
            return Some(Fence(0));
        }
        let fence = state.positions.fence_of(stamp.position);
        // An own purge whose position is not known yet may be behind the stamp.
        Some(match state.outbox.lowest() {
            Some(own) => fence.min(Fence(own.saturating_sub(1))),
            None => fence,
        })
    }

    /// Whether what is in Redis can be judged now.
    pub(crate) fn is_trusted(&self) -> bool {
        self.shared.state().trusted().is_some()
    }

    /// Whether purges may have been missed since `received_at` for longer than is allowed.
    pub(crate) fn is_unverified(&self, received_at: Timestamp, now: Timestamp) -> bool {
        let verified_at = Timestamp::from_millis(self.shared.verified_at.load(Ordering::Relaxed));
        // Almost every hit ends here.
        if now.since(verified_at) <= CUT_OFF_AFTER && !self.shared.is_lost.load(Ordering::Relaxed) {
            return false;
        }
        now.since(verified_at.max(received_at)) > self.shared.max_unverified
    }
}

impl State {
    /// An epoch is not entered again.
    fn leave(&mut self, epoch: u64) {
        if self.left.len() >= LEFT_MAX {
            self.left.pop_front();
        }
        self.left.push_back(epoch);
    }

    /// One entry more was read.
    fn read_to(&mut self, position: LogPosition) {
        self.last = position;
        self.appended = self.appended.map(|appended| appended.saturating_add(1));
    }

    fn trusted(&self) -> Option<u64> {
        let following = self.reading == Reading::Following && !self.outbox.has_unsent();
        self.epoch.filter(|_| following)
    }
}

impl Following {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies own purges; the receiver is told when Redis has them.
    fn apply(&self, purges: Vec<Purge>, mode: PurgeMode, now: Timestamp) -> (Fence, oneshot::Receiver<()>) {
        let applied = {
            let mut state = self.state();
            let number = self.tables.apply(&purges, mode, now);
            state.own.made(number.0);
            (number, state.outbox.push(number.0, mode, purges))
        };
        self.outgoing.notify_one();
        self.to_keep.notify_one();
        applied
    }

    /// Now, by the clock of Redis.
    fn redis_millis(&self) -> u64 {
        let ahead = self.ahead_millis.load(Ordering::Relaxed);
        self.clock.now().as_millis().saturating_add_signed(ahead)
    }
}

#[cfg(test)]
mod tests;

//! The worker of one source: one task that looks who is due, and carries them.

use super::carry::Carrier;
use super::operate::Command;
use crate::clock::Timestamp;
use crate::sync::engine::Inner;
use crate::sync::journal::record::Unwritten;
use crate::sync::journal::sqlite::{self, Due};
use crate::sync::settings::SourceSettings;
use futures_util::FutureExt;
use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// Accepted writes at once toward one source, at most half of its `concurrency`: readers wait for it.
const CONCURRENCY_MAX: usize = 16;
/// Changes of one source on their way at once, those that wait for their key's turn or for a place
/// included. Their contents are read when they have both.
const ON_THEIR_WAY_MAX: usize = 128;
/// Rows read at once: those on their way are among them, and as many others.
const PAGE: usize = 2 * ON_THEIR_WAY_MAX;
/// After the journal could not be read, or a write met a fault of Tidegate's own.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Operators' requests that wait for one worker.
const COMMANDS: usize = 16;

/// The way to a source's worker.
#[derive(Debug)]
pub(in crate::sync) struct Handle {
    pub(in crate::sync) source: String,
    pub(super) commands: mpsc::Sender<Command>,
}

/// Starts a worker for every source; what was accepted before goes on.
pub(in crate::sync) async fn start(
    inner: &Arc<Inner>,
    sources: Vec<SourceSettings>,
) -> Result<(Vec<Handle>, Vec<AbortHandle>), Unwritten> {
    let (mut handles, mut aborts) = (Vec::new(), Vec::new());
    for figures in inner.journal.readers().read(sqlite::accepted_figures).await? {
        if !sources.iter().any(|source| source.name == figures.source) {
            tracing::error!(source = %figures.source, waiting = figures.waiting,
                "accepted changes wait for a source that is not configured any more");
        }
    }
    for settings in sources {
        let source = settings.name.clone();
        let name = source.clone();
        let rest = inner.journal.readers().read(move |store| sqlite::rests_until(store, &name)).await?;
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let worker = Worker::new(inner, settings, rest);
        let run = inner.tasks.spawn(worker.run(receiver, inner.stop.clone()));
        aborts.push(run.abort_handle());
        handles.push(Handle { source, commands });
    }
    Ok((handles, aborts))
}

/// See the module.
pub(super) struct Worker {
    pub(super) carrier: Arc<Carrier>,
    /// By number, with the key whose turn they want or have.
    pub(super) on_their_way: BTreeMap<i64, Option<Arc<str>>>,
    /// Read, due, and not begun.
    ready: VecDeque<Due>,
    tasks: JoinSet<Ended>,
    look: Look,
}

/// When the journal is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Now,
    NotBefore(Timestamp),
    WhenSomethingHappens,
}

/// A write that has ended, one way or another.
struct Ended {
    number: i64,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    /// A fault of Tidegate's own.
    Panicked,
}

impl Worker {
    fn new(inner: &Arc<Inner>, settings: SourceSettings, rest: Timestamp) -> Self {
        let places = (settings.concurrency / 2).clamp(1, CONCURRENCY_MAX);
        let carrier = Carrier {
            inner: Arc::clone(inner),
            settings,
            places: Semaphore::new(places),
            rest_until: AtomicU64::new(rest.as_millis()),
        };
        Self {
            carrier: Arc::new(carrier),
            on_their_way: BTreeMap::new(),
            ready: VecDeque::new(),
            tasks: JoinSet::new(),
            look: Look::Now,
        }
    }

    /// Carries until it is stopped, then waits for what is under way.
    async fn run(mut self, mut commands: mpsc::Receiver<Command>, stop: CancellationToken) {
        let mut newest = self.carrier.inner.journal.newest_accepted();
        while !stop.is_cancelled() {
            let acknowledged = *newest.borrow_and_update();
            let wake_at = self.dispatch(acknowledged).await;
            let sleep = wake_at.map(|at| tokio::time::sleep(at.since(self.carrier.inner.clock.now())));
            tokio::select! {
                () = stop.cancelled() => {}
                Some(ended) = self.tasks.join_next() => self.take_in(ended),
                Some(command) = commands.recv() => self.obey(command).await,
                Ok(()) = newest.changed() => self.look = Look::Now,
                () = sleep_or_never(sleep) => self.look = Look::Now,
            }
        }
        while let Some(ended) = self.tasks.join_next().await {
            self.take_in(ended);
        }
    }

    /// Begins what may begin; when to look again.
    async fn dispatch(&mut self, newest: i64) -> Option<Timestamp> {
        let now = self.carrier.inner.clock.now();
        let rests_until = self.carrier.rests_until();
        if now < rests_until {
            // What was read may not be what is due first afterwards.
            self.ready.clear();
            self.look = Look::Now;
            return Some(rests_until);
        }
        if let Look::NotBefore(at) = self.look
            && at <= now
        {
            self.look = Look::Now;
        }
        if self.look == Look::Now && self.ready.is_empty() && self.on_their_way.len() < ON_THEIR_WAY_MAX {
            self.look_up(newest, now).await;
        }
        while self.on_their_way.len() < ON_THEIR_WAY_MAX {
            let Some(due) = self.ready.pop_front() else { break };
            self.begin(due);
        }
        match self.look {
            Look::NotBefore(at) => Some(at),
            Look::Now | Look::WhenSomethingHappens => None,
        }
    }

    async fn look_up(&mut self, newest: i64, now: Timestamp) {
        let source = self.carrier.settings.name.clone();
        let readers = self.carrier.inner.journal.readers();
        let read = readers.read(move |store| sqlite::due(store, &source, newest, now, PAGE)).await;
        let Ok((page, next)) = read else {
            self.look = Look::NotBefore(now.plus(AGAIN_AFTER));
            return;
        };
        self.look = match next {
            // There may be more than a page.
            _ if page.len() >= PAGE => Look::Now,
            Some(at) => Look::NotBefore(at),
            None => Look::WhenSomethingHappens,
        };
        let fresh = page.into_iter().filter(|due| !self.on_their_way.contains_key(&due.number));
        self.ready = fresh.collect();
    }

    fn begin(&mut self, due: Due) {
        self.on_their_way.insert(due.number, due.turn.clone());
        let carrier = Arc::clone(&self.carrier);
        self.tasks.spawn(async move {
            let ended = AssertUnwindSafe(carrier.carry(&due)).catch_unwind().await;
            if let Some(key) = &due.turn {
                carrier.inner.earlier.moved(key);
            }
            Ended { number: due.number, end: if ended.is_ok() { End::Done } else { End::Panicked } }
        });
    }

    fn take_in(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        let source = &self.carrier.settings.name;
        match ended {
            Ok(Ended { number, end }) => {
                self.on_their_way.remove(&number);
                self.look = Look::Now;
                if end == End::Panicked {
                    tracing::error!(%source, number, "an accepted write met a fault of Tidegate's own");
                    self.look = Look::NotBefore(self.carrier.inner.clock.now().plus(AGAIN_AFTER));
                }
            }
            // Its change stays on its way: nothing of it is sent before the next start.
            Err(error) => tracing::error!(%source, %error, "an accepted write's task ended"),
        }
    }

    /// What was read may not be next any more.
    pub(super) fn look_again(&mut self) {
        self.ready.clear();
        self.look = Look::Now;
    }
}

async fn sleep_or_never(sleep: Option<tokio::time::Sleep>) {
    match sleep {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

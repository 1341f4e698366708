//! The worker of one source: one task that looks who is due, and carries them.

use super::carry::Carrier;
use super::operate::Command;
use crate::clock::Timestamp;
use crate::sync::engine::Inner;
use crate::sync::in_force::Presence;
use crate::sync::journal::record::Unwritten;
use crate::sync::journal::sqlite::{self, Due};
use crate::sync::settings::SourceSettings;
use crate::telemetry::metrics as names;
use futures_util::FutureExt;
use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
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
#[derive(Clone, Debug)]
pub(in crate::sync) struct Handle {
    pub(in crate::sync) source: String,
    pub(super) commands: mpsc::Sender<Command>,
    /// What it works by.
    pub(in crate::sync) settings: Arc<watch::Sender<Arc<SourceSettings>>>,
    pub(in crate::sync) presence: Presence,
}

/// Starts a worker for every source; what was accepted before goes on.
pub(in crate::sync) async fn start(
    inner: &Arc<Inner>,
    sources: Vec<SourceSettings>,
) -> Result<Vec<Handle>, Unwritten> {
    for figures in inner.journal.readers().read(sqlite::accepted_figures).await? {
        if !sources.iter().any(|source| source.name == figures.source) {
            tracing::error!(source = %figures.source, waiting = figures.waiting,
                "accepted changes wait for a source that is not configured any more");
        }
    }
    Ok(sources.into_iter().map(|settings| carry_to(inner, settings, None)).collect())
}

/// Starts the worker of a source once `before`, its last one, has gone.
pub(in crate::sync) fn carry_to(
    inner: &Arc<Inner>,
    settings: SourceSettings,
    before: Option<CancellationToken>,
) -> Handle {
    let (commands, receiver) = mpsc::channel(COMMANDS);
    let source = settings.name.clone();
    let (sender, settings) = watch::channel(Arc::new(settings));
    let presence = Presence::of(inner);
    let name = source.clone();
    let handle = Handle { source, commands, settings: Arc::new(sender), presence: presence.clone() };
    let own = Arc::clone(inner);
    inner.run(async move {
        let _gone = presence.gone.drop_guard();
        if let Some(before) = before {
            before.cancelled().await;
        }
        let worker = presence.leave.run_until_cancelled(begin(&own, &settings, &presence.leave)).await;
        if let Some(worker) = worker {
            worker.run(receiver, settings, presence.leave).await;
        }
        // Whether anything waits is said once, and at each start.
        if !own.stop.is_cancelled() {
            let_go(&own, &name).await;
        }
    });
    handle
}

/// A worker, once the journal can be read.
async fn begin(
    inner: &Arc<Inner>,
    settings: &watch::Receiver<Arc<SourceSettings>>,
    leave: &CancellationToken,
) -> Worker {
    loop {
        let settings = SourceSettings::clone(&settings.borrow());
        let name = settings.name.clone();
        match inner.journal.readers().read(move |store| sqlite::rests_until(store, &name)).await {
            Ok(rest) => return Worker::new(inner, settings, rest, leave.clone()),
            Err(Unwritten) => tokio::time::sleep(AGAIN_AFTER).await,
        }
    }
}

/// Says what waits for a source that was taken out of the configuration: it is kept until it is there again,
/// for its clients have their 202.
async fn let_go(inner: &Inner, source: &str) {
    // What is kept for it is told again by the next scrape.
    for name in [names::ACCEPTED_WAITING, names::ACCEPTED_LAG, names::SOURCE_DEAD_LETTERS] {
        metrics::gauge!(name, "source" => source.to_owned()).set(0.0);
    }
    let figures = inner.journal.readers().read(sqlite::accepted_figures).await.unwrap_or_default();
    for left in figures.iter().filter(|figures| figures.source == source && figures.waiting > 0) {
        tracing::error!(
            source,
            waiting = left.waiting,
            "accepted changes wait for a source that is not configured any more"
        );
    }
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
    fn new(inner: &Arc<Inner>, settings: SourceSettings, rest: Timestamp, leave: CancellationToken) -> Self {
        let carrier = Carrier {
            inner: Arc::clone(inner),
            places: Semaphore::new(places(&settings)),
            settings,
            rest_until: Arc::new(AtomicU64::new(rest.as_millis())),
            leave,
        };
        Self {
            carrier: Arc::new(carrier),
            on_their_way: BTreeMap::new(),
            ready: VecDeque::new(),
            tasks: JoinSet::new(),
            look: Look::Now,
        }
    }

    /// Other settings, for what begins from now on.
    fn take_settings(&mut self, settings: &SourceSettings) {
        let Carrier { inner, rest_until, leave, .. } = &*self.carrier;
        self.carrier = Arc::new(Carrier {
            inner: Arc::clone(inner),
            places: Semaphore::new(places(settings)),
            settings: settings.clone(),
            rest_until: Arc::clone(rest_until),
            leave: leave.clone(),
        });
    }

    /// Carries until it is stopped, then waits for what is under way.
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut settings: watch::Receiver<Arc<SourceSettings>>,
        stop: CancellationToken,
    ) {
        let mut newest = self.carrier.inner.journal.newest_accepted();
        while !stop.is_cancelled() {
            if settings.has_changed().unwrap_or(false) {
                let settings = Arc::clone(&settings.borrow_and_update());
                self.take_settings(&settings);
            }
            let acknowledged = *newest.borrow_and_update();
            let wake_at = self.dispatch(acknowledged).await;
            let sleep = wake_at.map(|at| tokio::time::sleep(at.since(self.carrier.inner.clock.now())));
            tokio::select! {
                () = stop.cancelled() => {}
                Some(ended) = self.tasks.join_next() => self.take_in(ended),
                Some(command) = commands.recv() => self.obey(command).await,
                Ok(()) = newest.changed() => self.look = Look::Now,
                Ok(()) = async { settings.clone().changed().await } => {}
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

/// How many accepted writes go to a source at once.
fn places(settings: &SourceSettings) -> usize {
    (settings.concurrency / 2).clamp(1, CONCURRENCY_MAX)
}

async fn sleep_or_never(sleep: Option<tokio::time::Sleep>) {
    match sleep {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

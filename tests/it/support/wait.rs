//! Waiting for events: gates that a test opens, records that it waits on, questions to another
//! process that are asked again until a deadline. Nothing here waits for time to pass.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;

/// After this long a test fails instead of waiting on: far longer than a slow machine with other work takes.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);
/// How often another process is asked again.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Waits for `future`, at most until the deadline.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    within_time(DEADLINE, what, future).await
}

/// Waits for `future`, at most for `deadline`: for what is known to be long.
pub(crate) async fn within_time<T>(deadline: Duration, what: &str, future: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(deadline, future).await;
    waited.unwrap_or_else(|_| panic!("not within {deadline:?}: {what}"))
}

/// Asks until the answer is `true`, at most until the deadline.
pub(crate) async fn eventually(what: &str, ask: impl AsyncFnMut() -> bool) {
    assert!(answers_within(DEADLINE, ask).await, "not within {DEADLINE:?}: {what}");
}

/// Whether the answer becomes `true` before the deadline.
pub(crate) async fn answers_within(deadline: Duration, mut ask: impl AsyncFnMut() -> bool) -> bool {
    let asking = async {
        let mut tick = tokio::time::interval(ASK_EVERY);
        loop {
            tick.tick().await;
            if ask().await {
                return;
            }
        }
    };
    tokio::time::timeout(deadline, asking).await.is_ok()
}

/// Closed until the test opens it.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    /// Returns once it is open.
    pub(crate) async fn passed(&self) {
        let mut state = self.0.subscribe();
        state.wait_for(|open| *open).await.expect("the gate itself holds the sender");
    }
}

/// What happened, in order; a test can wait for it.
#[derive(Debug)]
pub(crate) struct Record<T> {
    items: Mutex<Vec<T>>,
    count: watch::Sender<usize>,
}

impl<T: Clone> Record<T> {
    pub(crate) fn new() -> Self {
        Self { items: Mutex::new(Vec::new()), count: watch::Sender::new(0) }
    }

    pub(crate) fn push(&self, item: T) {
        let mut items = lock(&self.items);
        items.push(item);
        self.count.send_replace(items.len());
    }

    pub(crate) fn all(&self) -> Vec<T> {
        lock(&self.items).clone()
    }

    /// Waits until `enough` says so of everything recorded, and returns it.
    pub(crate) async fn until(&self, what: &str, enough: impl Fn(&[T]) -> bool) -> Vec<T> {
        let mut count = self.count.subscribe();
        within(what, async {
            while !enough(&lock(&self.items)) {
                count.changed().await.expect("the record itself holds the sender");
            }
        })
        .await;
        self.all()
    }
}

/// Locks; a panic of another holder has failed the test already.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

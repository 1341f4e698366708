//! Idle connections, on a shelf of each thread that uses them: one that was used here last is in this core's caches,
//! one from another's shelf is not, and is taken only where this one has none.

use crate::source::link::Link;
use rapidhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// How many there are; threads beyond it share them.
const SHELVES: usize = 16;

/// The next thread's shelf.
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHELVES;
}

/// By the names of addresses, the one that was used last at the end.
type Shelf = HashMap<Arc<str>, Vec<Idle>, RandomState>;

#[derive(Debug)]
pub(super) struct Idle {
    pub(super) link: Box<Link>,
    pub(super) since: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Shelves {
    shelves: [Mutex<Shelf>; SHELVES],
    /// How many connections lie there.
    held: AtomicUsize,
}

impl Shelves {
    /// The one to an address that was used last here, else elsewhere.
    pub(super) fn take(&self, address: &str) -> Option<Idle> {
        if self.held.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let idle = self.nearest_first().find_map(|shelf| locked(shelf).get_mut(address)?.pop());
        self.held.fetch_sub(usize::from(idle.is_some()), Ordering::Relaxed);
        idle
    }

    /// Keeps one, if there are fewer than `max` to its address; threads that do so at once may keep one more each.
    pub(super) fn put(&self, address: Arc<str>, idle: Idle, max: usize) {
        if self.held.load(Ordering::Relaxed) >= max && self.count(&address) >= max {
            return;
        }
        if let Some(shelf) = self.nearest_first().next() {
            // Counted before it can be taken.
            self.held.fetch_add(1, Ordering::Relaxed);
            locked(shelf).entry(address).or_default().push(idle);
        }
    }

    /// Keeps those of which that is true.
    pub(super) fn retain(&self, mut stays: impl FnMut(&mut Idle) -> bool) {
        for shelf in &self.shelves {
            locked(shelf).retain(|_, idle| {
                let before = idle.len();
                idle.retain_mut(&mut stays);
                self.held.fetch_sub(before - idle.len(), Ordering::Relaxed);
                !idle.is_empty()
            });
        }
    }

    /// How many there are to an address.
    pub(super) fn count(&self, address: &str) -> usize {
        self.shelves.iter().map(|shelf| locked(shelf).get(address).map_or(0, Vec::len)).sum()
    }

    /// All shelves, this thread's own first.
    fn nearest_first(&self) -> impl Iterator<Item = &Mutex<Shelf>> {
        self.shelves.iter().cycle().skip(OWN.with(|own| *own)).take(SHELVES)
    }
}

fn locked(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Which delivery is next: order per key for one destination (I3). Pure state, no I/O.
//!
//! ```text
//!          taken                 settled, durable
//! READY ----------> IN FLIGHT ---------------------> READY (its next) or forgotten
//!   ^                 |    | dead letter
//!   | due             |    +-------> PARKED (until redriven or discarded)
//!   +---- WAITING <---+ failed
//! ```
//! A key that waits or is parked keeps nothing in memory but its name: its deliveries have rows in
//! the journal ("spilled") and are loaded when its turn comes, so that it never fills the window.

use crate::clock::Timestamp;
use crate::sync::journal::record::{Followers, Past};
use crate::sync::journal::sqlite::{Ahead, OpenKey, Waiting};
use crate::sync::settings::OnFailure;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Deliveries of one key kept in memory; the rest has rows.
pub(crate) const QUEUE_PER_KEY_MAX: usize = 16;
/// Deliveries in memory, of all keys; reading ahead stops there.
pub(crate) const WINDOW_MAX: usize = 1024;
/// Keys known in memory, waiting and parked ones included; reading ahead stops there.
pub(crate) const KEYS_MAX: usize = 200_000;

/// A delivery in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) sequence: u64,
    pub(crate) past: Past,
}

/// What a key is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Ready,
    Busy,
    Waiting(Timestamp),
    Parked,
}

#[derive(Debug)]
struct KeyState {
    phase: Phase,
    queue: VecDeque<Entry>,
    /// The journal has rows of it beyond what is in the queue.
    spilled: bool,
    /// Rows were added since the last load began, which may not have seen them.
    spilled_since_load: bool,
}

impl KeyState {
    fn new(phase: Phase, spilled: Spilled) -> Self {
        Self { phase, queue: VecDeque::new(), spilled: spilled == Spilled::Yes, spilled_since_load: false }
    }
}

/// Whether the journal has rows of a key beyond those in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spilled {
    Yes,
    No,
}

/// What a worker does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Attempt this delivery.
    Attempt(Arc<str>, Entry),
    /// Read the rows of this key.
    Load(Arc<str>),
}

/// The keys of one destination.
#[derive(Debug)]
pub(crate) struct Lanes {
    keys: HashMap<Arc<str>, KeyState>,
    ready: VecDeque<Arc<str>>,
    waiting: BTreeSet<(Timestamp, Arc<str>)>,
    /// Read, not settled, and without a row: what holds the frontier back.
    unsettled: BTreeSet<u64>,
    in_memory: usize,
    cursor: u64,
    /// The newest row at start. Below it changes without a row may stand between rows of the same
    /// key: no rows are loaded before everything up to here has been read (I3).
    catch_up_to: u64,
}

impl Lanes {
    pub(crate) fn new(frontier: u64, open: Vec<OpenKey>, on_failure: OnFailure) -> Self {
        let mut lanes = Self {
            keys: HashMap::new(),
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            in_memory: 0,
            cursor: frontier,
            catch_up_to: open.iter().map(|open| open.newest).max().unwrap_or_default(),
        };
        for OpenKey { key, next_at, waits, dead, .. } in open {
            let phase = match (dead && on_failure == OnFailure::ParkKey, waits) {
                (true, _) => Phase::Parked,
                (false, true) => Phase::Waiting(next_at),
                (false, false) => continue,
            };
            if let Phase::Waiting(at) = phase {
                lanes.waiting.insert((at, Arc::clone(&key)));
            }
            let spilled = if waits { Spilled::Yes } else { Spilled::No };
            lanes.keys.insert(key, KeyState::new(phase, spilled));
        }
        lanes
    }

    /// Up to where the journal has been read.
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Every change up to here is settled or has a row.
    pub(crate) fn frontier(&self) -> u64 {
        self.unsettled.first().map_or(self.cursor, |first| first.saturating_sub(1))
    }

    /// The oldest delivery without a row, and how many there are.
    pub(crate) fn rowless(&self) -> (Option<u64>, u64) {
        (self.unsettled.first().copied(), self.unsettled.len() as u64)
    }

    fn catches_up(&self) -> bool {
        self.cursor < self.catch_up_to
    }

    pub(crate) fn has_room(&self) -> bool {
        self.in_memory < WINDOW_MAX && (self.keys.len() < KEYS_MAX || self.catches_up())
    }

    /// Takes what was read ahead; what comes back must get rows before anything is loaded.
    pub(crate) fn read(&mut self, page: Vec<Ahead>, cursor: u64) -> Vec<(Arc<str>, u64, Followers)> {
        let mut rows = Vec::new();
        for Ahead { sequence, key } in page {
            let fresh = || KeyState::new(Phase::Ready, Spilled::No);
            let state = self.keys.entry(Arc::clone(&key)).or_insert_with(fresh);
            let idle = state.phase == Phase::Ready && state.queue.is_empty() && !state.spilled;
            let queues = matches!(state.phase, Phase::Ready | Phase::Busy) && !state.spilled;
            if queues && state.queue.len() < QUEUE_PER_KEY_MAX {
                state.queue.push_back(Entry { sequence, past: Past::default() });
                self.unsettled.insert(sequence);
                self.in_memory += 1;
                if idle {
                    self.ready.push_back(key);
                }
            } else {
                (state.spilled, state.spilled_since_load) = (true, true);
                let followers =
                    if state.phase == Phase::Parked { Followers::Parked } else { Followers::Behind };
                rows.push((key, sequence, followers));
            }
        }
        self.cursor = self.cursor.max(cursor);
        rows
    }

    /// What may be done now; the key is busy until one of the calls below names it.
    pub(crate) fn take(&mut self, now: Timestamp) -> Option<Turn> {
        if !self.is_ready(now) {
            return None;
        }
        let key = self.ready.pop_front()?;
        let state = self.keys.get_mut(&key)?;
        state.phase = Phase::Busy;
        if let Some(entry) = state.queue.front() {
            return Some(Turn::Attempt(key, entry.clone()));
        }
        state.spilled_since_load = false;
        Some(Turn::Load(key))
    }

    /// Whether anything could be taken now.
    pub(crate) fn is_ready(&mut self, now: Timestamp) -> bool {
        self.wake(now);
        !self.ready.is_empty()
    }

    /// When the next key that waits is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        if self.catches_up() {
            return None;
        }
        self.waiting.first().map(|(at, _)| *at)
    }

    fn wake(&mut self, now: Timestamp) {
        if self.catches_up() {
            return;
        }
        while self.waiting.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.waiting.pop_first() else { break };
            self.make_ready(key);
        }
    }

    fn make_ready(&mut self, key: Arc<str>) {
        if let Some(state) = self.keys.get_mut(&key) {
            state.phase = Phase::Ready;
            self.ready.push_back(key);
        }
    }

    /// The rows of a busy key, oldest first; whether the journal may have others.
    pub(crate) fn loaded(&mut self, key: &Arc<str>, rows: Vec<Waiting>, more: Spilled) {
        let Some(state) = self.keys.get_mut(key) else { return };
        self.in_memory += rows.len();
        state.spilled = more == Spilled::Yes || state.spilled_since_load;
        state.queue.extend(rows.into_iter().map(|row| Entry { sequence: row.sequence, past: row.past }));
        if state.queue.is_empty() && !state.spilled {
            self.keys.remove(key);
        } else {
            state.phase = Phase::Ready;
            self.ready.push_front(Arc::clone(key));
        }
    }

    /// The head of a busy key is decided: it no longer holds the frontier back.
    pub(crate) fn settle_head(&mut self, key: &Arc<str>) {
        let Some(state) = self.keys.get_mut(key) else { return };
        if let Some(entry) = state.queue.pop_front() {
            self.in_memory -= 1;
            self.unsettled.remove(&entry.sequence);
        }
    }

    /// A busy key is to wait or be parked: what it has in memory, the head left out, needs rows.
    pub(crate) fn spill(&mut self, key: &Arc<str>) -> Vec<u64> {
        self.settle_head(key);
        let Some(state) = self.keys.get_mut(key) else { return Vec::new() };
        let behind: Vec<u64> = state.queue.drain(..).map(|entry| entry.sequence).collect();
        self.in_memory -= behind.len();
        // Its head has a row from now on: what is read next must stay behind that.
        state.spilled = true;
        for sequence in &behind {
            self.unsettled.remove(sequence);
        }
        behind
    }

    /// What was decided of a busy key is durable, and its next may go.
    pub(crate) fn go_on(&mut self, key: &Arc<str>) {
        let Some(state) = self.keys.get_mut(key) else { return };
        if state.queue.is_empty() && !state.spilled {
            self.keys.remove(key);
        } else {
            self.make_ready(Arc::clone(key));
        }
    }

    /// A busy key waits: its head has a row, or could not be read.
    pub(crate) fn wait(&mut self, key: &Arc<str>, at: Timestamp) {
        let Some(state) = self.keys.get_mut(key) else { return };
        state.spilled = true;
        state.phase = Phase::Waiting(at);
        self.waiting.insert((at, Arc::clone(key)));
    }

    /// The head of a busy key is a dead letter that parks the key: what needs rows.
    pub(crate) fn park(&mut self, key: &Arc<str>) -> Vec<u64> {
        let followers = self.spill(key);
        if let Some(state) = self.keys.get_mut(key) {
            state.phase = Phase::Parked;
        }
        followers
    }

    /// A busy key could not even be attempted; it stays first.
    pub(crate) fn give_back(&mut self, key: &Arc<str>) {
        if let Some(state) = self.keys.get_mut(key) {
            state.phase = Phase::Ready;
            self.ready.push_front(Arc::clone(key));
        }
    }

    /// Whether an attempt of the key is under way.
    pub(crate) fn is_busy(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|state| state.phase == Phase::Busy)
    }

    /// Whether the key waits behind a dead letter.
    pub(crate) fn is_parked(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|state| state.phase == Phase::Parked)
    }

    /// Rows that a key needs before older deliveries of it may be put in front.
    pub(crate) fn make_way(&mut self, key: &Arc<str>) -> Vec<u64> {
        let Some(state) = self.keys.get_mut(key) else { return Vec::new() };
        let behind: Vec<u64> = state.queue.drain(..).map(|entry| entry.sequence).collect();
        self.in_memory -= behind.len();
        state.spilled = true;
        behind.into_iter().filter(|sequence| self.unsettled.remove(sequence)).collect()
    }

    /// A key whose dead letters were redriven or discarded has rows to load.
    pub(crate) fn revive(&mut self, key: &Arc<str>) {
        let fresh = || KeyState::new(Phase::Parked, Spilled::Yes);
        let state = self.keys.entry(Arc::clone(key)).or_insert_with(fresh);
        state.spilled = true;
        if let Phase::Waiting(at) = state.phase {
            self.waiting.remove(&(at, Arc::clone(key)));
        }
        // By way of the keys that wait: nothing is loaded while the worker still catches up.
        if matches!(state.phase, Phase::Parked | Phase::Waiting(_)) {
            state.phase = Phase::Waiting(Timestamp::default());
            self.waiting.insert((Timestamp::default(), Arc::clone(key)));
        }
    }

    /// Every key that waits is due now.
    pub(crate) fn wake_all(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        for (_, key) in waiting {
            if let Some(state) = self.keys.get_mut(&key) {
                state.phase = Phase::Waiting(Timestamp::default());
                self.waiting.insert((Timestamp::default(), key));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn page(entries: &[(u64, &str)]) -> Vec<Ahead> {
        entries.iter().map(|(sequence, key)| Ahead { sequence: *sequence, key: (*key).into() }).collect()
    }

    fn row(sequence: u64) -> Waiting {
        Waiting { sequence, past: Past::default() }
    }

    fn taken(lanes: &mut Lanes) -> Option<(String, u64)> {
        match lanes.take(at(0))? {
            Turn::Attempt(key, entry) => Some((key.to_string(), entry.sequence)),
            Turn::Load(key) => Some((key.to_string(), 0)),
        }
    }

    #[test]
    fn i3_one_in_flight_per_key_in_order() {
        let mut lanes = Lanes::new(0, Vec::new(), OnFailure::ParkKey);
        assert!(lanes.read(page(&[(1, "a"), (2, "a"), (3, "b")]), 3).is_empty());
        assert_eq!(taken(&mut lanes), Some(("a".into(), 1)));
        assert_eq!(taken(&mut lanes), Some(("b".into(), 3)));
        assert_eq!(taken(&mut lanes), None, "2 waits for 1");
        lanes.settle_head(&"b".into());
        assert_eq!(lanes.frontier(), 0, "1 and 2 are not settled");
        lanes.settle_head(&"a".into());
        assert_eq!(lanes.frontier(), 1);
        assert_eq!(taken(&mut lanes), None, "not before it is durable");
        lanes.go_on(&"a".into());
        assert_eq!(taken(&mut lanes), Some(("a".into(), 2)));
        lanes.settle_head(&"a".into());
        assert_eq!(lanes.frontier(), 3);
    }

    #[test]
    fn i3_rows_that_a_load_did_not_see_are_loaded_later() {
        let mut lanes = Lanes::new(0, Vec::new(), OnFailure::ParkKey);
        let key: Arc<str> = "a".into();
        lanes.read(page(&[(1, "a")]), 1);
        taken(&mut lanes);
        assert!(lanes.spill(&key).is_empty());
        assert_eq!(lanes.read(page(&[(2, "a")]), 2).len(), 1, "what follows a deferred one needs a row");
        lanes.wait(&key, at(0));
        assert_eq!(taken(&mut lanes), Some(("a".into(), 0)));
        assert_eq!(lanes.read(page(&[(3, "a")]), 3).len(), 1);
        lanes.loaded(&key, vec![row(1), row(2)], Spilled::No);
        for sequence in [1, 2] {
            assert_eq!(taken(&mut lanes), Some(("a".into(), sequence)));
            lanes.settle_head(&key);
            lanes.go_on(&key);
        }
        assert_eq!(taken(&mut lanes), Some(("a".into(), 0)), "3 is loaded");
    }

    #[test]
    fn i3_nothing_is_loaded_before_what_stands_between_rows_is_read() {
        let open = OpenKey { key: "a".into(), next_at: at(0), waits: true, dead: false, newest: 9 };
        let mut lanes = Lanes::new(4, vec![open], OnFailure::ParkKey);
        assert_eq!((taken(&mut lanes), lanes.next_due()), (None, None));
        assert_eq!(lanes.read(page(&[(5, "a")]), 8).len(), 1);
        assert_eq!(taken(&mut lanes), None);
        lanes.read(Vec::new(), 9);
        assert_eq!(taken(&mut lanes), Some(("a".into(), 0)));
    }

    #[test]
    fn i10_a_hot_or_parked_key_does_not_fill_the_window() {
        let mut lanes = Lanes::new(0, Vec::new(), OnFailure::ParkKey);
        let hot: Vec<(u64, &str)> = (1..=2000).map(|sequence| (sequence, "hot")).collect();
        assert_eq!(lanes.read(page(&hot), 2000).len(), 2000 - QUEUE_PER_KEY_MAX);
        assert!(lanes.has_room());
        taken(&mut lanes);
        assert_eq!(lanes.park(&"hot".into()).len(), QUEUE_PER_KEY_MAX - 1);
        assert_eq!(lanes.rowless(), (None, 0));
        let rows = lanes.read(page(&[(2001, "hot")]), 2001);
        assert_eq!(rows.first().map(|row| row.2), Some(Followers::Parked));
    }
}

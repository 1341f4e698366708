//! Which delivery is next: order per key for one destination (I3), fair between routes. Pure, no I/O.
//!
//! ```text
//!          taken                 settled, durable
//! READY ----------> IN FLIGHT ---------------------> READY (its next) or forgotten
//!   ^                 |    | dead letter
//!   | due             |    +-------> PARKED (until redriven or discarded)
//!   +---- WAITING <---+ failed
//! ```
//! A key that waits or is parked keeps nothing in memory but its name: its deliveries have rows in
//! the journal and are loaded when its turn comes, so that it never fills the window. A load brings the
//! oldest deliveries of a key, whether they have rows or have not been read ahead yet; so it may come at
//! any time, and `search` finds keys of routes that the window of another one keeps waiting.

use super::budget::Repeats;
use super::fair::Fair;
use super::frontier::Frontier;
use super::key_state::{Class, Entry, KeyState, Phase, Rest};
use super::search::{Search, Wanted};
use crate::clock::Timestamp;
use crate::sync::journal::record::{Followers, Past};
use crate::sync::journal::sqlite::{Ahead, Found, Kept, Loaded, OpenKey};
use crate::sync::settings::OnFailure;
use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Deliveries of one key kept in memory; the rest has rows.
pub(crate) const QUEUE_PER_KEY_MAX: usize = 16;
/// Deliveries of one key loaded at once, while there is room.
const LOAD: u32 = 16;
/// Deliveries in memory, of all keys; reading ahead stops there, and keys are loaded one by one.
pub(crate) const WINDOW_MAX: usize = 1024;
/// Changes read ahead at once; the window may be exceeded by one page.
pub(crate) const PAGE: u32 = 256;
/// Keys known in memory, waiting and parked ones included; reading ahead stops there.
pub(crate) const KEYS_MAX: usize = 200_000;

/// What a worker does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Attempt this delivery.
    Attempt(Arc<str>, Entry),
    /// Load so many of the oldest deliveries of this key.
    Load(Arc<str>, u32),
}

/// The keys of one destination.
#[derive(Debug)]
pub(crate) struct Lanes {
    keys: HashMap<Arc<str>, KeyState>,
    first: Fair,
    repeat: Fair,
    /// What was attempted last.
    last: Class,
    waiting: BTreeSet<(Timestamp, Arc<str>)>,
    frontier: Frontier,
    search: Search,
    in_memory: usize,
    /// Rows were handed out and are not durable: nothing is loaded before they can be read.
    unwritten_rows: bool,
}

impl Lanes {
    pub(crate) fn new(frontier: u64, open: Vec<OpenKey>, on_failure: OnFailure) -> Self {
        let mut lanes = Self {
            keys: HashMap::new(),
            first: Fair::default(),
            repeat: Fair::default(),
            last: Class::First,
            waiting: BTreeSet::new(),
            frontier: Frontier::new(frontier),
            search: Search::default(),
            in_memory: 0,
            unwritten_rows: false,
        };
        for OpenKey { key, route, next_at, waits, dead, repeat } in open {
            let phase = match (waits, dead && on_failure == OnFailure::ParkKey) {
                (true, _) => Phase::Waiting(next_at),
                (false, true) => Phase::Parked,
                (false, false) => continue,
            };
            if let Phase::Waiting(at) = phase {
                lanes.waiting.insert((at, Arc::clone(&key)));
            }
            let class = if repeat { Class::Repeat } else { Class::First };
            let is_barred = phase == Phase::Parked;
            lanes.keys.insert(key, KeyState { is_barred, class, ..KeyState::new(phase, Rest::Newer, route) });
        }
        lanes
    }

    /// Up to where the journal has been read.
    pub(crate) fn cursor(&self) -> u64 {
        self.frontier.cursor()
    }

    /// Every change up to here is settled or has a row.
    pub(crate) fn frontier(&self) -> u64 {
        self.frontier.settled_up_to()
    }

    /// The oldest delivery without a row, and how many there are up to the cursor.
    pub(crate) fn rowless(&self) -> (Option<u64>, u64) {
        self.frontier.rowless()
    }

    /// Whether a further page may be read. Far behind what was taken ahead, one may always: it gets rows.
    pub(crate) fn has_room(&self) -> bool {
        !self.is_crowded() && (self.in_memory < WINDOW_MAX || self.frontier.is_far_ahead())
    }

    /// Whether [`KEYS_MAX`] keeps it from reading on.
    pub(crate) fn is_crowded(&self) -> bool {
        self.keys.len() >= KEYS_MAX
    }

    /// Takes what was read ahead; what comes back must get rows, and [`Lanes::rows_written`] follows.
    pub(crate) fn read(&mut self, page: Vec<Ahead>, cursor: u64) -> Vec<(Arc<str>, u64, Followers)> {
        let mut rows = Vec::new();
        for Ahead { sequence, key, route } in page {
            if self.frontier.has_taken(sequence) {
                continue;
            }
            let has_room = self.in_memory < WINDOW_MAX + PAGE as usize;
            let (state, is_new) = match self.keys.entry(Arc::clone(&key)) {
                Slot::Occupied(known) => (known.into_mut(), false),
                Slot::Vacant(free) => {
                    (free.insert(KeyState::new(Phase::Ready, Rest::Nothing, Arc::clone(&route))), true)
                }
            };
            let queues = matches!(state.phase, Phase::Ready | Phase::Busy) && state.rest == Rest::Nothing;
            if queues && !state.is_barred && state.queue.len() < QUEUE_PER_KEY_MAX && has_room {
                state.queue.push_back(Entry { sequence, past: Past::default(), route });
                self.frontier.hold(sequence, &key);
                self.in_memory += 1;
            } else {
                state.rest = state.rest.max(Rest::Added);
                let followers = if state.is_barred { Followers::Parked } else { Followers::Behind };
                rows.push((Arc::clone(&key), sequence, followers));
            }
            if is_new {
                self.place(key);
            }
        }
        self.frontier.read_to(cursor);
        self.unwritten_rows |= !rows.is_empty();
        rows
    }

    /// The rows of what was read are durable.
    pub(crate) fn rows_written(&mut self) {
        self.unwritten_rows = false;
    }

    /// What holds the frontier back and must get rows, once much is settled beyond it.
    pub(crate) fn laggards(&mut self) -> Vec<(Arc<str>, u64, Followers)> {
        let given = self.frontier.laggards().into_iter();
        given.map(|(key, sequence)| (key, sequence, Followers::Behind)).collect()
    }

    /// What to search for beyond the cursor, where the window is full; `None`: nothing.
    pub(crate) fn search(&mut self, newest: u64) -> Option<Wanted> {
        if self.has_room() || self.is_crowded() || self.frontier.is_far_ahead() || self.cursor() >= newest {
            return None;
        }
        self.search.wanted(newest, &self.first)
    }

    /// Keys that have changes beyond the cursor, of a search that saw everything up to `newest`.
    pub(crate) fn found(&mut self, found: Vec<Found>, newest: u64) {
        for Found { route, keys, more_behind } in found {
            for key in keys {
                match self.keys.entry(Arc::clone(&key)) {
                    Slot::Occupied(mut known) => {
                        let state = known.get_mut();
                        state.rest = state.rest.max(Rest::Newer);
                    }
                    Slot::Vacant(free) => {
                        free.insert(KeyState::new(Phase::Ready, Rest::Newer, Arc::clone(&route)));
                        self.place(key);
                    }
                }
            }
            match more_behind {
                Some(to) => self.search.stopped(&route, to),
                None => self.search.exhausted(&route),
            }
        }
        self.search.ended(newest);
    }

    /// What may be done now, of routes that may; the key is busy until one of the calls below names it.
    pub(crate) fn take(
        &mut self,
        now: Timestamp,
        repeats: Repeats,
        may: impl Fn(&str) -> bool,
    ) -> Option<Turn> {
        self.wake(now);
        let class = self.next_class(repeats, &may)?;
        let key = match class {
            Class::First => self.first.pop(may),
            Class::Repeat => self.repeat.pop(may),
        }?;
        let limit = if self.in_memory < WINDOW_MAX { LOAD } else { 1 };
        let state = self.keys.get_mut(&key)?;
        state.phase = Phase::Busy;
        if let Some(entry) = state.queue.front() {
            self.last = class;
            return Some(Turn::Attempt(key, entry.clone()));
        }
        state.rest = Rest::Newer;
        Some(Turn::Load(key, limit))
    }

    /// Whether anything could be taken now.
    pub(crate) fn is_ready(&mut self, now: Timestamp, repeats: Repeats, may: impl Fn(&str) -> bool) -> bool {
        self.wake(now);
        self.next_class(repeats, &may).is_some()
    }

    fn next_class(&self, repeats: Repeats, may: &impl Fn(&str) -> bool) -> Option<Class> {
        let takeable = |fair: &Fair| {
            let state = fair.peek(may).and_then(|key| self.keys.get(key));
            state.is_some_and(|state| !self.unwritten_rows || !state.queue.is_empty())
        };
        let repeat = repeats == Repeats::Allowed && takeable(&self.repeat);
        self.last.next(takeable(&self.first).then_some(Class::First), repeat.then_some(Class::Repeat))
    }

    /// When the next key that waits is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.waiting.first().map(|(at, _)| *at)
    }

    fn wake(&mut self, now: Timestamp) {
        while self.waiting.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.waiting.pop_first() else { break };
            self.place(key);
        }
    }

    /// Makes a key ready, at the end of its route's queue.
    fn place(&mut self, key: Arc<str>) {
        let Some(state) = self.keys.get_mut(&key) else { return };
        state.phase = Phase::Ready;
        match state.turn() {
            (route, Class::First) => self.first.push_back(route, key),
            (route, Class::Repeat) => self.repeat.push_back(route, key),
        }
    }

    /// Makes a key the next one; also a busy one that could not even be attempted.
    pub(crate) fn place_first(&mut self, key: Arc<str>) {
        let Some(state) = self.keys.get_mut(&key) else { return };
        state.phase = Phase::Ready;
        match state.turn() {
            (route, Class::First) => self.first.push_front(route, key),
            (route, Class::Repeat) => self.repeat.push_front(route, key),
        }
    }

    /// The oldest deliveries of a busy key.
    pub(crate) fn loaded(&mut self, key: &Arc<str>, loaded: Loaded) {
        let Some(state) = self.keys.get_mut(key) else { return };
        if state.rest == Rest::Older {
            state.rest = Rest::Newer;
            return self.place_first(Arc::clone(key));
        }
        let has_more = loaded.has_more || state.rest == Rest::Added;
        state.rest = if has_more { Rest::Newer } else { Rest::Nothing };
        state.is_barred = loaded.is_barred;
        self.in_memory += loaded.deliveries.len();
        for waiting in loaded.deliveries {
            // What was read in the meantime has got a row.
            if waiting.kept == Kept::Unread && waiting.sequence > self.frontier.cursor() {
                self.frontier.hold(waiting.sequence, key);
            }
            let (sequence, past, route) = (waiting.sequence, waiting.past, waiting.route);
            state.queue.push_back(Entry { sequence, past, route });
        }
        if state.queue.is_empty() && !has_more {
            self.rest(key);
        } else {
            self.place_first(Arc::clone(key));
        }
    }

    /// A key of which nothing may be sent now: forgotten, or parked behind what is dead.
    fn rest(&mut self, key: &Arc<str>) {
        match self.keys.get_mut(key) {
            Some(state) if state.is_barred => (state.phase, state.rest) = (Phase::Parked, Rest::Newer),
            Some(_) => drop(self.keys.remove(key)),
            None => {}
        }
    }

    /// The head of a busy key is decided: it no longer holds the frontier back.
    pub(crate) fn settle_head(&mut self, key: &Arc<str>) {
        let Some(state) = self.keys.get_mut(key) else { return };
        if let Some(entry) = state.queue.pop_front() {
            self.in_memory -= 1;
            self.frontier.release(entry.sequence);
            (state.route, state.class) = (entry.route, Class::First);
        }
    }

    /// A busy key is to wait, its head with this past: what it has in memory behind it needs rows.
    pub(crate) fn defer(&mut self, key: &Arc<str>, past: &Past) -> Vec<u64> {
        let behind = self.spill(key);
        if let Some(state) = self.keys.get_mut(key) {
            state.class = Class::of(past);
        }
        behind
    }

    /// The head of a busy key is a dead letter that parks the key: what needs rows.
    pub(crate) fn park(&mut self, key: &Arc<str>) -> Vec<u64> {
        let followers = self.spill(key);
        if let Some(state) = self.keys.get_mut(key) {
            (state.phase, state.is_barred) = (Phase::Parked, true);
        }
        followers
    }

    fn spill(&mut self, key: &Arc<str>) -> Vec<u64> {
        self.settle_head(key);
        let Some(state) = self.keys.get_mut(key) else { return Vec::new() };
        // Its head has a row from now on: what is read next must stay behind that.
        state.rest = state.rest.max(Rest::Newer);
        let behind = state.empty(0);
        self.in_memory -= behind.len();
        for sequence in &behind {
            self.frontier.release(*sequence);
        }
        behind
    }

    /// What was decided of a busy key is durable, and its next may go.
    pub(crate) fn go_on(&mut self, key: &Arc<str>) {
        let Some(state) = self.keys.get_mut(key) else { return };
        if state.queue.is_empty() && state.rest == Rest::Nothing {
            self.rest(key);
        } else {
            self.place(Arc::clone(key));
        }
    }

    /// A busy key waits: its head has a row, or could not be read.
    pub(crate) fn wait(&mut self, key: &Arc<str>, at: Timestamp) {
        let Some(state) = self.keys.get_mut(key) else { return };
        state.rest = state.rest.max(Rest::Newer);
        state.phase = Phase::Waiting(at);
        self.waiting.insert((at, Arc::clone(key)));
    }

    /// Whether the key is being attempted, loaded or settled.
    pub(crate) fn is_busy(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|state| state.phase == Phase::Busy)
    }

    /// Whether the key waits behind a dead letter.
    pub(crate) fn is_parked(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|state| state.is_barred)
    }

    /// Rows that a key needs before older deliveries of it may be put in front. An attempt under way
    /// stays what it is.
    pub(crate) fn make_way(&mut self, key: &Arc<str>) -> Vec<u64> {
        let Some(state) = self.keys.get_mut(key) else { return Vec::new() };
        let behind = state.empty(usize::from(state.phase == Phase::Busy));
        self.in_memory -= behind.len();
        state.rest = Rest::Older;
        behind.into_iter().filter(|sequence| self.frontier.release(*sequence)).collect()
    }

    /// A key whose dead letters were redriven or discarded has deliveries to load.
    pub(crate) fn revive(&mut self, key: &Arc<str>) {
        let parked = || KeyState::new(Phase::Parked, Rest::Newer, Arc::from(""));
        let state = self.keys.entry(Arc::clone(key)).or_insert_with(parked);
        state.rest = state.rest.max(Rest::Added);
        if let Phase::Waiting(at) = state.phase {
            self.waiting.remove(&(at, Arc::clone(key)));
        }
        if matches!(state.phase, Phase::Parked | Phase::Waiting(_)) {
            state.class = Class::First;
            self.place(Arc::clone(key));
        }
    }

    /// Every key that waits is due now.
    pub(crate) fn wake_all(&mut self) {
        while let Some((_, key)) = self.waiting.pop_first() {
            self.place(key);
        }
    }
}

#[cfg(test)]
impl Lanes {
    /// I10, for the simulation.
    pub(super) fn check_bounds(&self, in_memory_max: usize) {
        let queued: usize = self.keys.values().map(|state| state.queue.len()).sum();
        assert_eq!(queued, self.in_memory);
        assert!(queued <= in_memory_max, "I10: {queued} deliveries in memory");
        assert!(self.keys.values().all(|state| state.queue.len() <= 2 * QUEUE_PER_KEY_MAX));
        let [unsettled, taken, beyond] = self.frontier.remembered();
        assert!(unsettled <= in_memory_max, "I10: {unsettled} without a row");
        assert!(taken <= super::frontier::TAKEN_MAX + in_memory_max, "I10: {taken} beyond the cursor");
        assert!(beyond <= super::frontier::BEYOND_MAX + in_memory_max, "I10: {beyond} beyond the frontier");
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.in_memory == 0 && self.frontier.remembered() == [0, 0, 0]
    }
}

#[cfg(test)]
mod tests;

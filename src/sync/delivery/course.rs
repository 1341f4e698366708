//! The course of one destination: what begins next, what follows an answer. Pure: time, randomness and
//! what was read come in, records and what to do go out; `worker` does it, and so does the simulation.

use super::Act;
use super::budget::{Repeats, RetryBudget};
use super::key_state::{Class, Entry};
use super::lanes::{Lanes, Turn};
use super::pace::Pace;
use super::replay::Replays;
use super::retry::Standing;
use crate::clock::Timestamp;
use crate::sync::journal::record::{Followers, Progress, Step};
use crate::sync::journal::sqlite::{Buried, Dead, KnownDestination, OpenKey};
use crate::sync::settings::{DestinationSettings, OnFailure};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// See the module.
pub(super) struct Course {
    pub(super) id: i64,
    pub(super) settings: DestinationSettings,
    pub(super) lanes: Lanes,
    pub(super) pace: Pace,
    pub(super) budget: RetryBudget,
    /// Attempts under way or not durably decided: their keys and sequences.
    pub(super) in_flight: HashMap<Arc<str>, u64>,
    /// Keys that are being attempted, loaded or settled.
    pub(super) places_taken: usize,
    /// Changes refused in a hold, with the successes until then.
    pub(super) refused: HashMap<u64, u64>,
    pub(super) successes: u64,
    pub(super) replays: Replays,
}

/// What begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Attempt(Arc<str>, Entry, Standing),
    Load(Arc<str>, u32),
}

/// What a key does once its record is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    GoOn,
    WaitUntil(Timestamp),
    StayParked,
}

impl Course {
    pub(super) fn new(
        known: &KnownDestination,
        settings: DestinationSettings,
        open: Vec<OpenKey>,
        now: Timestamp,
    ) -> Self {
        Self {
            id: known.id,
            lanes: Lanes::new(known.frontier, open, settings.on_failure),
            pace: Pace::new(&settings, known),
            budget: RetryBudget::new(now),
            in_flight: HashMap::new(),
            places_taken: 0,
            refused: HashMap::new(),
            successes: 0,
            replays: Replays::default(),
            settings,
        }
    }

    /// What its dead letters do to newer changes of their keys.
    pub(super) fn dead(&self) -> Dead {
        match self.settings.on_failure {
            OnFailure::ParkKey => Dead::Park,
            OnFailure::Skip | OnFailure::Block => Dead::LetPass,
        }
    }

    /// What may begin now; it has a place until [`Course::free`].
    pub(super) fn begin(&mut self, now: Timestamp) -> Option<Begin> {
        if self.places_taken >= self.pace.concurrency() {
            return None;
        }
        let repeats = self.repeats(now);
        let begin = loop {
            let (key, entry) = match self.lanes.take(now, repeats)? {
                Turn::Load(key, limit) => break Begin::Load(key, limit),
                Turn::Attempt(key, entry) => (key, entry),
            };
            if let Some(at) = self.replays.must_wait(&entry.past, now) {
                self.lanes.wait(&key, at);
                continue;
            }
            let Some(admitted) = self.pace.admit(now) else {
                self.lanes.give_back(&key);
                return None;
            };
            let standing = self.replays.standing(&entry.past, admitted, now);
            if standing != Standing::Probe && Class::of(&entry.past) == Class::Repeat {
                self.budget.spend(now);
            }
            self.in_flight.insert(Arc::clone(&key), entry.sequence);
            break Begin::Attempt(key, entry, standing);
        };
        self.places_taken += 1;
        Some(begin)
    }

    /// When to ask [`Course::begin`] again if nothing happens before.
    pub(super) fn wake_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        // Without a free place nothing can begin before an event frees one.
        if self.places_taken >= self.pace.concurrency() {
            return None;
        }
        let repeats = self.repeats(now);
        let ready = self.lanes.is_ready(now, repeats);
        let admission = self.pace.next_admission(now).filter(|_| ready);
        let held_back = repeats == Repeats::Exhausted && self.lanes.is_ready(now, Repeats::Allowed);
        let budget = held_back.then(|| self.budget.next_at());
        [self.lanes.next_due(), admission, budget].into_iter().flatten().min()
    }

    /// Probes are not charged: a destination in trouble must be probed by what failed, too.
    fn repeats(&mut self, now: Timestamp) -> Repeats {
        if self.pace.probes(now) { Repeats::Allowed } else { self.budget.repeats(now) }
    }

    /// Gives a place back.
    pub(super) fn free(&mut self, key: &Arc<str>) {
        self.places_taken -= 1;
        self.in_flight.remove(key);
    }

    /// What was decided of a key is durable.
    pub(super) fn durable(&mut self, key: &Arc<str>, after: After) {
        self.free(key);
        match after {
            After::GoOn => self.lanes.go_on(key),
            After::WaitUntil(at) => self.lanes.wait(key, at),
            After::StayParked => {}
        }
    }

    /// A step as it is recorded now.
    pub(super) fn progress(&self, step: Step) -> Progress {
        Progress { destination: self.id, frontier: self.lanes.frontier(), step }
    }

    /// Whether a dead letter may be sent again or given up: nothing older goes after something newer (I3).
    pub(super) fn may_raise(&self, act: Act, buried: &Buried) -> bool {
        let is_newer = |under_way: &u64| *under_way > buried.sequence;
        let overtaken = buried.overtaken || self.in_flight.get(&buried.key).is_some_and(is_newer);
        act == Act::Discard || !overtaken
    }

    /// The rows that must be there before dead letters of these keys wait again.
    pub(super) fn make_way(&mut self, keys: &BTreeSet<Arc<str>>) -> Vec<(Arc<str>, u64, Followers)> {
        let mut rows = Vec::new();
        for key in keys {
            let behind = self.lanes.make_way(key).into_iter();
            rows.extend(behind.map(|sequence| (Arc::clone(key), sequence, Followers::Behind)));
        }
        rows
    }
}

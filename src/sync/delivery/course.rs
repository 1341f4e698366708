//! The course of one destination: what begins next, what follows an answer. Pure: time, randomness and
//! what was read come in, records and what to do go out; `worker` does it, and so does the simulation.

use super::Act;
use super::budget::{Charge, Repeats, RetryBudget};
use super::carrier::Content;
use super::covered::{Covered, Target};
use super::key_state::{Class, Entry};
use super::lanes::{Lanes, Turn};
use super::pace::Pace;
use super::reads::{Reads, Unsent};
use super::replay::Replays;
use super::retry::Standing;
use crate::clock::Timestamp;
use crate::sync::journal::record::{Followers, Progress, Step};
use crate::sync::journal::sqlite::{Buried, Dead, KnownDestination, OpenKey};
use crate::sync::settings::{DestinationSettings, Format, OnFailure};
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
    /// Only in `format = "state"`.
    pub(super) reads: Reads,
    pub(super) covered: Covered,
    /// Changes refused in a hold, and when each was first.
    pub(super) refused: HashMap<u64, Timestamp>,
    /// When the newest attempt began that the destination took.
    pub(super) taken_at: Timestamp,
    pub(super) replays: Replays,
}

/// What begins.
#[derive(Debug)]
pub(super) enum Begin {
    Attempt(Arc<str>, Entry, Standing, Content),
    /// The source is read for this delivery, unless it is one of these targets; it takes no place.
    Read(Arc<str>, Entry, Vec<Target>),
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
            reads: Reads::default(),
            covered: Covered::default(),
            refused: HashMap::new(),
            taken_at: Timestamp::default(),
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

    /// What may begin now. But for a read, it has a place until [`Course::free`].
    pub(super) fn begin(&mut self, now: Timestamp) -> Option<Begin> {
        if self.places_taken >= self.pace.concurrency() {
            return None;
        }
        if let Some(unsent) = self.begin_unsent(now) {
            return Some(unsent);
        }
        let repeats = self.repeats(now);
        let most = self.pace.concurrency();
        loop {
            let may = |route: &str| self.reads.may_begin(route, most, now);
            let (key, entry) = match self.lanes.take(now, repeats, may)? {
                Turn::Load(key, limit) => {
                    self.places_taken += 1;
                    return Some(Begin::Load(key, limit));
                }
                Turn::Attempt(key, entry) => (key, entry),
            };
            if let Some(at) = self.replays.must_wait(&entry.past, now) {
                self.lanes.wait(&key, at);
                continue;
            }
            if self.settings.format == Format::State {
                return self.begin_read(key, entry, now);
            }
            let Some(admitted) = self.pace.admit(now) else {
                self.lanes.place_first(key);
                return None;
            };
            self.replays.begin(&entry.past, now);
            if admitted != Standing::Probe {
                self.charge(&entry, now);
            }
            return Some(self.begin_attempt(key, entry, admitted, Content::Change));
        }
    }

    /// What was read goes first.
    fn begin_unsent(&mut self, now: Timestamp) -> Option<Begin> {
        // What was read to probe a destination that needs no probe any more is a repetition like every other.
        let may_be_sent = self.repeats(now) == Repeats::Allowed;
        while self.reads.first_unsent().is_some_and(|unsent| is_owed(unsent) && !may_be_sent) {
            self.take_back_unsent();
        }
        if !self.reads.has_unsent() {
            return None;
        }
        let admitted = self.pace.admit(now)?;
        let Unsent { key, entry, snapshot, charge } = self.reads.take_unsent()?;
        if admitted != Standing::Probe && charge == Charge::None {
            self.charge(&entry, now);
        }
        Some(self.begin_attempt(key, entry, admitted, Content::State(snapshot)))
    }

    /// The first that was read is read again when it may be sent.
    fn take_back_unsent(&mut self) {
        if let Some(unsent) = self.reads.take_unsent() {
            self.lanes.place_first(unsent.key);
        }
    }

    /// A source is read only when what it tells could be sent at once.
    fn begin_read(&mut self, key: Arc<str>, entry: Entry, now: Timestamp) -> Option<Begin> {
        if !self.pace.is_open(now) {
            self.lanes.place_first(key);
            return None;
        }
        self.replays.begin(&entry.past, now);
        let charge = if self.pace.probes(now) { Charge::None } else { self.charge(&entry, now) };
        self.reads.begin(&key, &entry, charge);
        let covered = self.covered.targets(&key, entry.sequence);
        Some(Begin::Read(key, entry, covered))
    }

    fn begin_attempt(&mut self, key: Arc<str>, entry: Entry, admitted: Standing, content: Content) -> Begin {
        self.take_place(&key, entry.sequence);
        let standing = Replays::standing(&entry.past, admitted);
        Begin::Attempt(key, entry, standing, content)
    }

    fn charge(&mut self, entry: &Entry, now: Timestamp) -> Charge {
        match Class::of(&entry.past) {
            Class::First => Charge::None,
            Class::Repeat => {
                self.budget.spend(now);
                Charge::Made
            }
        }
    }

    /// When to ask [`Course::begin`] again if nothing happens before.
    pub(super) fn wake_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        // Without a free place nothing can begin before an event frees one.
        if self.places_taken >= self.pace.concurrency() {
            return None;
        }
        let repeats = self.repeats(now);
        let most = self.pace.concurrency();
        let may = |route: &str| self.reads.may_begin(route, most, now);
        let ready = self.lanes.is_ready(now, repeats, may) || self.reads.has_unsent();
        let admission = self.pace.next_admission(now).filter(|_| ready);
        let held_back = repeats == Repeats::Exhausted && self.lanes.is_ready(now, Repeats::Allowed, may);
        let budget = held_back.then(|| self.budget.next_at());
        [self.lanes.next_due(), admission, budget, self.reads.next_at(now)].into_iter().flatten().min()
    }

    /// Probes are not charged: a destination in trouble must be probed by what failed, too.
    fn repeats(&mut self, now: Timestamp) -> Repeats {
        if self.pace.probes(now) { Repeats::Allowed } else { self.budget.repeats(now) }
    }

    /// Nothing is sent any more, and what was read would be old by then.
    pub(super) fn pause(&mut self) {
        self.pace.pause();
        while self.reads.has_unsent() {
            self.take_back_unsent();
        }
    }

    /// Ends a pause and every wait.
    pub(super) fn resume(&mut self) {
        self.pace.resume();
        self.reads.resume();
        self.lanes.wake_all();
    }

    /// Whether nothing is being done of any key.
    pub(super) fn is_quiet(&self) -> bool {
        self.places_taken == 0 && !self.reads.is_reading()
    }

    /// Of all that waited nothing is left: it goes on behind this change.
    pub(super) fn begin_anew_at(&mut self, frontier: u64) {
        self.lanes = Lanes::new(frontier, Vec::new(), self.settings.on_failure);
        (self.reads, self.covered) = (Reads::default(), Covered::default());
    }

    /// Takes a place for what has none, until it is durable.
    pub(super) fn take_place(&mut self, key: &Arc<str>, sequence: u64) {
        self.places_taken += 1;
        self.in_flight.insert(Arc::clone(key), sequence);
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
        let under_way = self.in_flight.get(&buried.key).copied().or(self.reads.sequence(&buried.key));
        let overtaken = buried.overtaken || under_way.is_some_and(|sequence| sequence > buried.sequence);
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

/// Whether the budget was not charged for what is a repetition.
fn is_owed(unsent: &Unsent) -> bool {
    unsent.charge == Charge::None && Class::of(&unsent.entry.past) == Class::Repeat
}

//! What one key of a destination is doing, and what of it is in memory. Pure.

use crate::clock::Timestamp;
use crate::sync::journal::record::Past;
use std::collections::VecDeque;
use std::sync::Arc;

/// A delivery in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) sequence: u64,
    pub(crate) past: Past,
    pub(crate) route: Arc<str>,
}

/// What a key is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Ready,
    Busy,
    Waiting(Timestamp),
    Parked,
}

/// What the journal has of a key beyond its queue in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rest {
    Nothing,
    Newer,
    /// Rows were added since the last load began, which may not have seen them.
    Added,
    /// Older ones were put in front since the last load began: what it brings is void.
    Older,
}

/// Whether an attempt of a key's oldest delivery is a repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    First,
    Repeat,
}

impl Class {
    /// What follows one of this class. Where both are ready they take turns: what fails over and over
    /// keeps what was never tried from no place.
    pub(crate) fn next(self, first: Option<Self>, repeat: Option<Self>) -> Option<Self> {
        match self {
            Self::First => repeat.or(first),
            Self::Repeat => first.or(repeat),
        }
    }

    pub(crate) const fn of(past: &Past) -> Self {
        if past.counted() > 0 { Self::Repeat } else { Self::First }
    }
}

#[derive(Debug)]
pub(super) struct KeyState {
    pub(super) phase: Phase,
    pub(super) queue: VecDeque<Entry>,
    pub(super) rest: Rest,
    /// A dead letter of it was left when it was loaded last: newer ones are parked.
    pub(super) is_barred: bool,
    /// Of its oldest delivery, while that is not in memory.
    pub(super) route: Arc<str>,
    pub(super) class: Class,
}

impl KeyState {
    pub(super) fn new(phase: Phase, rest: Rest, route: Arc<str>) -> Self {
        Self { phase, queue: VecDeque::new(), rest, is_barred: false, route, class: Class::First }
    }

    /// In whose turn it is served, and as what.
    pub(super) fn turn(&self) -> (&Arc<str>, Class) {
        self.queue.front().map_or((&self.route, self.class), |entry| (&entry.route, Class::of(&entry.past)))
    }

    /// Takes everything but the first `kept` out of memory.
    pub(super) fn empty(&mut self, kept: usize) -> Vec<u64> {
        let kept = kept.min(self.queue.len());
        self.queue.drain(kept..).map(|entry| entry.sequence).collect()
    }
}

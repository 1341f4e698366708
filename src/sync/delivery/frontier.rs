//! How far a destination is: one number and what stands out beyond it. Pure.
//!
//! ```text
//! ---- settled, or has a row ----|frontier ... in memory ... settled ... |cursor ... taken ahead of its turn
//! ```
//! Everything here is bounded by its owner: `unsettled` by the window, `beyond` by giving rows to what
//! holds the frontier back, `taken` by reading on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Settlements beyond the frontier that are remembered: at the bound what holds it back gets rows.
pub(crate) const BEYOND_MAX: usize = 4096;
/// Changes beyond the cursor that have been taken: at the bound all that is before them is read and given
/// rows, which costs disk instead of memory.
pub(crate) const TAKEN_MAX: usize = 16_384;
/// What gets rows at once when the frontier is held back.
const LAGGARDS: usize = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Frontier {
    /// Up to here the journal has been read.
    cursor: u64,
    /// In memory, not settled, and without a row: what holds the frontier back.
    unsettled: BTreeMap<u64, Arc<str>>,
    /// Beyond the cursor, and taken all the same.
    taken: BTreeSet<u64>,
    /// Settled or given a row between the frontier and the cursor.
    beyond: BTreeSet<u64>,
}

impl Frontier {
    pub(crate) fn new(cursor: u64) -> Self {
        Self { cursor, unsettled: BTreeMap::new(), taken: BTreeSet::new(), beyond: BTreeSet::new() }
    }

    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Every change up to here is settled or has a row.
    pub(crate) fn settled_up_to(&self) -> u64 {
        let first = self.unsettled.keys().next();
        first.map_or(self.cursor, |first| first.saturating_sub(1).min(self.cursor))
    }

    /// The oldest change without a row, and how many there are up to the cursor.
    pub(crate) fn rowless(&self) -> (Option<u64>, u64) {
        let count = self.unsettled.range(..=self.cursor).count();
        (self.unsettled.keys().next().copied(), count as u64)
    }

    /// Whether a change beyond the cursor has been taken before.
    pub(crate) fn has_taken(&self, sequence: u64) -> bool {
        self.taken.contains(&sequence)
    }

    /// Whether no more should be taken from beyond the cursor.
    pub(crate) fn is_far_ahead(&self) -> bool {
        self.taken.len() >= TAKEN_MAX
    }

    /// A change comes into memory, without a row.
    pub(crate) fn hold(&mut self, sequence: u64, key: &Arc<str>) {
        self.unsettled.insert(sequence, Arc::clone(key));
        if sequence > self.cursor {
            self.taken.insert(sequence);
        }
    }

    /// The journal has been read up to `cursor`, and what was read is held or gets a row.
    pub(crate) fn read_to(&mut self, cursor: u64) {
        self.cursor = self.cursor.max(cursor);
        let still_ahead = self.taken.split_off(&self.cursor.saturating_add(1));
        let passed = std::mem::replace(&mut self.taken, still_ahead);
        self.beyond.extend(passed.into_iter().filter(|sequence| !self.unsettled.contains_key(sequence)));
        self.prune();
    }

    /// A change is settled or gets a row; whether it had none.
    pub(crate) fn release(&mut self, sequence: u64) -> bool {
        let held = self.unsettled.remove(&sequence).is_some();
        if sequence <= self.cursor {
            self.beyond.insert(sequence);
        }
        self.prune();
        held
    }

    /// Once too much is settled beyond it: the oldest that hold the frontier back, which get rows now
    /// and stay in memory.
    pub(crate) fn laggards(&mut self) -> Vec<(Arc<str>, u64)> {
        let mut given = Vec::new();
        while self.beyond.len() >= BEYOND_MAX && given.len() < LAGGARDS {
            let Some((sequence, key)) = self.unsettled.pop_first() else { break };
            given.push((key, sequence));
            self.prune();
        }
        given
    }

    fn prune(&mut self) {
        let frontier = self.settled_up_to();
        if self.beyond.first().is_some_and(|first| *first <= frontier) {
            self.beyond = self.beyond.split_off(&frontier.saturating_add(1));
        }
    }
}

#[cfg(test)]
impl Frontier {
    pub(crate) fn remembered(&self) -> [usize; 3] {
        [self.unsettled.len(), self.taken.len(), self.beyond.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_unsettled_holds_it_back() {
        let mut frontier = Frontier::new(0);
        let key: Arc<str> = "k".into();
        for sequence in [1, 2, 3] {
            frontier.hold(sequence, &key);
        }
        frontier.read_to(5);
        assert_eq!(frontier.settled_up_to(), 0);
        assert!(frontier.release(2) && !frontier.release(2));
        assert_eq!((frontier.settled_up_to(), frontier.remembered()), (0, [2, 0, 1]));
        frontier.release(1);
        assert_eq!((frontier.settled_up_to(), frontier.remembered()), (2, [1, 0, 0]));
        frontier.release(3);
        assert_eq!(frontier.settled_up_to(), 5);
    }

    #[test]
    fn what_is_taken_ahead_does_not_move_it() {
        let mut frontier = Frontier::new(5);
        let key: Arc<str> = "k".into();
        frontier.hold(9, &key);
        assert_eq!(frontier.settled_up_to(), 5);
        frontier.release(9);
        assert!(frontier.has_taken(9), "it is not taken again when its turn comes");
        frontier.hold(6, &key);
        frontier.read_to(10);
        assert_eq!((frontier.settled_up_to(), frontier.remembered()), (5, [1, 0, 1]));
        frontier.release(6);
        assert_eq!((frontier.settled_up_to(), frontier.remembered()), (10, [0, 0, 0]));
    }

    #[test]
    fn i10_one_that_hangs_gets_a_row_when_much_is_settled_beyond_it() {
        let mut frontier = Frontier::new(0);
        let last = u64::try_from(BEYOND_MAX).unwrap() + 1;
        for sequence in 1..=last {
            frontier.hold(sequence, &Arc::from(sequence.to_string()));
        }
        frontier.read_to(last);
        for sequence in 2..last {
            assert!(frontier.release(sequence) && frontier.laggards().is_empty());
        }
        assert!(frontier.release(last));
        let laggards = frontier.laggards();
        assert_eq!(laggards, [("1".into(), 1)], "no more than needed");
        assert_eq!((frontier.settled_up_to(), frontier.remembered()), (last, [0, 0, 0]));
        assert!(!frontier.release(1), "it has a row");
    }
}

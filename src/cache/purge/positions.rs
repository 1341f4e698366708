//! Pure: this gateway's numbers and the log's positions, translated both ways, always to the safe
//! side: a fence becomes a position at most as far, a position a fence at most as high.

use super::Fence;
use crate::redis::LogPosition;
use std::collections::VecDeque;

/// Positions remembered, more than the log keeps entries; older ones are taken as the beginning of time.
const POSITIONS_MAX: usize = 131_072;

#[derive(Clone, Copy, Debug)]
struct Entry {
    position: LogPosition,
    /// A fence of at least this number has everything up to `position`.
    applied: u64,
    /// Everything up to this number is at `position` or before it in the log.
    covered: u64,
}

/// What of the log this gateway has applied, and under which numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Positions {
    entries: VecDeque<Entry>,
}

impl Positions {
    /// Begins a log whose entries are applied under numbers above `number`.
    pub(super) fn begin(number: Fence) -> Self {
        let first = Entry { position: LogPosition::default(), applied: number.0, covered: number.0 };
        Self { entries: VecDeque::from([first]) }
    }

    /// The purge at `position` was applied; `number` is the highest so far.
    pub(super) fn applied(&mut self, position: LogPosition, number: Fence) {
        if self.entries.len() >= POSITIONS_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { position, applied: number.0, covered: number.0 });
    }

    /// The gateway's own purges, applied under `lowest` and above long before, stand at `position`.
    pub(super) fn own(&mut self, position: LogPosition, lowest: Fence, number: Fence) {
        let below = lowest.0.saturating_sub(1);
        for entry in self.entries.iter_mut().rev().take_while(|entry| entry.covered > below) {
            entry.covered = below;
        }
        self.applied(position, number);
    }

    /// How far a forward that began at `fence` is known to have seen the log.
    pub(super) fn position_of(&self, fence: Fence) -> Option<LogPosition> {
        let behind = self.entries.partition_point(|entry| entry.applied <= fence.0);
        self.entries.get(behind.checked_sub(1)?).map(|entry| entry.position)
    }

    /// Where a purge of that number stands in the log, or a place behind it; `None`: in what was not read yet.
    pub(super) fn place_of(&self, number: u64) -> Option<LogPosition> {
        let before = self.entries.partition_point(|entry| entry.covered < number);
        self.entries.get(before).map(|entry| entry.position)
    }

    /// The fence here of a forward that had seen the log up to `position` elsewhere.
    pub(super) fn fence_of(&self, position: LogPosition) -> Fence {
        let behind = self.entries.partition_point(|entry| entry.position <= position);
        let entry = behind.checked_sub(1).and_then(|last| self.entries.get(last));
        Fence(entry.map_or(0, |entry| entry.covered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> LogPosition {
        LogPosition { millis, sequence: 0 }
    }

    #[test]
    fn i5_others_purges() {
        let mut positions = Positions::begin(Fence(3));
        positions.applied(at(10), Fence(4));
        positions.applied(at(20), Fence(5));
        for (fence, position) in [(2, None), (3, Some(at(0))), (4, Some(at(10))), (9, Some(at(20)))] {
            assert_eq!(positions.position_of(Fence(fence)), position, "fence {fence}");
        }
        for (position, fence) in [(0, 3), (9, 3), (10, 4), (19, 4), (30, 5)] {
            assert_eq!(positions.fence_of(at(position)), Fence(fence), "position {position}");
        }
    }

    #[test]
    fn i5_an_own_purge_counts_for_values_that_had_not_seen_it() {
        // Number 1 is an own purge on its way; meanwhile another's purge at 10 is applied as 2.
        let mut positions = Positions::begin(Fence(0));
        positions.applied(at(10), Fence(2));
        positions.own(at(20), Fence(1), Fence(2));
        assert_eq!(positions.fence_of(at(10)), Fence(0), "had seen 10, but not the own purge at 20");
        assert_eq!(positions.fence_of(at(20)), Fence(2));
        assert_eq!(positions.position_of(Fence(1)), Some(at(0)), "had not seen what is at 10");
        assert_eq!(positions.position_of(Fence(2)), Some(at(20)));
        let places = [0, 1, 2, 3].map(|number| positions.place_of(number));
        assert_eq!(places, [Some(at(0)), Some(at(20)), Some(at(20)), None], "at it, or behind it");
    }

    #[test]
    fn i10_forgotten_positions_are_the_beginning_of_time() {
        let mut positions = Positions::begin(Fence(0));
        for number in 1..=2 * POSITIONS_MAX as u64 {
            positions.applied(at(number), Fence(number));
        }
        assert_eq!(positions.entries.len(), POSITIONS_MAX);
        assert_eq!(positions.fence_of(at(5)), Fence(0));
        assert_eq!(positions.position_of(Fence(5)), None);
        assert!(positions.place_of(5).unwrap() > at(5), "behind it: more is purged, never less");
    }
}

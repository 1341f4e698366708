//! Pure: what was read of the log, as sums that tell whether another has read the same.
//!
//! Who follows the log sums up what it reads, each entry with its position. A stretch between two
//! positions has one sum for everybody; it differs if an entry was taken out, put elsewhere or put in.

use crate::redis::LogPosition;
use std::collections::VecDeque;

/// Entries between two marks.
const MARK_EVERY: u64 = 512;
/// Marks kept: of more entries than the log keeps.
const MARKS_MAX: usize = 512;

/// Everything up to `position` was read: so many entries, of this sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    position: LogPosition,
    entries: u64,
    sum: u128,
}

/// A stretch that was read: behind `after`, as far as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) after: LogPosition,
    pub(super) sum: u128,
}

/// The sum so far, and earlier ones.
#[derive(Debug, Default)]
pub(super) struct Trail {
    floor: LogPosition,
    now: Mark,
    marks: VecDeque<Mark>,
    /// Those since the last of them and some before: a log that was trimmed to a few entries has no older ones.
    recent: VecDeque<Mark>,
}

impl Trail {
    /// Begins where the log does. Of what is before `floor` nothing is known.
    pub(super) fn begin(floor: LogPosition) -> Self {
        let start = (floor == LogPosition::default()).then(Mark::default);
        Self { floor, marks: start.into_iter().collect(), ..Self::default() }
    }

    /// Begins behind `position`: what stands before it was not read here.
    pub(super) fn begin_behind(position: LogPosition) -> Self {
        let start = Mark { position, ..Mark::default() };
        Self { floor: position, now: start, marks: VecDeque::from([start]), recent: VecDeque::new() }
    }

    /// The next entry was read; `number` is its own, and the position's.
    pub(super) fn read(&mut self, position: LogPosition, number: u128) {
        self.now = Mark { position, entries: self.now.entries + 1, sum: self.now.sum.wrapping_add(number) };
        if position < self.floor {
            return;
        }
        keep(&mut self.recent, self.now);
        let last = self.marks.back();
        if last.is_none_or(|last| self.now.entries >= last.entries + MARK_EVERY) {
            keep(&mut self.marks, self.now);
        }
    }

    /// A stretch up to what was read last, that a log of so many entries still has: all of it where the log
    /// was never trimmed (`None`), else no more than three quarters, because trimming goes on.
    pub(super) fn stretch(&self, kept: Option<u64>) -> Option<Stretch> {
        let first = kept.map_or(0, |kept| self.now.entries.saturating_sub(kept - kept / 4));
        let mark = self.marks.iter().chain(&self.recent).find(|mark| mark.entries >= first)?;
        Some(Stretch { after: mark.position, sum: self.now.sum.wrapping_sub(mark.sum) })
    }
}

fn keep(marks: &mut VecDeque<Mark>, mark: Mark) {
    if marks.len() >= MARKS_MAX {
        marks.pop_front();
    }
    marks.push_back(mark);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> LogPosition {
        LogPosition { millis, sequence: 0 }
    }

    #[test]
    fn a_stretch_has_one_sum_for_everybody_wherever_they_began() {
        let (mut early, mut late) = (Trail::begin(at(0)), Trail::begin(at(1000)));
        assert_eq!(early.stretch(None), Some(Stretch { after: at(0), sum: 0 }));
        assert_eq!(late.stretch(None), None, "nothing of it was read");
        for number in 1..=5000 {
            early.read(at(number), u128::from(number) << 100);
            if number >= 1000 {
                late.read(at(number), u128::from(number) << 100);
            }
        }
        let sum = |after: LogPosition| {
            (after.millis + 1..=5000).fold(0_u128, |sum, number| sum.wrapping_add(u128::from(number) << 100))
        };
        for trail in [&early, &late] {
            for kept in [None, Some(0), Some(1), Some(100), Some(600), Some(3000), Some(100_000)] {
                let stretch = trail.stretch(kept).unwrap();
                assert_eq!(stretch.sum, sum(stretch.after), "{kept:?}");
                let kept = kept.unwrap_or(5000);
                assert!(stretch.after.millis + kept >= 5000, "the log still has it: {kept} {stretch:?}");
                let least = kept.min(4000) / 2;
                assert!(stretch.after.millis + least <= 5000, "most of what it has: {kept} {stretch:?}");
            }
        }
        let mut behind = Trail::begin_behind(at(4999));
        assert_eq!(
            behind.stretch(None),
            Some(Stretch { after: at(4999), sum: 0 }),
            "nothing to vouch for yet"
        );
        behind.read(at(5000), 5000 << 100);
        assert_eq!(behind.stretch(None), Some(Stretch { after: at(4999), sum: sum(at(4999)) }));
        assert_eq!(early.stretch(None).unwrap().after, at(0));
        assert_eq!(late.stretch(None).unwrap().after, at(1000), "of what was trimmed nothing is known");
    }

    #[test]
    fn i10_marks_are_bounded() {
        let mut trail = Trail::begin(at(0));
        for number in 1..=2 * MARK_EVERY * MARKS_MAX as u64 {
            trail.read(at(number), 1);
        }
        assert_eq!((trail.marks.len(), trail.recent.len()), (MARKS_MAX, MARKS_MAX));
        assert!(trail.stretch(Some(100_000)).is_some());
    }
}

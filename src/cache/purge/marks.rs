//! What was purged by name (a target, a path, a tag), in bounded memory.
//!
//! Names are kept as hashes: two that collide are purged together, which costs a forward and never
//! a wrong answer. What no longer fits raises a floor: everything older must be validated.

use super::{PurgeMode, Standing};
use crate::clock::Timestamp;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// Shards, so that purges and lookups of different names do not meet.
const SHARDS: usize = 64;
/// Names kept in each shard; 100,000 in all, of about 80 bytes.
const SHARD_NAMES: usize = 1600;

/// Soft purges kept of one name: when those older than each became stale.
const SOFT_MAX: usize = 4;

/// The newest purges of one name. What was stored before several soft ones is stale since the first of them,
/// or the windows of stale use would begin anew with each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    hard: u64,
    /// In their order, the last `SOFT_MAX - n` places free.
    soft: [Soft; SOFT_MAX],
}

/// A soft purge; number 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Soft {
    number: u64,
    at: Timestamp,
}

impl Mark {
    pub(super) fn raise(&mut self, number: u64, mode: PurgeMode, now: Timestamp) {
        match mode {
            // Whatever the soft ones made stale is gone now.
            PurgeMode::Hard => *self = Self { hard: number, ..Self::default() },
            PurgeMode::Soft => self.raise_soft(Soft { number, at: now }),
        }
    }

    fn raise_soft(&mut self, new: Soft) {
        if self.soft.iter().all(|soft| soft.number > 0) {
            self.join_nearest();
        }
        if let Some(free) = self.soft.iter_mut().find(|soft| soft.number == 0) {
            *free = new;
        }
    }

    /// Makes one of the two that were nearest in time, at the earlier of both: what was stored between them
    /// counts as stale from its beginning, never as stale later than it is.
    fn join_nearest(&mut self) {
        let gaps = self.soft.windows(2).enumerate().filter_map(|(index, pair)| match pair {
            [one, next] => Some((next.at.since(one.at), index)),
            _ => None,
        });
        let Some((_, first)) = gaps.min() else { return };
        let next = self.soft.get(first + 1).map_or(0, |soft| soft.number);
        if let Some(joined) = self.soft.get_mut(first) {
            joined.number = next;
        }
        if let Some(later) = self.soft.get_mut(first + 1..) {
            later.rotate_left(1);
        }
        if let Some(free) = self.soft.last_mut() {
            *free = Soft::default();
        }
    }

    pub(super) fn judge(&self, fence: u64) -> Standing {
        if self.hard > fence {
            return Standing::Gone;
        }
        let first = self.soft.iter().find(|soft| soft.number > fence);
        first.map_or(Standing::Valid, |soft| Standing::StaleSince(soft.at))
    }

    /// What it was raised by and still counts, in order; with the time of the soft ones.
    pub(super) fn purges(&self) -> impl Iterator<Item = (u64, PurgeMode, Timestamp)> {
        let hard = (self.hard > 0).then_some((self.hard, PurgeMode::Hard, Timestamp::default()));
        let soft = self.soft.into_iter().filter(|soft| soft.number > 0);
        hard.into_iter().chain(soft.map(|soft| (soft.number, PurgeMode::Soft, soft.at)))
    }

    pub(super) fn newest(&self) -> u64 {
        self.soft.iter().map(|soft| soft.number).fold(self.hard, u64::max)
    }
}

/// The marks of all names of one kind.
#[derive(Debug)]
pub(super) struct Marks {
    shards: Box<[RwLock<HashMap<u64, Mark>>]>,
    /// Odd, and this process's own: nobody outside can tell which names share a shard.
    spread: u64,
    newest: AtomicU64,
    floor: AtomicU64,
}

impl Marks {
    pub(super) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::new(HashMap::new())).collect();
        let spread = fastrand::u64(..) | 1;
        Self { shards, spread, newest: AtomicU64::new(0), floor: AtomicU64::new(0) }
    }

    /// Whether something was purged behind `fence`: one load, which is all that most lookups pay.
    pub(super) fn newer_than(&self, fence: u64) -> bool {
        self.newest.load(Ordering::Acquire) > fence
    }

    /// Numbers must come in order.
    pub(super) fn raise(&self, name: u64, number: u64, mode: PurgeMode, now: Timestamp) {
        if let Some(shard) = self.shard(name) {
            let mut marks = shard.write().unwrap_or_else(PoisonError::into_inner);
            if marks.len() >= SHARD_NAMES && !marks.contains_key(&name) {
                self.floor.fetch_max(drop_older_half(&mut marks), Ordering::AcqRel);
            }
            marks.entry(name).or_default().raise(number, mode, now);
        }
        // After the mark: who sees the number sees the mark.
        self.newest.fetch_max(number, Ordering::AcqRel);
    }

    pub(super) fn judge(&self, name: u64, fence: u64) -> Standing {
        let standing = self.shard(name).map_or(Standing::Valid, |shard| {
            let marks = shard.read().unwrap_or_else(PoisonError::into_inner);
            marks.get(&name).map_or(Standing::Valid, |mark| mark.judge(fence))
        });
        // After the mark was looked for: a mark dropped meanwhile has raised the floor before.
        if self.floor.load(Ordering::Acquire) > fence { standing.and(Standing::Unverified) } else { standing }
    }

    /// Shows every name with its mark.
    pub(super) fn each(&self, mut show: impl FnMut(u64, &Mark)) {
        for shard in &self.shards {
            let marks = shard.read().unwrap_or_else(PoisonError::into_inner);
            marks.iter().for_each(|(name, mark)| show(*name, mark));
        }
    }

    /// Of what was purged under numbers up to this one some is forgotten.
    pub(super) fn floor(&self) -> u64 {
        self.floor.load(Ordering::Acquire)
    }

    fn shard(&self, name: u64) -> Option<&RwLock<HashMap<u64, Mark>>> {
        let index = name.wrapping_mul(self.spread) >> (u64::BITS - SHARDS.ilog2());
        self.shards.get(usize::try_from(index).ok()?)
    }
}

/// Returns the highest number that was dropped.
fn drop_older_half(marks: &mut HashMap<u64, Mark>) -> u64 {
    let mut numbers: Vec<u64> = marks.values().map(Mark::newest).collect();
    let middle = numbers.len() / 2;
    let (_, median, _) = numbers.select_nth_unstable(middle);
    let median = *median;
    marks.retain(|_, mark| mark.newest() > median);
    median
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(7);

    #[test]
    fn i10_what_no_longer_fits_must_be_validated() {
        let marks = Marks::new();
        let names = u64::try_from(SHARDS * SHARD_NAMES).unwrap() + 64;
        for number in 1..=names {
            marks.raise(number, number, PurgeMode::Hard, NOW);
        }
        // Which shard a name falls into is chance, but they do not all fit.
        let (gone, others): (Vec<_>, Vec<_>) =
            (1..=names).map(|name| marks.judge(name, 0)).partition(|standing| *standing == Standing::Gone);
        assert!(!gone.is_empty() && !others.is_empty());
        let is_unverified = |standing: &Standing| *standing == Standing::Unverified;
        assert!(others.iter().all(is_unverified), "dropped, but not forgotten");
        assert_eq!(marks.judge(names, 0), Standing::Gone, "the newest stay exact");
        assert_eq!(marks.judge(names + 1, names), Standing::Valid, "what came after is untouched");
        for shard in &marks.shards {
            assert!(shard.read().unwrap().len() <= SHARD_NAMES);
        }
    }

    #[test]
    fn what_was_stored_before_several_soft_purges_is_stale_since_the_first() {
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
        let mut mark = Mark::default();
        for (number, seconds) in [(1, 10), (3, 20), (5, 30), (7, 50)] {
            mark.raise(number, PurgeMode::Soft, at(seconds));
        }
        for (fence, since) in [(0, 10), (1, 20), (2, 20), (4, 30), (5, 50), (6, 50)] {
            assert_eq!(mark.judge(fence), Standing::StaleSince(at(since)), "{fence}");
        }
        assert_eq!(mark.judge(7), Standing::Valid);
        // One too many: never later than it is.
        mark.raise(9, PurgeMode::Soft, at(100));
        for (fence, since) in [(0, 10), (1, 10), (2, 10), (3, 30), (5, 50), (7, 100), (8, 100)] {
            assert_eq!(mark.judge(fence), Standing::StaleSince(at(since)), "{fence}");
        }
        for number in 10..1000 {
            mark.raise(number, PurgeMode::Soft, at(number * 10));
            assert_eq!(mark.judge(0), Standing::StaleSince(at(10)), "the first stays");
            assert_eq!(mark.judge(number - 1), Standing::StaleSince(at(number * 10)), "and the last");
        }
        mark.raise(1000, PurgeMode::Hard, at(1));
        mark.raise(1001, PurgeMode::Soft, at(2));
        assert_eq!((mark.judge(999), mark.judge(1000)), (Standing::Gone, Standing::StaleSince(at(2))));
    }

    #[test]
    fn i5_a_mark_counts_only_for_older_fences() {
        let marks = Marks::new();
        marks.raise(9, 5, PurgeMode::Soft, NOW);
        assert!(marks.newer_than(4) && !marks.newer_than(5));
        assert_eq!(marks.judge(9, 4), Standing::StaleSince(NOW));
        assert_eq!(marks.judge(9, 5), Standing::Valid);
        assert_eq!(marks.judge(8, 4), Standing::Valid);
        marks.raise(9, 6, PurgeMode::Hard, NOW);
        assert_eq!(marks.judge(9, 5), Standing::Gone);
    }
}

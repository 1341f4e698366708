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
/// Names kept in each shard; 100,000 in all, of 40 bytes.
const SHARD_NAMES: usize = 1600;

/// The newest purges of one name.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    hard: u64,
    soft: u64,
    soft_at: Timestamp,
}

impl Mark {
    pub(super) fn raise(&mut self, number: u64, mode: PurgeMode, now: Timestamp) {
        match mode {
            PurgeMode::Hard => self.hard = number,
            PurgeMode::Soft => (self.soft, self.soft_at) = (number, now),
        }
    }

    pub(super) fn judge(&self, fence: u64) -> Standing {
        if self.hard > fence {
            Standing::Gone
        } else if self.soft > fence {
            Standing::StaleSince(self.soft_at)
        } else {
            Standing::Valid
        }
    }

    pub(super) const fn newest(&self) -> u64 {
        if self.hard > self.soft { self.hard } else { self.soft }
    }
}

/// The marks of all names of one kind.
#[derive(Debug)]
pub(super) struct Marks {
    shards: Box<[RwLock<HashMap<u64, Mark>>]>,
    newest: AtomicU64,
    floor: AtomicU64,
}

impl Marks {
    pub(super) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::new(HashMap::new())).collect();
        Self { shards, newest: AtomicU64::new(0), floor: AtomicU64::new(0) }
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
        let mark = self
            .shard(name)
            .and_then(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).get(&name).copied());
        let standing = mark.map_or(Standing::Valid, |mark| mark.judge(fence));
        // After the mark was looked for: a mark dropped meanwhile has raised the floor before.
        if self.floor.load(Ordering::Acquire) > fence { standing.and(Standing::Unverified) } else { standing }
    }

    fn shard(&self, name: u64) -> Option<&RwLock<HashMap<u64, Mark>>> {
        let index = name % u64::try_from(SHARDS).unwrap_or(1);
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
        assert_eq!(marks.judge(1, 0), Standing::Unverified, "dropped, but not forgotten");
        assert_eq!(marks.judge(names, 0), Standing::Gone, "the newest stay exact");
        assert_eq!(marks.judge(names + 1, names), Standing::Valid, "what came after is untouched");
        for shard in &marks.shards {
            assert!(shard.read().unwrap().len() <= SHARD_NAMES);
        }
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

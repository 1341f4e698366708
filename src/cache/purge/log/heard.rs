//! Pure: which of the other gateways' purges were applied here, and under which numbers. What is
//! forgotten counts as heard of later than it was, or not at all: never earlier.

use crate::cache::purge::Fence;
use std::collections::{HashMap, VecDeque};

/// Gateways remembered, by their runs; beyond, the one that was heard of longest ago goes.
const GATEWAYS_MAX: usize = 256;
/// Purges remembered of each; beyond, the oldest go.
const PURGES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Applied {
    /// Its number where it was made: everything of that gateway up to it has been applied.
    number: u64,
    /// The number that it got here.
    here: Fence,
}

/// What was heard of the others; in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Heard(HashMap<u64, VecDeque<Applied>>);

impl Heard {
    /// A purge of another gateway was applied under the number `here`. Read again, in a log that was
    /// begun anew, it tells nothing new.
    pub(super) fn applied(&mut self, gateway: u64, number: u64, here: Fence) {
        if self.0.len() >= GATEWAYS_MAX && !self.0.contains_key(&gateway) {
            let last = |applied: &VecDeque<Applied>| applied.back().map(|last| last.here);
            let oldest = self.0.iter().min_by_key(|(_, applied)| last(applied)).map(|(gateway, _)| *gateway);
            self.0.remove(&oldest.unwrap_or_default());
        }
        let applied = self.0.entry(gateway).or_default();
        if applied.back().is_some_and(|last| last.number >= number) {
            return;
        }
        if applied.len() >= PURGES_MAX {
            applied.pop_front();
        }
        applied.push_back(Applied { number, here });
    }

    /// The newest of each gateway, and the number that it got here.
    pub(super) fn newest(&self) -> impl Iterator<Item = (u64, u64, Fence)> {
        let newest = |(gateway, applied): (&u64, &VecDeque<Applied>)| {
            applied.back().map(|last| (*gateway, last.number, last.here))
        };
        self.0.iter().filter_map(newest)
    }

    /// The fence behind which everything was asked for after `gateway` had made its purge `number`;
    /// `None`: it has not come yet.
    pub(super) fn fence_of(&self, gateway: u64, number: u64) -> Option<Fence> {
        let applied = self.0.get(&gateway)?;
        let first = applied.partition_point(|applied| applied.number < number);
        applied.get(first).map(|applied| applied.here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i6_the_first_purge_that_covers_a_write_counts() {
        let mut heard = Heard::default();
        assert_eq!(heard.fence_of(1, 1), None);
        // Purges 3 to 5 of gateway 1 came as one entry.
        for (number, here) in [(2, 10), (5, 11), (9, 20)] {
            heard.applied(1, number, Fence(here));
        }
        for (number, here) in
            [(1, Some(10)), (2, Some(10)), (3, Some(11)), (5, Some(11)), (6, Some(20)), (10, None)]
        {
            assert_eq!(heard.fence_of(1, number), here.map(Fence), "{number}");
        }
        heard.applied(1, 5, Fence(30));
        assert_eq!(heard.fence_of(1, 5), Some(Fence(11)), "read again");
        assert_eq!(heard.fence_of(2, 1), None, "another gateway");
    }

    #[test]
    fn i10_what_is_forgotten_counts_as_later_or_not_at_all() {
        let mut heard = Heard::default();
        for number in 1..=2 * PURGES_MAX as u64 {
            heard.applied(1, number, Fence(number));
        }
        assert_eq!(heard.0[&1].len(), PURGES_MAX);
        assert_eq!(heard.fence_of(1, 1), Some(Fence(PURGES_MAX as u64 + 1)));
        for gateway in 2..=GATEWAYS_MAX as u64 + 1 {
            heard.applied(gateway, 1, Fence(10_000 + gateway));
        }
        assert_eq!(heard.0.len(), GATEWAYS_MAX);
        assert_eq!(heard.fence_of(1, 1), None, "heard of longest ago");
        assert!(heard.fence_of(2, 1).is_some());
    }
}

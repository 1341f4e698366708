//! Pure: where this gateway's own purges stand in the log, so that it can be told who has applied them.

use crate::redis::LogPosition;
use std::collections::VecDeque;

/// Own purges remembered; older ones are unknown.
const OWN_MAX: usize = 10_000;

/// A place in the log of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) epoch: u64,
    pub(super) position: LogPosition,
}

/// One own purge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made {
    number: u64,
    /// `None`: it was not read back yet.
    pub(super) place: Option<Place>,
}

/// The own purges, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Own(VecDeque<Made>);

impl Own {
    pub(super) fn made(&mut self, number: u64) {
        if self.0.len() >= OWN_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Made { number, place: None });
    }

    /// Everything own from `lowest` to `number` was read back as one entry.
    pub(super) fn read_back(&mut self, lowest: u64, number: u64, place: Place) {
        let first = self.0.partition_point(|made| made.number < lowest);
        for made in self.0.range_mut(first..).take_while(|made| made.number <= number) {
            made.place = Some(place);
        }
    }

    /// The newest that has its place.
    pub(super) fn newest_read_back(&self) -> Option<(u64, Place)> {
        self.0.iter().rev().find_map(|made| Some((made.number, made.place?)))
    }

    pub(super) fn get(&self, number: u64) -> Option<Made> {
        let index = self.0.binary_search_by_key(&number, |made| made.number).ok()?;
        self.0.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_back_has_its_place_and_what_is_forgotten_is_unknown() {
        let mut own = Own::default();
        // Numbers 2 and 4 are others' purges.
        for number in [1, 3, 5, 6] {
            own.made(number);
        }
        let place = |millis| Place { epoch: 1, position: LogPosition { millis, sequence: 0 } };
        own.read_back(1, 3, place(10));
        own.read_back(5, 5, place(20));
        let places = [(1, Some(10)), (3, Some(10)), (5, Some(20)), (6, None)];
        for (number, millis) in places {
            assert_eq!(own.get(number).unwrap().place, millis.map(place), "{number}");
        }
        assert_eq!(own.newest_read_back(), Some((5, place(20))));
        assert!(own.get(2).is_none() && own.get(7).is_none());
        for number in 7..7 + OWN_MAX as u64 {
            own.made(number);
        }
        assert!(own.get(6).is_none() && own.get(7).is_some() && own.0.len() == OWN_MAX);
    }
}

//! `format = "state"`: which states the destination has, and when they were read. Pure.
//!
//! What was read of a target stands for every change of that target that had happened by then. A key may
//! have changes of many targets: what was read of one says nothing about the others.

use crate::sync::answers::Hash;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;

/// States that are remembered; at the bound all are forgotten, and what is forgotten is sent once more (I10).
const STATES_MAX: usize = 65_536;
/// Those of one key; at the bound that key's are forgotten.
const STATES_PER_KEY_MAX: usize = 64;

/// What is read and sent, told from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target(Hash);

impl Target {
    /// SHA-256 over length-prefixed parts.
    pub(super) fn of(source: &str, authority: &str, path_and_query: &str) -> Self {
        let mut sum = Sha256::new();
        for part in [source, authority, path_and_query] {
            sum.update((part.len() as u64).to_le_bytes());
            sum.update(part);
        }
        Self(sum.finalize().into())
    }
}

#[derive(Clone, Copy, Debug)]
struct State {
    target: Target,
    /// Every change up to this sequence had happened when it was read.
    as_of: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Covered {
    by_key: HashMap<Arc<str>, Vec<State>>,
    count: usize,
}

impl Covered {
    /// The targets of a key of which the destination has a state that was read after this change. The
    /// changes of a key are asked for in order: what is older is of no more use.
    pub(super) fn targets(&mut self, key: &str, sequence: u64) -> Vec<Target> {
        let Some(states) = self.by_key.get_mut(key) else { return Vec::new() };
        let before = states.len();
        states.retain(|state| state.as_of >= sequence);
        self.count -= before - states.len();
        let targets: Vec<Target> = states.iter().map(|state| state.target).collect();
        if targets.is_empty() {
            self.by_key.remove(key);
        }
        targets
    }

    /// The destination has what was read for a change.
    pub(super) fn delivered(&mut self, key: &Arc<str>, sequence: u64, target: Target, as_of: u64) {
        // Nothing newer had happened anywhere: it stands for nothing but the change itself.
        if as_of <= sequence {
            return;
        }
        if self.count >= STATES_MAX {
            *self = Self::default();
        }
        let states = self.by_key.entry(Arc::clone(key)).or_default();
        if states.len() >= STATES_PER_KEY_MAX {
            self.count -= states.len();
            states.clear();
        }
        if let Some(known) = states.iter_mut().find(|state| state.target == target) {
            known.as_of = known.as_of.max(as_of);
        } else {
            states.push(State { target, as_of });
            self.count += 1;
        }
    }

    /// What follows of a key is sent although the destination may have it: it is asked for.
    pub(super) fn forget(&mut self, key: &str) {
        self.count -= self.by_key.remove(key).map_or(0, |states| states.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn target(number: u8) -> Target {
        Target::of("source", "host", &format!("/{number}"))
    }

    #[test]
    fn a_target_is_its_source_its_authority_and_its_path_and_query() {
        let own = Target::of("s", "h", "/a?id=1");
        assert_eq!(own, Target::of("s", "h", "/a?id=1"));
        for other in [
            Target::of("t", "h", "/a?id=1"),
            Target::of("s", "i", "/a?id=1"),
            Target::of("s", "h", "/a?id=2"),
            Target::of("s", "h/", "a?id=1"),
        ] {
            assert_ne!(own, other);
        }
    }

    #[test]
    fn i10_what_is_remembered_is_bounded() {
        let mut covered = Covered::default();
        for number in 0..200_u8 {
            covered.delivered(&"k".into(), 1, target(number), 9);
        }
        assert!(covered.targets("k", 2).len() <= STATES_PER_KEY_MAX);
        for number in 0..STATES_MAX + 10 {
            covered.delivered(&number.to_string().into(), 1, target(1), 9);
        }
        let all: usize = covered.by_key.values().map(Vec::len).sum();
        assert!(all == covered.count && all <= STATES_MAX, "{all} {}", covered.count);
        let last = (STATES_MAX + 9).to_string();
        covered.forget(&last);
        assert!(covered.targets(&last, 2).is_empty());
    }

    proptest! {
        /// I2: a change is covered by what was read of its own target after it, and by nothing else.
        #[test]
        fn i2_what_is_covered_was_read_of_the_same_target_after_it(
            changes in prop::collection::vec((0_u8..3, 0_u8..4, 0_u64..6, 0_u8..20), 1..200),
        ) {
            let mut covered = Covered::default();
            let mut has = BTreeMap::<(u8, u8), u64>::new();
            for (number, (key, wanted, ahead, chance)) in (1_u64..).zip(changes) {
                let name: Arc<str> = key.to_string().into();
                if covered.targets(&name, number).contains(&target(wanted)) {
                    let read_after = has.get(&(key, wanted)).copied().unwrap_or_default();
                    prop_assert!(read_after >= number, "{number} is covered by {read_after}");
                } else {
                    covered.delivered(&name, number, target(wanted), number + ahead);
                    has.insert((key, wanted), number + ahead);
                }
                if chance == 0 {
                    covered.forget(&name);
                }
            }
        }
    }
}

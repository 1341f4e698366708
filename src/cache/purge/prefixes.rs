//! Purged prefixes: a bounded list in the order of their numbers.

use super::marks::Mark;
use super::{PurgeMode, Standing};
use crate::clock::Timestamp;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// Prefixes kept; a lookup older than all of them compares with each.
const PREFIXES_MAX: usize = 1000;

#[derive(Debug)]
struct Purged {
    authority: Option<Box<str>>,
    path: Box<str>,
    mark: Mark,
    /// That of its newest purge.
    number: u64,
}

impl Purged {
    fn covers(&self, authority: &str, path: &str) -> bool {
        self.authority.as_deref().is_none_or(|own| own == authority) && path.starts_with(&*self.path)
    }

    fn is(&self, (authority, path): (Option<&str>, &str)) -> bool {
        self.authority.as_deref() == authority && &*self.path == path
    }

    /// Whether a hard purge of a prefix makes everything gone that this one made stale or gone.
    fn is_within(&self, (authority, path): (Option<&str>, &str)) -> bool {
        let wider = authority.is_none() || self.authority.as_deref() == authority;
        wider && self.path.starts_with(path)
    }
}

/// The prefixes that were purged.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    list: RwLock<Vec<Purged>>,
    newest: AtomicU64,
    floor: AtomicU64,
}

impl Prefixes {
    pub(super) fn newer_than(&self, fence: u64) -> bool {
        self.newest.load(Ordering::Acquire) > fence
    }

    /// Numbers must come in order.
    pub(super) fn raise(&self, prefix: (Option<&str>, &str), number: u64, mode: PurgeMode, now: Timestamp) {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        let own = list.iter().position(|purged| purged.is(prefix)).map(|at| list.remove(at).mark);
        let mut mark = own.unwrap_or_default();
        mark.raise(number, mode, now);
        if mode == PurgeMode::Hard {
            list.retain(|older| !older.is_within(prefix));
        }
        if list.len() >= PREFIXES_MAX {
            let dropped = list.drain(..PREFIXES_MAX / 2).map(|purged| purged.number).max();
            self.floor.fetch_max(dropped.unwrap_or_default(), Ordering::AcqRel);
        }
        let (authority, path) = (prefix.0.map(Box::from), prefix.1.into());
        list.push(Purged { authority, path, mark, number });
        self.newest.fetch_max(number, Ordering::AcqRel);
    }

    /// Shows every prefix with its mark.
    pub(super) fn each(&self, mut show: impl FnMut(Option<&str>, &str, &Mark)) {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        list.iter().for_each(|purged| show(purged.authority.as_deref(), &purged.path, &purged.mark));
    }

    /// Of what was purged under numbers up to this one some is forgotten.
    pub(super) fn floor(&self) -> u64 {
        self.floor.load(Ordering::Acquire)
    }

    pub(super) fn judge(&self, authority: &str, path: &str, fence: u64) -> Standing {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        let mut standing = Standing::Valid;
        for purged in list.iter().rev().take_while(|purged| purged.number > fence) {
            if purged.covers(authority, path) {
                standing = standing.and(purged.mark.judge(fence));
            }
        }
        if self.floor.load(Ordering::Acquire) > fence { standing.and(Standing::Unverified) } else { standing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(7);

    #[test]
    fn i5_prefixes_cover_what_begins_so() {
        let prefixes = Prefixes::default();
        prefixes.raise((Some("a"), "/items"), 1, PurgeMode::Hard, NOW);
        prefixes.raise((None, "/users/"), 2, PurgeMode::Soft, NOW);
        for (authority, path, fence, standing) in [
            ("a", "/items/7", 0, Standing::Gone),
            ("a", "/items/7", 1, Standing::Valid),
            ("b", "/items/7", 0, Standing::Valid),
            ("b", "/users/1", 1, Standing::StaleSince(NOW)),
            ("b", "/users", 1, Standing::Valid),
        ] {
            assert_eq!(prefixes.judge(authority, path, fence), standing, "{authority}{path} {fence}");
        }
    }

    #[test]
    fn i10_the_list_is_bounded_and_compact() {
        let prefixes = Prefixes::default();
        for number in 1..=3000 {
            prefixes.raise((None, "/same"), number, PurgeMode::Hard, NOW);
        }
        assert_eq!(prefixes.list.read().unwrap().len(), 1);
        for number in 3001..=6000 {
            prefixes.raise((None, &format!("/{number}")), number, PurgeMode::Hard, NOW);
        }
        assert!(prefixes.list.read().unwrap().len() <= PREFIXES_MAX);
        assert_eq!(prefixes.judge("h", "/other", 0), Standing::Unverified);
        assert_eq!(prefixes.judge("h", "/6000", 0), Standing::Gone);
        assert_eq!(prefixes.judge("h", "/6000", 6000), Standing::Valid);
    }

    #[test]
    fn a_later_soft_purge_makes_nothing_less_stale() {
        let later = Timestamp::from_millis(8);
        let prefixes = Prefixes::default();
        prefixes.raise((None, "/a"), 1, PurgeMode::Soft, NOW);
        for wider in ["/a", "/", ""] {
            prefixes.raise((None, wider), 2, PurgeMode::Soft, later);
            assert_eq!(prefixes.judge("h", "/a", 0), Standing::StaleSince(NOW), "{wider:?}");
            assert_eq!(prefixes.judge("h", "/a", 1), Standing::StaleSince(later), "{wider:?}");
        }
        assert_eq!(prefixes.list.read().unwrap().len(), 3);
        prefixes.raise((None, ""), 3, PurgeMode::Hard, later);
        assert_eq!(prefixes.list.read().unwrap().len(), 1, "nothing else is needed");
    }

    #[test]
    fn a_soft_purge_does_not_undo_a_hard_one() {
        let prefixes = Prefixes::default();
        prefixes.raise((None, "/a"), 1, PurgeMode::Hard, NOW);
        prefixes.raise((None, "/"), 2, PurgeMode::Soft, NOW);
        assert_eq!(prefixes.judge("h", "/a", 0), Standing::Gone);
    }
}

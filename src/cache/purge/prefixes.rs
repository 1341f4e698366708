//! Purged prefixes: a bounded list in the order of their numbers.

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
    number: u64,
    mode: PurgeMode,
    at: Timestamp,
}

impl Purged {
    fn covers(&self, authority: &str, path: &str) -> bool {
        self.authority.as_deref().is_none_or(|own| own == authority) && path.starts_with(&*self.path)
    }

    /// Whether every response that `older` made stale or gone is so by this one too.
    fn replaces(&self, older: &Self) -> bool {
        let wider = match (&self.authority, &older.authority) {
            (None, _) => true,
            (Some(own), Some(other)) => own == other,
            (Some(_), None) => false,
        };
        // A hard purge replaces both; a soft one only a soft one of the same beginning.
        let stricter = self.mode == PurgeMode::Hard || older.mode == PurgeMode::Soft;
        wider && stricter && older.path.starts_with(&*self.path)
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
    pub(super) fn raise(
        &self,
        (authority, path): (Option<&str>, &str),
        number: u64,
        mode: PurgeMode,
        now: Timestamp,
    ) {
        let purged = Purged { authority: authority.map(Box::from), path: path.into(), number, mode, at: now };
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        list.retain(|older| !purged.replaces(older));
        if list.len() >= PREFIXES_MAX {
            let dropped = list.drain(..PREFIXES_MAX / 2).map(|purged| purged.number).max();
            self.floor.fetch_max(dropped.unwrap_or_default(), Ordering::AcqRel);
        }
        list.push(purged);
        self.newest.fetch_max(number, Ordering::AcqRel);
    }

    pub(super) fn judge(&self, authority: &str, path: &str, fence: u64) -> Standing {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        let mut standing = Standing::Valid;
        for purged in list.iter().rev().take_while(|purged| purged.number > fence) {
            if purged.covers(authority, path) {
                standing = standing.and(match purged.mode {
                    PurgeMode::Hard => Standing::Gone,
                    PurgeMode::Soft => Standing::StaleSince(purged.at),
                });
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
    fn a_soft_purge_does_not_undo_a_hard_one() {
        let prefixes = Prefixes::default();
        prefixes.raise((None, "/a"), 1, PurgeMode::Hard, NOW);
        prefixes.raise((None, "/"), 2, PurgeMode::Soft, NOW);
        assert_eq!(prefixes.judge("h", "/a", 0), Standing::Gone);
    }
}

//! `format = "state"`: when a source is read for a destination, and what was read and is not sent yet. Pure.
//!
//! A read holds no place of the destination, and those of one route are bounded apart from all others: a
//! source that hangs delays its own changes and nobody else's (I4). What cannot be read waits: its key by
//! itself, and, where it is the source that is in trouble, everything of its route, which is then probed by
//! one read at a time.

use super::budget::Charge;
use super::key_state::Entry;
use super::lanes::KEYS_MAX;
use super::state::Snapshot;
use crate::clock::Timestamp;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Why a source did not tell what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    /// Which one.
    pub(super) source: String,
    /// Its answer, if it gave one.
    pub(super) status: Option<u16>,
    /// How long it asked to be left alone, as far as that is obeyed.
    pub(super) retry_after: Option<Duration>,
}

impl Unread {
    /// For logs and the admin API.
    pub(super) fn summary(&self) -> String {
        match self.status {
            Some(status) => format!("the source {} answered {status} to a read", self.source),
            None => format!("the source {} cannot be read", self.source),
        }
    }

    /// Whether it speaks of the source, and not of the target alone.
    fn blames_the_source(&self) -> bool {
        !matches!(self.status, Some(400..=407 | 409..=428 | 430..=499))
    }
}

/// What was read, on its way to the destination.
#[derive(Debug)]
pub(super) struct Unsent {
    pub(super) key: Arc<str>,
    pub(super) entry: Entry,
    pub(super) snapshot: Box<Snapshot>,
    pub(super) charge: Charge,
}

/// Whether a route has been read before without success, for what is said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    New,
    Known,
}

#[derive(Debug, Default)]
struct Route {
    /// Reads under way, and what was read and is not sent.
    held: usize,
    /// Reads in a row that failed for the source's sake.
    failures: u32,
    /// Reads in a row that failed.
    failures_of_any: u32,
    rests_until: Timestamp,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reads {
    routes: HashMap<Arc<str>, Route>,
    /// The keys of reads under way and of what is not sent, with their sequences and what was paid for them.
    under_way: HashMap<Arc<str>, (u64, Charge)>,
    unsent: VecDeque<Unsent>,
    /// Reads in a row that failed, by key; without its place in here a key waits shorter than it might.
    failures: HashMap<Arc<str>, u32>,
}

impl Reads {
    /// Whether a read of this route may begin. `most`: what the destination takes at once.
    pub(super) fn may_begin(&self, route: &str, most: usize, now: Timestamp) -> bool {
        let Some(route) = self.routes.get(route) else { return true };
        let most = if route.failures > 0 { 1 } else { most };
        route.held < most && now >= route.rests_until
    }

    /// When a route that rests may be read again.
    pub(super) fn next_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.routes.values().map(|route| route.rests_until).filter(|at| *at > now).min()
    }

    pub(super) fn begin(&mut self, key: &Arc<str>, entry: &Entry, charge: Charge) {
        self.routes.entry(Arc::clone(&entry.route)).or_default().held += 1;
        self.under_way.insert(Arc::clone(key), (entry.sequence, charge));
    }

    /// The change of a key that is read, or was and is not sent.
    pub(super) fn sequence(&self, key: &str) -> Option<u64> {
        self.under_way.get(key).map(|(sequence, _)| *sequence)
    }

    /// Whether the read of a key that is under way was charged.
    pub(super) fn charge(&self, key: &str) -> Charge {
        self.under_way.get(key).map_or(Charge::None, |(_, charge)| *charge)
    }

    /// Whether any read is under way.
    pub(super) fn is_reading(&self) -> bool {
        self.under_way.len() > self.unsent.len()
    }

    /// It was read, and is the destination's turn now.
    pub(super) fn arrived(&mut self, unsent: Unsent) {
        self.failures.remove(&unsent.key);
        if let Some(route) = self.routes.get_mut(&unsent.entry.route) {
            (route.failures, route.failures_of_any) = (0, 0);
        }
        self.unsent.push_back(unsent);
    }

    /// A read told nothing of its source, or there was none to be made.
    pub(super) fn left(&mut self, key: &Arc<str>, entry: &Entry) {
        self.under_way.remove(key);
        let Some(route) = self.routes.get_mut(&entry.route) else { return };
        route.held = route.held.saturating_sub(1);
        if route.held == 0 && route.failures_of_any == 0 {
            self.routes.remove(&entry.route);
        }
    }

    /// A read failed; when its key may be read again. `backoff` says how long one waits after so many failures.
    pub(super) fn failed(
        &mut self,
        key: &Arc<str>,
        entry: &Entry,
        unread: &Unread,
        now: Timestamp,
        mut backoff: impl FnMut(u32) -> Duration,
    ) -> (Timestamp, Trouble) {
        if self.failures.len() >= KEYS_MAX {
            self.failures.clear();
        }
        let asked = unread.retry_after.unwrap_or_default();
        let of_key = self.failures.entry(Arc::clone(key)).or_default();
        *of_key = of_key.saturating_add(1);
        let mut until = now.plus(backoff(*of_key).max(asked));
        let route = self.routes.entry(Arc::clone(&entry.route)).or_default();
        let trouble = if route.failures_of_any == 0 { Trouble::New } else { Trouble::Known };
        route.failures_of_any = route.failures_of_any.saturating_add(1);
        if unread.blames_the_source() {
            route.failures = route.failures.saturating_add(1);
            let rest = backoff(route.failures).max(asked);
            route.rests_until = route.rests_until.max(now.plus(rest));
            until = until.max(route.rests_until);
        } else {
            route.failures = 0;
        }
        self.left(key, entry);
        (until, trouble)
    }

    /// Whether something was read and is not sent.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// The first that was read, as [`Reads::take_unsent`] would give it.
    pub(super) fn first_unsent(&self) -> Option<&Unsent> {
        self.unsent.front()
    }

    /// The first that was read.
    pub(super) fn take_unsent(&mut self) -> Option<Unsent> {
        let unsent = self.unsent.pop_front()?;
        self.left(&unsent.key, &unsent.entry);
        Some(unsent)
    }

    /// Every rest is over.
    pub(super) fn resume(&mut self) {
        for route in self.routes.values_mut() {
            route.rests_until = Timestamp::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::journal::record::Past;

    /// 1 s doubling to 8.
    fn backoff(failures: u32) -> Duration {
        Duration::from_secs(8.min(1 << (failures - 1)))
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    fn entry(route: &str) -> Entry {
        Entry { sequence: 7, past: Past::default(), route: route.into() }
    }

    fn unread(status: Option<u16>, retry_after: Option<u64>) -> Unread {
        Unread { source: "s".into(), status, retry_after: retry_after.map(Duration::from_secs) }
    }

    /// A read of this key fails; after how many seconds it may be read again.
    fn fails(reads: &mut Reads, key: &str, unread: &Unread, now: u64) -> u64 {
        let (key, entry) = (key.into(), entry("r"));
        reads.begin(&key, &entry, Charge::None);
        let (until, _) = reads.failed(&key, &entry, unread, at(now), backoff);
        until.since(at(now)).as_secs()
    }

    #[test]
    fn i4_the_reads_of_a_route_are_bounded_apart() {
        let mut reads = Reads::default();
        for number in 0..3 {
            assert!(reads.may_begin("r", 3, at(0)));
            reads.begin(&number.to_string().into(), &entry("r"), Charge::None);
        }
        assert!(!reads.may_begin("r", 3, at(0)) && reads.may_begin("other", 3, at(0)));
        assert!(reads.is_reading() && reads.sequence("1") == Some(7));
        reads.left(&"1".into(), &entry("r"));
        assert!(reads.may_begin("r", 3, at(0)) && reads.sequence("1").is_none());
        reads.left(&"0".into(), &entry("r"));
        reads.left(&"2".into(), &entry("r"));
        assert!(reads.routes.is_empty() && !reads.is_reading(), "nothing is kept of a route");
    }

    #[test]
    fn a_key_that_cannot_be_read_waits_longer_and_longer_and_holds_no_other_up() {
        let mut reads = Reads::default();
        for wait in [1, 2, 4, 8, 8] {
            assert_eq!(fails(&mut reads, "k", &unread(Some(403), None), 100), wait);
            assert!(reads.may_begin("r", 3, at(100)), "its route goes on");
        }
        assert_eq!(fails(&mut reads, "other", &unread(Some(403), Some(30)), 100), 30);
        assert_eq!(reads.next_at(at(100)), None);
    }

    #[test]
    fn a_source_in_trouble_rests_and_is_probed_by_one_read() {
        let mut reads = Reads::default();
        assert_eq!(fails(&mut reads, "a", &unread(None, None), 100), 1);
        assert!(!reads.may_begin("r", 3, at(100)) && reads.next_at(at(100)) == Some(at(101)));
        assert!(reads.may_begin("r", 3, at(101)));
        assert_eq!(fails(&mut reads, "b", &unread(Some(500), None), 101), 2);
        assert_eq!(fails(&mut reads, "c", &unread(Some(503), Some(60)), 103), 60, "as it asks");
        reads.resume();
        assert!(reads.may_begin("r", 3, at(163)), "an operator's word ends it");
        reads.begin(&"probe".into(), &entry("r"), Charge::None);
        assert!(!reads.may_begin("r", 3, at(900)), "one at a time");
        let snapshot = Box::new(Snapshot::sample(7, 9));
        let charge = reads.charge("probe");
        reads.arrived(Unsent { key: "probe".into(), entry: entry("r"), snapshot, charge });
        assert!(reads.may_begin("r", 3, at(900)) && reads.has_unsent() && !reads.is_reading());
        assert_eq!(reads.take_unsent().unwrap().key.as_ref(), "probe");
        assert!(reads.routes.is_empty() && reads.under_way.is_empty());
    }
}

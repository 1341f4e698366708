//! Who validates what: each stored response is claimed by one at a time, and rests afterwards.
//!
//! Almost every stale hit of a hot response finds it claimed, or at rest: that is seen without a lock.

use super::{REST, RESTING_MAX, VALIDATIONS_MAX};
use crate::cache::{CacheKey, StoredResponse};
use crate::clock::{Clock, Timestamp};
use rapidhash::fast::RandomState;
use std::collections::HashSet;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much longer than [`REST`] is remembered what rested; the time itself is compared with `now`.
const REMEMBERED_TIMES: u32 = 10;

/// The end of a rest that has not begun.
const NEVER: Timestamp = Timestamp::from_millis(u64::MAX);

/// A stored response: what takes its place is another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subject {
    key: CacheKey,
    /// A hash of its selecting fields.
    variant: u64,
    received_at: Timestamp,
}

/// The claims.
#[derive(Debug)]
pub(super) struct Claims {
    /// What is under way, for certain.
    under_way: Mutex<HashSet<Subject>>,
    /// How many those are, to be seen without the lock.
    count: AtomicUsize,
    /// Until when nobody needs to look there; [`NEVER`] while it is under way. What is forgotten costs a look.
    resting: moka::sync::Cache<Subject, Timestamp>,
    hasher: RandomState,
}

/// Why there is no claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Somebody has it, or it rests.
    Taken,
    /// [`VALIDATIONS_MAX`] are under way.
    NoPlace,
}

/// The right to validate a stored response; it rests when this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Arc<Claims>,
    subject: Subject,
    clock: Clock,
}

impl Claims {
    pub(super) fn new() -> Arc<Self> {
        let resting = moka::sync::Cache::builder().max_capacity(RESTING_MAX);
        Arc::new(Self {
            under_way: Mutex::default(),
            count: AtomicUsize::new(0),
            resting: resting.time_to_live(REST * REMEMBERED_TIMES).build(),
            hasher: RandomState::new(),
        })
    }

    /// Claims a stored response.
    pub(super) fn claim(
        self: &Arc<Self>,
        key: &CacheKey,
        stored: &StoredResponse,
        clock: &Clock,
    ) -> Result<Claim, Refused> {
        let variant = self.hasher.hash_one(&stored.selecting_fields);
        let subject = Subject { key: key.clone(), variant, received_at: stored.received_at };
        let now = clock.now();
        if self.rests(&subject, now) {
            return Err(Refused::Taken);
        }
        if self.count.load(Ordering::Relaxed) >= VALIDATIONS_MAX {
            return Err(Refused::NoPlace);
        }
        {
            let mut under_way = self.under_way();
            // Again under the lock: a claim rests before it is given up.
            if under_way.contains(&subject) || self.rests(&subject, now) {
                return Err(Refused::Taken);
            }
            if under_way.len() >= VALIDATIONS_MAX {
                return Err(Refused::NoPlace);
            }
            under_way.insert(subject.clone());
            self.count.store(under_way.len(), Ordering::Relaxed);
            self.resting.insert(subject.clone(), NEVER);
        }
        Ok(Claim { claims: Arc::clone(self), subject, clock: clock.clone() })
    }

    fn rests(&self, subject: &Subject, now: Timestamp) -> bool {
        self.resting.get(subject).is_some_and(|until| now < until)
    }

    fn under_way(&self) -> MutexGuard<'_, HashSet<Subject>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.resting.insert(self.subject.clone(), self.clock.now().plus(REST));
        let mut under_way = self.claims.under_way();
        under_way.remove(&self.subject);
        self.claims.count.store(under_way.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Fence;
    use crate::cache::rules::early::Early;
    use crate::cache::stored::{Few, Millis, Reuse, Span, Uses};
    use crate::target::Target;
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};
    use std::time::Duration;

    const RECEIVED: Timestamp = Timestamp::from_millis(1_000_000);

    fn key(path: &str) -> CacheKey {
        CacheKey::new(&Target::parse_absolute(&format!("http://h{path}")).unwrap(), None)
    }

    fn stored(language: &'static str, received_at: Timestamp) -> StoredResponse {
        StoredResponse {
            status: StatusCode::OK,
            fields: HeaderMap::new().into(),
            body: Bytes::new(),
            received_at,
            initial_age: Millis::ZERO,
            freshness_lifetime: Span::ZERO,
            reuse: Reuse::WhileFresh,
            selecting_fields: vec![(http::header::ACCEPT_LANGUAGE, Some(HeaderValue::from_static(language)))]
                .into(),
            tags: Few::default(),
            fence: Fence::default(),
            early: Early::NEVER,
            uses: Uses::default(),
        }
    }

    #[test]
    fn rfc5861_3_one_at_a_time_and_then_it_rests() {
        let (claims, clock, key) = (Claims::new(), Clock::manual(RECEIVED), key("/a"));
        let old = stored("de", RECEIVED);
        let claim = claims.claim(&key, &old, &clock).unwrap();
        for _ in 0..100 {
            assert_eq!(claims.claim(&key, &old, &clock).unwrap_err(), Refused::Taken, "under way");
        }
        drop(claim);
        clock.advance(REST * 9 / 10);
        assert_eq!(claims.claim(&key, &old, &clock).unwrap_err(), Refused::Taken, "it rests");
        clock.advance(REST / 10);
        assert!(claims.claim(&key, &old, &clock).is_ok(), "it has rested");
    }

    #[test]
    fn rfc5861_3_of_many_at_once_one_has_it_also_where_the_rest_is_forgotten() {
        const THREADS: usize = 8;
        let (clock, key) = (Clock::manual(RECEIVED), key("/a"));
        let old = stored("de", RECEIVED);
        for _ in 0..200 {
            let (claims, start) = (Claims::new(), std::sync::Barrier::new(THREADS));
            let held = std::thread::scope(|scope| {
                let claiming = || {
                    start.wait();
                    claims.claim(&key, &old, &clock).ok()
                };
                let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(claiming)).collect();
                threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            });
            assert_eq!(held.len(), 1);
            claims.resting.invalidate_all();
            claims.resting.run_pending_tasks();
            assert_eq!(claims.claim(&key, &old, &clock).unwrap_err(), Refused::Taken, "it is under way");
        }
    }

    #[test]
    fn variants_and_successors_are_claimed_for_themselves() {
        let (claims, clock, key) = (Claims::new(), Clock::manual(RECEIVED), key("/a"));
        let first = claims.claim(&key, &stored("de", RECEIVED), &clock).unwrap();
        let other = claims.claim(&key, &stored("en", RECEIVED), &clock).unwrap();
        let later = stored("de", RECEIVED.plus(Duration::from_millis(1)));
        let next = claims.claim(&key, &later, &clock).unwrap();
        drop((first, other, next));
        assert!(claims.under_way().is_empty());
    }

    #[test]
    fn i10_no_more_than_there_are_places() {
        let (claims, clock) = (Claims::new(), Clock::manual(RECEIVED));
        let stored = stored("de", RECEIVED);
        let mut held = Vec::new();
        for number in 0..VALIDATIONS_MAX {
            held.push(claims.claim(&key(&format!("/{number}")), &stored, &clock).unwrap());
        }
        assert_eq!(claims.claim(&key("/more"), &stored, &clock).unwrap_err(), Refused::NoPlace);
        held.pop();
        assert!(claims.claim(&key("/more"), &stored, &clock).is_ok());
    }
}

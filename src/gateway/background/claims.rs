//! Who validates what: each stored response is claimed by one at a time, and rests afterwards.

use super::{REST, RESTING_MAX, VALIDATIONS_MAX};
use crate::cache::{CacheKey, StoredResponse};
use crate::clock::{Clock, Timestamp};
use rapidhash::fast::RandomState;
use std::collections::HashSet;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much longer than [`REST`] is remembered what rested; the time itself is compared with `now`.
const REMEMBERED_TIMES: u32 = 10;

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
    under_way: Mutex<HashSet<Subject>>,
    /// Until when.
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
        {
            let mut under_way = self.under_way();
            // Under the lock: a claim rests before it is given up.
            if under_way.contains(&subject) || self.rests(&subject, now) {
                return Err(Refused::Taken);
            }
            if under_way.len() >= VALIDATIONS_MAX {
                return Err(Refused::NoPlace);
            }
            under_way.insert(subject.clone());
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
        self.claims.under_way().remove(&self.subject);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Fence;
    use crate::cache::rules::early::Early;
    use crate::cache::stored::Reuse;
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
            fields: HeaderMap::new(),
            body: Bytes::new(),
            received_at,
            initial_age: Duration::ZERO,
            freshness_lifetime: Duration::ZERO,
            reuse: Reuse::WhileFresh,
            selecting_fields: vec![(http::header::ACCEPT_LANGUAGE, Some(HeaderValue::from_static(language)))],
            tags: Vec::new(),
            fence: Fence::default(),
            early: Early::NEVER,
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

//! Collapsing: one forward per key; everyone else waits for what it lands.
//!
//! ```text
//! join -> Lead    the forward runs in a task of its own, lands a value, later closes the flight
//!      -> Follow  woken by the landing, or released when the leader's task ends without one
//!      -> Full    too many follow already
//! ```
//! A flight takes newcomers until it is closed, unless something that its key falls under was purged
//! after it began (I5): then the newcomer leads a flight of its own, and the old one lands for those
//! who joined it before.

use super::purge::Fence;
use super::rules::key::CacheKey;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The most that follow one flight; a newcomer beyond them is told so.
pub const FOLLOWERS_MAX: usize = 10_000;

/// Locks that flights of different keys are spread over.
const SHARDS: usize = 64;

/// The flights under way. `L` is what they land.
#[derive(Debug)]
pub struct Flights<L> {
    shards: Vec<Mutex<HashMap<CacheKey, Arc<Flight<L>>>>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Flight<L> {
    landing: watch::Sender<Option<L>>,
    fence: Fence,
}

/// What somebody who wants to forward for a key becomes.
#[derive(Debug)]
pub enum Role<L> {
    /// The one who forwards.
    Lead(Lead<L>),
    /// One of those who wait.
    Follow(Follower<L>),
    /// [`FOLLOWERS_MAX`] wait already.
    Full,
}

impl<L: Clone> Flights<L> {
    /// No flights.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Arc::new(Self { shards, hasher: RandomState::new() })
    }

    /// Joins the flight of a key, or begins one with `fence`. `holds` says whether nothing that the
    /// key falls under was purged since a flight's fence.
    pub fn join(
        self: &Arc<Self>,
        key: &CacheKey,
        fence: Fence,
        holds: impl FnOnce(Fence) -> bool,
    ) -> Role<L> {
        let Some(mut shard) = self.shard(key) else { return Role::Full };
        let flight = match shard.entry(key.clone()) {
            Entry::Occupied(mut entry) => {
                let current = entry.get();
                if holds(current.fence) {
                    if current.landing.receiver_count() >= FOLLOWERS_MAX {
                        return Role::Full;
                    }
                    return Role::Follow(Follower::of(current));
                }
                let flight = Flight::begin(fence);
                entry.insert(Arc::clone(&flight));
                flight
            }
            Entry::Vacant(entry) => Arc::clone(entry.insert(Flight::begin(fence))),
        };
        drop(shard);
        Role::Lead(Lead { flights: Arc::clone(self), key: key.clone(), flight })
    }

    /// How many flights are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        let locked = self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner));
        locked.map(|shard| shard.len()).sum()
    }

    /// Whether none is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The right and the duty to land a flight. Dropped, it closes the flight; dropped before landing, it
/// releases the followers.
#[derive(Debug)]
pub struct Lead<L> {
    flights: Arc<Flights<L>>,
    key: CacheKey,
    flight: Arc<Flight<L>>,
}

impl<L: Clone> Lead<L> {
    /// What had been purged when the flight began.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.flight.fence
    }

    /// The leader's own client follows its flight like everyone else.
    #[must_use]
    pub fn follow(&self) -> Follower<L> {
        Follower::of(&self.flight)
    }

    /// Tells everyone who waits.
    pub fn land(&self, landing: L) {
        self.flight.landing.send_replace(Some(landing));
    }

    /// Takes no newcomers from now on; those who have joined keep what was landed.
    pub fn close(&self) {
        self.flights.remove(&self.key, &self.flight, |_| true);
    }

    /// Resolves when nobody follows.
    pub async fn abandoned(&self) {
        self.flight.landing.closed().await;
    }

    /// Closes the flight unless somebody has joined it meanwhile.
    #[must_use]
    pub fn close_if_abandoned(&self) -> bool {
        self.flights.remove(&self.key, &self.flight, |flight| flight.landing.receiver_count() == 0);
        self.flight.landing.receiver_count() == 0
    }
}

impl<L> Flights<L> {
    fn shard(&self, key: &CacheKey) -> Option<MutexGuard<'_, HashMap<CacheKey, Arc<Flight<L>>>>> {
        let index = usize::try_from(self.hasher.hash_one(key)).unwrap_or_default() % SHARDS;
        self.shards.get(index).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes a flight where `condition` holds under the lock by which newcomers join.
    fn remove(&self, key: &CacheKey, flight: &Arc<Flight<L>>, condition: impl FnOnce(&Flight<L>) -> bool) {
        let Some(mut shard) = self.shard(key) else { return };
        if shard.get(key).is_some_and(|current| Arc::ptr_eq(current, flight) && condition(current)) {
            shard.remove(key);
        }
    }
}

impl<L> Drop for Lead<L> {
    fn drop(&mut self) {
        self.flights.remove(&self.key, &self.flight, |_| true);
    }
}

impl<L> Flight<L> {
    fn begin(fence: Fence) -> Arc<Self> {
        Arc::new(Self { landing: watch::Sender::new(None), fence })
    }
}

/// When somebody joined a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// While the landing was still awaited.
    BeforeLanding,
    /// When it had been made: what was landed must still be good for them.
    AfterLanding,
}

/// Somebody who waits for a landing.
#[derive(Debug)]
pub struct Follower<L> {
    landing: watch::Receiver<Option<L>>,
    joined: Joined,
}

impl<L: Clone> Follower<L> {
    fn of(flight: &Flight<L>) -> Self {
        let landing = flight.landing.subscribe();
        let joined = if landing.borrow().is_some() { Joined::AfterLanding } else { Joined::BeforeLanding };
        Self { landing, joined }
    }

    /// When they joined.
    #[must_use]
    pub const fn joined(&self) -> Joined {
        self.joined
    }

    /// What was landed; `None` where the leader ended without landing anything.
    pub async fn landed(&mut self) -> Option<L> {
        self.landing.wait_for(Option::is_some).await.ok().and_then(|landing| landing.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Target;

    fn key() -> CacheKey {
        CacheKey::new(&Target::parse_absolute("http://h/").unwrap(), None)
    }

    fn follower<L>(role: Role<L>) -> Follower<L> {
        match role {
            Role::Follow(follower) => follower,
            Role::Lead(_) | Role::Full => panic!("expected to follow"),
        }
    }

    fn lead<L>(role: Role<L>) -> Lead<L> {
        match role {
            Role::Lead(lead) => lead,
            Role::Follow(_) | Role::Full => panic!("expected to lead"),
        }
    }

    #[tokio::test]
    async fn one_leads_and_the_others_get_what_it_lands() {
        let flights = Flights::<u32>::new();
        let leader = lead(flights.join(&key(), Fence(1), |_| true));
        let mut waiting = follower(flights.join(&key(), Fence(1), |_| true));
        leader.land(7);
        let mut late = follower(flights.join(&key(), Fence(1), |_| true));
        assert_eq!(waiting.landed().await, Some(7));
        assert_eq!(late.landed().await, Some(7));
        leader.close();
        let next = lead(flights.join(&key(), Fence(1), |_| true));
        drop(leader);
        assert_eq!(flights.len(), 1, "closing twice does not close the next flight");
        drop(next);
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn a_leader_that_dies_releases_everyone() {
        let flights = Flights::<u32>::new();
        let leader = lead(flights.join(&key(), Fence(1), |_| true));
        let mut waiting = follower(flights.join(&key(), Fence(1), |_| true));
        drop(leader);
        assert_eq!(waiting.landed().await, None);
    }

    #[tokio::test]
    async fn i5_nobody_joins_a_flight_that_began_before_a_purge() {
        let flights = Flights::<u32>::new();
        let old = lead(flights.join(&key(), Fence(1), |_| true));
        let new = lead(flights.join(&key(), Fence(2), |fence| fence >= Fence(2)));
        let mut joined = follower(flights.join(&key(), Fence(2), |fence| fence >= Fence(2)));
        old.land(1);
        drop(old);
        new.land(2);
        assert_eq!(joined.landed().await, Some(2));
    }
}

//! Collapsing: one forward per key; everyone else waits for what it lands.
//!
//! ```text
//! join -> Lead    the forward runs in a task of its own, lands a value, later closes the flight
//!      -> Follow  woken by the landing, or released when the leader's task ends without one;
//!      |          one of them may step in as the extra leader (`course.rs`)
//!      -> Full    too many follow already
//! ```
//! A flight takes newcomers until it is closed, unless something that its key falls under was purged
//! after it began (I5): then the newcomer leads a flight of its own, and the old one lands for those
//! who joined it before.

mod course;

pub use course::Turn;

use super::purge::Fence;
use super::rules::key::CacheKey;
use crate::telemetry::metrics as names;
use course::Course;
use http::{HeaderName, HeaderValue};
use metrics::{Gauge, gauge};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The most that follow one flight; a newcomer beyond them is told so.
pub const FOLLOWERS_MAX: usize = 10_000;

/// Locks that flights of different keys are spread over.
const SHARDS: usize = 64;

/// What of a key a flight brings. There are never more flights than requests that began one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// The representation that the first to ask selects: what selects it is known when its head is there.
    Any,
    /// The variant of these selecting fields, by their hash: asked for by those whom another flight's head
    /// did not suit. A flight that brings something else all the same is noticed by its head.
    Variant(u64),
    /// The head alone (HEAD).
    Head,
}

type Place = (CacheKey, Lane);

/// The flights under way. `L` is what they land.
#[derive(Debug)]
pub struct Flights<L> {
    shards: Vec<Mutex<HashMap<Place, Arc<Flight<L>>>>>,
    hasher: RandomState,
    fills: Gauge,
    followers: Gauge,
}

#[derive(Debug)]
struct Flight<L> {
    place: Place,
    landing: watch::Sender<Option<Landed<L>>>,
    fence: Fence,
    began: Instant,
    course: Mutex<Course>,
    /// Told when the landing is there; the leaders are no followers, by whose number a flight is abandoned.
    told: Notify,
}

/// What was landed, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landed<L> {
    /// What was landed.
    pub landing: L,
    /// Whose forward brought it.
    pub by: Turn,
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
        let (fills, followers) = (gauge!(names::FILLS), gauge!(names::FOLLOWERS));
        Arc::new(Self { shards, hasher: RandomState::new(), fills, followers })
    }

    /// The lane of a variant.
    #[must_use]
    pub fn variant(&self, selecting_fields: &[(HeaderName, Option<HeaderValue>)]) -> Lane {
        Lane::Variant(self.hasher.hash_one(selecting_fields))
    }

    /// Joins the flight of a key, or begins one with `fence`. `holds` says whether nothing that the
    /// key falls under was purged since a flight's fence.
    pub fn join(
        self: &Arc<Self>,
        key: &CacheKey,
        lane: Lane,
        fence: Fence,
        holds: impl FnOnce(Fence) -> bool,
    ) -> Role<L> {
        let place = (key.clone(), lane);
        let Some(mut shard) = self.shard(&place) else { return Role::Full };
        let flight = match shard.entry(place) {
            Entry::Occupied(mut entry) => {
                let current = entry.get();
                if holds(current.fence) {
                    return self.follow(current).map_or(Role::Full, Role::Follow);
                }
                let flight = Flight::begin(entry.key().clone(), fence);
                entry.insert(Arc::clone(&flight));
                flight
            }
            Entry::Vacant(entry) => {
                let flight = Flight::begin(entry.key().clone(), fence);
                Arc::clone(entry.insert(flight))
            }
        };
        drop(shard);
        Role::Lead(Lead::new(self, flight, Turn::First, fence))
    }

    /// Joins the flight of a key, where there is one to join.
    pub fn join_running(
        &self,
        key: &CacheKey,
        lane: Lane,
        holds: impl FnOnce(Fence) -> bool,
    ) -> Option<Follower<L>> {
        let place = (key.clone(), lane);
        let shard = self.shard(&place)?;
        let flight = shard.get(&place).filter(|flight| holds(flight.fence))?;
        self.follow(flight)
    }

    /// Makes a follower the extra leader of its flight, whose forward begins behind `fence`: once a flight,
    /// and not once the head is there.
    #[must_use]
    pub fn step_in(self: &Arc<Self>, follower: &Follower<L>, fence: Fence) -> Option<Lead<L>> {
        let flight = follower.flight.upgrade()?;
        let steps_in = flight.course().step_in();
        steps_in.then(|| Lead::new(self, flight, Turn::Extra, fence))
    }

    fn follow(&self, flight: &Arc<Flight<L>>) -> Option<Follower<L>> {
        let is_full = flight.landing.receiver_count() >= FOLLOWERS_MAX;
        (!is_full).then(|| Follower::of(flight, &self.followers))
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
/// releases the followers. Neither while the flight has another leader.
#[derive(Debug)]
pub struct Lead<L> {
    flights: Arc<Flights<L>>,
    flight: Arc<Flight<L>>,
    turn: Turn,
    fence: Fence,
}

impl<L> Lead<L> {
    fn new(flights: &Arc<Flights<L>>, flight: Arc<Flight<L>>, turn: Turn, fence: Fence) -> Self {
        flights.fills.increment(1.0);
        Self { flights: Arc::clone(flights), flight, turn, fence }
    }
}

impl<L: Clone> Lead<L> {
    /// What had been purged when this forward began.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Whose forward it is.
    #[must_use]
    pub const fn turn(&self) -> Turn {
        self.turn
    }

    /// The leader's own client follows its flight like everyone else.
    #[must_use]
    pub fn follow(&self) -> Follower<L> {
        Follower::of(&self.flight, &self.flights.followers)
    }

    /// Whether this forward's answer is the one that everybody gets; to be asked before it is landed.
    #[must_use]
    pub fn claim(&self) -> bool {
        self.flight.course().claim(self.turn)
    }

    /// Tells everyone who waits, unless the other leader has told them.
    pub fn land(&self, landing: L) {
        if self.claim() {
            self.tell(landing);
        }
    }

    /// Tells everyone who waits that there is no answer, unless the other leader may still have one; takes
    /// no newcomers.
    pub fn fail(&self, landing: L) {
        let claimed = self.flight.course().claim_failed(self.turn);
        if claimed {
            self.close();
            self.tell(landing);
        }
    }

    fn tell(&self, landing: L) {
        self.flight.landing.send_replace(Some(Landed { landing, by: self.turn }));
        self.flight.told.notify_waiters();
    }

    /// Takes no newcomers from now on; those who have joined keep what was landed.
    pub fn close(&self) {
        self.flights.remove(&self.flight, |_| true);
    }

    /// Resolves when nobody follows.
    pub async fn abandoned(&self) {
        self.flight.landing.closed().await;
    }

    /// What the other leader lands, once it does.
    pub async fn outrun(&self) -> L {
        loop {
            let told = self.flight.told.notified();
            tokio::pin!(told);
            // Registered before the look, so that no landing is missed.
            told.as_mut().enable();
            if let Some(landed) =
                self.flight.landing.borrow().as_ref().filter(|landed| landed.by != self.turn)
            {
                return landed.landing.clone();
            }
            told.await;
        }
    }

    /// Closes the flight unless somebody has joined it meanwhile.
    #[must_use]
    pub fn close_if_abandoned(&self) -> bool {
        self.flights.remove(&self.flight, |flight| flight.landing.receiver_count() == 0);
        self.flight.landing.receiver_count() == 0
    }
}

impl<L> Flights<L> {
    fn shard(&self, place: &Place) -> Option<MutexGuard<'_, HashMap<Place, Arc<Flight<L>>>>> {
        let index = usize::try_from(self.hasher.hash_one(place)).unwrap_or_default() % SHARDS;
        self.shards.get(index).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes a flight where `condition` holds under the lock by which newcomers join.
    fn remove(&self, flight: &Arc<Flight<L>>, condition: impl FnOnce(&Flight<L>) -> bool) {
        let Some(mut shard) = self.shard(&flight.place) else { return };
        let is_current = |current: &Arc<Flight<L>>| Arc::ptr_eq(current, flight) && condition(current);
        if shard.get(&flight.place).is_some_and(is_current) {
            shard.remove(&flight.place);
        }
    }
}

impl<L> Drop for Lead<L> {
    fn drop(&mut self) {
        let closes = self.flight.course().end(self.turn);
        if closes {
            self.flights.remove(&self.flight, |_| true);
        }
        self.flights.fills.decrement(1.0);
    }
}

impl<L> Flight<L> {
    fn begin(place: Place, fence: Fence) -> Arc<Self> {
        Arc::new(Self {
            place,
            landing: watch::Sender::new(None),
            fence,
            began: Instant::now(),
            course: Mutex::new(Course::begun()),
            told: Notify::new(),
        })
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Somebody who waits for a landing, or reads what was landed.
#[derive(Debug)]
pub struct Follower<L> {
    landing: watch::Receiver<Option<Landed<L>>>,
    joined: Joined,
    began: Instant,
    /// Does not keep the flight: it ends with its leaders.
    flight: Weak<Flight<L>>,
    followers: Gauge,
}

impl<L> Follower<L> {
    fn of(flight: &Arc<Flight<L>>, followers: &Gauge) -> Self {
        let landing = flight.landing.subscribe();
        let joined = if landing.borrow().is_some() { Joined::AfterLanding } else { Joined::BeforeLanding };
        followers.increment(1.0);
        let (flight, began) = (Arc::downgrade(flight), flight.began);
        Self { landing, joined, began, flight, followers: followers.clone() }
    }

    /// When they joined.
    #[must_use]
    pub const fn joined(&self) -> Joined {
        self.joined
    }

    /// When the flight began.
    #[must_use]
    pub const fn began(&self) -> Instant {
        self.began
    }
}

impl<L: Clone> Follower<L> {
    /// What was landed; `None` where every leader ended without landing anything.
    pub async fn landed(&mut self) -> Option<Landed<L>> {
        self.landing.wait_for(Option::is_some).await.ok().and_then(|landed| landed.clone())
    }
}

impl<L> Drop for Follower<L> {
    fn drop(&mut self) {
        self.followers.decrement(1.0);
    }
}

#[cfg(test)]
mod tests;

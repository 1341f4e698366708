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
mod follower;
mod lead;

pub use course::Turn;
pub use follower::{Follower, Joined};
pub use lead::Lead;

use super::purge::Fence;
use super::rules::key::CacheKey;
use crate::telemetry::metrics as names;
use course::Course;
use http::{HeaderName, HeaderValue};
use metrics::{Gauge, gauge};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// What answers one Range, by its hash, where nothing of the key is stored. Whose Range it was is
    /// compared before its answer is used.
    Part(u64),
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
    /// Held by those who joined before the landing, until they read what was landed or leave.
    undecided: watch::Sender<()>,
    fence: Fence,
    began: Instant,
    /// Where its forwards have gone, so that a second one goes elsewhere; what a bit means is their affair.
    visited: Arc<AtomicU64>,
    course: Mutex<Course>,
    /// When a follower left last, in milliseconds after it began.
    left: AtomicU64,
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
    /// [`FOLLOWERS_MAX`] are there already. What was landed is theirs too, where there is something; nobody
    /// more waits for it.
    Full(Option<Follower<L>>),
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

    /// The lane of a Range.
    #[must_use]
    pub fn part(&self, range: &HeaderValue) -> Lane {
        Lane::Part(self.hasher.hash_one(range))
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
        let Some(mut shard) = self.shard(&place) else { return Role::Full(None) };
        let flight = match shard.entry(place) {
            Entry::Occupied(mut entry) => {
                let current = entry.get();
                if holds(current.fence) {
                    return self.follow(current);
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
        match self.follow(flight) {
            Role::Follow(follower) | Role::Full(Some(follower)) => Some(follower),
            Role::Full(None) | Role::Lead(_) => None,
        }
    }

    /// Makes a follower the extra leader of its flight, whose forward begins behind `fence`: once a flight,
    /// not once the head is there, and only where it is `admitted`; one that is not leaves the turn to the
    /// next.
    pub fn step_in<A>(
        self: &Arc<Self>,
        follower: &Follower<L>,
        fence: Fence,
        admitted: impl FnOnce() -> Option<A>,
    ) -> Option<(Lead<L>, A)> {
        let flight = follower.flight.upgrade()?;
        let admitted = flight.course().step_in(admitted)?;
        Some((Lead::new(self, flight, Turn::Extra, fence), admitted))
    }

    /// Takes no more newcomers into the flight of a follower: what it landed is not for them any more. Those
    /// who have joined keep it.
    pub fn close(&self, follower: &Follower<L>) {
        if let Some(flight) = follower.flight.upgrade() {
            self.remove(&flight);
        }
    }

    fn follow(&self, flight: &Arc<Flight<L>>) -> Role<L> {
        let is_full = flight.landing.receiver_count() >= FOLLOWERS_MAX;
        if is_full && flight.landing.borrow().is_none() {
            return Role::Full(None);
        }
        let follower = Follower::of(flight, &self.followers);
        if is_full { Role::Full(Some(follower)) } else { Role::Follow(follower) }
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

impl<L> Flights<L> {
    fn shard(&self, place: &Place) -> Option<MutexGuard<'_, HashMap<Place, Arc<Flight<L>>>>> {
        let index = usize::try_from(self.hasher.hash_one(place)).unwrap_or_default() % SHARDS;
        self.shards.get(index).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn remove(&self, flight: &Arc<Flight<L>>) {
        if let Some(mut shard) = self.shard(&flight.place) {
            flight.remove_from(&mut shard);
        }
    }
}

impl<L> Flight<L> {
    fn begin(place: Place, fence: Fence) -> Arc<Self> {
        Arc::new(Self {
            place,
            landing: watch::Sender::new(None),
            undecided: watch::Sender::new(()),
            fence,
            began: Instant::now(),
            visited: Arc::default(),
            left: AtomicU64::new(0),
            course: Mutex::new(Course::begun()),
            told: Notify::new(),
        })
    }

    /// Takes no newcomers from now on, by the lock by which they join.
    fn remove_from(self: &Arc<Self>, shard: &mut HashMap<Place, Arc<Self>>) {
        if shard.get(&self.place).is_some_and(|current| Arc::ptr_eq(current, self)) {
            shard.remove(&self.place);
        }
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

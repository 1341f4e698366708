//! Who waits for what a flight lands, or reads it.

use super::{Flight, Landed};
use metrics::Gauge;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use tokio::sync::watch;
use tokio::time::Instant;

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
    pub(super) landing: watch::Receiver<Option<Landed<L>>>,
    joined: Joined,
    began: Instant,
    /// Until it reads what was landed; `None` also where that was there when it joined.
    undecided: Option<watch::Receiver<()>>,
    /// Does not keep the flight: it ends with its leaders.
    pub(super) flight: Weak<Flight<L>>,
    followers: Gauge,
}

impl<L> Follower<L> {
    pub(super) fn of(flight: &Arc<Flight<L>>, followers: &Gauge) -> Self {
        // Before the look: a leader that lands in between finds it undecided.
        let undecided = Some(flight.undecided.subscribe());
        let landing = flight.landing.subscribe();
        let joined = if landing.borrow().is_some() { Joined::AfterLanding } else { Joined::BeforeLanding };
        followers.increment(1.0);
        let undecided = undecided.filter(|_| joined == Joined::BeforeLanding);
        let (flight, began) = (Arc::downgrade(flight), flight.began);
        Self { landing, joined, began, undecided, flight, followers: followers.clone() }
    }

    /// It reads what was landed, or never will: its leader need not keep the beginning for it.
    pub fn decide(&mut self) {
        self.undecided = None;
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
        if let Some(flight) = self.flight.upgrade() {
            let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            flight.left.fetch_max(millis, Ordering::Relaxed);
        }
        self.followers.decrement(1.0);
    }
}

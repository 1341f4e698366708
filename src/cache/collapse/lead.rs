//! Who forwards for a flight, and tells those who follow.

use super::{Flight, Flights, Follower, Landed, Turn};
use crate::cache::Fence;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// The right and the duty to land a flight. Dropped, it closes the flight; dropped before landing, it
/// releases the followers. Neither while the flight has another leader.
#[derive(Debug)]
pub struct Lead<L> {
    flights: Arc<Flights<L>>,
    pub(super) flight: Arc<Flight<L>>,
    turn: Turn,
    fence: Fence,
}

impl<L> Lead<L> {
    pub(super) fn new(flights: &Arc<Flights<L>>, flight: Arc<Flight<L>>, turn: Turn, fence: Fence) -> Self {
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

    /// Where the flight's forwards have gone, a bit each.
    #[must_use]
    pub fn visited(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.flight.visited)
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
        self.flights.remove(&self.flight);
    }

    /// When the flight began.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.flight.began
    }

    /// What was landed, by whichever leader.
    #[must_use]
    pub fn landing(&self) -> Option<L> {
        self.flight.landing.borrow().as_ref().map(|landed| landed.landing.clone())
    }

    /// When a follower left last; when it began, where none has.
    #[must_use]
    pub fn left_at(&self) -> Instant {
        self.flight.began + Duration::from_millis(self.flight.left.load(Ordering::Relaxed))
    }

    /// Resolves when nobody follows.
    pub async fn abandoned(&self) {
        self.flight.landing.closed().await;
    }

    /// Resolves when nobody follows, and has ended this leader's part by then.
    pub async fn deserted(&self) {
        while !self.leave_if_abandoned() {
            self.abandoned().await;
        }
    }

    /// Resolves when everybody who waited for the landing has begun to read it, or has left.
    pub async fn decided(&self) {
        self.flight.undecided.closed().await;
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

    /// Ends this leader's part unless somebody follows. Nobody joins in between: the flight is closed, or
    /// goes on with its other leader.
    #[must_use]
    pub fn leave_if_abandoned(&self) -> bool {
        let Some(mut shard) = self.flights.shard(&self.flight.place) else { return true };
        if self.flight.landing.receiver_count() > 0 {
            return false;
        }
        if self.flight.course().end(self.turn) {
            self.flight.remove_from(&mut shard);
        }
        true
    }
}

impl<L> Drop for Lead<L> {
    fn drop(&mut self) {
        let closes = self.flight.course().end(self.turn);
        if closes {
            self.flights.remove(&self.flight);
        }
        self.flights.fills.decrement(1.0);
    }
}

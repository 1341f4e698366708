//! Large bodies that are stored, and those who read them: memory lets a body go, a slow reader holds it on.
//!
//! ```text
//! noticed --> COUNTED in what is in flight --memory keeps it--> KEPT, bounded by `cache.memory`
//!                 |   ^                                          |
//!                 |   +------- the last place lets it go <-------+
//!                 +--> the last reader has left: nothing is held
//! ```
//! So all that is held is bounded, by the one or the other (I10). Bodies of at most [`FORWARD_BYTES`] are not
//! noticed: the connection that reads one may hold as much. A hit pays nothing: what it clones tells by itself
//! when the last of it is dropped.

use crate::in_flight::{FORWARD_BYTES, InFlight, Share, Work};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The large bodies that anybody holds, by where they lie: whoever stores one again finds it.
#[derive(Debug)]
pub(crate) struct LargeBodies {
    in_flight: Arc<InFlight>,
    held: Mutex<HashMap<usize, Arc<Held>>>,
}

#[derive(Debug)]
struct Held(Mutex<State>);

#[derive(Debug)]
struct State {
    bytes: u64,
    /// What it counts toward what may be in flight; nothing while memory keeps it.
    share: Share,
    /// In how many places memory keeps it.
    places: usize,
    by: Holders,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holders {
    Some,
    /// The last of them has let it go.
    None,
}

/// A place in memory that keeps a large body; dropped, it lets it go.
#[derive(Debug)]
pub(crate) struct Kept(Arc<Held>);

/// What is behind each clone of a body.
struct Owner {
    bytes: Bytes,
    held: Arc<Held>,
    all: Arc<LargeBodies>,
}

impl LargeBodies {
    pub(crate) fn new(in_flight: Arc<InFlight>) -> Arc<Self> {
        Arc::new(Self { in_flight, held: Mutex::default() })
    }

    /// Whether a body is large.
    pub(crate) const fn notices(body: &Bytes) -> bool {
        body.len() as u64 > FORWARD_BYTES
    }

    /// Whether so many bytes more may be held for somebody who only reads; that they may not is counted.
    pub(crate) fn admits(&self, bytes: u64) -> bool {
        let admits = bytes <= FORWARD_BYTES || self.in_flight.has_room(Work::Forward, bytes);
        if !admits {
            self.in_flight.count_shed(Work::Copy);
        }
        admits
    }

    /// The same bytes, counted from now on while anybody holds them and memory does not keep them.
    pub(crate) fn noticed(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        let length = bytes.len() as u64;
        if !Self::notices(&bytes) {
            return bytes;
        }
        let mut all = self.held();
        let place = bytes.as_ptr().addr();
        if all.contains_key(&place) {
            return bytes;
        }
        let mut share = self.in_flight.share(Work::Copy);
        share.add(length);
        let state = State { bytes: length, share, places: 0, by: Holders::Some };
        let held = Arc::new(Held(Mutex::new(state)));
        all.insert(place, Arc::clone(&held));
        drop(all);
        Bytes::from_owner(Owner { bytes, held, all: Arc::clone(self) })
    }

    /// Notes that memory keeps a body; `None` where it is not noticed.
    pub(crate) fn keep(&self, body: &Bytes) -> Option<Kept> {
        if !Self::notices(body) {
            return None;
        }
        let held = Arc::clone(self.held().get(&body.as_ptr().addr())?);
        {
            let mut state = held.state();
            state.places += 1;
            state.share.give_all_back();
        }
        Some(Kept(held))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<usize, Arc<Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.places = state.places.saturating_sub(1);
        if state.places == 0 && state.by == Holders::Some {
            let bytes = state.bytes;
            state.share.add(bytes);
        }
    }
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // Before the bytes go, so that nothing else lies there yet.
        self.all.held().remove(&self.bytes.as_ptr().addr());
        let mut state = self.held.state();
        state.by = Holders::None;
        state.share.give_all_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = FORWARD_BYTES + 1;

    fn bodies() -> (Arc<InFlight>, Arc<LargeBodies>, Bytes) {
        let in_flight = InFlight::new(u64::MAX);
        let bodies = LargeBodies::new(Arc::clone(&in_flight));
        let body = bodies.noticed(Bytes::from(vec![b'x'; usize::try_from(BYTES).unwrap()]));
        (in_flight, bodies, body)
    }

    #[test]
    fn i10_a_body_counts_while_it_is_read_and_memory_does_not_keep_it() {
        let (in_flight, bodies, body) = bodies();
        assert_eq!(in_flight.bytes(), BYTES);
        let kept = bodies.keep(&body);
        assert_eq!(in_flight.bytes(), 0);
        let (reader, other) = (body.clone(), body.slice(10..20));
        drop(body);
        drop(kept);
        assert_eq!(in_flight.bytes(), BYTES, "memory has let it go, and readers have it");
        drop(reader);
        assert_eq!(in_flight.bytes(), BYTES, "a part of it is all of it");
        drop(other);
        assert_eq!(in_flight.bytes(), 0);
        assert!(bodies.held().is_empty());
    }

    #[test]
    fn what_is_stored_once_more_is_the_same_body() {
        let (in_flight, bodies, body) = bodies();
        let first = bodies.keep(&body);
        let again = bodies.noticed(body.clone());
        assert_eq!((again.as_ptr(), bodies.held().len()), (body.as_ptr(), 1));
        let second = bodies.keep(&again);
        drop(first);
        assert_eq!(in_flight.bytes(), 0, "one of its places keeps it");
        drop((again, body));
        assert_eq!(in_flight.bytes(), 0);
        assert!(bodies.held().is_empty(), "nobody holds it");
        drop(second);
        assert_eq!(in_flight.bytes(), 0);
    }

    #[test]
    fn small_bodies_are_not_noticed() {
        let (in_flight, bodies, body) = bodies();
        drop(body);
        let small = bodies.noticed(Bytes::from(vec![b'x'; usize::try_from(FORWARD_BYTES).unwrap()]));
        assert!(bodies.keep(&small).is_none());
        assert_eq!((in_flight.bytes(), bodies.held().len()), (0, 0));
    }
}

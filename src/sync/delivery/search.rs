//! Beyond a full window: how far each route has been searched for keys, so that a route whose changes
//! stand behind many of another's is served all the same. Pure.

use super::fair::Fair;
use std::collections::HashMap;
use std::sync::Arc;

/// Ready keys of one route up to which it is searched for more.
pub(crate) const SHARE: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// Routes with more than was taken, and how far they have been searched.
    reached: HashMap<Arc<str>, u64>,
    /// How far all others have been.
    seen: u64,
}

/// What a search looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Routes that have been searched less or more far than the others, how far, and how many keys each
    /// may take.
    pub(crate) apart: HashMap<Arc<str>, (u64, usize)>,
    /// How far the others have been; each may take [`SHARE`].
    pub(crate) seen: u64,
}

impl Search {
    /// What to search for; `None`: it would find nothing new.
    pub(crate) fn wanted(&mut self, newest: u64, ready: &Fair) -> Option<Wanted> {
        for (route, count) in ready.routes() {
            if count >= SHARE {
                // It is left out now, so that it is not seen as far as the others are.
                self.reached.entry(Arc::clone(route)).or_insert(self.seen);
            }
        }
        let room = |route: &Arc<str>| SHARE.saturating_sub(ready.of_route(route));
        let apart: HashMap<_, _> =
            self.reached.iter().map(|(route, to)| (Arc::clone(route), (*to, room(route)))).collect();
        let worthwhile = newest > self.seen || apart.values().any(|(_, room)| *room >= SHARE / 2);
        worthwhile.then_some(Wanted { apart, seen: self.seen })
    }

    /// A route was searched up to here, and has more.
    pub(crate) fn stopped(&mut self, route: &Arc<str>, to: u64) {
        self.reached.insert(Arc::clone(route), to);
    }

    /// A route was searched to its end.
    pub(crate) fn exhausted(&mut self, route: &Arc<str>) {
        self.reached.remove(route);
    }

    /// All routes have been searched up to `newest`, but for those of which something else was said.
    pub(crate) fn ended(&mut self, newest: u64) {
        self.seen = self.seen.max(newest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_searched_from_there_once_it_has_room() {
        let (mut search, mut ready) = (Search::default(), Fair::default());
        let busy: Arc<str> = "busy".into();
        for number in 0..SHARE {
            ready.push_back(&busy, number.to_string().into());
        }
        let wanted = search.wanted(100, &ready).unwrap();
        assert_eq!((wanted.seen, wanted.apart.get("busy")), (0, Some(&(0, 0))));
        search.stopped(&"other".into(), 40);
        search.ended(100);
        assert_eq!(search.wanted(100, &ready).unwrap().apart.get("other"), Some(&(40, SHARE)));
        search.exhausted(&"other".into());
        assert_eq!(search.wanted(100, &ready), None, "nothing is new, and the one left out has no room");
        assert!(search.wanted(101, &ready).is_some());
        for _ in 0..SHARE / 2 {
            ready.pop(|_| true);
        }
        let wanted = search.wanted(100, &ready).unwrap();
        assert_eq!((wanted.seen, wanted.apart.get("busy")), (100, Some(&(0, SHARE / 2))));
    }
}

//! Keys that are ready, served in turn by route: one with many ready keys takes its share and no more.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A queue of keys for each route, and whose turn it is. Pure.
#[derive(Debug, Default)]
pub(crate) struct Fair {
    /// Every route with ready keys, once, in the order of turns.
    turns: VecDeque<Arc<str>>,
    queues: HashMap<Arc<str>, VecDeque<Arc<str>>>,
}

impl Fair {
    /// Puts a key at the end of its route's queue.
    pub(crate) fn push_back(&mut self, route: &Arc<str>, key: Arc<str>) {
        let queue = self.queues.entry(Arc::clone(route)).or_default();
        if queue.is_empty() {
            self.turns.push_back(Arc::clone(route));
        }
        queue.push_back(key);
    }

    /// Makes a key the very next.
    pub(crate) fn push_front(&mut self, route: &Arc<str>, key: Arc<str>) {
        self.queues.entry(Arc::clone(route)).or_default().push_front(key);
        self.turns.retain(|waiting| waiting != route);
        self.turns.push_front(Arc::clone(route));
    }

    /// The next key of a route that may, which stays.
    pub(crate) fn peek(&self, may: impl Fn(&str) -> bool) -> Option<&Arc<str>> {
        self.queues.get(self.turns.iter().find(|route| may(route))?)?.front()
    }

    /// The next key of a route that may; its route's next turn comes after those of all others.
    pub(crate) fn pop(&mut self, may: impl Fn(&str) -> bool) -> Option<Arc<str>> {
        let turn = self.turns.iter().position(|route| may(route))?;
        let route = self.turns.remove(turn)?;
        let queue = self.queues.get_mut(&route)?;
        let key = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&route);
        } else {
            self.turns.push_back(route);
        }
        key
    }

    /// Ready keys of a route.
    pub(crate) fn of_route(&self, route: &str) -> usize {
        self.queues.get(route).map_or(0, VecDeque::len)
    }

    /// The routes with ready keys, and how many each has.
    pub(crate) fn routes(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.queues.iter().map(|(route, queue)| (route, queue.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(keys: &[(&str, &str)]) -> Fair {
        let mut fair = Fair::default();
        for (route, key) in keys {
            fair.push_back(&Arc::from(*route), Arc::from(*key));
        }
        fair
    }

    fn any(_: &str) -> bool {
        true
    }

    fn all(fair: &mut Fair) -> String {
        std::iter::from_fn(|| fair.pop(any)).map(|key| key.to_string()).collect()
    }

    #[test]
    fn routes_take_turns_however_many_keys_one_has() {
        let mut fair = pushed(&[("x", "1"), ("x", "2"), ("x", "3"), ("y", "a"), ("z", "A"), ("y", "b")]);
        assert_eq!((fair.of_route("x"), fair.of_route("none")), (3, 0));
        assert_eq!(all(&mut fair), "1aA2b3");
        assert!(fair.peek(any).is_none() && fair.routes().next().is_none(), "nothing is kept of a route");
    }

    #[test]
    fn what_is_put_in_front_is_next_and_takes_no_turn_of_others() {
        let mut fair = pushed(&[("x", "1"), ("x", "2"), ("y", "a")]);
        let first = fair.pop(any).unwrap();
        fair.push_front(&"x".into(), first);
        assert_eq!(fair.peek(any).map(AsRef::as_ref), Some("1"));
        assert_eq!(all(&mut fair), "1a2");
    }

    #[test]
    fn a_route_that_may_not_keeps_its_turn_and_holds_no_other_up() {
        let mut fair = pushed(&[("x", "1"), ("y", "a"), ("z", "A"), ("y", "b")]);
        let may = |route: &str| route != "x";
        assert_eq!(fair.peek(may).map(AsRef::as_ref), Some("a"));
        let popped: String = std::iter::from_fn(|| fair.pop(may)).map(|key| key.to_string()).collect();
        assert_eq!(popped, "aAb");
        assert_eq!(all(&mut fair), "1");
    }
}

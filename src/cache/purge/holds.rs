//! What is not stored for now: whatever a change in doubt may make old.
//!
//! A hold is counted by name; there are as many as doubts, whose keys wait for them. While there is none a
//! store pays one comparison.

use super::Purge;
use crate::cache::CacheKey;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is held, and how often.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    names: Mutex<HashMap<Purge, usize>>,
    count: AtomicUsize,
}

/// Nothing that it names is stored until it is dropped.
#[derive(Debug)]
pub struct Held {
    holds: Arc<Holds>,
    names: Vec<Purge>,
}

impl Holds {
    pub(crate) fn hold(self: &Arc<Self>, names: Vec<Purge>) -> Held {
        let mut held = self.names();
        for name in &names {
            *held.entry(name.clone()).or_default() += 1;
        }
        self.count.store(held.len(), Ordering::Release);
        drop(held);
        Held { holds: Arc::clone(self), names }
    }

    /// Whether a response of `key` with these tags is held.
    pub(crate) fn covers(&self, key: &CacheKey, tags: &[String]) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let path = Purge::Path { authority: key.authority().to_owned(), path: key.path().to_owned() };
        let held = self.names();
        let below = |name: &Purge| match name {
            Purge::Prefix { authority, path } => {
                authority.as_deref().is_none_or(|own| own == key.authority()) && key.path().starts_with(path)
            }
            _ => false,
        };
        held.contains_key(&path)
            || tags.iter().any(|tag| held.contains_key(&Purge::Tag(tag.clone())))
            // Prefixes come from the configuration: they are few.
            || held.keys().any(below)
    }

    fn names(&self) -> MutexGuard<'_, HashMap<Purge, usize>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.holds.names();
        for name in &self.names {
            if let Some(count) = held.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    held.remove(name);
                }
            }
        }
        self.holds.count.store(held.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Target;

    #[test]
    fn what_is_held_and_until_when() {
        let holds = Arc::new(Holds::default());
        let key = |url: &str| CacheKey::new(&Target::parse_absolute(url).unwrap(), None);
        let path = || vec![Purge::Path { authority: "h".into(), path: "/a".into() }];
        let prefix = Purge::Prefix { authority: Some("h".into()), path: "/b/".into() };
        let (first, second) = (holds.hold(path()), holds.hold(path()));
        let more = holds.hold(vec![prefix, Purge::Tag("t".into())]);
        let tags = ["t".to_owned()];
        for (url, tags, held) in [
            ("http://h/a?b", &[][..], true),
            ("http://h/ab", &[], false),
            ("http://g/a", &[], false),
            ("http://h/b/c", &[], true),
            ("http://h/c", &tags, true),
        ] {
            assert_eq!(holds.covers(&key(url), tags), held, "{url}");
        }
        drop((first, more));
        assert!(holds.covers(&key("http://h/a"), &[]), "another doubt of it goes on");
        assert!(!holds.covers(&key("http://h/b/c"), &tags));
        drop(second);
        assert!(!holds.covers(&key("http://h/a"), &[]) && holds.names().is_empty());
    }
}

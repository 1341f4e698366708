//! What was purged, by number: judged by every hit, so most of it is one comparison a kind.

mod folded;

pub(crate) use folded::{Folded, Named};

use super::marks::{Mark, Marks};
use super::prefixes::Prefixes;
use super::{Cause, Fence, Purge, PurgeMode, Standing};
use crate::cache::CacheKey;
use crate::clock::Timestamp;
use rapidhash::quality::SeedableState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

/// By which names are hashed, with the seed; drawn once, and the same in every build, as names lie in Redis.
const SECRETS: [u64; 7] = [
    0x4971_780b_ad07_f831,
    0xe11a_9f13_ddb2_38b9,
    0x9f99_2683_0873_7a59,
    0xd410_374e_a32e_999b,
    0x385e_111e_7707_fc01,
    0xc2a5_dbe3_330d_ee45,
    0xd029_5f0d_aef1_9eaf,
];

/// The purges that this gateway has applied.
#[derive(Debug)]
pub(crate) struct Tables {
    /// The highest number whose marks are all set.
    applied: AtomicU64,
    /// Purges are applied one after the other.
    applying: Mutex<()>,
    names: SeedableState<'static>,
    keyed: Marks,
    tags: Marks,
    groups: Marks,
    prefixes: Prefixes,
    all: RwLock<Mark>,
    all_newest: AtomicU64,
    unverified: AtomicU64,
}

impl Tables {
    /// Tables that keep names as all with this seed do; whoever knows it can find names that are purged together.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            applied: AtomicU64::new(0),
            applying: Mutex::new(()),
            // It is not mixed any more, and must not be zero.
            names: SeedableState::custom(seed | 1 << 63, &SECRETS),
            keyed: Marks::new(),
            tags: Marks::new(),
            groups: Marks::new(),
            prefixes: Prefixes::default(),
            all: RwLock::new(Mark::default()),
            all_newest: AtomicU64::new(0),
            unverified: AtomicU64::new(0),
        }
    }

    /// The fence of a forward that begins now.
    pub(crate) fn fence(&self) -> Fence {
        Fence(self.applied.load(Ordering::Acquire))
    }

    /// Applies purges under one new number.
    pub(crate) fn apply(&self, purges: &[Purge], mode: PurgeMode, now: Timestamp) -> Fence {
        let _applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.applied.load(Ordering::Relaxed) + 1;
        for purge in purges {
            self.mark(purge, number, mode, now);
        }
        // Last: a fence that has this number was taken when all of its marks were set.
        self.applied.store(number, Ordering::Release);
        Fence(number)
    }

    /// From now on everything stored before must be validated: purges may have been missed.
    pub(crate) fn distrust_all(&self) -> Fence {
        let _applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.applied.load(Ordering::Relaxed) + 1;
        self.unverified.store(number, Ordering::Release);
        self.applied.store(number, Ordering::Release);
        Fence(number)
    }

    /// What a response of `key` with these tags is worth, if its forward began at `fence`.
    pub(crate) fn judge(&self, key: &CacheKey, tags: &[String], fence: Fence) -> Standing {
        let Fence(fence) = fence;
        let mut standing = Standing::Valid;
        if self.unverified.load(Ordering::Acquire) > fence {
            standing = Standing::Unverified;
        }
        if self.all_newest.load(Ordering::Acquire) > fence {
            standing = standing.and(self.all.read().unwrap_or_else(PoisonError::into_inner).judge(fence));
        }
        if self.keyed.newer_than(fence) {
            let (authority, path) = (key.authority(), key.path());
            let target = self.target_name(authority, path, key.query());
            standing = standing.and(self.keyed.judge(target, fence));
            standing = standing.and(self.keyed.judge(self.path_name(authority, path), fence));
        }
        if self.prefixes.newer_than(fence) {
            standing = standing.and(self.prefixes.judge(key.authority(), key.path(), fence));
        }
        if self.tags.newer_than(fence) {
            for tag in tags {
                standing = standing.and(self.tags.judge(self.names.hash_one(tag.as_str()), fence));
            }
        }
        if self.groups.newer_than(fence) {
            let (scheme, authority) = (key.scheme(), key.authority());
            for tag in tags {
                standing = standing.and(self.groups.judge(self.group_name(scheme, authority, tag), fence));
            }
        }
        standing
    }

    /// Which kinds of purges, of those that [`Tables::judge`] looks at, have made what of it; those that
    /// have not are left out.
    pub(crate) fn causes(&self, key: &CacheKey, tags: &[String], fence: Fence) -> Vec<(Cause, Standing)> {
        let Fence(fence) = fence;
        let (scheme, authority, path) = (key.scheme(), key.authority(), key.path());
        let unverified = self.unverified.load(Ordering::Acquire) > fence;
        let of_tags = |marks: &Marks, name: &dyn Fn(&String) -> u64| {
            tags.iter().map(|tag| marks.judge(name(tag), fence)).fold(Standing::Valid, Standing::and)
        };
        let judged = [
            (Cause::Unheard, if unverified { Standing::Unverified } else { Standing::Valid }),
            (Cause::All, self.all.read().unwrap_or_else(PoisonError::into_inner).judge(fence)),
            (Cause::Url, self.keyed.judge(self.target_name(authority, path, key.query()), fence)),
            (Cause::Path, self.keyed.judge(self.path_name(authority, path), fence)),
            (Cause::Prefix, self.prefixes.judge(authority, path, fence)),
            (Cause::Tag, of_tags(&self.tags, &|tag| self.names.hash_one(tag.as_str()))),
            (Cause::Group, of_tags(&self.groups, &|tag| self.group_name(scheme, authority, tag))),
        ];
        judged.into_iter().filter(|(_, standing)| *standing != Standing::Valid).collect()
    }

    /// Whether any tag was purged behind a fence: a fill whose tags are not known yet may carry it.
    pub(crate) fn tags_purged_since(&self, fence: Fence) -> bool {
        self.tags.newer_than(fence.0) || self.groups.newer_than(fence.0)
    }

    fn mark(&self, purge: &Purge, number: u64, mode: PurgeMode, now: Timestamp) {
        match purge {
            Purge::Url { authority, path_and_query } => {
                let (path, query) = match path_and_query.split_once('?') {
                    Some((path, query)) => (path, Some(query)),
                    None => (path_and_query.as_str(), None),
                };
                self.keyed.raise(self.target_name(authority, path, query), number, mode, now);
            }
            Purge::Path { authority, path } => {
                self.keyed.raise(self.path_name(authority, path), number, mode, now);
            }
            Purge::Prefix { authority, path } => {
                self.prefixes.raise((authority.as_deref(), path), number, mode, now);
            }
            Purge::Tag(tag) => self.tags.raise(self.names.hash_one(tag.as_str()), number, mode, now),
            Purge::All => self.raise_all(number, mode, now),
            Purge::Group { scheme, authority, group } => {
                self.groups.raise(self.group_name(scheme, authority, group), number, mode, now);
            }
        }
    }

    fn raise_all(&self, number: u64, mode: PurgeMode, at: Timestamp) {
        self.all.write().unwrap_or_else(PoisonError::into_inner).raise(number, mode, at);
        self.all_newest.fetch_max(number, Ordering::AcqRel);
    }

    fn group_name(&self, scheme: &str, authority: &str, group: &str) -> u64 {
        self.names.hash_one((scheme, authority, group))
    }

    fn target_name(&self, authority: &str, path: &str, query: Option<&str>) -> u64 {
        self.names.hash_one(('t', authority, path, query))
    }

    fn path_name(&self, authority: &str, path: &str) -> u64 {
        // The letter in front keeps the two kinds of names apart.
        self.names.hash_one(('p', authority, path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Target;

    const NOW: Timestamp = Timestamp::from_millis(7);

    fn key(url: &str, identity: Option<&[u8]>) -> CacheKey {
        CacheKey::new(&Target::parse_absolute(url).unwrap(), identity)
    }

    #[test]
    fn i5_each_kind_covers_what_it_names_and_nothing_else() {
        let authority = || "h".to_owned();
        let group =
            |scheme: &str| Purge::Group { scheme: scheme.into(), authority: "h".into(), group: "t".into() };
        let rows: [(Purge, &str, &str); 11] = [
            (
                Purge::Url { authority: authority(), path_and_query: "/a?b".into() },
                "https://h/a?b",
                "http://h/a",
            ),
            (Purge::Url { authority: authority(), path_and_query: "/a".into() }, "http://h/a", "http://h/a?"),
            (
                Purge::Url { authority: authority(), path_and_query: "/a?".into() },
                "http://h/a?",
                "http://h/a",
            ),
            (Purge::Path { authority: authority(), path: "/a".into() }, "http://h/a?b", "http://h/ab"),
            (Purge::Prefix { authority: None, path: "/a".into() }, "http://other/ab", "http://h/b"),
            (Purge::Prefix { authority: Some(authority()), path: "/a".into() }, "http://h/ab", "http://g/ab"),
            (Purge::Tag("t".into()), "tagged http://h/x", "http://h/x"),
            (Purge::All, "http://h/x", ""),
            (group("http"), "tagged http://h/x?y", "tagged http://other/x"),
            (group("http"), "tagged http://h/x", "tagged https://h/x"),
            (group("https"), "tagged https://h/x", "https://h/x"),
        ];
        for (purge, covered, untouched) in rows {
            let tables = Tables::new(7);
            let fence = tables.fence();
            assert_eq!(tables.apply(std::slice::from_ref(&purge), PurgeMode::Hard, NOW), Fence(1));
            let tags = |url: &str| vec![if url.starts_with("tagged") { "t" } else { "other" }.to_owned()];
            let (tags, others) = (tags(covered), tags(untouched));
            let covered = key(covered.trim_start_matches("tagged "), Some(b"me"));
            assert_eq!(tables.judge(&covered, &tags, fence), Standing::Gone, "{purge:?}");
            let causes = tables.causes(&covered, &tags, fence);
            let told: Vec<_> = causes.iter().map(|(cause, standing)| (cause.as_str(), *standing)).collect();
            assert_eq!(told, [(purge.kind(), Standing::Gone)], "{purge:?}");
            assert_eq!(tables.judge(&covered, &tags, tables.fence()), Standing::Valid, "{purge:?}");
            assert!(tables.causes(&covered, &tags, tables.fence()).is_empty(), "{purge:?}");
            if !untouched.is_empty() {
                let untouched = key(untouched.trim_start_matches("tagged "), None);
                assert_eq!(tables.judge(&untouched, &others, fence), Standing::Valid, "{purge:?}");
            }
        }
    }

    #[test]
    fn i5_what_may_have_been_missed_is_validated_once() {
        let tables = Tables::new(7);
        let before = tables.fence();
        tables.distrust_all();
        let key = key("http://h/a", None);
        assert_eq!(tables.judge(&key, &[], before), Standing::Unverified);
        assert_eq!(tables.judge(&key, &[], tables.fence()), Standing::Valid);
    }
}

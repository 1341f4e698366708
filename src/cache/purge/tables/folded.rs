//! What was purged and still counts, taken out of the tables, and put into others that keep names alike.

use super::Tables;
use crate::cache::purge::{Fence, PurgeMode};
use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::hash::BuildHasher;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// What a purge is of, as the tables keep names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Named {
    /// A target or a path.
    Key([u8; 8]),
    Tag([u8; 8]),
    Group([u8; 8]),
    Prefix {
        authority: Option<Box<str>>,
        path: Box<str>,
    },
    All,
}

/// The newest hard purge of a name, or one of the soft ones since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folded {
    pub(crate) named: Named,
    pub(crate) mode: PurgeMode,
    /// When a soft one made it stale.
    pub(crate) at: Timestamp,
}

impl Tables {
    /// What a fixed name is kept as: tables of the same keep all names alike.
    pub(crate) fn probe(&self) -> u64 {
        self.names.hash_one(("names", "of", "purges"))
    }

    /// The purges that still count by their numbers, in no order; of those up to the fence some are forgotten.
    pub(crate) fn folded(&self) -> (Vec<(u64, Folded)>, Fence) {
        let mut all = Vec::new();
        let mut add = |named: &dyn Fn() -> Named, mark: &super::Mark| {
            for (number, mode, at) in mark.purges() {
                all.push((number, Folded { named: named(), mode, at }));
            }
        };
        self.keyed.each(|name, mark| add(&|| Named::Key(name.to_be_bytes()), mark));
        self.tags.each(|name, mark| add(&|| Named::Tag(name.to_be_bytes()), mark));
        self.groups.each(|name, mark| add(&|| Named::Group(name.to_be_bytes()), mark));
        self.prefixes.each(|authority, path, mark| {
            add(&|| Named::Prefix { authority: authority.map(Box::from), path: path.into() }, mark);
        });
        add(&|| Named::All, &self.all.read().unwrap_or_else(PoisonError::into_inner));
        // After the marks: one that is dropped has raised its floor before.
        let floors = [self.keyed.floor(), self.tags.floor(), self.groups.floor(), self.prefixes.floor()];
        (all, Fence(floors.into_iter().max().unwrap_or_default()))
    }

    /// Applies what other tables had folded, in its order, and those that purge nothing: what stands in one place
    /// under one number each. The places with their numbers.
    pub(crate) fn unfold<P: Copy + PartialEq>(
        &self,
        purges: impl IntoIterator<Item = (P, Option<Folded>)>,
    ) -> Vec<(P, Fence)> {
        let _applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let mut number = self.applied.load(Ordering::Relaxed);
        let mut places: Vec<(P, Fence)> = Vec::new();
        for (place, folded) in purges {
            if places.last().is_none_or(|(last, _)| *last != place) {
                number += 1;
                places.push((place, Fence(number)));
            }
            if let Some(folded) = folded {
                self.raise(&folded, number);
            }
        }
        self.applied.store(number, Ordering::Release);
        places
    }

    fn raise(&self, Folded { named, mode, at }: &Folded, number: u64) {
        match named {
            Named::Key(name) => self.keyed.raise(u64::from_be_bytes(*name), number, *mode, *at),
            Named::Tag(name) => self.tags.raise(u64::from_be_bytes(*name), number, *mode, *at),
            Named::Group(name) => self.groups.raise(u64::from_be_bytes(*name), number, *mode, *at),
            Named::Prefix { authority, path } => {
                self.prefixes.raise((authority.as_deref(), path), number, *mode, *at);
            }
            Named::All => self.raise_all(number, *mode, *at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_alike_by_every_process_of_a_seed() {
        assert_eq!(Tables::new(7).probe(), Tables::new(7).probe());
        assert_ne!(Tables::new(7).probe(), Tables::new(8).probe());
        // Another figure is another build whose checkpoints this one cannot read: harmless, but not unnoticed.
        assert_eq!(Tables::new(7).probe(), 10_807_843_957_680_333_117);
    }
}

//! The buckets of one quota in this process: at most [`KEYS_MAX`] partitions have one of their own,
//! newcomers beyond that share one. Only a bucket that is full again is dropped, so that nobody
//! comes back fuller than they left.

use super::partition::Partition;
use super::quota::{FullAt, Rate};
use crate::clock::Timestamp;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Partitions of a quota that have a bucket of their own: about 12 MiB.
pub(super) const KEYS_MAX: usize = 100_000;
/// Parts that are locked apart.
const SHARDS: usize = 16;
/// A shard is searched for full buckets at most once in this time, and only when there is no room.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The buckets of one quota.
#[derive(Debug)]
pub(super) struct Buckets {
    shards: [Mutex<Shard>; SHARDS],
    /// The bucket of newcomers without a place, and of quotas that count everybody together.
    common: Mutex<FullAt>,
    /// Partitions in all shards.
    keys: AtomicUsize,
    keys_max: usize,
    hasher: RandomState,
}

/// What one lock guards.
#[derive(Debug, Default)]
pub(super) struct Shard {
    buckets: HashMap<Partition, FullAt>,
    swept_at: Timestamp,
}

/// One bucket, locked. A request holds at most one of each quota and takes them in the quotas'
/// order, so that no two requests wait for each other.
#[derive(Debug)]
pub(super) enum Bucket<'a> {
    /// A partition's own.
    Own(MutexGuard<'a, Shard>, Partition),
    /// The common one.
    Common(MutexGuard<'a, FullAt>),
}

impl Bucket<'_> {
    /// Whose it is; `None`: everybody's who has none of their own.
    pub(super) fn partition(&self) -> Option<Partition> {
        match self {
            Self::Own(_, partition) => Some(*partition),
            Self::Common(_) => None,
        }
    }

    /// When it is full again.
    pub(super) fn full_at(&self) -> FullAt {
        match self {
            Self::Own(shard, partition) => shard.buckets.get(partition).copied().unwrap_or_default(),
            Self::Common(full_at) => **full_at,
        }
    }

    /// Charges it.
    pub(super) fn charge(&mut self, after: FullAt) {
        match self {
            Self::Own(shard, partition) => {
                shard.buckets.insert(*partition, after);
            }
            Self::Common(full_at) => **full_at = after,
        }
    }
}

impl Buckets {
    /// Full buckets for at most `keys_max` partitions.
    pub(super) fn new(keys_max: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            common: Mutex::default(),
            keys: AtomicUsize::new(0),
            keys_max,
            hasher: RandomState::new(),
        }
    }

    /// The same partitions, each with its bucket in the scale of another rate.
    pub(super) fn converted(&self, from: &Rate, to: &Rate, now: Timestamp) -> Self {
        let convert = |full_at: FullAt| to.converted(full_at, from, now);
        let shards = self.shards.each_ref().map(|shard| {
            let shard = lock(shard);
            let buckets = shard.buckets.iter().map(|(of, full_at)| (*of, convert(*full_at))).collect();
            Mutex::new(Shard { buckets, swept_at: shard.swept_at })
        });
        let keys = shards.iter().map(|shard| lock(shard).buckets.len()).sum();
        Self {
            shards,
            common: Mutex::new(convert(*lock(&self.common))),
            keys: AtomicUsize::new(keys),
            keys_max: self.keys_max,
            hasher: self.hasher.clone(),
        }
    }

    /// The bucket of a partition, or the common one.
    pub(super) fn lock(&self, partition: Option<Partition>, rate: &Rate, now: Timestamp) -> Bucket<'_> {
        let Some((shard, partition)) = partition.and_then(|of| Some((self.shard(&of)?, of))) else {
            return Bucket::Common(lock(&self.common));
        };
        let mut shard = lock(shard);
        if !shard.buckets.contains_key(&partition) {
            if !self.reserve() {
                self.sweep(&mut shard, rate, now);
                if !self.reserve() {
                    drop(shard);
                    return Bucket::Common(lock(&self.common));
                }
            }
            shard.buckets.insert(partition, FullAt::default());
        }
        Bucket::Own(shard, partition)
    }

    /// When the bucket of a partition is full again; takes no place.
    pub(super) fn look(&self, partition: Option<Partition>) -> FullAt {
        let Some((shard, partition)) = partition.and_then(|of| Some((self.shard(&of)?, of))) else {
            return *lock(&self.common);
        };
        let own = lock(shard).buckets.get(&partition).copied();
        own.unwrap_or_else(|| {
            let crowded = self.keys.load(Ordering::Relaxed) >= self.keys_max;
            if crowded { *lock(&self.common) } else { FullAt::default() }
        })
    }

    fn shard(&self, partition: &Partition) -> Option<&Mutex<Shard>> {
        let hash = self.hasher.hash_one(partition);
        // The map inside uses the hash of its own hasher, so these bits are used once.
        self.shards.get(usize::try_from(hash % SHARDS as u64).unwrap_or_default())
    }

    /// Takes a place, if there is one.
    fn reserve(&self) -> bool {
        let taken = |keys: usize| (keys < self.keys_max).then_some(keys + 1);
        self.keys.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    /// Gives back the places of buckets that are full again.
    fn sweep(&self, shard: &mut Shard, rate: &Rate, now: Timestamp) {
        if now.since(shard.swept_at) < SWEEP_EVERY {
            return;
        }
        shard.swept_at = now;
        let before = shard.buckets.len();
        shard.buckets.retain(|_, full_at| !rate.is_full(*full_at, now));
        self.keys.fetch_sub(before - shard.buckets.len(), Ordering::Relaxed);
    }
}

/// A lock's content. A panic while it was held leaves one number, which is always sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::quota::Test;
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};
    use std::num::NonZeroU32;

    const ONE: NonZeroU32 = NonZeroU32::MIN;

    fn partition(number: u32) -> Partition {
        Partition::Client(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    /// One request of a partition; whether it passed.
    fn ask(buckets: &Buckets, rate: &Rate, number: u32, now: Timestamp) -> bool {
        let mut bucket = buckets.lock(Some(partition(number)), rate, now);
        match rate.test(bucket.full_at(), now) {
            Test::Fits(after) => {
                bucket.charge(after);
                true
            }
            Test::TooEarly(_) => false,
        }
    }

    #[test]
    fn i10_newcomers_beyond_the_bound_share_one_bucket() {
        let (buckets, rate) = (Buckets::new(40), Rate::new(ONE, Duration::from_secs(10), ONE));
        for number in 0..40 {
            assert!(ask(&buckets, &rate, number, at(0)), "{number} has its own");
        }
        assert!(ask(&buckets, &rate, 100, at(0)), "the common bucket is full");
        for number in 101..200 {
            assert!(!ask(&buckets, &rate, number, at(0)), "{number} shares it");
        }
        assert_eq!(buckets.keys.load(Ordering::Relaxed), 40);
        assert_eq!(buckets.look(Some(partition(300))), buckets.look(None), "and is told so");
    }

    #[test]
    fn what_is_dropped_never_comes_back_full() {
        let (buckets, rate) = (Buckets::new(40), Rate::new(ONE, Duration::from_secs(10), ONE));
        for number in 0..40 {
            ask(&buckets, &rate, number, at(u64::from(number)));
        }
        for number in 1000..3000 {
            ask(&buckets, &rate, number, at(9_000));
        }
        for number in 0..40 {
            assert!(!ask(&buckets, &rate, number, at(9_999)), "a flood drops nobody: {number}");
        }
        for number in 5000..7000 {
            ask(&buckets, &rate, number, at(10_020));
        }
        let kept = buckets.keys.load(Ordering::Relaxed);
        assert_eq!(kept, 40, "newcomers took the places of buckets that were full again");
        let stored: usize = buckets.shards.iter().map(|shard| lock(shard).buckets.len()).sum();
        assert_eq!(stored, kept);
        for number in 30..40 {
            assert!(buckets.look(Some(partition(number))) > FullAt::default(), "{number} was not full yet");
        }
    }

    #[test]
    fn i10_a_million_keys_take_less_than_16_mib() {
        let (buckets, rate) = (Buckets::new(KEYS_MAX), Rate::new(ONE, Duration::from_hours(1), ONE));
        let passed = (0..1_000_000).filter(|number| ask(&buckets, &rate, *number, at(0))).count();
        assert_eq!(passed, KEYS_MAX + 1);
        let places: usize = buckets.shards.iter().map(|shard| lock(shard).buckets.capacity()).sum();
        // A map has a control byte for each place, and leaves an eighth of them empty.
        let bytes = places * 8 / 7 * (size_of::<(Partition, FullAt)>() + 1);
        assert!(bytes < 16 << 20, "{bytes} bytes");
    }

    #[test]
    fn looking_takes_no_place() {
        let buckets = Buckets::new(1);
        assert_eq!(buckets.look(Some(partition(1))), FullAt::default());
        assert_eq!(buckets.keys.load(Ordering::Relaxed), 0);
    }
}

//! Which keys are asked for most: some of the hits are counted, and the shared tier is told now and then,
//! so that a gateway that starts can begin with them.

use super::{Cache, as_it_stands};
use crate::cache::tiers::warm::HOTTEST_MAX;
use crate::cache::{CacheKey, Standing, StoredResponse};
use futures_util::StreamExt;
use rapidhash::fast::RandomState;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// One hit in so many is counted.
const SAMPLED: u8 = 32;
/// Keys that are counted; beyond, counts are halved, and who was counted once is forgotten.
const COUNTED_MAX: usize = 4 * HOTTEST_MAX;
/// How often the shared tier is told, and counts are halved.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// The longest that a start waits for what was hot.
const WARM_DEADLINE: Duration = Duration::from_secs(2);
/// How often a start looks whether Redis is there yet.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The longest that an end waits for the shared tier to be told.
const TELL_DEADLINE: Duration = Duration::from_secs(1);

/// The counts, and whether what is hot has to be refilled.
#[derive(Debug, Default)]
pub(super) struct Hot {
    counts: Mutex<HashMap<CacheKey, u32, RandomState>>,
    refill: Notify,
}

/// What becomes of the counts when they have been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counts {
    Kept,
    Halved,
}

impl Hot {
    /// Counts a hit, perhaps; waits for nobody.
    pub(super) fn note(&self, key: &CacheKey) {
        if fastrand::u8(..SAMPLED) == 0
            && let Ok(mut counts) = self.counts.try_lock()
        {
            count(&mut counts, key);
        }
    }

    /// The keys with the highest counts.
    fn hottest(&self, then: Counts) -> Vec<CacheKey> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys: Vec<(CacheKey, u32)> =
            counts.iter().map(|(key, count)| (key.clone(), *count)).collect();
        keys.sort_unstable_by_key(|(_, count)| Reverse(*count));
        if then == Counts::Halved {
            halve(&mut counts);
        }
        keys.into_iter().take(HOTTEST_MAX).map(|(key, _)| key).collect()
    }
}

/// Forgets the keys that were counted once.
fn halve(counts: &mut HashMap<CacheKey, u32, RandomState>) {
    counts.retain(|_, count| {
        *count /= 2;
        *count > 0
    });
}

fn count(counts: &mut HashMap<CacheKey, u32, RandomState>, key: &CacheKey) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_add(1);
        return;
    }
    if counts.len() >= COUNTED_MAX {
        halve(counts);
    }
    if counts.len() < COUNTED_MAX {
        counts.insert(key.clone(), 1);
    }
}

/// Tells the shared tier until the cache is gone.
pub(super) async fn tell(cache: Weak<Cache>) {
    loop {
        tokio::time::sleep(TELL_EVERY).await;
        let Some(cache) = cache.upgrade() else { return };
        cache.tell_hottest().await;
    }
}

impl Cache {
    /// Loads what was hot into memory; it takes at most two seconds, and no time where Redis is away.
    pub async fn warm(&self) {
        let Some(shared) = &self.shared else { return };
        let mut loaded = 0_usize;
        let warming = async {
            while !shared.log.is_trusted() {
                if shared.redis.is_away() {
                    return;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            let Ok(hottest) = shared.tier.hottest().await else { return };
            let mut hottest = std::pin::pin!(hottest);
            while let Some(found) = hottest.next().await {
                let Some((key, stored)) = found else { continue };
                let (now, stored) = (self.clock.now(), Arc::new(stored.packed(&key, &self.names)));
                if self.answer(&key, &stored, crate::cache::Tier::Shared, now).is_some() {
                    self.memory.insert(&key, &stored, now);
                    loaded += 1;
                }
            }
        };
        let in_time = tokio::time::timeout(WARM_DEADLINE, warming).await.is_ok();
        tracing::info!(responses = loaded, in_time, "loaded what was hot");
    }

    /// Tells the other gateways that this one is gone, and who starts next what was hot; it takes little
    /// more than a second at most.
    pub async fn leave(&self) {
        let Some(shared) = &self.shared else { return };
        if shared.redis.is_connected() {
            // Who starts next does without.
            drop(tokio::time::timeout(TELL_DEADLINE, self.tell_hottest()).await);
        }
        shared.log.leave().await;
    }

    /// Has what is hot and was made stale by a soft purge validated before somebody asks for it.
    pub fn refill_hottest(&self) {
        self.hot.refill.notify_one();
    }

    /// Returns when that is wanted.
    pub async fn refill_wanted(&self) {
        self.hot.refill.notified().await;
    }

    /// What of the hottest a soft purge has made stale, at most so many, the hottest first.
    #[must_use]
    pub fn hottest_stale(&self, most: usize) -> Vec<(CacheKey, Arc<StoredResponse>)> {
        let stale = self.hot.hottest(Counts::Kept).into_iter().flat_map(|key| {
            let variants = self.memory.get(&key).map(|variants| variants.iter().cloned().collect::<Vec<_>>());
            let variants = variants.unwrap_or_default().into_iter();
            variants.filter_map(move |stored| {
                let standing = self.purged.judge(&key, &stored.tags, stored.fence);
                let is_stale = matches!(standing, Standing::StaleSince(_));
                is_stale.then(|| Some((key.clone(), as_it_stands(&stored, standing)?))).flatten()
            })
        });
        stale.take(most).collect()
    }

    async fn tell_hottest(&self) {
        let (Some(shared), hottest) = (&self.shared, self.hot.hottest(Counts::Halved)) else { return };
        let in_memory = hottest.into_iter().filter_map(|key| {
            let variants = self.variants(&key);
            (!variants.is_empty()).then_some((key, variants))
        });
        let hottest: Vec<_> = in_memory.collect();
        // What others have told stays where this gateway has nothing to tell.
        if !hottest.is_empty() {
            shared.tier.tell_hottest(hottest).await.unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tiers::testing::key;

    #[test]
    fn i10_the_hottest_come_first_and_the_counts_are_bounded() {
        let hot = Hot::default();
        {
            let mut counts = hot.counts.lock().unwrap();
            for _ in 0..9 {
                count(&mut counts, &key("http://h/hot"));
            }
            for number in 0..2 * COUNTED_MAX - 2 {
                count(&mut counts, &key(&format!("http://h/{number}")));
            }
            assert_eq!(counts.len(), COUNTED_MAX);
        }
        assert_eq!(hot.hottest(Counts::Kept).len(), HOTTEST_MAX);
        let hottest = hot.hottest(Counts::Halved);
        assert_eq!((hottest.len(), &hottest[0]), (HOTTEST_MAX, &key("http://h/hot")));
        assert_eq!(hot.hottest(Counts::Kept), [key("http://h/hot")], "the others are forgotten");
    }
}

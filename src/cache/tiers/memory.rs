//! The first tier: what is ready to be sent, bounded by its bytes.

use super::large::{Kept, LargeBodies};
use crate::cache::rules::date::{self, whole_seconds};
use crate::cache::rules::reuse::retention;
use crate::cache::{CacheKey, StoredResponse};
use crate::clock::Timestamp;
use crate::telemetry::metrics;
use http::header::DATE;
use http::{HeaderName, HeaderValue};
use moka::Expiry;
use moka::ops::compute::Op;
use rapidhash::fast::RandomState;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Variants kept of one key; the least used goes first.
const VARIANTS_MAX: usize = 32;
/// Bytes that a stored response costs beside its texts and its body: its own parts, its place in the
/// tier's tables, and what allocations round up.
const RESPONSE_OVERHEAD: usize = 800;
/// Bytes that a selecting field, or a tag, costs beside its texts.
const FIELD_OVERHEAD: usize = 96;

/// Seconds after which the shared tier is looked at again for what is in use.
const LOOK_AGAIN_SECONDS: u64 = 60;

/// What selects a variant.
type Selecting = [(HeaderName, Option<HeaderValue>)];

/// The stored responses of one key, in the order in which a request chooses among those it selects:
/// those that vary on something first (RFC 9111 4.1, last paragraph but one), then the most recent by
/// Date (RFC 9111 4).
#[derive(Debug)]
pub(crate) struct Variants {
    /// Most keys have one: it lies here.
    list: SmallVec<[Variant; 1]>,
    bytes: u32,
    kept_for: Duration,
}

#[derive(Debug)]
struct Variant {
    stored: Arc<StoredResponse>,
    /// Its Date: when the source made it.
    dated: Timestamp,
    /// The second of its last use: written at most once a second, so that hits share the line.
    used: AtomicU64,
    /// The second in which the shared tier was looked at for it last.
    looked: AtomicU64,
    /// That this place keeps its body, where that is large; behind the response, which holds it too.
    kept: Option<Arc<Kept>>,
}

/// What follows from a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touched {
    Only,
    /// The shared tier may have a newer one by now.
    LookAgain,
}

impl Variants {
    /// The stored responses, in the order in which they are chosen.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<StoredResponse>> {
        self.list.iter().map(|variant| &variant.stored)
    }

    /// Notes that one of them was used.
    pub(crate) fn touch(&self, stored: &Arc<StoredResponse>, now: Timestamp) -> Touched {
        let second = now.as_millis() / 1000;
        let variant = self.list.iter().find(|variant| Arc::ptr_eq(&variant.stored, stored));
        let Some(variant) = variant.filter(|variant| variant.used.load(Ordering::Relaxed) != second) else {
            return Touched::Only;
        };
        variant.used.store(second, Ordering::Relaxed);
        if second.saturating_sub(variant.looked.load(Ordering::Relaxed)) < LOOK_AGAIN_SECONDS {
            return Touched::Only;
        }
        variant.looked.store(second, Ordering::Relaxed);
        Touched::LookAgain
    }

    fn new(key: &CacheKey, list: Vec<Variant>, now: Timestamp) -> Self {
        let bytes = list.iter().map(|variant| cost(key, &variant.stored)).sum::<usize>();
        let kept = list
            .iter()
            .map(|variant| retention(&variant.stored).saturating_sub(now.since(variant.stored.received_at)));
        let kept_for = kept.max().unwrap_or_default();
        Self { bytes: u32::try_from(bytes).unwrap_or(u32::MAX), kept_for, list: list.into_iter().collect() }
    }

    fn others(&self, selecting: &Selecting) -> Vec<Variant> {
        let others = self.list.iter().filter(|variant| variant.stored.selecting_fields != selecting);
        others
            .map(|variant| Variant {
                stored: Arc::clone(&variant.stored),
                dated: variant.dated,
                used: AtomicU64::new(variant.used.load(Ordering::Relaxed)),
                looked: AtomicU64::new(variant.looked.load(Ordering::Relaxed)),
                kept: variant.kept.clone(),
            })
            .collect()
    }
}

/// The tier.
#[derive(Debug)]
pub(crate) struct Memory {
    responses: moka::sync::Cache<CacheKey, Arc<Variants>, RandomState>,
    object_bytes: AtomicU64,
    large: Arc<LargeBodies>,
}

struct KeptFor;

impl Expiry<CacheKey, Arc<Variants>> for KeptFor {
    fn expire_after_create(
        &self,
        _: &CacheKey,
        variants: &Arc<Variants>,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(variants.kept_for)
    }

    fn expire_after_update(
        &self,
        _: &CacheKey,
        variants: &Arc<Variants>,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(variants.kept_for)
    }
}

impl Memory {
    pub(crate) fn new(bytes: u64, object_bytes: u64, large: Arc<LargeBodies>) -> Self {
        let responses = moka::sync::Cache::builder()
            .max_capacity(bytes)
            .weigher(|_: &CacheKey, variants: &Arc<Variants>| variants.bytes)
            .expire_after(KeptFor)
            .build_with_hasher(RandomState::new());
        Self { responses, object_bytes: AtomicU64::new(object_bytes.min(bytes)), large }
    }

    /// The largest body that is kept.
    pub(crate) fn object_bytes(&self) -> u64 {
        self.object_bytes.load(Ordering::Relaxed)
    }

    /// Another bound for what is stored from now on.
    pub(crate) fn set_object_bytes(&self, object_bytes: u64) {
        let room = self.responses.policy().max_capacity().unwrap_or(u64::MAX);
        self.object_bytes.store(object_bytes.min(room), Ordering::Relaxed);
    }

    pub(crate) fn get(&self, key: &CacheKey) -> Option<Arc<Variants>> {
        self.responses.get(key)
    }

    /// As [`Memory::get`], which leaves no trace of a look for what is not there.
    pub(crate) fn get_known(&self, key: &CacheKey) -> Option<Arc<Variants>> {
        if self.responses.contains_key(key) { self.responses.get(key) } else { None }
    }

    /// As [`Memory::get`], without a trace.
    pub(crate) async fn get_unseen(&self, key: &CacheKey) -> Option<Arc<Variants>> {
        unseen(&self.responses, key).await
    }

    /// Keeps a response in the place of the variant with the same selecting fields, unless that one
    /// is newer. What is too large takes that place away.
    pub(crate) fn insert(&self, key: &CacheKey, stored: &Arc<StoredResponse>, now: Timestamp) {
        if body_bytes(stored) > self.object_bytes() {
            self.remove_variant(key, stored, now);
            return;
        }
        self.responses.entry_by_ref(key).and_compute_with(|entry| {
            let before = entry.map(moka::Entry::into_value);
            let same = before
                .as_ref()
                .and_then(|before| before.iter().find(|old| old.selecting_fields == stored.selecting_fields));
            if same.is_some_and(|old| is_newer(old, stored)) {
                return Op::Nop;
            }
            let mut list = before.map_or_else(Vec::new, |before| before.others(&stored.selecting_fields));
            if list.len() >= VARIANTS_MAX {
                drop_least_used(&mut list);
            }
            let second = now.as_millis() / 1000;
            let (used, looked) = (AtomicU64::new(second), AtomicU64::new(second));
            let dated = stored.fields.get(&DATE).and_then(|date| date::read(date, stored.received_at));
            let dated = dated.unwrap_or(stored.received_at);
            let kept = self.large.keep(&stored.body).map(Arc::new);
            list.insert(0, Variant { stored: Arc::clone(stored), dated, used, looked, kept });
            // Stable: what came last is first among those of one second.
            list.sort_by_key(|variant| {
                (variant.stored.selecting_fields.is_empty(), Reverse(whole_seconds(variant.dated)))
            });
            Op::Put(Arc::new(Variants::new(key, list, now)))
        });
    }

    /// Forgets all variants of a key.
    pub(crate) fn remove(&self, key: &CacheKey) {
        self.responses.invalidate(key);
    }

    /// Whether what came later stands in the place of a response.
    pub(crate) fn has_newer(&self, key: &CacheKey, than: &StoredResponse) -> bool {
        let newer =
            |old: &Arc<StoredResponse>| old.selecting_fields == than.selecting_fields && is_newer(old, than);
        self.get(key).is_some_and(|variants| variants.iter().any(newer))
    }

    /// Forgets the variant that a response is; what came later in its place stays.
    pub(crate) fn remove_variant(&self, key: &CacheKey, stored: &StoredResponse, now: Timestamp) {
        self.responses.entry_by_ref(key).and_compute_with(|entry| {
            let Some(before) = entry.map(moka::Entry::into_value) else { return Op::Nop };
            let list = before.others(&stored.selecting_fields);
            let same = before.iter().find(|old| old.selecting_fields == stored.selecting_fields);
            if same.is_none_or(|old| is_newer(old, stored)) {
                Op::Nop
            } else if list.is_empty() {
                Op::Remove
            } else {
                Op::Put(Arc::new(Variants::new(key, list, now)))
            }
        });
    }

    /// Sets the gauges; called when they are read.
    pub(crate) fn observe(&self) {
        self.responses.run_pending_tasks();
        #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
        let (bytes, keys) = (self.responses.weighted_size() as f64, self.responses.entry_count() as f64);
        ::metrics::gauge!(metrics::MEMORY_BYTES).set(bytes);
        ::metrics::gauge!(metrics::MEMORY_RESPONSES).set(keys);
    }
}

/// What a key has, without its being noted as used: neither in the order of use nor in the counts by which
/// newcomers are admitted. moka has no such look at one key but only at all of them, so it walks, on a
/// thread that may block; a key that has nothing costs nothing.
pub(crate) async fn unseen<V: Clone + Send + Sync + 'static>(
    keys: &moka::sync::Cache<CacheKey, V, RandomState>,
    key: &CacheKey,
) -> Option<V> {
    if !keys.contains_key(key) {
        return None;
    }
    let (keys, key) = (keys.clone(), key.clone());
    let walk = move || keys.iter().find(|(own, _)| **own == key).map(|(_, value)| value);
    tokio::task::spawn_blocking(walk).await.ok().flatten()
}

/// Whether a response came later than another in whose place it stands.
fn is_newer(one: &StoredResponse, other: &StoredResponse) -> bool {
    (one.fence, one.received_at) > (other.fence, other.received_at)
}

/// The length of a body.
pub(crate) fn body_bytes(stored: &StoredResponse) -> u64 {
    u64::try_from(stored.body.len()).unwrap_or(u64::MAX)
}

fn drop_least_used(list: &mut Vec<Variant>) {
    // Of several, the one that is chosen last.
    let least = list
        .iter()
        .enumerate()
        .rev()
        .min_by_key(|(_, variant)| variant.used.load(Ordering::Relaxed))
        .map(|(index, _)| index);
    if let Some(least) = least {
        list.remove(least);
        ::metrics::counter!(metrics::VARIANTS_DROPPED).increment(1);
    }
}

fn cost(key: &CacheKey, stored: &StoredResponse) -> usize {
    let selecting = stored.selecting_fields.iter().map(|(name, value)| {
        name.as_str().len() + value.as_ref().map_or(0, HeaderValue::len) + FIELD_OVERHEAD
    });
    let tags = stored.tags.iter().map(|tag| tag.len() + FIELD_OVERHEAD);
    let texts: usize = selecting.chain(tags).sum();
    key.text().len() + stored.fields.own_bytes() + stored.body.len() + texts + RESPONSE_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tiers::testing::{key, response, varying};
    use crate::in_flight::{FORWARD_BYTES, InFlight};
    use bytes::Bytes;
    use http::HeaderMap;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn memory(bytes: u64, object_bytes: u64) -> Memory {
        Memory::new(bytes, object_bytes, LargeBodies::new(InFlight::new(u64::MAX)))
    }

    /// Memory bounds what it keeps; what it lets go counts elsewhere while somebody reads it.
    #[test]
    fn i10_a_large_body_that_makes_room_for_others_counts_while_it_is_read() {
        const BYTES: u64 = 2 * FORWARD_BYTES;
        let in_flight = InFlight::new(u64::MAX);
        let large = LargeBodies::new(Arc::clone(&in_flight));
        let memory = Memory::new(3 * BYTES, BYTES, Arc::clone(&large));
        let mut readers = Vec::new();
        for number in 0..20 {
            let body = large.noticed(Bytes::from(vec![b'x'; usize::try_from(BYTES).unwrap()]));
            readers.push(body.clone());
            let stored = StoredResponse { body, ..response("", NOW) };
            memory.insert(&key(&format!("http://h/{number}")), &Arc::new(stored), NOW);
            memory.observe();
        }
        let kept = memory.responses.entry_count();
        assert!((1..=3).contains(&kept), "{kept}");
        // What it has let go it gives up in its own time.
        let settled = (0..10_000).any(|_| {
            memory.observe();
            drop(memory.get(&key("http://h/0")));
            in_flight.bytes() == (20 - kept) * BYTES
        });
        assert!(settled, "{} bytes", in_flight.bytes());
        drop(readers);
        let settled = (0..10_000).any(|_| {
            memory.observe();
            in_flight.bytes() == 0
        });
        assert!(settled, "{} bytes", in_flight.bytes());
    }

    fn bodies(memory: &Memory, key: &CacheKey) -> Vec<String> {
        let variants = memory.get(key).map(|variants| variants.iter().cloned().collect::<Vec<_>>());
        let text = |stored: Arc<StoredResponse>| String::from_utf8(stored.body.to_vec()).unwrap();
        variants.unwrap_or_default().into_iter().map(text).collect()
    }

    #[test]
    fn the_same_selecting_fields_replace_and_others_are_added() {
        let memory = memory(1 << 20, 1 << 20);
        let key = key("http://h/a");
        for (language, body) in [("de", "eins"), ("en", "one"), ("de", "zwei")] {
            memory.insert(&key, &Arc::new(varying(language, body, NOW)), NOW);
        }
        assert_eq!(bodies(&memory, &key), ["zwei", "one"], "most recent first");
        let mut older = varying("de", "null", NOW);
        older.received_at = Timestamp::from_millis(1);
        memory.insert(&key, &Arc::new(older), NOW);
        assert_eq!(bodies(&memory, &key), ["zwei", "one"], "older news changes nothing");
        let earlier = varying("de", "", Timestamp::from_millis(1));
        memory.remove_variant(&key, &earlier, NOW);
        assert!(memory.has_newer(&key, &earlier) && !memory.has_newer(&key, &varying("de", "", NOW)));
        assert_eq!(bodies(&memory, &key), ["zwei", "one"], "it is not what was spoken of");
        memory.remove_variant(&key, &varying("de", "", NOW), NOW);
        assert_eq!(bodies(&memory, &key), ["one"]);
    }

    #[tokio::test]
    async fn a_look_without_a_trace_makes_nothing_popular() {
        // Room for one: of two that want to stay, the one that was asked for more often does.
        let room = cost(&key("http://h/a"), &response("a", NOW)) as u64 * 3 / 2;
        for (looks, gets, stays) in [(50, 0, false), (0, 50, true)] {
            let memory = memory(room, room);
            let (seen, rival) = (key("http://h/a"), key("http://h/b"));
            memory.insert(&seen, &Arc::new(response("a", NOW)), NOW);
            memory.responses.run_pending_tasks();
            for _ in 0..looks {
                assert!(memory.get_unseen(&seen).await.is_some());
            }
            for _ in 0..gets {
                assert!(memory.get(&seen).is_some());
            }
            for _ in 0..5 {
                assert!(memory.get(&rival).is_none() && memory.get_unseen(&rival).await.is_none());
            }
            memory.insert(&rival, &Arc::new(response("b", NOW)), NOW);
            memory.responses.run_pending_tasks();
            assert_eq!(memory.get_unseen(&seen).await.is_some(), stays, "{looks} looks, {gets} gets");
        }
    }

    #[test]
    fn rfc9111_4_1_those_that_vary_then_the_most_recent_by_date() {
        let memory = memory(1 << 20, 1 << 20);
        let key = key("http://h/a");
        let dated = |stored: StoredResponse, seconds: u64| {
            let mut stored = stored;
            let date = date::format(Timestamp::from_millis(seconds * 1000));
            stored.fields = HeaderMap::from_iter([(DATE, date)]).into();
            Arc::new(stored)
        };
        for stored in [
            dated(varying("1", "20 s, first", NOW), 20),
            dated(response("40 s, for all", NOW), 40),
            dated(varying("2", "30 s", NOW), 30),
            dated(varying("3", "10 s", NOW), 10),
            dated(varying("4", "20 s, last", NOW), 20),
        ] {
            memory.insert(&key, &stored, NOW);
        }
        let expected = ["30 s", "20 s, last", "20 s, first", "10 s", "40 s, for all"];
        assert_eq!(bodies(&memory, &key), expected);
    }

    #[test]
    fn i10_at_most_32_variants_and_the_least_used_goes() {
        let memory = memory(1 << 20, 1 << 20);
        let key = key("http://h/a");
        for number in 0..32 {
            memory.insert(&key, &Arc::new(varying(&number.to_string(), &number.to_string(), NOW)), NOW);
        }
        let later = NOW.plus(Duration::from_secs(5));
        let variants = memory.get(&key).unwrap();
        for stored in variants.iter().filter(|stored| &stored.body[..] != b"7") {
            variants.touch(stored, later);
        }
        memory.insert(&key, &Arc::new(varying("new", "new", later)), later);
        let kept = bodies(&memory, &key);
        assert_eq!(kept.len(), VARIANTS_MAX);
        assert!(!kept.contains(&"7".to_owned()), "the least used");
        assert_eq!(kept[0], "new");
    }

    #[test]
    fn i10_bounded_by_bytes_and_by_object() {
        let memory = memory(100_000, 10_000);
        for number in 0..100 {
            let stored = response(&"x".repeat(5_000), NOW);
            memory.insert(&key(&format!("http://h/{number}")), &Arc::new(stored), NOW);
        }
        memory.responses.run_pending_tasks();
        assert!(memory.responses.weighted_size() <= 100_000);
        assert!(memory.responses.entry_count() > 5);
        let key = key("http://h/large");
        memory.insert(&key, &Arc::new(response("small", NOW)), NOW);
        memory.insert(&key, &Arc::new(response(&"x".repeat(10_001), NOW)), NOW);
        assert_eq!(bodies(&memory, &key), Vec::<String>::new(), "what it replaced is old");
    }
}

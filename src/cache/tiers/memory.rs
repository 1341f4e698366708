//! The first tier: what is ready to be sent, bounded by its bytes.

use super::large::{Kept, LargeBodies};
use crate::cache::rules::date::{self, whole_seconds};
use crate::cache::rules::reuse::STALE_WINDOW_MAX;
use crate::cache::{CacheKey, StoredResponse};
use crate::clock::Timestamp;
use crate::telemetry::metrics;
use http::header::DATE;
use http::{HeaderName, HeaderValue};
use moka::ops::compute::Op;
use rapidhash::fast::RandomState;
use std::cmp::Reverse;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Variants kept of one key; the least used goes first.
const VARIANTS_MAX: usize = 32;
/// Bytes that a stored response costs beside its texts and its body: its own parts, its place in the
/// tier's tables, and what allocations round up.
const RESPONSE_OVERHEAD: usize = 600;
/// Bytes that a selecting field, or a tag, costs beside its texts.
const FIELD_OVERHEAD: usize = 96;

/// What nobody has asked for so long is let go. A time for each response would be one more allocation for each, and
/// what is of no use any more makes room for others in any case.
const IDLE_MAX: Duration = STALE_WINDOW_MAX;

/// Epochs behind which nobody can look at what was taken out of moka's table any more, and one more.
const EPOCHS: usize = 3;

/// What selects a variant.
type Selecting = [(HeaderName, Option<HeaderValue>)];

/// The stored responses of one key, in the order in which a request chooses among those it selects:
/// those that vary on something first (RFC 9111 4.1, last paragraph but one), then the most recent by
/// Date (RFC 9111 4).
#[derive(Clone, Debug)]
pub(crate) enum Variants {
    /// Most keys have one, whose body is not large: nothing lies between the tier's table and it.
    One(Arc<StoredResponse>),
    Several(Arc<Vec<Variant>>),
}

#[derive(Clone, Debug)]
pub(crate) struct Variant {
    stored: Arc<StoredResponse>,
    /// That this place keeps its body, where that is large; behind the response, which holds it too.
    kept: Option<Arc<Kept>>,
}

impl Variants {
    /// The stored responses, in the order in which they are chosen.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<StoredResponse>> {
        let (one, several) = match self {
            Self::One(stored) => (Some(stored), &[][..]),
            Self::Several(list) => (None, &list[..]),
        };
        one.into_iter().chain(several.iter().map(|variant| &variant.stored))
    }

    /// Whether they are what a key has: keys of one hash share a place, and the last of them has it.
    fn are_of(&self, key: &CacheKey) -> bool {
        self.iter().next().is_some_and(|stored| stored.fields.key() == key.text())
    }

    fn new(list: Vec<Variant>) -> Self {
        match &list[..] {
            [Variant { stored, kept: None }] => Self::One(Arc::clone(stored)),
            _ => Self::Several(Arc::new(list)),
        }
    }

    /// Those that other fields select.
    fn others(&self, selecting: &Selecting) -> Vec<Variant> {
        let is_other = |stored: &StoredResponse| *stored.selecting_fields != *selecting;
        match self {
            Self::One(stored) => {
                let other = is_other(stored).then(|| Variant { stored: Arc::clone(stored), kept: None });
                other.into_iter().collect()
            }
            Self::Several(list) => list.iter().filter(|variant| is_other(&variant.stored)).cloned().collect(),
        }
    }

    /// What they cost.
    fn bytes(&self) -> u32 {
        u32::try_from(self.iter().map(|stored| cost(stored)).sum::<usize>()).unwrap_or(u32::MAX)
    }
}

/// The tier.
#[derive(Debug)]
pub(crate) struct Memory {
    /// By the hash of their key: its text lies with them.
    responses: moka::sync::Cache<u64, Variants, RandomState>,
    object_bytes: AtomicU64,
    large: Arc<LargeBodies>,
}

impl Memory {
    pub(crate) fn new(bytes: u64, object_bytes: u64, large: Arc<LargeBodies>) -> Self {
        let responses = moka::sync::Cache::builder()
            .max_capacity(bytes)
            .weigher(|_: &u64, variants: &Variants| variants.bytes())
            .time_to_idle(IDLE_MAX)
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

    pub(crate) fn get(&self, key: &CacheKey) -> Option<Variants> {
        self.responses.get(&key.hash()).filter(|variants| variants.are_of(key))
    }

    /// As [`Memory::get`], which leaves no trace of a look for what is not there.
    pub(crate) fn get_known(&self, key: &CacheKey) -> Option<Variants> {
        if self.responses.contains_key(&key.hash()) { self.get(key) } else { None }
    }

    /// As [`Memory::get`], without a trace.
    pub(crate) async fn get_unseen(&self, key: &CacheKey) -> Option<Variants> {
        unseen(&self.responses, &key.hash()).await.filter(|variants| variants.are_of(key))
    }

    /// Keeps a response in the place of the variant with the same selecting fields, unless that one
    /// is newer. What is too large takes that place away.
    pub(crate) fn insert(&self, key: &CacheKey, stored: &Arc<StoredResponse>, now: Timestamp) {
        if body_bytes(stored) > self.object_bytes() {
            self.remove_variant(key, stored);
            return;
        }
        let (stored, is_large) = (under(key, stored), LargeBodies::notices(&stored.body));
        self.responses.entry(key.hash()).and_compute_with(|entry| {
            let before = entry.map(moka::Entry::into_value).filter(|before| before.are_of(key));
            let same = before
                .as_ref()
                .and_then(|before| before.iter().find(|old| old.selecting_fields == stored.selecting_fields));
            if same.is_some_and(|old| is_newer(old, &stored)) {
                return Op::Nop;
            }
            let mut list = before.map_or_else(Vec::new, |before| before.others(&stored.selecting_fields));
            if list.len() >= VARIANTS_MAX {
                drop_least_used(&mut list);
            }
            stored.uses.begin(now);
            let kept = self.large.keep(&stored.body).map(Arc::new);
            list.insert(0, Variant { stored, kept });
            // Stable: what came last is first among those of one second.
            list.sort_by_cached_key(|Variant { stored, .. }| {
                (stored.selecting_fields.is_empty(), Reverse(whole_seconds(dated(stored))))
            });
            Op::Put(Variants::new(list))
        });
        if is_large {
            self.let_go();
        }
    }

    /// Lets go of what has no room any more, which else happens when moka comes by, and some turns of the epochs of its
    /// table later: until then it counts for nobody.
    fn let_go(&self) {
        self.responses.run_pending_tasks();
        for _ in 0..EPOCHS {
            crossbeam_epoch::pin().flush();
        }
    }

    /// Forgets all variants of a key.
    pub(crate) fn remove(&self, key: &CacheKey) {
        self.responses.invalidate(&key.hash());
    }

    /// Whether what came later stands in the place of a response.
    pub(crate) fn has_newer(&self, key: &CacheKey, than: &StoredResponse) -> bool {
        let newer =
            |old: &Arc<StoredResponse>| old.selecting_fields == than.selecting_fields && is_newer(old, than);
        self.get(key).is_some_and(|variants| variants.iter().any(newer))
    }

    /// Forgets the variant that a response is; what came later in its place stays.
    pub(crate) fn remove_variant(&self, key: &CacheKey, stored: &StoredResponse) {
        self.responses.entry(key.hash()).and_compute_with(|entry| {
            let before = entry.map(moka::Entry::into_value).filter(|before| before.are_of(key));
            let Some(before) = before else { return Op::Nop };
            let list = before.others(&stored.selecting_fields);
            let same = before.iter().find(|old| old.selecting_fields == stored.selecting_fields);
            if same.is_none_or(|old| is_newer(old, stored)) {
                Op::Nop
            } else if list.is_empty() {
                Op::Remove
            } else {
                Op::Put(Variants::new(list))
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
pub(crate) async fn unseen<K, V>(keys: &moka::sync::Cache<K, V, RandomState>, key: &K) -> Option<V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    if !keys.contains_key(key) {
        return None;
    }
    let (keys, key) = (keys.clone(), key.clone());
    let walk = move || keys.iter().find(|(own, _)| **own == key).map(|(_, value)| value);
    tokio::task::spawn_blocking(walk).await.ok().flatten()
}

/// The same, with the key that it is found by; what the cache has packed has it.
fn under(key: &CacheKey, stored: &Arc<StoredResponse>) -> Arc<StoredResponse> {
    if stored.fields.key() == key.text() {
        return Arc::clone(stored);
    }
    let fields = stored.fields.clone().under(key);
    Arc::new(StoredResponse { fields, ..StoredResponse::clone(stored) })
}

/// When the source made it, as far as it says.
fn dated(stored: &StoredResponse) -> Timestamp {
    let date = stored.fields.get(&DATE).and_then(|date| date::read(date, stored.received_at));
    date.unwrap_or(stored.received_at)
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
        .min_by_key(|(_, variant)| variant.stored.uses.last())
        .map(|(index, _)| index);
    if let Some(least) = least {
        list.remove(least);
        ::metrics::counter!(metrics::VARIANTS_DROPPED).increment(1);
    }
}

fn cost(stored: &StoredResponse) -> usize {
    let selecting = stored.selecting_fields.iter().map(|(name, value)| {
        name.as_str().len() + value.as_ref().map_or(0, HeaderValue::len) + FIELD_OVERHEAD
    });
    let tags = stored.tags.iter().map(|tag| tag.len() + FIELD_OVERHEAD);
    let texts: usize = selecting.chain(tags).sum();
    stored.fields.own_bytes() + stored.body.len() + texts + RESPONSE_OVERHEAD
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
        memory.remove_variant(&key, &earlier);
        assert!(memory.has_newer(&key, &earlier) && !memory.has_newer(&key, &varying("de", "", NOW)));
        assert_eq!(bodies(&memory, &key), ["zwei", "one"], "it is not what was spoken of");
        memory.remove_variant(&key, &varying("de", "", NOW));
        assert_eq!(bodies(&memory, &key), ["one"]);
    }

    /// Two texts of one hash take the place from each other, and are never taken for each other.
    #[tokio::test]
    async fn i8_a_hash_alone_finds_nothing() {
        let memory = memory(1 << 20, 1 << 20);
        let (one, other) = (key("http://h/a"), key("http://h/b").with_hash_of(&key("http://h/a")));
        memory.insert(&one, &Arc::new(response("one", NOW)), NOW);
        assert!(memory.get(&other).is_none() && memory.get_unseen(&other).await.is_none());
        assert!(!memory.has_newer(&other, &response("", Timestamp::default())));
        memory.remove_variant(&other, &response("one", NOW));
        assert_eq!(bodies(&memory, &one), ["one"]);
        memory.insert(&other, &Arc::new(varying("de", "other", NOW)), NOW);
        assert_eq!((bodies(&memory, &one), bodies(&memory, &other)), (Vec::new(), vec!["other".to_owned()]));
    }

    #[tokio::test]
    async fn a_look_without_a_trace_makes_nothing_popular() {
        // Room for one: of two that want to stay, the one that was asked for more often does.
        let room = cost(&response("a", NOW)) as u64 * 3 / 2;
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
            stored.uses.note(later);
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

//! The fields of a stored response: their values in one block, their names shared by all responses that
//! have the same ones. A map takes more than a small body does, and lies in memory in five places.

mod lines;

use crate::cache::CacheKey;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
pub use lines::{Sending, write_line};
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

/// Fields that answers get besides what is stored: Age, Cache-Status, X-Request-Id and two of quotas. Without
/// room for them each answer would make its index anew.
const ADDED: usize = 5;
/// Bits of a length that one byte has; its highest says that more follow.
const LENGTH_BITS: u32 = 7;
const MORE: u8 = 1 << LENGTH_BITS;
/// Lists of names that are shared. A source has one for each kind of answer.
const LISTS_MAX: usize = 1_024;
/// Names of the longest list that is shared.
const NAMES_MAX: usize = 64;
/// Bytes of all names of a list that is shared: with the maps that are ready for them, all lists take at most 12 MiB.
const LIST_BYTES_MAX: usize = 2 * 1024;
/// Bytes that a name takes beside its text.
const NAME_OVERHEAD: usize = size_of::<HeaderName>() + 32;
/// When there are too many lists, those that nobody uses any more are looked for once in so many stores.
const SWEPT_EVERY: usize = 1_024;

/// Where a value is to come.
const BLANK: HeaderValue = HeaderValue::from_static("");

/// Field lines in their order, made once and never changed.
#[derive(Clone)]
pub struct StoredFields {
    names: Arc<Names>,
    /// The text of the key that they are kept under, empty where they are not, then the values; each behind its
    /// length. A hit compares the one and sends the others: they lie side by side.
    block: Box<[u8]>,
}

#[derive(Debug)]
struct Names {
    list: Box<[HeaderName]>,
    /// A map of these names in this order, without their values: to put them there is less than to look for the
    /// place of each. Only where the list is shared.
    blank: Option<HeaderMap>,
    /// How they are sent as they stand.
    sending: Sending,
    /// The beginnings of their lines, one behind the other; only where the list is shared.
    beginnings: Box<[u8]>,
}

impl StoredFields {
    /// The lines as a map, with room for what answers add.
    #[must_use]
    pub fn to_map(&self) -> HeaderMap {
        let Some(blank) = &self.names.blank else { return self.select(|_| true) };
        let mut map = blank.clone();
        for (place, value) in map.values_mut().zip(self.values()) {
            *place = own(value);
        }
        map
    }

    /// The lines of some names as a map, with room for what answers add.
    #[must_use]
    pub fn select(&self, is_wanted: impl Fn(&HeaderName) -> bool) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.names.list.len() + ADDED);
        let lines = self.names.list.iter().zip(self.values());
        for (name, value) in lines.filter(|(name, _)| is_wanted(name)) {
            map.append(name, own(value));
        }
        map
    }

    /// The values, which share a copy of the block: who gets one may keep it longer than the response.
    fn values(&self) -> impl Iterator<Item = Bytes> {
        let block = Bytes::copy_from_slice(self.lines());
        let mut begins_at = 0;
        (0..self.names.list.len()).map(move |_| {
            let (value, rest) = split(block.get(begins_at..).unwrap_or_default());
            begins_at = block.len() - rest.len();
            block.slice_ref(value)
        })
    }

    /// The first value of a name.
    #[must_use]
    pub fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        self.iter().find_map(|(own, value)| (own == name).then_some(value))
    }

    /// The lines, those of one name together.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &[u8])> {
        let mut lines = self.lines();
        self.names.list.iter().map(move |name| {
            let (value, rest) = split(lines);
            lines = rest;
            (name, value)
        })
    }

    /// The text of the key that they are kept under; empty where they are not kept.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        split(&self.block).0
    }

    /// The same, kept under a key.
    #[must_use]
    pub fn under(self, key: &CacheKey) -> Self {
        if self.key() == key.text() {
            return self;
        }
        let lines = self.lines();
        let mut block = Vec::with_capacity(bytes_of(key.text()) + lines.len());
        append(&mut block, key.text());
        block.extend_from_slice(lines);
        Self { block: block.into(), ..self }
    }

    fn lines(&self) -> &[u8] {
        split(&self.block).1
    }

    /// Bytes of its own: without its names where others may have them too.
    #[must_use]
    pub fn own_bytes(&self) -> usize {
        let names = if self.names.blank.is_some() { 0 } else { self.names.bytes() };
        self.block.len() + names
    }
}

fn own(bytes: Bytes) -> HeaderValue {
    // It was a value before.
    HeaderValue::from_maybe_shared(bytes).unwrap_or(BLANK)
}

/// What stands behind its length, and what follows; nothing of either where it is cut off.
fn split(block: &[u8]) -> (&[u8], &[u8]) {
    let (mut length, mut shift, mut rest) = (0, 0, block);
    while let Some((byte, after)) = rest.split_first() {
        length |= usize::from(byte & !MORE).unbounded_shl(shift);
        (shift, rest) = (shift + LENGTH_BITS, after);
        if byte & MORE == 0 {
            break;
        }
    }
    rest.split_at_checked(length).unwrap_or_default()
}

fn append(block: &mut Vec<u8>, bytes: &[u8]) {
    let mut length = bytes.len();
    loop {
        let [low, ..] = length.to_le_bytes();
        length >>= LENGTH_BITS;
        if length == 0 {
            block.push(low);
            break;
        }
        block.push(low | MORE);
    }
    block.extend_from_slice(bytes);
}

/// What they take behind their length.
fn bytes_of(bytes: &[u8]) -> usize {
    let bits = usize::BITS - bytes.len().leading_zeros();
    bits.div_ceil(LENGTH_BITS).max(1) as usize + bytes.len()
}

impl PartialEq for StoredFields {
    fn eq(&self, other: &Self) -> bool {
        self.names == other.names && self.lines() == other.lines()
    }
}

impl Eq for StoredFields {}

impl Names {
    fn text_bytes(&self) -> usize {
        self.list.iter().map(|name| name.as_str().len()).sum()
    }

    /// What they take.
    fn bytes(&self) -> usize {
        self.text_bytes() + self.list.len() * NAME_OVERHEAD
    }
}

impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl Eq for Names {}

impl Hash for Names {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.list.hash(state);
    }
}

impl From<&HeaderMap> for StoredFields {
    fn from(map: &HeaderMap) -> Self {
        let values = || map.values().map(HeaderValue::as_bytes);
        let mut block = Vec::with_capacity(bytes_of(&[]) + values().map(bytes_of).sum::<usize>());
        append(&mut block, &[]);
        values().for_each(|value| append(&mut block, value));
        let list = map.iter().map(|(name, _)| name.clone()).collect();
        Self {
            names: Arc::new(Names {
                list,
                blank: None,
                sending: Sending::MadeAnew,
                beginnings: Box::default(),
            }),
            block: block.into(),
        }
    }
}

impl From<HeaderMap> for StoredFields {
    fn from(map: HeaderMap) -> Self {
        Self::from(&map)
    }
}

impl fmt::Debug for StoredFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.iter().map(|(name, value)| (name, String::from_utf8_lossy(value)));
        f.debug_map().entries(lines).finish()
    }
}

/// The lists of names that stored responses share, each once. What finds no place keeps its own, which counts as its
/// own.
#[derive(Debug, Default)]
pub struct NameLists(Mutex<Lists>);

#[derive(Debug, Default)]
struct Lists {
    known: HashSet<Arc<Names>>,
    /// How often there was no place.
    refused: usize,
}

impl Lists {
    /// Whether there is a place for another.
    fn has_place(&mut self) -> bool {
        if self.known.len() >= LISTS_MAX {
            if self.refused.is_multiple_of(SWEPT_EVERY) {
                self.known.retain(|names| Arc::strong_count(names) > 1);
            }
            self.refused += 1;
        }
        self.known.len() < LISTS_MAX
    }
}

impl NameLists {
    /// The same fields, with a list of names that is shared.
    #[must_use]
    pub fn shared(&self, fields: StoredFields) -> StoredFields {
        if fields.names.list.len() > NAMES_MAX || fields.names.text_bytes() > LIST_BYTES_MAX {
            return fields;
        }
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = lists.known.get(&fields.names) {
            return StoredFields { names: Arc::clone(names), ..fields };
        }
        if !lists.has_place() {
            return fields;
        }
        let list = fields.names.list.clone();
        let mut blank = HeaderMap::with_capacity(list.len() + ADDED);
        blank.extend(list.iter().map(|name| (name.clone(), BLANK)));
        let (sending, beginnings) = (Sending::of(&list), lines::beginnings(&list));
        let names = Arc::new(Names { list, blank: Some(blank), sending, beginnings });
        lists.known.insert(Arc::clone(&names));
        StoredFields { names, ..fields }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tiers::testing::key;
    use http::header::{CONTENT_TYPE, ETAG, SET_COOKIE, VARY};

    fn map() -> HeaderMap {
        let lines = [
            (CONTENT_TYPE, "text/plain"),
            (SET_COOKIE, "one"),
            (VARY, ""),
            (SET_COOKIE, "two"),
            (HeaderName::from_static("x-own"), "\u{fc}"),
        ];
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    #[test]
    fn what_goes_in_comes_out() {
        let fields = StoredFields::from(map());
        assert_eq!(fields.to_map(), map());
        assert_eq!(StoredFields::from(HeaderMap::new()).to_map(), HeaderMap::new());
        assert_eq!(fields.iter().count(), 5);
        assert_eq!(fields.get(&SET_COOKIE), Some(&b"one"[..]));
        assert_eq!(fields.get(&VARY), Some(&b""[..]));
        assert_eq!(fields.get(&ETAG), None);
        let selected = fields.select(|name| *name == SET_COOKIE);
        assert_eq!(selected.get_all(SET_COOKIE).iter().collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(selected.len(), 2);
        let key = key("http://h/a");
        let kept = fields.clone().under(&key);
        assert_eq!((kept.key(), fields.key(), kept.to_map()), (key.text(), &b""[..], map()));
        assert_eq!(kept, fields, "the key is no part of what they are");
        let shown = format!("{fields:?}");
        assert!(shown.contains("\"text/plain\"") && shown.contains("\"ü\""), "{shown}");
    }

    #[test]
    fn values_of_any_length_come_out() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 70_000] {
            let text = "x".repeat(length);
            let mut map = HeaderMap::from_iter([(ETAG, HeaderValue::from_str(&text).unwrap())]);
            map.insert(VARY, HeaderValue::from_static("behind"));
            let fields = StoredFields::from(&map);
            assert_eq!(fields.to_map(), map, "{length}");
            assert_eq!(fields.own_bytes() - fields.names.bytes(), fields.block.len());
            assert_eq!(fields.block.len(), 1 + bytes_of(text.as_bytes()) + 1 + "behind".len(), "{length}");
            let key = key(&format!("http://h/{text}"));
            assert_eq!((fields.clone().under(&key).key(), fields.under(&key).to_map()), (key.text(), map));
        }
    }

    #[test]
    fn it_holds_no_buffer_of_others() {
        let buffer = Bytes::from(b"text/plain|one".to_vec());
        let mut map = HeaderMap::new();
        map.insert(CONTENT_TYPE, HeaderValue::from_maybe_shared(buffer.slice(0..10)).unwrap());
        let fields = StoredFields::from(map);
        assert!(buffer.is_unique(), "the buffer is still held");
        assert_eq!(fields.get(&CONTENT_TYPE), Some(&b"text/plain"[..]));
    }

    #[test]
    fn names_are_shared() {
        let lists = NameLists::default();
        let one = lists.shared(StoredFields::from(map()));
        let mut other = map();
        other.insert(CONTENT_TYPE, HeaderValue::from_static("image/png"));
        let other = lists.shared(StoredFields::from(other));
        assert!(Arc::ptr_eq(&one.names, &other.names));
        assert_ne!(one, other);
        assert_eq!(one.to_map(), map());
        assert_eq!(one, StoredFields::from(map()));
        assert_eq!(other.to_map()[CONTENT_TYPE], "image/png");
    }

    fn named(name: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::try_from(name).unwrap(), HeaderValue::from_static("x"))])
    }

    #[test]
    fn i10_shared_names_are_bounded_and_others_count() {
        let lists = NameLists::default();
        let shared = |map: &HeaderMap| lists.shared(StoredFields::from(map));
        // A value of one byte behind its length, and behind that of no key.
        let own = 3;
        let kept: Vec<_> = (0..LISTS_MAX).map(|number| shared(&named(&format!("x-{number}")))).collect();
        assert!(kept.iter().all(|fields| fields.own_bytes() == own));
        let beyond = shared(&named("x-beyond"));
        assert_eq!((beyond.own_bytes(), beyond.to_map()), (own + 8 + NAME_OVERHEAD, named("x-beyond")));
        assert_eq!(shared(&named("x-7")).own_bytes(), own, "those that are known stay");
        drop(kept);
        assert_eq!(lists.0.lock().unwrap().known.len(), LISTS_MAX);
        let later: Vec<_> = (0..SWEPT_EVERY).map(|_| shared(&named("x-later")).own_bytes()).collect();
        assert_eq!(later.last(), Some(&own), "there is a place once others have gone");
        assert_eq!(lists.0.lock().unwrap().known.len(), 1);
    }

    #[test]
    fn i10_long_lists_are_not_shared() {
        let lists = NameLists::default();
        let many = (0..=NAMES_MAX).map(|number| HeaderName::try_from(format!("x-{number}")).unwrap());
        let many: HeaderMap = many.map(|name| (name, HeaderValue::from_static("x"))).collect();
        let long = named(&"x".repeat(LIST_BYTES_MAX + 1));
        for map in [many, long] {
            let fields = lists.shared(StoredFields::from(&map));
            assert_eq!(fields.to_map(), map);
            assert!(fields.own_bytes() > map.keys().map(|name| name.as_str().len()).sum());
        }
        assert!(lists.0.lock().unwrap().known.is_empty());
    }
}

//! Stored responses as bytes in the shared tier: magic, version, flags, lengths, the whole key,
//! meta data (postcard), the body as it is, a checksum over all of it.
//!
//! Decoding never panics, and what does not verify has an error: to the caller it is a miss.

use crate::cache::purge::Fence;
use crate::cache::purge::log::Stamp;
use crate::cache::rules::early::Early;
use crate::cache::stored::{Reuse, StoredResponse};
use crate::clock::Timestamp;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use rapidhash::v3::rapidhash_v3;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const MAGIC: [u8; 4] = *b"TdGt";
/// Raised with every change of the layout or of [`Meta`]; other versions are misses.
const VERSION: u8 = 3;
/// No flag has a meaning yet; a reader that does not know one must not guess.
const FLAGS: u8 = 0;
const HEAD_BYTES: usize = MAGIC.len() + 2 + 4 + 4;
const CHECKSUM_BYTES: usize = 8;

/// Why bytes are not a stored response of this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("not an envelope")]
    Envelope,
    #[error("another version")]
    Version,
    #[error("the checksum does not match")]
    Checksum,
    #[error("it belongs to another key")]
    Key,
    #[error("its meta data cannot be read")]
    Meta,
}

/// What stands under a key of the shared tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A stored response. Its fence means nothing until the stamp has been translated.
    Response(Box<StoredResponse>, Stamp),
    /// The key has variants, selected by these request fields.
    Variants(VaryMarker),
}

/// Leads to the variants of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VaryMarker {
    /// In order of name.
    pub(crate) names: Vec<HeaderName>,
    /// Drawn anew when the names change: variants under other names are never found again.
    pub(crate) generation: u64,
}

#[derive(Serialize, Deserialize)]
enum Meta {
    Response(ResponseMeta),
    Variants { names: Vec<String>, generation: u64 },
}

#[derive(Serialize, Deserialize)]
struct ResponseMeta {
    status: u16,
    fields: Vec<(String, Vec<u8>)>,
    received_at: Timestamp,
    initial_age_millis: u64,
    freshness_lifetime_millis: u64,
    reuse: Reuse,
    selecting_fields: Vec<(String, Option<Vec<u8>>)>,
    tags: Vec<String>,
    stamp: Stamp,
    forward_millis: u64,
}

/// The bytes of a response; `None` where a length does not fit the envelope.
pub(crate) fn encode_response(key: &[u8], stored: &StoredResponse, stamp: Stamp) -> Option<Vec<u8>> {
    let fields = stored.fields.iter();
    let selecting = stored.selecting_fields.iter();
    let meta = Meta::Response(ResponseMeta {
        status: stored.status.as_u16(),
        fields: fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect(),
        received_at: stored.received_at,
        initial_age_millis: millis(stored.initial_age),
        freshness_lifetime_millis: millis(stored.freshness_lifetime),
        reuse: stored.reuse,
        selecting_fields: selecting
            .map(|(name, value)| (name.to_string(), value.as_ref().map(|value| value.as_bytes().to_vec())))
            .collect(),
        tags: stored.tags.clone(),
        stamp,
        forward_millis: millis(stored.early.forward_time()),
    });
    envelope(key, &meta, &stored.body)
}

/// The bytes of a marker; `None` where a length does not fit the envelope.
pub(crate) fn encode_marker(key: &[u8], marker: &VaryMarker) -> Option<Vec<u8>> {
    let names = marker.names.iter().map(HeaderName::to_string).collect();
    envelope(key, &Meta::Variants { names, generation: marker.generation }, &[])
}

/// What the bytes found under `key` are.
///
/// # Errors
/// [`DecodeError`] for everything that was not encoded for this key by this version.
pub(crate) fn decode(key: &[u8], bytes: &Bytes) -> Result<Value, DecodeError> {
    let (content, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(DecodeError::Envelope)?;
    let (magic, rest) = content.split_first_chunk::<4>().ok_or(DecodeError::Envelope)?;
    let (&[version, flags], rest) = rest.split_first_chunk::<2>().ok_or(DecodeError::Envelope)?;
    if *magic != MAGIC {
        return Err(DecodeError::Envelope);
    }
    if version != VERSION || flags != FLAGS {
        return Err(DecodeError::Version);
    }
    if rapidhash_v3(content) != u64::from_be_bytes(*checksum) {
        return Err(DecodeError::Checksum);
    }
    let (key_length, rest) = split_length(rest)?;
    let (meta_length, rest) = split_length(rest)?;
    let (own_key, rest) = rest.split_at_checked(key_length).ok_or(DecodeError::Envelope)?;
    let (meta, body) = rest.split_at_checked(meta_length).ok_or(DecodeError::Envelope)?;
    if own_key != key {
        return Err(DecodeError::Key);
    }
    let body = bytes.slice_ref(body);
    from_meta(postcard::from_bytes(meta).map_err(|_| DecodeError::Meta)?, body).ok_or(DecodeError::Meta)
}

fn envelope(key: &[u8], meta: &Meta, body: &[u8]) -> Option<Vec<u8>> {
    let meta = postcard::to_stdvec(meta).ok()?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + key.len() + meta.len() + body.len() + CHECKSUM_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[VERSION, FLAGS]);
    for part in [key, &meta] {
        bytes.extend_from_slice(&u32::try_from(part.len()).ok()?.to_be_bytes());
    }
    for part in [key, &meta, body] {
        bytes.extend_from_slice(part);
    }
    let checksum = rapidhash_v3(&bytes);
    bytes.extend_from_slice(&checksum.to_be_bytes());
    Some(bytes)
}

fn split_length(bytes: &[u8]) -> Result<(usize, &[u8]), DecodeError> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(DecodeError::Envelope)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| DecodeError::Envelope)?;
    Ok((length, rest))
}

fn from_meta(meta: Meta, body: Bytes) -> Option<Value> {
    let meta = match meta {
        Meta::Response(meta) => meta,
        Meta::Variants { names, generation } => {
            let names = names.iter().map(|name| name.parse().ok()).collect::<Option<_>>()?;
            return Some(Value::Variants(VaryMarker { names, generation }));
        }
    };
    let mut fields = HeaderMap::with_capacity(meta.fields.len().min(1024));
    for (name, value) in meta.fields {
        // `append` would panic where there are too many.
        fields.try_append(name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(&value).ok()?).ok()?;
    }
    let selecting = meta.selecting_fields.into_iter().map(|(name, value)| {
        let value = match value {
            Some(value) => Some(HeaderValue::from_bytes(&value).ok()?),
            None => None,
        };
        Some((name.parse().ok()?, value))
    });
    let freshness_lifetime = Duration::from_millis(meta.freshness_lifetime_millis);
    let early = Early::decide(Duration::from_millis(meta.forward_millis), freshness_lifetime, meta.reuse);
    let stored = StoredResponse {
        status: StatusCode::from_u16(meta.status).ok()?,
        fields,
        body,
        received_at: meta.received_at,
        initial_age: Duration::from_millis(meta.initial_age_millis),
        freshness_lifetime,
        reuse: meta.reuse,
        selecting_fields: selecting.collect::<Option<_>>()?,
        tags: meta.tags,
        fence: Fence::default(),
        early,
    };
    Some(Value::Response(Box::new(stored), meta.stamp))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tiers::testing::varying;
    use crate::redis::LogPosition;
    use proptest::prelude::*;

    const KEY: &[u8] = b"the key";
    const STAMP: Stamp = Stamp { epoch: 3, position: LogPosition { millis: 5, sequence: 1 } };

    fn stored() -> StoredResponse {
        let mut stored = varying("de", "body", Timestamp::from_millis(7));
        stored.fields.append("x-binary", HeaderValue::from_bytes(b"\xff").unwrap());
        stored.tags = vec!["t".into()];
        stored.early = Early::decide(Duration::from_millis(250), stored.freshness_lifetime, stored.reuse);
        stored
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let bytes = Bytes::from(encode_response(KEY, &stored(), STAMP).unwrap());
        assert_eq!(decode(KEY, &bytes), Ok(Value::Response(Box::new(stored()), STAMP)));
        assert_eq!(decode(b"another", &bytes), Err(DecodeError::Key));
        let marker = VaryMarker { names: vec![http::header::ACCEPT], generation: 9 };
        let bytes = Bytes::from(encode_marker(KEY, &marker).unwrap());
        assert_eq!(decode(KEY, &bytes), Ok(Value::Variants(marker)));
    }

    #[test]
    fn other_versions_and_unknown_flags_are_misses() {
        for position in [4, 5] {
            let mut bytes = encode_response(KEY, &stored(), STAMP).unwrap();
            bytes[position] = 77;
            let end = bytes.len() - CHECKSUM_BYTES;
            let checksum = rapidhash_v3(&bytes[..end]).to_be_bytes();
            bytes[end..].copy_from_slice(&checksum);
            assert_eq!(decode(KEY, &bytes.into()), Err(DecodeError::Version));
        }
    }

    proptest! {
        #[test]
        fn one_altered_byte_is_a_miss(at in any::<prop::sample::Index>(), by in 1..=255_u8) {
            let mut bytes = encode_response(KEY, &stored(), STAMP).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            prop_assert!(decode(KEY, &bytes.into()).is_err());
        }

        #[test]
        fn no_bytes_panic(content in prop::collection::vec(any::<u8>(), 0..300), meta_length in 0..300_u32) {
            prop_assert!(decode(KEY, &Bytes::from(content.clone())).is_err());
            // Also with everything right around what is read last.
            let mut bytes = [&MAGIC[..], &[VERSION, FLAGS]].concat();
            bytes.extend(u32::try_from(KEY.len()).unwrap().to_be_bytes());
            bytes.extend(meta_length.to_be_bytes());
            bytes.extend(KEY);
            bytes.extend(content);
            let checksum = rapidhash_v3(&bytes);
            bytes.extend(checksum.to_be_bytes());
            let decoded = decode(KEY, &bytes.into());
            prop_assert!(!matches!(decoded, Err(DecodeError::Checksum | DecodeError::Key)));
        }
    }
}

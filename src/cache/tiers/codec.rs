//! Stored responses as bytes in the shared tier: magic, version, flags, lengths, the whole key with
//! its namespace, meta data (postcard), the packed body, and a seal over all of it: a checksum, or
//! with a secret an authentication tag (HMAC-SHA-256).
//!
//! Version 3, which earlier builds write, is read too: it has no namespace, tag nor packing.
//! Decoding never panics, and what does not verify has an error: to the caller it is a miss.

use super::packing::{Coding, Packed, Packing, unpack};
use crate::cache::SharedSettings;
use crate::cache::purge::Fence;
use crate::cache::purge::log::Stamp;
use crate::cache::rules::early::Early;
use crate::cache::stored::{Reuse, StoredResponse, Uses};
use crate::clock::Timestamp;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use rapidhash::v3::rapidhash_v3;
use ring::hmac;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::Duration;

const MAGIC: [u8; 4] = *b"TdGt";
/// Raised with every change of the layout or of [`Meta`]; the one before is read, others are misses.
const VERSION: u8 = 4;
const VERSION_BEFORE: u8 = 3;
/// Sealed by an authentication tag. A reader that does not know a flag must not guess.
const AUTHENTICATED: u8 = 1;
const HEAD_BYTES: usize = MAGIC.len() + 2 + 4 + 4;
const CHECKSUM_BYTES: usize = 8;
const TAG_BYTES: usize = 32;

/// Why bytes are not a stored response of this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("not an envelope")]
    Envelope,
    #[error("another version")]
    Version,
    #[error("sealed with a secret where there is none, or without where there is one")]
    Unauthenticated,
    #[error("the seal does not match")]
    Altered,
    #[error("it belongs to another key or namespace")]
    Key,
    #[error("its meta data cannot be read")]
    Meta,
    #[error("its body is not what it should be")]
    Body,
}

impl DecodeError {
    /// The word for metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Envelope => "envelope",
            Self::Version => "version",
            Self::Unauthenticated => "unauthenticated",
            Self::Altered => "altered",
            Self::Key => "foreign",
            Self::Meta => "meta",
            Self::Body => "body",
        }
    }
}

/// What stands under a key of the shared tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A stored response, packed.
    Response(Box<PackedResponse>),
    /// The key has variants, selected by these request fields.
    Variants(VaryMarker),
    /// A piece of a body.
    Piece(Bytes),
}

/// A stored response whose body has still to be unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackedResponse {
    /// Without its body. Its fence means nothing until the stamp has been translated.
    stored: StoredResponse,
    pub(crate) stamp: Stamp,
    pub(crate) packing: Packing,
    /// The packed body; where it is in pieces it has to be put here first.
    pub(crate) bytes: Bytes,
}

impl PackedResponse {
    pub(crate) fn selecting_fields(&self) -> &[(HeaderName, Option<HeaderValue>)] {
        &self.stored.selecting_fields
    }

    /// The response with its body. Takes its time where that is compressed and large.
    ///
    /// # Errors
    /// [`DecodeError::Body`] where it is not as long as was said, or longer than `length_max`.
    pub(crate) fn open(self, length_max: u64) -> Result<StoredResponse, DecodeError> {
        let body = unpack(self.packing, self.bytes, length_max).ok_or(DecodeError::Body)?;
        Ok(StoredResponse { body, ..self.stored })
    }
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
    Response(Box<ResponseMeta>, Packing),
    Variants { names: Vec<String>, generation: u64 },
    Piece,
}

#[derive(Serialize, Deserialize)]
enum MetaBefore {
    Response(Box<ResponseMeta>),
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

#[derive(Debug)]
enum Seal {
    Checksum,
    Tag(hmac::Key),
}

/// Writes and reads the values of one namespace.
#[derive(Debug)]
pub(crate) struct Codec {
    namespace: String,
    seal: Seal,
}

impl Codec {
    pub(crate) fn new(settings: &SharedSettings) -> Self {
        let seal = settings.secret.as_ref().map_or(Seal::Checksum, |secret| {
            Seal::Tag(hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()))
        });
        Self { namespace: settings.namespace.clone(), seal }
    }

    /// The bytes of a response, less the body where that is in pieces; `None` where a length does
    /// not fit the envelope.
    pub(crate) fn encode_response(
        &self,
        key: &[u8],
        stored: &StoredResponse,
        stamp: Stamp,
        packed: &Packed,
    ) -> Option<Vec<u8>> {
        let fields = stored.fields.iter();
        let selecting = stored.selecting_fields.iter();
        let meta = Box::new(ResponseMeta {
            status: stored.status.as_u16(),
            fields: fields.map(|(name, value)| (name.to_string(), value.to_vec())).collect(),
            received_at: stored.received_at,
            initial_age_millis: millis(stored.initial_age.duration()),
            freshness_lifetime_millis: millis(stored.freshness_lifetime.duration()),
            reuse: stored.reuse,
            selecting_fields: selecting
                .map(|(name, value)| {
                    (name.to_string(), value.as_ref().map(|value| value.as_bytes().to_vec()))
                })
                .collect(),
            tags: stored.tags.to_vec(),
            stamp,
            forward_millis: millis(stored.early.forward_time()),
        });
        let body = if packed.packing.pieces.is_some() { &[][..] } else { &packed.bytes };
        self.envelope(key, &Meta::Response(meta, packed.packing), body)
    }

    /// The bytes of a marker; `None` where a length does not fit the envelope.
    pub(crate) fn encode_marker(&self, key: &[u8], marker: &VaryMarker) -> Option<Vec<u8>> {
        let names = marker.names.iter().map(HeaderName::to_string).collect();
        self.envelope(key, &Meta::Variants { names, generation: marker.generation }, &[])
    }

    /// The bytes of a piece; `None` where a length does not fit the envelope.
    pub(crate) fn encode_piece(&self, key: &[u8], piece: &[u8]) -> Option<Vec<u8>> {
        self.envelope(key, &Meta::Piece, piece)
    }

    /// What the bytes found under `key` are.
    ///
    /// # Errors
    /// [`DecodeError`] for everything that was not encoded for this key, in this namespace, with this
    /// secret, by this version or the one before.
    pub(crate) fn decode(&self, key: &[u8], bytes: &Bytes) -> Result<Value, DecodeError> {
        let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(DecodeError::Envelope)?;
        let (&[version, flags], _) = rest.split_first_chunk::<2>().ok_or(DecodeError::Envelope)?;
        if *magic != MAGIC {
            return Err(DecodeError::Envelope);
        }
        let is_known = matches!((version, flags), (VERSION, 0 | AUTHENTICATED) | (VERSION_BEFORE, 0));
        if !is_known {
            return Err(DecodeError::Version);
        }
        let content = self.unsealed(bytes, flags)?;
        let rest = content.get(MAGIC.len() + 2..).ok_or(DecodeError::Envelope)?;
        let (key_length, rest) = split_length(rest)?;
        let (meta_length, rest) = split_length(rest)?;
        let (own_key, rest) = rest.split_at_checked(key_length).ok_or(DecodeError::Envelope)?;
        let (meta, body) = rest.split_at_checked(meta_length).ok_or(DecodeError::Envelope)?;
        let expected = if version == VERSION { self.whole(key) } else { Cow::Borrowed(key) };
        if own_key != &*expected {
            return Err(DecodeError::Key);
        }
        let body = bytes.slice_ref(body);
        let meta = if version == VERSION {
            postcard::from_bytes(meta).map_err(|_| DecodeError::Meta)?
        } else {
            let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
            match postcard::from_bytes(meta).map_err(|_| DecodeError::Meta)? {
                MetaBefore::Response(meta) => {
                    Meta::Response(meta, Packing { coding: Coding::Plain, length, pieces: None })
                }
                MetaBefore::Variants { names, generation } => Meta::Variants { names, generation },
            }
        };
        from_meta(meta, body).ok_or(DecodeError::Meta)
    }

    /// The key that bytes say that they belong to; whether they do, decoding tells.
    pub(crate) fn key_of<'b>(&self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        let (length, rest) = split_length(bytes.get(MAGIC.len() + 2..)?).ok()?;
        let (_, rest) = split_length(rest).ok()?;
        let (key, _) = rest.split_at_checked(length)?;
        key.strip_prefix(self.namespace.as_bytes())?.strip_prefix(b"\0")
    }

    fn envelope(&self, key: &[u8], meta: &Meta, body: &[u8]) -> Option<Vec<u8>> {
        let (key, meta) = (self.whole(key), postcard::to_stdvec(meta).ok()?);
        let mut bytes = Vec::with_capacity(HEAD_BYTES + key.len() + meta.len() + body.len() + TAG_BYTES);
        bytes.extend_from_slice(&MAGIC);
        let flags = match self.seal {
            Seal::Checksum => 0,
            Seal::Tag(_) => AUTHENTICATED,
        };
        bytes.extend_from_slice(&[VERSION, flags]);
        for part in [&*key, &meta] {
            bytes.extend_from_slice(&u32::try_from(part.len()).ok()?.to_be_bytes());
        }
        for part in [&*key, &meta, body] {
            bytes.extend_from_slice(part);
        }
        match &self.seal {
            Seal::Checksum => bytes.extend_from_slice(&rapidhash_v3(&bytes).to_be_bytes()),
            Seal::Tag(secret) => bytes.extend_from_slice(hmac::sign(secret, &bytes).as_ref()),
        }
        Some(bytes)
    }

    /// What is before the seal, if that matches.
    fn unsealed<'b>(&self, bytes: &'b [u8], flags: u8) -> Result<&'b [u8], DecodeError> {
        match &self.seal {
            Seal::Checksum if flags == 0 => {
                let (content, checksum) =
                    bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(DecodeError::Envelope)?;
                let matches = rapidhash_v3(content) == u64::from_be_bytes(*checksum);
                if matches { Ok(content) } else { Err(DecodeError::Altered) }
            }
            Seal::Tag(secret) if flags == AUTHENTICATED => {
                let (content, tag) = bytes.split_last_chunk::<TAG_BYTES>().ok_or(DecodeError::Envelope)?;
                hmac::verify(secret, content, tag).map_err(|_| DecodeError::Altered)?;
                Ok(content)
            }
            Seal::Checksum | Seal::Tag(_) => Err(DecodeError::Unauthenticated),
        }
    }

    /// A key with its namespace, which has no NUL.
    fn whole<'k>(&self, key: &[u8]) -> Cow<'k, [u8]> {
        [self.namespace.as_bytes(), b"\0", key].concat().into()
    }
}

fn split_length(bytes: &[u8]) -> Result<(usize, &[u8]), DecodeError> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(DecodeError::Envelope)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| DecodeError::Envelope)?;
    Ok((length, rest))
}

fn from_meta(meta: Meta, bytes: Bytes) -> Option<Value> {
    let (meta, packing) = match meta {
        Meta::Response(meta, packing) => (meta, packing),
        Meta::Piece => return Some(Value::Piece(bytes)),
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
        fields: fields.into(),
        body: Bytes::new(),
        received_at: meta.received_at,
        initial_age: Duration::from_millis(meta.initial_age_millis).into(),
        freshness_lifetime: freshness_lifetime.into(),
        reuse: meta.reuse,
        selecting_fields: selecting.collect::<Option<_>>()?,
        tags: meta.tags.into(),
        fence: Fence::default(),
        early,
        uses: Uses::default(),
    };
    Some(Value::Response(Box::new(PackedResponse { stored, stamp: meta.stamp, packing, bytes })))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

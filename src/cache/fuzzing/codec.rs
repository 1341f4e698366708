//! Bytes of any content in the shared tier, and any change to good ones.

use super::stored;
use crate::cache::SharedSettings;
use crate::cache::purge::log::Stamp;
use crate::cache::stored::StoredResponse;
use crate::cache::tiers::codec::{Codec, DecodeError, Value};
use crate::cache::tiers::packing::Packed;
use crate::redis::Server;
use crate::secret::Secret;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::time::Duration;

const KEY: &[u8] = b"key";
/// A larger body is not unpacked.
const BODY_BYTES_MAX: u64 = 1 << 20;

/// Checks one input: as it is, and as what a good envelope is made and damaged of; with a checksum and
/// with an authentication tag.
///
/// # Panics
/// Where a rule does not hold.
pub fn check(data: &[u8]) {
    for secret in [None, Some(Secret::new("secret".into()))] {
        let Ok(redis) = Server::parse("redis://127.0.0.1") else { return };
        check_with(
            &Codec::new(&SharedSettings {
                redis,
                namespace: "n".into(),
                object_bytes: BODY_BYTES_MAX,
                secret,
                hash_keys: true,
                max_unverified: Duration::ZERO,
                lease: Duration::ZERO,
                data: None,
            }),
            data,
        );
    }
}

fn check_with(codec: &Codec, data: &[u8]) {
    if let Ok((response, stamp)) = open(codec, KEY, data.to_vec()) {
        let again = encode(codec, &response, stamp).map(|bytes| open(codec, KEY, bytes));
        assert_eq!(again, Some(Ok((response, stamp))));
    }
    let Some((&[status, at, flip, epoch], rest)) = data.split_first_chunk::<4>() else { return };
    let response = response(status, rest);
    let stamp = Stamp { epoch: u64::from(epoch), position: codec_position(epoch) };
    let Some(mut bytes) = encode(codec, &response, stamp) else { return };
    assert!(open(codec, b"another", bytes.clone()).is_err(), "it answers its own key only");
    assert_eq!(open(codec, KEY, bytes.clone()), Ok((response, stamp)), "what goes in comes out");
    let at = usize::from(at) * 7 % bytes.len();
    if let (Some(byte), true) = (bytes.get_mut(at), flip != 0) {
        *byte ^= flip;
        assert!(open(codec, KEY, bytes).is_err(), "byte {at} was changed and nobody saw it");
    }
}

fn encode(codec: &Codec, response: &StoredResponse, stamp: Stamp) -> Option<Vec<u8>> {
    let packed = Packed::new(&response.body, &response.fields);
    codec.encode_response(KEY, response, stamp, &packed)
}

fn open(codec: &Codec, key: &[u8], bytes: Vec<u8>) -> Result<(StoredResponse, Stamp), DecodeError> {
    match codec.decode(key, &bytes.into())? {
        Value::Response(packed) => {
            let stamp = packed.stamp;
            Ok((packed.open(BODY_BYTES_MAX)?, stamp))
        }
        Value::Variants(_) | Value::Piece(_) => Err(DecodeError::Meta),
    }
}

fn codec_position(of: u8) -> crate::redis::LogPosition {
    crate::redis::LogPosition { millis: u64::from(of) * 1_000, sequence: u64::from(of) }
}

fn response(status: u8, data: &[u8]) -> StoredResponse {
    let mut parts = data.split(|byte| *byte == b'\n');
    let body = Bytes::copy_from_slice(parts.next().unwrap_or_default());
    let mut response = stored(body);
    let (mut fields, mut selecting, mut tags) = (HeaderMap::new(), Vec::new(), Vec::new());
    response.status = StatusCode::from_u16(200 + u16::from(status)).unwrap_or_default();
    for part in parts.take(super::LINES_MAX) {
        let name = part.get(..part.len().min(4)).and_then(|name| HeaderName::from_bytes(name).ok());
        let value = HeaderValue::from_bytes(part).ok();
        if let (Some(name), Some(value)) = (name, value) {
            fields.append(name.clone(), value.clone());
            selecting.push((name, Some(value)));
        }
        tags.push(String::from_utf8_lossy(part).into_owned());
    }
    response.fields = fields.into();
    response.selecting_fields = selecting.into();
    response.tags = tags.into();
    response
}

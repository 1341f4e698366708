//! Bytes of any content in the shared tier, and any change to good ones.

use super::stored;
use crate::cache::purge::log::Stamp;
use crate::cache::stored::StoredResponse;
use crate::cache::tiers::codec::{self, Value};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

const KEY: &[u8] = b"key";

/// Checks one input: as it is, and as what a good envelope is made and damaged of.
///
/// # Panics
/// Where a rule does not hold.
pub fn check(data: &[u8]) {
    let raw = Bytes::copy_from_slice(data);
    if let Ok(Value::Response(response, stamp)) = codec::decode(KEY, &raw) {
        let again = codec::encode_response(KEY, &response, stamp).map(Bytes::from);
        assert_eq!(again.map(|bytes| codec::decode(KEY, &bytes)), Some(Ok(Value::Response(response, stamp))));
    }
    let Some((&[status, at, flip, epoch], rest)) = data.split_first_chunk::<4>() else { return };
    let response = response(status, rest);
    let stamp = Stamp { epoch: u64::from(epoch), position: codec_position(epoch) };
    let Some(mut bytes) = codec::encode_response(KEY, &response, stamp) else { return };
    let good = codec::decode(KEY, &Bytes::copy_from_slice(&bytes));
    assert_eq!(good, Ok(Value::Response(Box::new(response), stamp)), "what goes in comes out");
    let foreign = codec::decode(b"another", &Bytes::copy_from_slice(&bytes));
    assert!(foreign.is_err(), "it answers its own key only");
    let at = usize::from(at) * 7 % bytes.len();
    if let (Some(byte), true) = (bytes.get_mut(at), flip != 0) {
        *byte ^= flip;
        assert!(codec::decode(KEY, &bytes.into()).is_err(), "byte {at} was changed and nobody saw it");
    }
}

fn codec_position(of: u8) -> crate::redis::LogPosition {
    crate::redis::LogPosition { millis: u64::from(of) * 1_000, sequence: u64::from(of) }
}

fn response(status: u8, data: &[u8]) -> StoredResponse {
    let mut parts = data.split(|byte| *byte == b'\n');
    let body = Bytes::copy_from_slice(parts.next().unwrap_or_default());
    let mut response = stored(body);
    response.status = StatusCode::from_u16(200 + u16::from(status)).unwrap_or_default();
    for part in parts.take(super::LINES_MAX) {
        let name = part.get(..part.len().min(4)).and_then(|name| HeaderName::from_bytes(name).ok());
        let value = HeaderValue::from_bytes(part).ok();
        if let (Some(name), Some(value)) = (name, value) {
            response.fields.append(name.clone(), value.clone());
            response.selecting_fields.push((name, Some(value)));
        }
        response.tags.push(String::from_utf8_lossy(part).into_owned());
    }
    response
}

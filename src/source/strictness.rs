//! What the head of an answer must be, beyond what the parser asks: nobody may read its framing in
//! another way (RFC 9112 6.3).

use super::error::SourceError;
use super::switch::Asks;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};

/// The largest head of an answer, in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The most field lines of an answer.
pub(super) const FIELDS_MAX: usize = 200;

/// Whether a head may be used as the answer to a request that asked so.
///
/// # Errors
/// [`SourceError::Switched`], [`SourceError::HeadTooLarge`], [`SourceError::Framing`]
pub(super) fn check<B>(response: &Response<B>, asks: Option<&Asks>) -> Result<(), SourceError> {
    let fields = response.headers();
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let as_asked = |Asks(protocol): &Asks| protocol.is_switched_to(response.version(), fields);
    if switches && !asks.is_some_and(as_asked) {
        return Err(SourceError::Switched);
    }
    if head_bytes(fields) > HEAD_BYTES_MAX {
        return Err(SourceError::HeadTooLarge);
    }
    // A 101 has no content (RFC 9110 8.6, RFC 9112 6.1): what stands behind it belongs to the other protocol.
    let is_sound = if switches { is_unframed(fields) } else { is_framed_one_way(fields) };
    // RFC 9112 6.1: a version that has no codings was not meant so.
    let is_sound =
        is_sound && (response.version() != Version::HTTP_10 || !fields.contains_key(TRANSFER_ENCODING));
    if is_sound { Ok(()) } else { Err(SourceError::Framing) }
}

/// About the bytes of an answer's fields: hyper bounds its buffer, not what it finds in it.
fn head_bytes(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

fn is_unframed(fields: &HeaderMap) -> bool {
    !fields.contains_key(CONTENT_LENGTH) && !fields.contains_key(TRANSFER_ENCODING)
}

/// At most one length, or `chunked` alone.
fn is_framed_one_way(fields: &HeaderMap) -> bool {
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter();
    let mut codings = fields.get_all(TRANSFER_ENCODING).iter();
    match (lengths.next(), codings.next()) {
        (None, None) => true,
        (Some(length), None) => lengths.next().is_none() && is_length(length),
        (None, Some(coding)) => {
            codings.next().is_none() && coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        }
        (Some(_), Some(_)) => false,
    }
}

/// Digits only, without zeros in front; a list of equal lengths is a list.
fn is_length(length: &HeaderValue) -> bool {
    match length.as_bytes() {
        [b'0'] => true,
        [b'0', ..] | [] => false,
        digits => {
            let text = std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
            text.is_some_and(|text| text.parse::<u64>().is_ok())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9112_6_3_framing_that_can_be_read_in_two_ways_is_refused() {
        for (fields, sound) in [
            (&[][..], true),
            (&[("content-length", "7")], true),
            (&[("transfer-encoding", "Chunked")], true),
            (&[("content-length", "7"), ("content-length", "7")], false),
            (&[("content-length", "7, 7")], false),
            (&[("content-length", "+7")], false),
            (&[("content-length", "")], false),
            (&[("content-length", "07")], false),
            (&[("content-length", "0")], true),
            (&[("content-length", "18446744073709551615")], true),
            (&[("content-length", "18446744073709551616")], false),
            (&[("transfer-encoding", "gzip, chunked")], false),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false),
            (&[("transfer-encoding", "gzip")], false),
            (&[("content-length", "7"), ("transfer-encoding", "chunked")], false),
        ] {
            let mut response = Response::new(());
            for (name, value) in fields {
                response.headers_mut().append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(check(&response, None).is_ok(), sound, "{fields:?}");
            *response.version_mut() = Version::HTTP_10;
            let coded = response.headers().contains_key(TRANSFER_ENCODING);
            assert_eq!(check(&response, None).is_ok(), sound && !coded, "HTTP/1.0 {fields:?}");
        }
    }

    #[test]
    fn rfc9110_15_2_2_a_101_is_the_answer_to_what_was_asked_and_has_no_content() {
        let asks = Asks(crate::source::Protocol::parse("websocket").unwrap());
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in [("connection", "upgrade"), ("upgrade", "websocket")] {
            assert!(matches!(check(&response, Some(&asks)), Err(SourceError::Switched)));
            response.headers_mut().append(name, HeaderValue::from_static(value));
        }
        assert!(check(&response, Some(&asks)).is_ok());
        assert!(matches!(check(&response, None), Err(SourceError::Switched)));
        for (name, value) in [("content-length", "5"), ("transfer-encoding", "chunked")] {
            let mut framed = response.clone();
            framed.headers_mut().append(name, HeaderValue::from_static(value));
            assert!(matches!(check(&framed, Some(&asks)), Err(SourceError::Framing)), "{name}");
        }
    }

    #[test]
    fn i10_a_head_is_bounded() {
        // Each line counts with its `: ` and its end.
        for (bytes, taken) in [(65_536, true), (65_537, false)] {
            let mut response = Response::new(());
            response.headers_mut().insert("a", HeaderValue::from_static("b"));
            let value = HeaderValue::from_str(&"a".repeat(bytes - "a: b\r\nx-long: \r\n".len())).unwrap();
            response.headers_mut().insert("x-long", value);
            let is_too_large = matches!(check(&response, None), Err(SourceError::HeadTooLarge));
            assert_eq!(is_too_large, !taken, "{bytes} bytes");
        }
    }
}

//! What the head of an answer must be, beyond what the parser asks: nobody may read its framing in
//! another way (RFC 9112 6.3).

use super::error::SourceError;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

/// The largest head of an answer, in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The most field lines of an answer.
pub(super) const FIELDS_MAX: usize = 200;

/// Whether a head may be used.
///
/// # Errors
/// [`SourceError::Switched`], [`SourceError::HeadTooLarge`], [`SourceError::Framing`]
pub(super) fn check<B>(response: &Response<B>) -> Result<(), SourceError> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(SourceError::Switched);
    }
    if head_bytes(response.headers()) > HEAD_BYTES_MAX {
        return Err(SourceError::HeadTooLarge);
    }
    if is_framed_one_way(response.headers()) { Ok(()) } else { Err(SourceError::Framing) }
}

/// About the bytes of an answer's fields: hyper bounds its buffer, not what it finds in it.
fn head_bytes(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
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

/// Digits only; a list of equal lengths is a list.
fn is_length(length: &HeaderValue) -> bool {
    let digits = length.as_bytes();
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
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
            (&[("transfer-encoding", "gzip, chunked")], false),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], false),
            (&[("transfer-encoding", "gzip")], false),
            (&[("content-length", "7"), ("transfer-encoding", "chunked")], false),
        ] {
            let mut response = Response::new(());
            for (name, value) in fields {
                response.headers_mut().append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(check(&response).is_ok(), sound, "{fields:?}");
        }
    }

    #[test]
    fn i10_a_head_is_bounded() {
        let mut response = Response::new(());
        response
            .headers_mut()
            .insert("x-long", HeaderValue::from_bytes(&vec![b'a'; HEAD_BYTES_MAX]).unwrap());
        assert!(matches!(check(&response), Err(SourceError::HeadTooLarge)));
    }
}

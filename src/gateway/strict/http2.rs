//! What HTTP/2 allows and HTTP/1 toward a source does not (RFC 9113 8). Pure.

use super::Refusal;
use http::header::{CONTENT_LENGTH, COOKIE};
use http::{HeaderMap, HeaderValue};

/// No value begins or ends with a blank, which HTTP/1 would lose on the way (RFC 9113 8.2.1): one caller of a quota
/// would be several.
///
/// # Errors
/// [`Refusal::Field`]
pub(super) fn values(fields: &HeaderMap) -> Result<(), Refusal> {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_padded = |value: &HeaderValue| {
        let value = value.as_bytes();
        is_blank(value.first()) || is_blank(value.last())
    };
    if fields.values().any(is_padded) { Err(Refusal::Field) } else { Ok(()) }
}

/// The length is stated at most once, in one way, as the gate wants it of HTTP/1.
///
/// # Errors
/// [`Refusal::Framing`]
pub(super) fn framing(fields: &HeaderMap) -> Result<(), Refusal> {
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(()),
        (Some(length), None) if is_plain(length) => Ok(()),
        _ => Err(Refusal::Framing),
    }
}

/// Digits only, and no leading zero.
fn is_plain(length: &[u8]) -> bool {
    length == b"0"
        || (length.first().is_some_and(|first| (b'1'..=b'9').contains(first))
            && length.iter().all(u8::is_ascii_digit))
}

/// Cookies that came in crumbs become one line, as any other protocol needs them (RFC 9113 8.2.3).
pub(super) fn join_cookies(fields: &mut HeaderMap) {
    let mut crumbs = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut line = [first, b"; ", second].concat();
    for crumb in crumbs {
        line.extend_from_slice(b"; ");
        line.extend_from_slice(crumb);
    }
    // Made of field values, it is one.
    if let Ok(line) = HeaderValue::from_bytes(&line) {
        fields.insert(COOKIE, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: &http::HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).fold(
            HeaderMap::new(),
            |mut fields, (name, value)| {
                fields.append(name, value);
                fields
            },
        )
    }

    #[test]
    fn rfc9113_8_1_1_one_plain_length() {
        for (lengths, is_sound) in [
            (&[][..], true),
            (&["0"][..], true),
            (&["10"], true),
            (&["3", "3"], false),
            (&["03"], false),
            (&["+3"], false),
            (&["3, 3"], false),
            (&[""], false),
        ] {
            assert_eq!(framing(&fields(&CONTENT_LENGTH, lengths)).is_ok(), is_sound, "{lengths:?}");
        }
    }

    #[test]
    fn rfc9113_8_2_1_no_value_is_padded() {
        for (value, is_sound) in [
            ("", true),
            ("a", true),
            ("a b\tc", true),
            (" a", false),
            ("a ", false),
            ("\ta", false),
            (" ", false),
        ] {
            assert_eq!(values(&fields(&http::header::ACCEPT, &["a", value])).is_ok(), is_sound, "{value:?}");
        }
    }

    #[test]
    fn rfc9113_8_2_3_crumbs_are_one_cookie() {
        for (crumbs, line) in [
            (&[][..], &[][..]),
            (&["a=b; c=d"][..], &["a=b; c=d"][..]),
            (&["a=b", "c=d", "e=f"], &["a=b; c=d; e=f"]),
        ] {
            let mut given = fields(&COOKIE, crumbs);
            join_cookies(&mut given);
            assert_eq!(given, fields(&COOKIE, line));
        }
    }
}

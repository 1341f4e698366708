//! A change as a `CloudEvents` 1.0 event in HTTP's binary mode: its attributes are fields, its data is
//! the body as it came.

use super::percent::encoded;
use super::request::Delivery;
use crate::sync::journal::record::{Head, sequence_time};
use http::{HeaderName, HeaderValue};

/// The attributes of a change. All are the same at every attempt: a receiver knows an event by its
/// source and id.
pub(super) fn attributes(delivery: &Delivery<'_>) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let Head { source, method, .. } = delivery.head;
    let time = sequence_time(delivery.sequence).to_system_time();
    let pairs = [
        ("ce-specversion", "1.0".to_owned()),
        ("ce-id", delivery.id.to_string()),
        ("ce-source", format!("/sources/{}", path_segment(source))),
        ("ce-type", format!("tidegate.change.{}", method.to_ascii_lowercase())),
        ("ce-subject", field_value(delivery.key)),
        ("ce-time", humantime::format_rfc3339_millis(time).to_string()),
        ("ce-sequence", delivery.sequence.to_string()),
        ("ce-partitionkey", field_value(delivery.key)),
    ];
    let fields = pairs
        .into_iter()
        .map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?)));
    fields.collect()
}

/// A text as the HTTP binding (3.1.3.2) writes it: space, `"`, `%` and what is not visible ASCII are
/// percent-encoded, so that decoding gives the text again.
fn field_value(text: &str) -> String {
    encoded(text, |byte| matches!(byte, 0x21..=0x7E) && !matches!(byte, b'"' | b'%'))
}

/// A text as one segment of a path (RFC 3986 2.3).
fn path_segment(text: &str) -> String {
    encoded(text, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binding_3_1_3_2_texts_in_fields() {
        for (text, value) in [
            ("/items/7", "/items/7"),
            ("/items/7%2F1", "/items/7%252F1"),
            ("Euro \u{20ac} \u{1f600}\"", "Euro%20%E2%82%AC%20%F0%9F%98%80%22"),
            ("a\r\nb\u{7f}", "a%0D%0Ab%7F"),
        ] {
            assert_eq!(field_value(text), value);
        }
    }

    #[test]
    fn a_source_is_one_segment() {
        assert_eq!(path_segment("inventory"), "inventory");
        assert_eq!(path_segment("my stock/eu?"), "my%20stock%2Feu%3F");
    }
}

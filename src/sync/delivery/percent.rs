//! Percent-encoding (RFC 3986 2.1) of texts that become values of fields.

use std::fmt::Write as _;

/// A text in which only some bytes stay as they are.
pub(super) fn encoded(text: &str, stays: impl Fn(u8) -> bool) -> String {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        if stays(byte) {
            value.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            write!(value, "%{byte:02X}").unwrap_or_default();
        }
    }
    value
}

/// The bytes that an encoded text stands for; what is no escape stands for itself.
pub(super) fn decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let escaped =
            others.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(byte) = escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            decoded.push(byte);
            rest = others.get(2..).unwrap_or_default();
        } else {
            decoded.push(*first);
            rest = others;
        }
    }
    decoded
}

/// A key or name as a field value: visible ASCII stays as it is; of any other text what is not
/// visible ASCII, and `%`, is encoded.
pub(super) fn field_value(text: &str) -> String {
    let is_visible = |byte: u8| matches!(byte, 0x21..=0x7E);
    let is_plain = text.bytes().all(is_visible);
    encoded(text, |byte| is_visible(byte) && (is_plain || byte != b'%'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_legal_field_values() {
        for (key, value) in [
            ("/items/7%2F1", "/items/7%2F1"),
            ("a b", "a%20b"),
            ("100% b", "100%25%20b"),
            ("\u{e9}%", "%C3%A9%25"),
            ("\r\n", "%0D%0A"),
        ] {
            assert_eq!(field_value(key), value);
        }
    }

    #[test]
    fn decoding_gives_the_bytes_again() {
        assert_eq!(decoded("p%40ss%"), b"p@ss%");
        assert_eq!(decoded(&encoded("\u{20ac} %", |_| false)), "\u{20ac} %".as_bytes());
    }
}

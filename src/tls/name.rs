//! The name in a certificate: the first common name of its subject, else its first alternative name
//! (a DNS name, else a URI). Only of certificates whose chain has been verified. Pure.

use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use webpki::EndEntityCert;

/// The longest name that is taken, in bytes: it becomes a key of quotas and part of fields.
const NAME_BYTES_MAX: usize = 256;

/// 2.5.4.3, as DER has it.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// `UTF8String`, `PrintableString`, `IA5String`.
const STRINGS: [u8; 3] = [0x0C, 0x13, 0x16];

/// The name of a client; `None` where its certificate has none that can be used.
pub(super) fn of_client(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let alternative = || certificate.valid_dns_names().chain(certificate.valid_uri_names()).find(is_usable);
    common_name(certificate.subject()).filter(is_usable).or_else(alternative).map(Arc::from)
}

fn is_usable(name: &&str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// The first common name of a subject: a sequence of sets of pairs of type and value (RFC 5280 4.1.2.4),
/// without its own tag and length.
fn common_name(mut subject: &[u8]) -> Option<&str> {
    while let Some((mut set, rest)) = element(subject, SET) {
        subject = rest;
        while let Some((pair, rest)) = element(set, SEQUENCE) {
            set = rest;
            let (kind, value) = element(pair, OBJECT_IDENTIFIER)?;
            if kind == COMMON_NAME {
                let (value, _) = STRINGS.into_iter().find_map(|tag| element(value, tag))?;
                return std::str::from_utf8(value).ok();
            }
        }
    }
    None
}

/// An element with this tag at the front, and what is behind it (X.690 8.1).
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7F => (usize::from(length), rest),
        0x81 => rest.split_first().map(|(&length, rest)| (usize::from(length), rest))?,
        0x82 => rest.split_at_checked(2).map(|(length, rest)| (number(length), rest))?,
        // Longer than any name.
        _ => return None,
    };
    (first == tag).then(|| rest.split_at_checked(length)).flatten()
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_common_name_of_a_subject() {
        let pair = |kind: u8, tag: u8, value: &[u8]| {
            let value_length = u8::try_from(value.len()).unwrap();
            let mut pair = vec![SET, value_length + 9, SEQUENCE, value_length + 7, OBJECT_IDENTIFIER, 3];
            pair.extend_from_slice(&[0x55, 0x04, kind, tag, value_length]);
            [pair.as_slice(), value].concat()
        };
        let organisation = pair(10, 0x0C, b"Example");
        for (subject, name) in [
            (pair(3, 0x0C, "caf\u{e9}".as_bytes()), Some("caf\u{e9}")),
            ([organisation.clone(), pair(3, 0x13, b"one"), pair(3, 0x13, b"two")].concat(), Some("one")),
            (organisation.clone(), None),
            // BMPString is two bytes a character.
            (pair(3, 0x1E, b"\0a"), None),
            (pair(3, 0x0C, b"\xFF"), None),
            (pair(3, 0x0C, b"cut")[..12].to_vec(), None),
            (vec![SET, 0x84, 1, 1, 1, 1], None),
            (Vec::new(), None),
        ] {
            assert_eq!(common_name(&subject), name, "{subject:02x?}");
        }
    }

    #[test]
    fn lengths_of_two_and_three_bytes_are_read() {
        let long = [&[0x0C, 0x82, 0x01, 0x00][..], &[b'x'; 256], b"rest"].concat();
        assert_eq!(element(&long, 0x0C), Some((&[b'x'; 256][..], &b"rest"[..])));
        let short = [&[0x0C, 0x81, 0x80][..], &[b'x'; 128]].concat();
        assert_eq!(element(&short, 0x0C), Some((&[b'x'; 128][..], &b""[..])));
        assert_eq!(element(&short[..100], 0x0C), None);
    }
}

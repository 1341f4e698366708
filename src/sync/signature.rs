//! Signatures of deliveries by the Standard Webhooks specification: a receiver that has the secret
//! can tell who sent a delivery, and when.

use crate::secret::Secret;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::engine::{DecodePaddingMode, Engine};
use ring::hmac;
use std::ops::RangeInclusive;

/// What a secret in text begins with.
const PREFIX: &str = "whsec_";
/// How long a key may be, in bytes.
const KEY_BYTES: RangeInclusive<usize> = 1..=64;
/// The specification asks for so many at least; other libraries take less, and so do receivers.
const KEY_BYTES_ADVISED: usize = 24;
/// Secrets are copied from many places: some leave the padding out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A key that deliveries are signed with.
#[derive(Clone, Debug)]
pub struct SigningKey {
    text: Secret,
    key: hmac::Key,
    bytes: usize,
}

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// It has no `whsec_`.
    #[error("does not begin with whsec_")]
    Prefix,
    /// What follows cannot be decoded.
    #[error("is no base64 after whsec_")]
    Base64,
    /// What follows is no key of 1 to 64 bytes.
    #[error("must have a key of 1 to 64 bytes after whsec_")]
    Length,
}

impl SigningKey {
    /// Reads `whsec_` and a key in base64.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let encoded = text.strip_prefix(PREFIX).ok_or(BadKey::Prefix)?;
        let key = LENIENT.decode(encoded).map_err(|_| BadKey::Base64)?;
        if !KEY_BYTES.contains(&key.len()) {
            return Err(BadKey::Length);
        }
        let (text, bytes) = (Secret::new(encoded.to_owned()), key.len());
        Ok(Self { text, bytes, key: hmac::Key::new(hmac::HMAC_SHA256, &key) })
    }

    /// Whether the key is shorter than the specification asks for.
    pub(super) const fn is_short(&self) -> bool {
        self.bytes < KEY_BYTES_ADVISED
    }

    /// The key as it was written, without its prefix: what must not be shown.
    pub(super) const fn text(&self) -> &Secret {
        &self.text
    }
}

/// The value of `webhook-signature`: one signature a key, over id, Unix time in seconds and body.
pub(super) fn signatures(keys: &[SigningKey], id: &str, timestamp_secs: u64, body: &[u8]) -> String {
    let signed = keys.iter().map(|key| {
        let mut context = hmac::Context::with_key(&key.key);
        context.update(format!("{id}.{timestamp_secs}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    });
    signed.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the specification's libraries are tested with.
    #[test]
    fn the_published_example() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert!(!key.is_short());
        let sign = |keys: &[_]| {
            signatures(keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#)
        };
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(std::slice::from_ref(&key)), expected);
        assert_eq!(sign(&[key.clone(), key]), format!("{expected} {expected}"));
        assert_eq!(sign(&[]), "");
    }

    #[test]
    fn keys() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
        for (text, fault) in [
            (of(24), None),
            (of(64), None),
            (of(25).trim_end_matches('=').to_owned(), None),
            (of(1), None),
            (of(65), Some(BadKey::Length)),
            ("whsec_".to_owned(), Some(BadKey::Length)),
            ("whsec_!!!".to_owned(), Some(BadKey::Base64)),
            (of(24).replace("whsec_", "whsk_"), Some(BadKey::Prefix)),
        ] {
            assert_eq!(SigningKey::parse(&text).err(), fault, "{text}");
        }
    }

    #[test]
    fn i12_a_key_prints_redacted() {
        let text = STANDARD.encode([b'k'; 32]);
        let shown = format!("{:?}", SigningKey::parse(&format!("whsec_{text}")).unwrap());
        assert!(!shown.contains(&text) && !shown.contains("kkk"), "{shown}");
    }
}

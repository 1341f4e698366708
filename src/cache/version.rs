//! Version tokens: which write a reader has seen (I6).
//!
//! A token names the gateway, in one run of it, and the number that the write's purge has there. It is
//! compared as a whole, not per key: whatever was asked for before that number may be older than the
//! write. Where gateways share a secret the token is authenticated.

use super::purge::Fence;
use crate::secret::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt::Write as _;

/// Bytes of an authentication tag.
const TAG_BYTES: usize = 16;
/// Hexadecimal digits of a number, at most.
const DIGITS_MAX: usize = 16;
/// What the tag is over, besides the token: it authenticates nothing else.
const PURPOSE: &[u8] = b"tidegate version\0";

/// A write, as every gateway of the namespace may know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The gateway that wrote, in one run of it.
    pub(super) run: u64,
    /// The number of the write's own purge there.
    pub(super) number: u64,
}

/// A token as a client gave it: read, but not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub(super) version: Version,
    tag: Option<[u8; TAG_BYTES]>,
}

/// A token that no gateway of this namespace has given: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a version token")]
pub struct Unreadable;

/// How old an answer may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Floor {
    /// As old as the rules allow.
    #[default]
    None,
    /// No older than a forward that began behind this fence.
    At(Fence),
    /// It is not known how old that is: only the source can answer.
    Source,
}

impl Floor {
    /// Whether what a forward that began at `fence` has brought is young enough.
    #[must_use]
    pub fn admits(self, fence: Fence) -> bool {
        match self {
            Self::None => true,
            Self::At(floor) => fence >= floor,
            Self::Source => false,
        }
    }
}

/// What authenticates tokens, if anything does.
#[derive(Debug)]
pub(super) struct Signing(Option<Secret>);

impl Signing {
    pub(super) const fn new(secret: Option<Secret>) -> Self {
        Self(secret)
    }

    /// The token that a client is given.
    pub(super) fn token(&self, version: Version) -> String {
        let mut text = format!("{:016x}-{:x}", version.run, version.number);
        if let Some(tag) = self.tag(version) {
            text.push('-');
            for byte in tag {
                // Writing to a String cannot fail.
                let _infallible = write!(text, "{byte:02x}").is_ok();
            }
        }
        text
    }

    /// The version of a token that was given by somebody with the same secret, or by anybody without one.
    pub(super) fn verified(&self, token: Token) -> Result<Version, Unreadable> {
        use subtle::ConstantTimeEq;
        match (self.tag(token.version), token.tag) {
            (None, None) => Ok(token.version),
            (Some(own), Some(given)) if bool::from(own.ct_eq(&given)) => Ok(token.version),
            (Some(_) | None, Some(_)) | (Some(_), None) => Err(Unreadable),
        }
    }

    fn tag(&self, version: Version) -> Option<[u8; TAG_BYTES]> {
        // A key of any length is taken.
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_ref()?.expose().as_bytes()).ok()?;
        mac.update(PURPOSE);
        mac.update(&version.run.to_be_bytes());
        mac.update(&version.number.to_be_bytes());
        mac.finalize().into_bytes().first_chunk().copied()
    }
}

impl Token {
    /// Reads what `Signing::token` writes, and nothing else.
    ///
    /// # Errors
    /// [`Unreadable`]
    pub fn parse(text: &[u8]) -> Result<Self, Unreadable> {
        let text = std::str::from_utf8(text).map_err(|_| Unreadable)?;
        let mut parts = text.split('-');
        let run = parts.next().filter(|run| run.len() == DIGITS_MAX).ok_or(Unreadable)?;
        let number = parts.next().filter(|number| !number.starts_with('0')).ok_or(Unreadable)?;
        let version = Version { run: hexadecimal(run)?, number: hexadecimal(number)? };
        let tag = match parts.next() {
            None => None,
            Some(tag) => Some(tag_of(tag)?),
        };
        if parts.next().is_some() { Err(Unreadable) } else { Ok(Self { version, tag }) }
    }
}

fn hexadecimal(digits: &str) -> Result<u64, Unreadable> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.bytes().all(is_digit) {
        return Err(Unreadable);
    }
    u64::from_str_radix(digits, 16).map_err(|_| Unreadable)
}

fn tag_of(digits: &str) -> Result<[u8; TAG_BYTES], Unreadable> {
    let (high, low) =
        digits.split_at_checked(DIGITS_MAX).filter(|(_, low)| low.len() == DIGITS_MAX).ok_or(Unreadable)?;
    let both = (u128::from(hexadecimal(high)?) << 64) | u128::from(hexadecimal(low)?);
    Ok(both.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Version = Version { run: 0x1f, number: 0xab };

    fn signing(secret: &str) -> Signing {
        Signing::new(Some(Secret::new(secret.to_owned())))
    }

    #[test]
    fn a_token_is_read_back_by_whoever_has_the_secret_and_by_nobody_else() {
        let (plain, one, other) = (Signing::new(None), signing("one"), signing("other"));
        let token = |by: &Signing| Token::parse(by.token(VERSION).as_bytes()).unwrap();
        assert_eq!(plain.token(VERSION), "000000000000001f-ab");
        assert_eq!(plain.verified(token(&plain)), Ok(VERSION));
        assert_eq!(one.verified(token(&one)), Ok(VERSION));
        for (reader, writer) in [(&one, &plain), (&plain, &one), (&one, &other)] {
            assert_eq!(reader.verified(token(writer)), Err(Unreadable));
        }
        let moved = Version { number: 0xac, ..VERSION };
        assert_eq!(one.verified(Token { version: moved, ..token(&one) }), Err(Unreadable));
    }

    #[test]
    fn what_was_not_written_here_is_unreadable() {
        let long = "0".repeat(4000);
        for text in [
            "",
            "-",
            "1f-ab",
            "000000000000001f",
            "000000000000001f-",
            "000000000000001f-0",
            "000000000000001f-AB",
            "000000000000001f-+1",
            "000000000000001f-11112222333344445",
            "000000000000001f-ab-",
            "000000000000001f-ab-00",
            "000000000000001f-ab-00000000000000000000000000000000-",
            "000000000000001f-ab-0000000000000000000000000000000\u{e9}",
            long.as_str(),
        ] {
            assert_eq!(Token::parse(text.as_bytes()), Err(Unreadable), "{text}");
        }
        assert_eq!(Token::parse(b"000000000000001f-\xff"), Err(Unreadable));
    }

    #[test]
    fn i6_what_a_floor_admits() {
        for (floor, fence, admits) in [
            (Floor::None, 0, true),
            (Floor::At(Fence(5)), 4, false),
            (Floor::At(Fence(5)), 5, true),
            (Floor::At(Fence(5)), 6, true),
            (Floor::Source, u64::MAX, false),
        ] {
            assert_eq!(floor.admits(Fence(fence)), admits, "{floor:?} {fence}");
        }
    }
}

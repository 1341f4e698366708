//! What a secret vouches for of the log of purges: its entries, and the lines by which replicas tell of it.
//!
//! An entry is the message with a tag behind it, so that a gateway without the secret, or of a build that
//! knew no tags, reads it as before. Without a secret nothing is vouched for, and everything is believed.

use crate::cache::SharedSettings;
use crate::secret::{HASH_BYTES, KeyedHash};
use rapidhash::v3::rapidhash_v3;
use std::fmt::Write as _;
use subtle::ConstantTimeEq;

/// What tags of entries are for.
const ENTRY: &str = "purge log";
/// What tags of checkpoints are for: no entry can stand in for one.
const CHECKPOINT: &str = "purge log checkpoint";
/// Bytes of a tag that stand in a line.
const LINE_TAG_BYTES: usize = 16;

/// Writes and checks tags of one namespace.
#[derive(Clone, Debug)]
pub(super) struct Seal {
    namespace: String,
    hash: Option<KeyedHash>,
}

impl Seal {
    pub(super) fn of(settings: &SharedSettings) -> Self {
        let hash = settings.secret.as_ref().map(|_| settings.keyed_hash());
        Self { namespace: settings.namespace.clone(), hash }
    }

    /// Whether there is a secret.
    pub(super) const fn vouches(&self) -> bool {
        self.hash.is_some()
    }

    /// A message as it goes into the log.
    pub(super) fn sealed(&self, message: Vec<u8>) -> Vec<u8> {
        self.with_tag(ENTRY, message)
    }

    /// The message of an entry; `None`: somebody without the secret has written it.
    pub(super) fn opened<'e>(&self, entry: &'e [u8]) -> Option<&'e [u8]> {
        if self.vouches() { self.without_tag(ENTRY, entry) } else { Some(entry) }
    }

    /// A checkpoint as it goes into Redis: with a checksum where there is no secret.
    pub(super) fn sealed_checkpoint(&self, mut checkpoint: Vec<u8>) -> Vec<u8> {
        if self.vouches() {
            return self.with_tag(CHECKPOINT, checkpoint);
        }
        checkpoint.extend_from_slice(&rapidhash_v3(&checkpoint).to_be_bytes());
        checkpoint
    }

    /// The checkpoint; `None`: it is not as a gateway of this secret wrote it.
    pub(super) fn opened_checkpoint<'e>(&self, bytes: &'e [u8]) -> Option<&'e [u8]> {
        if self.vouches() {
            return self.without_tag(CHECKPOINT, bytes);
        }
        let (checkpoint, sum) = bytes.split_last_chunk()?;
        (rapidhash_v3(checkpoint) == u64::from_be_bytes(*sum)).then_some(checkpoint)
    }

    fn with_tag(&self, purpose: &str, mut message: Vec<u8>) -> Vec<u8> {
        if let Some(tag) = self.tag(purpose, [&message[..]]) {
            message.extend_from_slice(&tag);
        }
        message
    }

    fn without_tag<'e>(&self, purpose: &str, sealed: &'e [u8]) -> Option<&'e [u8]> {
        let (message, own) = sealed.split_last_chunk::<HASH_BYTES>()?;
        let tag = self.tag(purpose, [message])?;
        bool::from(tag.ct_eq(own)).then_some(message)
    }

    /// The tag of what a line says, and of what it stands for without saying it; empty without a secret.
    pub(super) fn of_line<'p>(&self, parts: impl IntoIterator<Item = &'p [u8]>) -> String {
        let Some(tag) = self.tag("purge log line", parts) else { return String::new() };
        let mut text = String::with_capacity(2 * LINE_TAG_BYTES);
        for byte in tag.iter().take(LINE_TAG_BYTES) {
            write!(text, "{byte:02x}").unwrap_or_default();
        }
        text
    }

    /// Whether it is the tag of that line.
    pub(super) fn vouches_for<'p>(&self, tag: &str, parts: impl IntoIterator<Item = &'p [u8]>) -> bool {
        bool::from(self.of_line(parts).as_bytes().ct_eq(tag.as_bytes()))
    }

    /// A number for what was read; nobody without the secret can tell which others have the same.
    pub(super) fn number<'p>(&self, parts: impl IntoIterator<Item = &'p [u8]>) -> u128 {
        let hash = self.tag("purge log read", parts).unwrap_or_default();
        hash.first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes))
    }

    fn tag<'p>(&self, purpose: &str, parts: impl IntoIterator<Item = &'p [u8]>) -> Option<[u8; HASH_BYTES]> {
        let parts = parts.into_iter().map(|part| -> &[u8] { part });
        let parts = std::iter::once(self.namespace.as_bytes()).chain(parts);
        Some(self.hash.as_ref()?.digest(purpose, parts.collect::<Vec<_>>()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::secret::Secret;

    pub(in crate::cache::purge::log) fn seal(namespace: &str, secret: Option<&str>) -> Seal {
        let secret = secret.map(|secret| Secret::new(secret.into()));
        let hash = secret.as_ref().map(|secret| KeyedHash::of_namespace(namespace, Some(secret)));
        Seal { namespace: namespace.into(), hash }
    }

    #[test]
    fn an_entry_is_believed_by_who_has_its_secret_and_its_namespace() {
        let (ours, plain) = (seal("n", Some("s")), seal("n", None));
        let entry = ours.sealed(b"message".to_vec());
        assert_eq!(ours.opened(&entry), Some(&b"message"[..]));
        assert_eq!(plain.opened(&entry), Some(&entry[..]), "who has none reads on to where the message ends");
        assert_eq!(plain.sealed(b"message".to_vec()), b"message");
        for stranger in [seal("m", Some("s")), seal("n", Some("t"))] {
            assert_eq!(stranger.opened(&entry), None);
        }
        for at in 0..entry.len() {
            let mut altered = entry.clone();
            altered[at] ^= 1;
            assert_eq!(ours.opened(&altered), None, "{at}");
            assert_eq!(ours.opened(&entry[..at]), None, "{at}");
        }
    }

    #[test]
    fn a_checkpoint_is_believed_whole_and_from_nobody_else() {
        for ours in [seal("n", Some("s")), seal("n", None)] {
            let sealed = ours.sealed_checkpoint(b"message".to_vec());
            assert_eq!(ours.opened_checkpoint(&sealed), Some(&b"message"[..]));
            for at in 0..sealed.len() {
                let mut altered = sealed.clone();
                altered[at] ^= 1;
                assert_eq!(ours.opened_checkpoint(&altered), None, "{at}");
                assert_eq!(ours.opened_checkpoint(&sealed[..at]), None, "{at}");
            }
            let entry = ours.sealed(b"message".to_vec());
            assert_eq!(ours.opened_checkpoint(&entry), None, "an entry is none");
        }
        let sealed = seal("n", Some("s")).sealed_checkpoint(b"message".to_vec());
        for stranger in [seal("m", Some("s")), seal("n", Some("t")), seal("n", None)] {
            assert_eq!(stranger.opened_checkpoint(&sealed), None);
        }
    }

    #[test]
    fn a_line_is_believed_by_who_has_its_secret() {
        let (ours, plain) = (seal("n", Some("s")), seal("n", None));
        let tag = ours.of_line([&b"a"[..], b"b"]);
        assert!(ours.vouches_for(&tag, [&b"a"[..], b"b"]) && !ours.vouches_for(&tag, [&b"ab"[..]]));
        assert!(!ours.vouches_for("", [&b"a"[..], b"b"]) && plain.vouches_for("", [&b"a"[..]]));
        assert!(!seal("m", Some("s")).vouches_for(&tag, [&b"a"[..], b"b"]));
    }
}

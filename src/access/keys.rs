//! API keys, of which only the SHA-256 is known. That is enough for keys that were drawn at random; a password is
//! none (the documents say so).

use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The most keys of one `[[access]]`.
pub const KEYS_MAX: usize = 10_000;

/// The longest key that is looked at, in bytes.
const KEY_BYTES_MAX: usize = 1024;

/// The SHA-256 of a key.
#[derive(Clone, Copy)]
pub struct KeyDigest(pub [u8; 32]);

/// A key (`[[access.key]]`).
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Whose it is.
    pub name: String,
    /// Its digests; two while it is being replaced.
    pub digests: Vec<KeyDigest>,
}

/// Keys, found by digest. How long a look takes tells nothing of the digests that are here: where one lies in the
/// map is drawn at the start (`RandomState`), and they are compared in constant time.
#[derive(Debug)]
pub(super) struct ApiKeys(HashMap<KeyDigest, Arc<str>>);

impl ApiKeys {
    pub(super) fn new(keys: &[ApiKey]) -> Self {
        let named = keys.iter().flat_map(|key| {
            let name: Arc<str> = key.name.as_str().into();
            key.digests.iter().map(move |digest| (*digest, Arc::clone(&name)))
        });
        Self(named.collect())
    }

    /// Whose key it is.
    pub(super) fn name_of(&self, key: &[u8]) -> Option<&str> {
        if self.0.is_empty() || key.is_empty() || key.len() > KEY_BYTES_MAX {
            return None;
        }
        self.0.get(&KeyDigest(Sha256::digest(key).into())).map(AsRef::as_ref)
    }
}

impl PartialEq for KeyDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyDigest {}

impl Hash for KeyDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest")
    }
}

//! Tokens and sets of keys of any content: nothing panics, and nothing that was not signed names anybody.

use super::algorithm::Algorithm;
use super::key_set::KeySet;
use super::token::Unverified;

/// Checks one input: a token, and behind the first line feed a set of keys.
///
/// # Panics
/// Where a rule does not hold.
pub fn check(data: &[u8]) {
    let (token, set) = match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (data.get(..end).unwrap_or_default(), data.get(end + 1..).unwrap_or_default()),
        None => (data, data),
    };
    let keys = KeySet::parse(set).unwrap_or_default();
    let Ok(token) = Unverified::parse(token) else { return };
    let Some(algorithm) = Algorithm::named(&token.header.alg) else { return };
    for key in keys.candidates(token.header.kid.as_deref(), algorithm) {
        assert!(algorithm.fits(key), "a key of another kind was chosen");
        let verified = algorithm.verifies(key, token.message, &token.signature);
        // One more byte is another message: no signature is of both.
        let longer = [token.message, b"x"].concat();
        assert!(!(verified && algorithm.verifies(key, &longer, &token.signature)));
    }
    token.payload().map(drop).unwrap_or_default();
}

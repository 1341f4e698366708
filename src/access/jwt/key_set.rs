//! A set of signers' public keys (RFC 7517 5). What is not understood of it is left out, as 5 says. Pure.

use super::algorithm::{Algorithm, PublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// Keys of a set that are kept; further ones are left out.
const KEYS_MAX: usize = 100;

/// Bits of an RSA modulus that are taken: ring verifies no others.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Keys of signers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet(Vec<Signer>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signer {
    id: Option<String>,
    /// The one way that it signs in, where its set says so.
    algorithm: Option<Algorithm>,
    key: PublicKey,
}

/// Why a text is no set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetFault {
    /// It is no JSON object with `keys`.
    #[error("is no JSON Web Key Set")]
    NoSet,
    /// There is no key in it that could verify anything.
    #[error(
        "has no public key for signatures that is understood: RSA of 2048 to 8192 bits, P-256, P-384, Ed25519"
    )]
    NoKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

/// A key as a set has it (RFC 7517 4, RFC 7518 6, RFC 8037 2).
#[derive(Deserialize)]
struct Member {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a set.
    ///
    /// # Errors
    /// [`KeySetFault`]
    pub fn parse(text: &[u8]) -> Result<Self, KeySetFault> {
        let document: Document = serde_json::from_slice(text).map_err(|_| KeySetFault::NoSet)?;
        let signers: Vec<Signer> = document.keys.into_iter().filter_map(signer).take(KEYS_MAX).collect();
        if signers.is_empty() { Err(KeySetFault::NoKey) } else { Ok(Self(signers)) }
    }

    /// The keys that a token may have been signed with: those of its `kid`, or without one the only one that
    /// fits.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<&PublicKey> {
        let fits = |signer: &&Signer| {
            algorithm.fits(&signer.key) && signer.algorithm.is_none_or(|own| own == algorithm)
        };
        let fitting = self.0.iter().filter(fits);
        if let Some(id) = id {
            let named = fitting.filter(|signer| signer.id.as_deref() == Some(id));
            return named.map(|signer| &signer.key).collect();
        }
        let all: Vec<&PublicKey> = fitting.map(|signer| &signer.key).collect();
        if all.len() == 1 { all } else { Vec::new() }
    }
}

fn signer(value: serde_json::Value) -> Option<Signer> {
    let member: Member = serde_json::from_value(value).ok()?;
    let is_for_signatures = member.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
        && member.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !is_for_signatures {
        return None;
    }
    let algorithm = match &member.alg {
        Some(name) => Some(Algorithm::named(name)?),
        None => None,
    };
    let key = public_key(&member)?;
    let contradicts = algorithm.is_some_and(|algorithm| !algorithm.fits(&key));
    (!contradicts).then_some(Signer { id: member.kid, algorithm, key })
}

fn public_key(member: &Member) -> Option<PublicKey> {
    match (member.kty.as_str(), member.crv.as_deref()) {
        ("RSA", _) => {
            let n = without_zeros(number(member.n.as_deref())?);
            let e = without_zeros(number(member.e.as_deref())?);
            (RSA_BYTES.contains(&n.len()) && !e.is_empty()).then_some(PublicKey::Rsa { n, e })
        }
        ("EC", Some("P-256")) => point(member, 32).map(PublicKey::P256),
        ("EC", Some("P-384")) => point(member, 48).map(PublicKey::P384),
        ("OKP", Some("Ed25519")) => {
            number(member.x.as_deref()).filter(|key| key.len() == 32).map(PublicKey::Ed25519)
        }
        _ => None,
    }
}

/// An elliptic point as ring takes it: not compressed (SEC 1 2.3.3).
fn point(member: &Member, bytes: usize) -> Option<Vec<u8>> {
    let (x, y) = (number(member.x.as_deref())?, number(member.y.as_deref())?);
    (x.len() == bytes && y.len() == bytes).then(|| [&[4][..], &x, &y].concat())
}

fn number(text: Option<&str>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}

fn without_zeros(number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.into_iter().skip(zeros).collect()
}

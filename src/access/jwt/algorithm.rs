//! Ways to sign (RFC 7518 3.1, RFC 8037 3.1), and the keys that fit each. Asymmetric ones only.

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};

/// A way to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

/// A public key, of the kind that its set said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PublicKey {
    /// Modulus and exponent, without zeros in front.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point, not compressed.
    P256(Vec<u8>),
    /// A point, not compressed.
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Algorithm {
    /// Every one, by its name.
    pub const ALL: [(&'static str, Self); 9] = [
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("EdDSA", Self::EdDsa),
    ];

    /// The one of a name, which is case-sensitive (RFC 7515 4.1.1).
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(own, _)| *own == name).map(|(_, algorithm)| *algorithm)
    }

    /// Whether a key is of the kind that it signs with.
    pub(super) const fn fits(self, key: &PublicKey) -> bool {
        match key {
            PublicKey::Rsa { .. } => matches!(
                self,
                Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512
            ),
            PublicKey::P256(_) => matches!(self, Self::Es256),
            PublicKey::P384(_) => matches!(self, Self::Es384),
            PublicKey::Ed25519(_) => matches!(self, Self::EdDsa),
        }
    }

    /// Whether `signature` is the key's owner's over `message`.
    pub(super) fn verifies(self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        match (self, key) {
            (Self::Rs256, PublicKey::Rsa { n, e }) => {
                rsa(&RSA_PKCS1_2048_8192_SHA256, n, e, message, signature)
            }
            (Self::Rs384, PublicKey::Rsa { n, e }) => {
                rsa(&RSA_PKCS1_2048_8192_SHA384, n, e, message, signature)
            }
            (Self::Rs512, PublicKey::Rsa { n, e }) => {
                rsa(&RSA_PKCS1_2048_8192_SHA512, n, e, message, signature)
            }
            (Self::Ps256, PublicKey::Rsa { n, e }) => {
                rsa(&RSA_PSS_2048_8192_SHA256, n, e, message, signature)
            }
            (Self::Ps384, PublicKey::Rsa { n, e }) => {
                rsa(&RSA_PSS_2048_8192_SHA384, n, e, message, signature)
            }
            (Self::Ps512, PublicKey::Rsa { n, e }) => {
                rsa(&RSA_PSS_2048_8192_SHA512, n, e, message, signature)
            }
            (Self::Es256, PublicKey::P256(point)) => {
                plain(&ECDSA_P256_SHA256_FIXED, point, message, signature)
            }
            (Self::Es384, PublicKey::P384(point)) => {
                plain(&ECDSA_P384_SHA384_FIXED, point, message, signature)
            }
            (Self::EdDsa, PublicKey::Ed25519(key)) => plain(&ED25519, key, message, signature),
            (_, PublicKey::Rsa { .. } | PublicKey::P256(_) | PublicKey::P384(_) | PublicKey::Ed25519(_)) => {
                false
            }
        }
    }
}

fn rsa(parameters: &'static RsaParameters, n: &[u8], e: &[u8], message: &[u8], signature: &[u8]) -> bool {
    RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
}

fn plain(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
}

//! Why somebody does not come in: a closed list for answer, log and metric.

use http::StatusCode;

/// Why somebody does not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Nothing was presented.
    Missing,
    /// Several were presented, or what cannot be read.
    Malformed,
    /// A key that nobody has.
    UnknownKey,
    /// A token that is signed otherwise than the configuration allows; `none`, too.
    Algorithm,
    /// A token of a signer that is not known.
    Signer,
    /// A token whose signature is not its signer's.
    Signature,
    /// A token that is not good any more, or says nothing of until when.
    Expired,
    /// A token that is not good yet.
    NotYet,
    /// A token of another issuer.
    Issuer,
    /// A token for somebody else.
    Audience,
    /// A token without the claim that names its owner.
    Claim,
    /// No client of this address may come in.
    Address,
    /// No certificate was shown.
    NoCertificate,
    /// The certificate's owner may not come in.
    Certificate,
    /// The keys of signers cannot be fetched: no token can be judged.
    KeysUnavailable,
}

impl Denial {
    /// Every one.
    pub const ALL: [Self; 15] = [
        Self::Missing,
        Self::Malformed,
        Self::UnknownKey,
        Self::Algorithm,
        Self::Signer,
        Self::Signature,
        Self::Expired,
        Self::NotYet,
        Self::Issuer,
        Self::Audience,
        Self::Claim,
        Self::Address,
        Self::NoCertificate,
        Self::Certificate,
        Self::KeysUnavailable,
    ];

    /// The word for log and metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::UnknownKey => "unknown-key",
            Self::Algorithm => "algorithm",
            Self::Signer => "signer",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYet => "not-yet",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Claim => "claim",
            Self::Address => "address",
            Self::NoCertificate => "no-certificate",
            Self::Certificate => "certificate",
            Self::KeysUnavailable => "keys-unavailable",
        }
    }

    /// 401 where another credential could help, 403 where none could (RFC 9110 15.5.2, 15.5.4).
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Address | Self::NoCertificate | Self::Certificate => StatusCode::FORBIDDEN,
            Self::KeysUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Missing
            | Self::Malformed
            | Self::UnknownKey
            | Self::Algorithm
            | Self::Signer
            | Self::Signature
            | Self::Expired
            | Self::NotYet
            | Self::Issuer
            | Self::Audience
            | Self::Claim => StatusCode::UNAUTHORIZED,
        }
    }

    /// What the client is told: enough to mend its own request, and nothing about what would be good.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Missing => "this asks for a credential; see WWW-Authenticate",
            Self::Malformed => "the credential cannot be read, or there are several",
            Self::UnknownKey | Self::Signer | Self::Signature => {
                "the credential is not one that is known here"
            }
            Self::Algorithm => "the token is not signed in a way that is accepted here",
            Self::Expired => "the token has expired, or does not say when it does",
            Self::NotYet => "the token is not good yet",
            Self::Issuer => "the token is of another issuer",
            Self::Audience => "the token is not for this audience",
            Self::Claim => "the token does not say whose it is",
            Self::Address => "this is not open to your address",
            Self::NoCertificate => "this is open to clients with a certificate only",
            Self::Certificate => "this is not open to the owner of your certificate",
            Self::KeysUnavailable => {
                "tokens cannot be judged now: the keys of their signers cannot be fetched"
            }
        }
    }

    /// Whether it is the token's fault (RFC 6750 3.1, `invalid_token`).
    #[must_use]
    pub const fn is_of_token(self) -> bool {
        matches!(
            self,
            Self::Algorithm
                | Self::Signer
                | Self::Signature
                | Self::Expired
                | Self::NotYet
                | Self::Issuer
                | Self::Audience
                | Self::Claim
        )
    }
}

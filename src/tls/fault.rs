//! Why a system that Tidegate connects to cannot be spoken to over TLS.

use rustls::{CertificateError, Error};
use std::error::Error as StdError;
use std::fmt;

/// Why a system that Tidegate connects to cannot be spoken to over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// It speaks no TLS, or none that is spoken here.
    Protocol,
    /// It refuses Tidegate's certificate, or wants one, or says that something else is wrong (an alert).
    Alert,
    /// Its certificate is for another name.
    Name,
    /// Its certificate is not valid any more.
    Expired,
    /// Its certificate comes from nobody who is trusted.
    Untrusted,
    /// Something else is wrong with its certificate.
    Certificate,
}

impl TlsFault {
    /// What the errors behind an error say of TLS, if anything.
    #[must_use]
    pub fn of(error: &(dyn StdError + 'static)) -> Option<Self> {
        error.downcast_ref::<Error>().map(Self::of_rustls)
    }

    fn of_rustls(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(fault) => match fault {
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::Name
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::UnknownIssuer => Self::Untrusted,
                _ => Self::Certificate,
            },
            Error::AlertReceived(_) => Self::Alert,
            _ => Self::Protocol,
        }
    }

    /// What it is, for logs and operators.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Protocol => "no TLS that can be spoken",
            Self::Alert => "it refuses the handshake, or the certificate that it was shown",
            Self::Name => "its certificate is for another name",
            Self::Expired => "its certificate has expired",
            Self::Untrusted => "its certificate is from an authority that is not trusted",
            Self::Certificate => "its certificate cannot be verified",
        }
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

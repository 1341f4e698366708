//! PEM files, as they lie on disk and as what they hold.

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, RootCertStore};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest file that is read: a bundle of all public authorities has a quarter of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a certificate, its chain behind it, and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key, not encrypted.
    pub key: PathBuf,
}

/// Why a file cannot be used. Tells nothing of a key (I12).
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system does not give it.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// It is larger than such a file ever is.
    #[error("cannot be read: it is larger than 1 MiB")]
    TooLarge,
    /// What it holds is no PEM.
    #[error("cannot be read: it is no PEM file")]
    NotPem,
    /// It holds no certificate.
    #[error("cannot be read: there is no certificate in it")]
    NoCertificate,
    /// It holds no key that can be read.
    #[error("cannot be read: there is no private key in it, or only an encrypted one")]
    NoKey,
    /// A certificate or key of a kind that is not understood.
    #[error("cannot be used: {0}")]
    Unusable(#[source] Error),
    /// The certificate has another key.
    #[error("is not the key of the certificate")]
    Mismatch,
    /// The certificates of authorities that every system should have.
    #[error("cannot be verified: this system has no certificates of authorities")]
    NoSystemRoots(#[source] Error),
}

/// A file's bytes, or why there are none.
#[derive(Debug)]
pub(super) struct Contents(Result<Vec<u8>, FileError>);

impl Contents {
    pub(super) fn of(path: &Path) -> Self {
        Self(read(path))
    }

    /// Adds them to a fingerprint, each with its length in front.
    pub(super) fn mark(&self, fingerprint: &mut Sha256) {
        let shown = self.0.as_ref().map_err(ToString::to_string);
        let bytes = shown.as_ref().map_or_else(String::as_bytes, |bytes| bytes.as_slice());
        fingerprint.update([u8::from(self.0.is_ok())]);
        fingerprint.update((bytes.len() as u64).to_be_bytes());
        fingerprint.update(bytes);
    }

    /// At least one certificate.
    pub(super) fn certificates(self) -> Result<Vec<CertificateDer<'static>>, FileError> {
        let bytes = self.0?;
        let read: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&bytes).collect();
        let certificates = read.map_err(|_| FileError::NotPem)?;
        if certificates.is_empty() { Err(FileError::NoCertificate) } else { Ok(certificates) }
    }

    /// The first private key.
    pub(super) fn key(self) -> Result<PrivateKeyDer<'static>, FileError> {
        PrivateKeyDer::from_pem_slice(&self.0?).map_err(|error| match error {
            PemError::NoItemsFound => FileError::NoKey,
            _ => FileError::NotPem,
        })
    }

    /// The authorities that it names.
    pub(super) fn roots(self) -> Result<RootCertStore, FileError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates()? {
            roots.add(certificate).map_err(FileError::Unusable)?;
        }
        Ok(roots)
    }
}

/// Whose fault it is that a pair cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Cert,
    Key,
}

/// A certificate and a key that fit; else every fault of both.
pub(super) fn certified(
    cert: Contents,
    key: Contents,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Vec<(Half, FileError)>> {
    let (chain, key) = match (cert.certificates(), key.key()) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => {
            let chain = chain.err().map(|error| (Half::Cert, error));
            let key = key.err().map(|error| (Half::Key, error));
            return Err(chain.into_iter().chain(key).collect());
        }
    };
    CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        vec![match error {
            Error::InconsistentKeys(_) => (Half::Key, FileError::Mismatch),
            Error::InvalidCertificate(_) => (Half::Cert, FileError::Unusable(error)),
            _ => (Half::Key, FileError::Unusable(error)),
        }]
    })
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(FileError::Unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(FileError::Unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX { Err(FileError::TooLarge) } else { Ok(bytes) }
}

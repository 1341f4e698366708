//! How a system that Tidegate connects to is known, and how Tidegate makes itself known to it.

use super::files::{Contents, FileError, Half, Pair, certified};
use super::provider;
use super::server::Place;
use rustls::ClientConfig;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::sign::SingleCertAndKey;
use rustls_platform_verifier::Verifier;
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The files of a `[[source]]` or `[[destination]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// The authorities that it may be verified by, in the place of the system's.
    pub ca: Option<PathBuf>,
    /// What Tidegate shows where it is asked to.
    pub own: Option<Pair>,
}

/// Whether the system's authorities are needed where no `ca` is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemRoots {
    /// They are: a URL says https.
    Needed,
    /// Nothing is ever verified.
    Unneeded,
}

/// How to connect by TLS: read, and found to fit. Equal where the files held the same.
#[derive(Clone, Default)]
pub struct ClientTls {
    config: Option<Arc<ClientConfig>>,
    fingerprint: [u8; 32],
}

impl ClientFiles {
    /// Reads them.
    ///
    /// # Errors
    /// Every file that cannot be used; [`Place::Ca`] also where the system has no authorities.
    pub fn load(self, system: SystemRoots) -> Result<ClientTls, Vec<(Place, FileError)>> {
        let (provider, mut faults, mut fingerprint) = (provider(), Vec::new(), Sha256::new());
        let verifier = self.verifier(system, &provider, &mut fingerprint);
        let verifier = verifier.map_err(|error| faults.push((Place::Ca, error))).ok().flatten();
        let own = self.own.map(|own| {
            let (cert, key) = (Contents::of(&own.cert), Contents::of(&own.key));
            cert.mark(&mut fingerprint);
            key.mark(&mut fingerprint);
            certified(cert, key, &provider)
        });
        let own = own.transpose().unwrap_or_else(|found| {
            faults.extend(found.into_iter().map(|(half, error)| match half {
                Half::Cert => (Place::Cert(0), error),
                Half::Key => (Place::Key(0), error),
            }));
            None
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        let Some(verifier) = verifier else { return Ok(ClientTls::default()) };
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = versions.map_err(|error| vec![(Place::Ca, FileError::Unusable(error))])?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let config = match own {
            Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
            None => builder.with_no_client_auth(),
        };
        Ok(ClientTls { config: Some(Arc::new(config)), fingerprint: fingerprint.finalize().into() })
    }

    fn verifier(
        &self,
        system: SystemRoots,
        provider: &Arc<CryptoProvider>,
        fingerprint: &mut Sha256,
    ) -> Result<Option<Arc<dyn ServerCertVerifier>>, FileError> {
        match (&self.ca, system) {
            (Some(ca), _) => {
                let ca = Contents::of(ca);
                ca.mark(fingerprint);
                let roots = Arc::new(ca.roots()?);
                let built = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build();
                Ok(Some(built.map_err(|_| FileError::NoCertificate)?))
            }
            (None, SystemRoots::Needed) => {
                let verifier = Verifier::new(Arc::clone(provider)).map_err(FileError::NoSystemRoots)?;
                Ok(Some(Arc::new(verifier)))
            }
            (None, SystemRoots::Unneeded) => Ok(None),
        }
    }
}

impl ClientTls {
    /// For a connector, which adds to it what it speaks; `None` where no URL says https.
    #[must_use]
    pub fn config(&self) -> Option<ClientConfig> {
        self.config.as_deref().cloned()
    }
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.config.is_some() == other.config.is_some()
    }
}

impl Eq for ClientTls {}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.config.is_some() { "ClientTls" } else { "ClientTls(none)" })
    }
}

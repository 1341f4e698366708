//! What the public listeners show: certificates chosen by name, and whose clients may connect.

use super::acceptor::Protocol;
use super::files::{Contents, FileError, Half, Pair, certified};
use super::provider;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use webpki::EndEntityCert;

/// The files of TLS on the public listeners (`[server.tls]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// Certificates; the first is shown where no name fits, or none is asked for.
    pub pairs: Vec<Pair>,
    /// The authorities whose clients may connect; `None`: anybody may.
    pub client_ca: Option<PathBuf>,
}

/// Which file a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The certificate of a pair.
    Cert(usize),
    /// The key of a pair.
    Key(usize),
    /// The authorities.
    Ca,
}

/// What the listeners show: read, and found to fit.
#[derive(Clone, Debug)]
pub struct ServerTls {
    pub(super) files: ServerFiles,
    pub(super) fingerprint: Fingerprint,
    pub(super) config: Arc<ServerConfig>,
}

/// What tells other contents of the files from these.
pub(super) type Fingerprint = [u8; 32];

/// The contents of all files at one time.
#[derive(Debug)]
pub(super) struct Bundle {
    pairs: Vec<(Contents, Contents)>,
    client_ca: Option<Contents>,
}

impl ServerFiles {
    /// Reads them.
    ///
    /// # Errors
    /// Every file that cannot be used.
    pub fn load(self) -> Result<ServerTls, Vec<(Place, FileError)>> {
        let bundle = self.read();
        let fingerprint = bundle.fingerprint();
        Ok(ServerTls { config: Arc::new(bundle.config()?), fingerprint, files: self })
    }

    pub(super) fn read(&self) -> Bundle {
        let pairs = self.pairs.iter().map(|pair| (Contents::of(&pair.cert), Contents::of(&pair.key)));
        Bundle { pairs: pairs.collect(), client_ca: self.client_ca.as_deref().map(Contents::of) }
    }
}

impl ServerTls {
    /// Whether both were read from the same files, whatever these held.
    #[must_use]
    pub fn has_files_of(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

impl Bundle {
    pub(super) fn fingerprint(&self) -> Fingerprint {
        let mut fingerprint = Sha256::new();
        for (cert, key) in &self.pairs {
            cert.mark(&mut fingerprint);
            key.mark(&mut fingerprint);
        }
        if let Some(client_ca) = &self.client_ca {
            client_ca.mark(&mut fingerprint);
        }
        fingerprint.finalize().into()
    }

    /// A configuration of its own, with no sessions or tickets of an earlier one: whom that trusted is asked
    /// again.
    pub(super) fn config(self) -> Result<ServerConfig, Vec<(Place, FileError)>> {
        let (provider, mut faults, mut keys) = (provider(), Vec::new(), Vec::new());
        for (number, (cert, key)) in self.pairs.into_iter().enumerate() {
            match certified(cert, key, &provider) {
                Ok(key) => keys.push(Arc::new(key)),
                Err(found) => faults.extend(found.into_iter().map(|(half, error)| match half {
                    Half::Cert => (Place::Cert(number), error),
                    Half::Key => (Place::Key(number), error),
                })),
            }
        }
        let verifier = match self.client_ca.map(|client_ca| verifier(client_ca, &provider)) {
            Some(Err(error)) => {
                faults.push((Place::Ca, error));
                None
            }
            Some(Ok(verifier)) => Some(verifier),
            None => None,
        };
        if !faults.is_empty() {
            return Err(faults);
        }
        let unusable = |error| vec![(Place::Cert(0), FileError::Unusable(error))];
        let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let clients = versions.map_err(unusable)?;
        let clients = match verifier {
            Some(verifier) => clients.with_client_cert_verifier(verifier),
            None => clients.with_no_client_auth(),
        };
        let mut config = clients.with_cert_resolver(Arc::new(Certificates::of(keys)));
        config.alpn_protocols = Protocol::ALL.map(|protocol| protocol.name().to_vec()).into();
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(unusable)?;
        Ok(config)
    }
}

fn verifier(
    client_ca: Contents,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, FileError> {
    let roots = Arc::new(client_ca.roots()?);
    let built = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider)).build();
    built.map_err(|error| match error {
        VerifierBuilderError::InvalidCrl(error) => {
            FileError::Unusable(rustls::Error::InvalidCertRevocationList(error))
        }
        _ => FileError::NoCertificate,
    })
}

/// Certificates by the names that they are for.
#[derive(Debug)]
struct Certificates {
    /// In the order of the configuration.
    all: Vec<Arc<CertifiedKey>>,
    /// Names in lower case; `*.` stands for one label (RFC 9525 6.3).
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Certificates {
    fn of(all: Vec<Arc<CertifiedKey>>) -> Self {
        let mut by_name: HashMap<String, Vec<_>> = HashMap::new();
        for key in &all {
            let parsed = key.end_entity_cert().ok().and_then(|cert| EndEntityCert::try_from(cert).ok());
            for name in parsed.iter().flat_map(|cert| cert.valid_dns_names()) {
                by_name.entry(name.to_ascii_lowercase()).or_default().push(Arc::clone(key));
            }
        }
        Self { all, by_name }
    }

    fn for_name(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = name.to_ascii_lowercase();
        let any_label = || name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        self.by_name.get(&name).or_else(|| self.by_name.get(&any_label()?))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let for_name = hello.server_name().and_then(|name| self.for_name(name)).unwrap_or(&self.all);
        // Of several for one name, one of a kind that the client can verify.
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        for_name.iter().find(fits).or(for_name.first()).map(Arc::clone)
    }
}

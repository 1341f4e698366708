//! Certificates made by the test that uses them, and relays that add TLS to what speaks plain HTTP.

use super::wait::within;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// An authority of its own.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// Whether a certificate may be used now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    Valid,
    Expired,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_as("", names, Validity::Valid)
    }

    /// A client's certificate.
    pub(crate) fn client(&self, name: &str) -> Issued {
        self.issue_as(name, &[], Validity::Valid)
    }

    pub(crate) fn issue_as(&self, common_name: &str, names: &[&str], validity: Validity) -> Issued {
        let mut params = named(common_name, names);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if validity == Validity::Expired {
            (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        }
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap().pem();
        Issued { cert, key: key.serialize_pem() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    /// A client that trusts this authority and offers these protocols.
    pub(crate) fn trusting(&self, own: Option<&Issued>, protocols: &[&str]) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_root_certificates(self.roots());
        let mut config = match own {
            Some(own) => builder.with_client_auth_cert(own.chain(), own.private()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    }
}

impl Issued {
    /// A certificate for these names that nobody else has signed.
    pub(crate) fn by_itself(names: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        let cert = named("", names).self_signed(&key).unwrap().pem();
        Self { cert, key: key.serialize_pem() }
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.cert.as_bytes()).collect::<Result<_, _>>().unwrap()
    }

    fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    /// What a client sees of it.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.chain().remove(0)
    }

    /// Writes it as `name.pem` and `name.key`.
    pub(crate) fn write(&self, folder: &Path, name: &str) {
        write(folder, &format!("{name}.pem"), &self.cert);
        write(folder, &format!("{name}.key"), &self.key);
    }

    /// A server that shows it, and lets in only clients of an authority, if there is one.
    pub(crate) fn server(&self, clients: Option<&Authority>) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.unwrap();
        let builder = match clients {
            Some(clients) => {
                let roots = Arc::new(clients.roots());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
                builder.with_client_cert_verifier(verifier.unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        builder.with_single_cert(self.chain(), self.private()).unwrap()
    }
}

/// Writes a file as a whole: nobody sees a part of it.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let (path, new) = (folder.join(name), folder.join(format!("{name}.new")));
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, &path).unwrap();
    path
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn named(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    if !common_name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, common_name);
    }
    params
}

/// Connects by TLS; `host` is asked for (SNI) and verified.
pub(crate) async fn connect(
    config: &ClientConfig,
    host: &str,
    to: SocketAddr,
) -> io::Result<TlsStream<TcpStream>> {
    connect_over(config, host, TcpStream::connect(to).await?).await
}

/// As [`connect`], on a connection that is there.
pub(crate) async fn connect_over(
    config: &ClientConfig,
    host: &str,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).expect("a name or an address");
    let connecting = TlsConnector::from(Arc::new(config.clone())).connect(name, stream);
    within("the handshake", connecting).await
}

/// Something that listens and passes bytes on; it stops when dropped.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A TLS server in front of a plain one.
pub(crate) async fn terminating(config: ServerConfig, to: SocketAddr) -> Relay {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    relay(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut secured = acceptor.accept(stream).await?;
            copy_bidirectional(&mut secured, &mut TcpStream::connect(to).await?).await
        }
    })
    .await
}

/// A plain way to a TLS server, each connection by a handshake for `host`.
pub(crate) async fn securing(config: ClientConfig, host: &str, to: SocketAddr) -> Relay {
    let host = host.to_owned();
    relay(move |mut stream| {
        let (config, host) = (config.clone(), host.clone());
        async move {
            let mut secured = connect(&config, &host, to).await?;
            copy_bidirectional(&mut stream, &mut secured).await
        }
    })
    .await
}

async fn relay<F>(pass: impl Fn(TcpStream) -> F + Send + 'static) -> Relay
where
    F: Future<Output = io::Result<(u64, u64)>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port 0 can be bound");
    let address = listener.local_addr().expect("a bound listener has an address");
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // However it ends, the tests look at what its ends have seen.
            tokio::spawn(pass(stream));
        }
    });
    Relay { address, task }
}

//! Handshakes with clients, and the files behind them, which are looked at again and again.

use super::server::{Fingerprint, ServerTls};
use super::{FileError, Place, name};
use rustls::{Error, ServerConfig};
use std::error::Error as _;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How often the files are looked at. Other contents count once they were the same twice, so that a
/// certificate is not taken before its key is written.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is known of a connection from its handshake.
#[derive(Debug, Default)]
pub struct Session {
    /// The name that the client asked for (SNI), without a dot at its end.
    pub server_name: Option<String>,
    /// The name in the client's certificate, which was verified.
    pub client_name: Option<Arc<str>>,
}

/// What a handshake settled.
#[derive(Debug)]
pub struct Handshake<S> {
    /// The connection.
    pub stream: TlsStream<S>,
    /// The protocol that was agreed on; `None`: the client did not ask.
    pub agreed: Option<Protocol>,
    /// What else is known.
    pub session: Session,
}

/// What is agreed on by ALPN (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `http/1.1`
    Http1,
    /// `h2`
    Http2,
}

impl Protocol {
    /// Every protocol, the first one liked best.
    pub(super) const ALL: [Self; 2] = [Self::Http2, Self::Http1];

    pub(super) const fn name(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }

    fn of(name: &[u8]) -> Self {
        if name == Self::Http2.name() { Self::Http2 } else { Self::Http1 }
    }
}

/// Why there was no handshake; a closed list for log and metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// What came is no TLS: plain HTTP, or anything.
    NotTls,
    /// The client has no certificate, or none that is trusted.
    Certificate,
    /// No version, cipher or protocol is spoken on both sides.
    Incompatible,
    /// The client refused: it does not trust the certificate, for one.
    Alert,
    /// The client left.
    Closed,
}

impl Refused {
    /// The word for log and metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotTls => "not-tls",
            Self::Certificate => "certificate",
            Self::Incompatible => "incompatible",
            Self::Alert => "alert",
            Self::Closed => "closed",
        }
    }

    fn of(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match tls {
            None => Self::Closed,
            Some(Error::InvalidMessage(_) | Error::PeerSentOversizedRecord) => Self::NotTls,
            Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => Self::Certificate,
            Some(Error::AlertReceived(_)) => Self::Alert,
            Some(_) => Self::Incompatible,
        }
    }
}

/// Makes handshakes with what the files hold now.
#[derive(Debug)]
pub struct Acceptor {
    first: ServerTls,
    current: RwLock<Arc<ServerConfig>>,
}

impl Acceptor {
    /// Begins with what was read.
    #[must_use]
    pub fn new(tls: ServerTls) -> Self {
        Self { current: RwLock::new(Arc::clone(&tls.config)), first: tls }
    }

    /// Waits for a client's handshake, however long it takes: the caller has the clock.
    ///
    /// # Errors
    /// [`Refused`]: an alert was sent where there was something to say.
    pub async fn accept<S>(&self, stream: S) -> Result<Handshake<S>, Refused>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        let stream = TlsAcceptor::from(config).accept(stream).await.map_err(|error| Refused::of(&error))?;
        let (_, connection) = stream.get_ref();
        let client = connection.peer_certificates().and_then(<[_]>::first);
        let session = Session {
            server_name: connection.server_name().map(|name| name.trim_end_matches('.').to_owned()),
            client_name: client.and_then(name::of_client),
        };
        let agreed = connection.alpn_protocol().map(Protocol::of);
        Ok(Handshake { stream, agreed, session })
    }

    /// Looks at the files without end, and takes what they hold once it is other and whole. What cannot be
    /// used is told once and changes nothing. Connections keep what they began with.
    pub async fn follow(&self) {
        let (mut taken, mut seen) = (self.first.fingerprint, self.first.fingerprint);
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let Some((fingerprint, config)) = self.look(taken, seen).await else { continue };
            if let Some(config) = config {
                taken = fingerprint;
                match config {
                    Ok(config) => {
                        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                        tracing::info!(
                            "the certificates of [server.tls] have changed and are shown from now on"
                        );
                    }
                    Err(faults) => tell(&faults),
                }
            }
            seen = fingerprint;
        }
    }

    /// What the files hold; built where it is neither what was `taken` nor new since it was `seen`.
    async fn look(&self, taken: Fingerprint, seen: Fingerprint) -> Option<Looked> {
        let files = self.first.files.clone();
        let looking = tokio::task::spawn_blocking(move || {
            let bundle = files.read();
            let fingerprint = bundle.fingerprint();
            let config = (fingerprint != taken && fingerprint == seen).then(|| bundle.config());
            (fingerprint, config)
        });
        looking.await.ok()
    }
}

type Looked = (Fingerprint, Option<Result<ServerConfig, Vec<(Place, FileError)>>>);

fn tell(faults: &[(Place, FileError)]) {
    for (place, error) in faults {
        let cause = error.source().map(ToString::to_string);
        tracing::error!(
            ?place,
            %error,
            cause,
            "the changed files of [server.tls] cannot be used: the certificates from before stay"
        );
    }
}

//! How a source failed, and what that is called (RFC 9209 2.3). Pure.

use crate::gateway::body::Broken;
use crate::source::{BodyError, Outage, SourceError};
use crate::tls::TlsFault;
use http::StatusCode;
use std::error::Error;
use std::io::ErrorKind;

/// How a source failed, in the words of RFC 9209 2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceFailure {
    Busy,
    /// It was not asked: Tidegate holds as much for others as it may.
    Overloaded,
    /// It is left alone: its breaker is open.
    Open(Outage),
    Refused,
    ConnectTimeout,
    Dns,
    Tls(TlsFault),
    Unreachable,
    Timeout,
    Terminated,
    /// It answered, and its answer broke off before anything of it had gone out.
    Incomplete,
    Protocol,
}

impl SourceFailure {
    /// RFC 9209's token.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "connection_limit_reached",
            Self::Overloaded => "proxy_internal_response",
            Self::Open(_) => "destination_unavailable",
            Self::Refused => "connection_refused",
            Self::ConnectTimeout => "connection_timeout",
            Self::Dns => "dns_error",
            Self::Tls(TlsFault::Protocol) => "tls_protocol_error",
            Self::Tls(TlsFault::Alert) => "tls_alert_received",
            Self::Tls(TlsFault::Name | TlsFault::Expired | TlsFault::Untrusted | TlsFault::Certificate) => {
                "tls_certificate_error"
            }
            Self::Unreachable => "destination_ip_unroutable",
            Self::Timeout => "http_response_timeout",
            Self::Terminated => "connection_terminated",
            Self::Incomplete => "http_response_incomplete",
            Self::Protocol => "http_protocol_error",
        }
    }

    /// The status of the answer.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Busy | Self::Overloaded | Self::Open(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Refused
            | Self::ConnectTimeout
            | Self::Dns
            | Self::Tls(_)
            | Self::Unreachable
            | Self::Terminated
            | Self::Incomplete
            | Self::Protocol => StatusCode::BAD_GATEWAY,
        }
    }

    /// Whether the source was not asked, to spare it or Tidegate itself.
    pub(crate) const fn is_refusal(self) -> bool {
        matches!(self, Self::Busy | Self::Overloaded | Self::Open(_))
    }

    /// Whether the source could not be reached or closed without an answer.
    pub(crate) const fn is_disconnect(self) -> bool {
        match self {
            Self::Refused
            | Self::ConnectTimeout
            | Self::Dns
            | Self::Tls(_)
            | Self::Unreachable
            | Self::Terminated
            | Self::Open(Outage::Disconnected) => true,
            Self::Busy
            | Self::Overloaded
            | Self::Open(Outage::Silent)
            | Self::Timeout
            | Self::Incomplete
            | Self::Protocol => false,
        }
    }
}

impl std::fmt::Display for SourceFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&SourceError> for SourceFailure {
    fn from(error: &SourceError) -> Self {
        match error {
            SourceError::Busy | SourceError::Yielded => Self::Busy,
            SourceError::Full => Self::Overloaded,
            SourceError::Timeout => Self::Timeout,
            SourceError::Connect(cause) => of_connect(cause.as_ref()),
            SourceError::Closed(cause) => of_exchange(cause),
            SourceError::Unfinished => Self::Terminated,
            SourceError::Open(outage) => Self::Open(*outage),
            SourceError::Unsayable
            | SourceError::Switched
            | SourceError::HeadTooLarge
            | SourceError::Framing
            | SourceError::Flood => Self::Protocol,
        }
    }
}

impl From<&BodyError> for SourceFailure {
    fn from(error: &BodyError) -> Self {
        match error {
            BodyError::Foul => Self::Protocol,
            BodyError::Idle => Self::Timeout,
            BodyError::Broken(cause) => match io_kind(cause) {
                // What cannot be read: sizes of chunks, or too many trailers.
                Some(ErrorKind::InvalidData | ErrorKind::InvalidInput) => Self::Protocol,
                Some(_) | None => Self::Incomplete,
            },
        }
    }
}

impl From<&Broken> for SourceFailure {
    fn from(broken: &Broken) -> Self {
        match broken {
            Broken::Cut(_) => Self::Incomplete,
            Broken::Source(error) => Self::from(error),
        }
    }
}

/// The errors behind an error, itself first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let current = next?;
        // What an io::Error is made of is not its source, but it tells more.
        let made_of = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = made_of.map(|error| error as &(dyn Error + 'static)).or_else(|| current.source());
        Some(current)
    })
}

fn io_kind(error: &(dyn Error + 'static)) -> Option<ErrorKind> {
    chain(error)
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .map(std::io::Error::kind)
        .find(|kind| *kind != ErrorKind::Other)
}

fn of_connect(error: &(dyn Error + 'static)) -> SourceFailure {
    if let Some(fault) = chain(error).find_map(TlsFault::of) {
        return SourceFailure::Tls(fault);
    }
    match io_kind(error) {
        Some(ErrorKind::ConnectionRefused) => SourceFailure::Refused,
        Some(ErrorKind::TimedOut) => SourceFailure::ConnectTimeout,
        Some(ErrorKind::InvalidData) => SourceFailure::Tls(TlsFault::Protocol),
        Some(ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) => SourceFailure::Terminated,
        Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable) => {
            SourceFailure::Unreachable
        }
        // The resolver's errors have no kind of their own.
        Some(_) | None => SourceFailure::Dns,
    }
}

fn of_exchange(error: &(dyn Error + 'static)) -> SourceFailure {
    // TLS 1.3: who refuses a certificate says so behind the handshake.
    if let Some(fault) = chain(error).find_map(TlsFault::of) {
        return SourceFailure::Tls(fault);
    }
    let hyper = chain(error).find_map(|error| error.downcast_ref::<hyper::Error>());
    match hyper {
        Some(error) if error.is_parse() || error.is_parse_status() => SourceFailure::Protocol,
        _ => SourceFailure::Terminated,
    }
}

//! A request that passed the strict gate: the validated model that everything behind it reads.

use super::content::Content;
use super::interim::Interim;
use crate::cache::Token;
use crate::redis::Patience;
use crate::target::{Moved, Scheme, Target};
use crate::tls;
use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_TYPE, HOST, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use tokio::time::Instant;
use uuid::Uuid;

/// Who sent a request.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The other end of the connection.
    pub address: SocketAddr,
    /// The listener's own address.
    pub local: SocketAddr,
    /// What its handshake settled; `None`: it speaks plain HTTP.
    pub tls: Option<Arc<tls::Session>>,
}

impl Peer {
    /// The scheme of what it asks for.
    pub(crate) const fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }
}

/// Whether the peer's word on who asked is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It is one of `trusted_proxies`.
    Proxy,
    /// It is anybody.
    Nobody,
}

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    pub method: Method,
    /// The canonical target, as the client asked (I8).
    pub target: Target,
    /// The fields as they came; framing and Host are checked.
    pub fields: HeaderMap,
    pub asks: Asks,
    pub version: Version,
    pub content: Content,
    /// Where interim responses go; `None`: this client gets none.
    pub interim: Option<Interim>,
    pub client: Client,
    /// What the handshake of its connection settled.
    pub tls: Option<Arc<tls::Session>>,
    pub id: RequestId,
    /// The write that the answer may not be older than (`Tidegate-Min-Version`).
    pub min_version: Option<Box<Token>>,
    /// What it may still wait for Redis.
    pub patience: Patience,
    /// Until when the head of the answer is waited for (`server.request_timeout`).
    pub deadline: Instant,
}

impl Request {
    /// Becomes the next one by the same fields; `None`: its target has to be looked at as a whole.
    pub(crate) fn becomes(&mut self, method: Method, origin_form: &str, deadline: Instant) -> Option<()> {
        if self.target.move_to(origin_form) == Moved::No {
            return None;
        }
        self.id = RequestId::of(self.asking());
        (self.method, self.deadline, self.patience) = (method, deadline, Patience::of_request());
        Some(())
    }

    /// The fields for what looks for something to act on: none where there is nothing of that.
    pub(crate) fn asking(&self) -> &HeaderMap {
        self.asks.among(&self.fields)
    }
}

/// What a request asks for besides its target. One look at its fields spares most requests some twenty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// Nothing: all its fields are [`INERT`].
    Plainly,
    Specially,
}

/// Fields on which no rule of a gateway's acts, though they may select a variant, name a quota's caller or be
/// passed on.
static INERT: [HeaderName; 7] =
    [HOST, USER_AGENT, ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_TYPE, REFERER];

static NO_FIELDS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);

impl Asks {
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        if fields.keys().all(Self::is_inert) { Self::Plainly } else { Self::Specially }
    }

    /// Whether no rule of a gateway's acts on a field.
    pub(crate) fn is_inert(name: &HeaderName) -> bool {
        INERT.contains(name)
    }

    /// These fields, or none where nothing is asked by them.
    pub(crate) fn among(self, fields: &HeaderMap) -> &HeaderMap {
        match self {
            Self::Plainly => &NO_FIELDS,
            Self::Specially => fields,
        }
    }
}

/// The client behind a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    /// The peer, or behind trusted proxies the rightmost address that is none of them.
    pub address: IpAddr,
    /// The peer itself.
    pub peer: IpAddr,
    pub trust: Trust,
}

/// What correlates a request's log lines here, at the client and at the source (`X-Request-Id`).
#[derive(Clone, Debug)]
pub(crate) enum RequestId {
    /// The client's own.
    Given(HeaderValue),
    New(Uuid),
}

/// The longest id of a client's own that is kept.
const REQUEST_ID_BYTES_MAX: usize = 128;

impl RequestId {
    /// The client's own id where it sends a sane one, else a new one.
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        let sane =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b'=');
        let own = fields.get(X_REQUEST_ID).filter(|value| {
            (1..=REQUEST_ID_BYTES_MAX).contains(&value.len()) && value.as_bytes().iter().all(sane)
        });
        own.map_or_else(|| Self::New(Uuid::from_u128(fastrand::u128(..))), |own| Self::Given(own.clone()))
    }

    /// The field value.
    pub(crate) fn value(&self) -> HeaderValue {
        match self {
            Self::Given(value) => value.clone(),
            Self::New(id) => {
                let mut digits = Uuid::encode_buffer();
                // Hexadecimal digits are a value.
                HeaderValue::from_str(id.simple().encode_lower(&mut digits))
                    .unwrap_or(HeaderValue::from_static("0"))
            }
        }
    }

    /// Writes the field value behind what is written already.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Given(value) => out.extend_from_slice(value.as_bytes()),
            Self::New(id) => {
                let mut digits = Uuid::encode_buffer();
                out.extend_from_slice(id.simple().encode_lower(&mut digits).as_bytes());
            }
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(value) => f.write_str(value.to_str().unwrap_or_default()),
            Self::New(id) => id.simple().fmt(f),
        }
    }
}

/// The field by which a reader says which write it has seen (I6).
pub(crate) const TIDEGATE_MIN_VERSION: http::HeaderName =
    http::HeaderName::from_static("tidegate-min-version");

/// The field that carries a [`RequestId`].
pub(crate) const X_REQUEST_ID: http::HeaderName = http::HeaderName::from_static("x-request-id");

//! What the public side is built from.

use super::access_log::AccessLogSettings;
use super::field_changes::FieldChanges;
use super::route::PathPattern;
use crate::source::Protocol;
use crate::target::TargetForm;
use crate::{access, cache, rate_limit, sync, tls};
use http::HeaderName;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::time::Duration;

/// What the public side is built from (`[server]` and every `[[route]]`).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients are listened to.
    pub listen: Vec<SocketAddr>,
    /// TLS on all of these; `None`: they speak plain HTTP.
    pub tls: Option<tls::ServerTls>,
    /// Whose X-Forwarded-For and Forwarded is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Until the head of the answer.
    pub request_timeout: Duration,
    /// How long requests may still take after a signal to stop.
    pub shutdown_grace: Duration,
    /// Bounds of what a client may send.
    pub limits: Limits,
    /// Which requests are logged.
    pub access_log: AccessLogSettings,
    /// Where the source is told the name in the client's certificate.
    pub client_name_field: Option<HeaderName>,
    /// Who may come in, for routes to name.
    pub access: Vec<access::Settings>,
    /// The first that matches wins.
    pub routes: Vec<RouteSettings>,
}

/// Bounds of what a client may send (`[server.limits]`).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The head, from the request line to the empty line; 431.
    pub head_bytes: u64,
    /// Field lines; 431.
    pub fields: usize,
    /// The target with its query; 414.
    pub target_bytes: u64,
    /// The body after chunk decoding; 413. `None`: no bound.
    pub body_bytes: Option<u64>,
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address, IPv6 by /64; `None`: no such bound. Trusted proxies have none.
    pub connections_per_address: Option<usize>,
    /// Bytes of bodies in flight that are held at once; 503.
    pub in_flight_bytes: u64,
    /// Until a head is complete; 408.
    pub header_timeout: Duration,
    /// Between two requests.
    pub idle_timeout: Duration,
    /// Bytes a second, measured over 10 s, under which a sender is cut.
    pub body_rate_bytes: u64,
}

/// A route (`[[route]]`).
#[derive(Clone, Debug)]
pub struct RouteSettings {
    /// Its name.
    pub name: String,
    /// Only this host (canonical authority without port, or with one); `None`: any.
    pub host: Option<String>,
    /// Its paths.
    pub path: PathPattern,
    /// Its methods; `None`: all.
    pub methods: Option<Vec<http::Method>>,
    /// The name of who may come in; `None`: anybody.
    pub access: Option<String>,
    /// Upgrades that are passed on.
    pub upgrade: Vec<Protocol>,
    /// Until the head of the answer; `None`: the source's `timeout`.
    pub timeout: Option<Duration>,
    /// In which form targets are forwarded.
    pub target: TargetForm,
    /// Taken off the path before it is forwarded.
    pub strip: Option<String>,
    /// The largest body; `None`: the server's bound.
    pub body_bytes: Option<u64>,
    /// Fields that sources act on and no key holds, which this route passes on and holds in its keys.
    pub let_through: Vec<HeaderName>,
    /// What is done to the fields that the source gets.
    pub request_fields: FieldChanges,
    /// What is done to the fields of what the source answers, stored or not.
    pub response_fields: FieldChanges,
    /// What a write here makes old besides its own path.
    pub invalidates: Vec<Invalidates>,
    /// The source's name.
    pub source: String,
    /// What is stored.
    pub cache: cache::Policy,
    /// Quotas, all of which must admit.
    pub limits: Vec<rate_limit::QuotaSettings>,
    /// What is recorded and delivered; `None`: nothing.
    pub sync: Option<sync::RouteSync>,
}

/// What a write makes old besides its own path (`invalidates`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalidates {
    /// A path with every query.
    Path(String),
    /// Everything below (a trailing `*`).
    Prefix(String),
    /// Everything that carries the tag (`tag:..`).
    Tag(String),
}

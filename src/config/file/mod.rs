//! The shape of a configuration file: what `structure` walks along, `check` reads, `schema` prints
//! and `GET /v1/config` shows.
//!
//! `Given` is always there: written, or filled in from the reference. `Option` and `serde(default)`
//! may be left out. A key marked `x-required` has to be written, and a table with such a key is
//! there only where it is written.

mod access;
mod destination;
mod route;

pub(in crate::config) use access::{Access, Credentials, Jwt, Key, Preflight};
pub(in crate::config) use destination::{
    Allow, AllowKnown, Breaker, Class, Destination, Format, From, OnFailure, Rate, Retry,
};
pub(in crate::config) use route::{
    FieldChanges, Limit, LimitMode, OnRefusal, RequestDirectives, Route, RouteCache, RouteSync, Scope, Stage,
    SyncMode, TargetForm,
};

use crate::config::given::{Address, Given, Hidden, RedisUrl};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A text with its place.
pub(in crate::config) type Text = Given<String>;

/// Texts, each with its place.
pub(in crate::config) type Texts = Given<Vec<Text>>;

/// The configuration of Tidegate. Durations are written "250ms", sizes "64MiB"; `${NAME}` and
/// `${NAME:-default}` read the environment inside strings.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct File {
    /// The public side.
    pub(in crate::config) server: Given<Server>,
    /// The operators' listener.
    pub(in crate::config) admin: Given<Admin>,
    /// Stored responses.
    pub(in crate::config) cache: Given<Cache>,
    /// The journal of changes.
    pub(in crate::config) sync: Given<Journal>,
    /// Traces.
    pub(in crate::config) telemetry: Given<Telemetry>,
    /// The systems that have the data.
    #[serde(default)]
    pub(in crate::config) source: Vec<Given<Source>>,
    /// The systems that must follow.
    #[serde(default)]
    pub(in crate::config) destination: Vec<Given<Destination>>,
    /// Who may come in, for routes to name.
    #[serde(default)]
    pub(in crate::config) access: Vec<Given<Access>>,
    /// The first route that matches wins.
    #[serde(default)]
    pub(in crate::config) route: Vec<Given<Route>>,
}

/// The public side.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Server {
    /// Where clients are listened to: IP addresses with ports.
    pub(in crate::config) listen: Texts,
    /// Worker threads; left out: the number of cores.
    pub(in crate::config) threads: Option<Given<i64>>,
    /// CIDRs whose X-Forwarded-For and Forwarded is believed.
    pub(in crate::config) trusted_proxies: Texts,
    /// Until the head of the answer.
    pub(in crate::config) request_timeout: Text,
    /// How long requests may still take after a signal to stop.
    pub(in crate::config) shutdown_grace: Text,
    /// TLS on the public listeners.
    pub(in crate::config) tls: Option<Given<Tls>>,
    /// Bounds of what a client may send.
    pub(in crate::config) limits: Given<Limits>,
    /// The access log.
    pub(in crate::config) access_log: Given<AccessLog>,
}

/// The access log: a JSON object a line for some requests.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct AccessLog {
    /// "stderr", or a file, to which is appended.
    pub(in crate::config) to: Text,
    /// One request of so many is logged, chosen at random; 0: none.
    pub(in crate::config) one_in: Given<i64>,
    /// Which answers are logged besides.
    pub(in crate::config) errors: Given<Errors>,
}

/// Answers that the access log always has: none, those of 5xx, or all of 4xx and 5xx.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Errors {
    None,
    Server,
    All,
}

/// Spans of requests and deliveries, for a collector.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Telemetry {
    /// Where a collector takes OTLP over HTTP; /v1/traces is appended where the URL has no path. Left out: no
    /// spans.
    pub(in crate::config) otlp: Option<Given<Address>>,
    /// PEM file of the authorities that an https:// collector is verified by; left out: the system's.
    pub(in crate::config) ca: Option<Text>,
    /// One of so many requests that bring no trace begins one; 0: none.
    pub(in crate::config) one_in: Given<i64>,
    /// What this gateway is called among others.
    pub(in crate::config) service: Text,
    /// Fields of the requests to the collector.
    #[serde(default)]
    pub(in crate::config) headers: BTreeMap<String, Given<Hidden>>,
}

/// TLS on the public listeners.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Tls {
    /// PEM file of the certificate chain.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) cert: Text,
    /// PEM file of its key.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) key: Text,
    /// PEM file of the authorities whose clients may connect; switches mutual TLS on.
    pub(in crate::config) client_ca: Option<Text>,
    /// The field that tells sources the name in a client's certificate; left out: none.
    pub(in crate::config) client_name_field: Option<Text>,
    /// Further certificates, chosen by the name that a client asks for.
    #[serde(default)]
    pub(in crate::config) certificate: Vec<Given<Certificate>>,
}

/// A further certificate of the public listeners.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Certificate {
    /// PEM file of the certificate chain.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) cert: Text,
    /// PEM file of its key.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) key: Text,
}

/// Bounds of what a client may send.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Limits {
    /// The head, from the request line to the empty line; beyond it 431.
    pub(in crate::config) head: Text,
    /// Field lines; beyond it 431.
    pub(in crate::config) fields: Given<i64>,
    /// The target with its query; beyond it 414.
    pub(in crate::config) target: Text,
    /// The body after chunk decoding, or "none"; beyond it 413.
    pub(in crate::config) body: Text,
    /// Connections at once.
    pub(in crate::config) connections: Given<i64>,
    /// Connections at once from one address; left out: no such bound.
    pub(in crate::config) connections_per_address: Option<Given<i64>>,
    /// Bytes of bodies in flight that are held at once; beyond it nothing is forwarded (503).
    pub(in crate::config) in_flight: Text,
    /// Until a head is complete; then 408.
    pub(in crate::config) header_timeout: Text,
    /// Between two requests.
    pub(in crate::config) idle_timeout: Text,
    /// Bytes a second, measured over 10 s, under which a sender is cut.
    pub(in crate::config) body_rate: Text,
}

/// The operators' listener.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Admin {
    /// An IP address with a port, or "unix:" and the path of a socket.
    pub(in crate::config) listen: Text,
    /// What `/v1` asks for, for everything; required unless the listener is loopback or a socket.
    pub(in crate::config) token: Given<Hidden>,
    /// Operators with tokens of their own.
    #[serde(default)]
    pub(in crate::config) operator: Vec<Given<Operator>>,
    /// Further Host values that are answered.
    pub(in crate::config) hosts: Texts,
}

/// An operator with a token of its own.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Operator {
    /// Its name, for the audit log.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) name: Text,
    /// What it shows.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) token: Given<Hidden>,
    /// What it may do.
    pub(in crate::config) role: Given<Role>,
}

/// What an operator may do: read; read and purge; everything.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Role {
    Read,
    Purge,
    All,
}

/// Stored responses.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Cache {
    /// The first tier, in bytes of stored responses.
    pub(in crate::config) memory: Text,
    /// A larger response is not kept in the first tier.
    pub(in crate::config) memory_object: Text,
    /// The second tier; left out: memory only.
    pub(in crate::config) shared: Option<Given<Shared>>,
}

/// The second tier, in Redis.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Shared {
    /// Where Redis is: redis://, redis-cluster://, redis-sentinel:// (with TLS rediss..), redis+unix://.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) redis: Given<RedisUrl>,
    /// PEM file of the authorities of its certificates; left out: the system's.
    pub(in crate::config) ca: Option<Text>,
    /// Every key in Redis begins with it and ":".
    pub(in crate::config) namespace: Text,
    /// A larger response is not kept in Redis.
    pub(in crate::config) object: Text,
    /// Authenticates stored bytes; left out: a checksum only.
    pub(in crate::config) secret: Given<Hidden>,
    /// Whether keys in Redis carry no readable path.
    pub(in crate::config) hash_keys: Given<bool>,
    /// How long memory is served when cut off from the purge log; "0s": it is validated at once.
    pub(in crate::config) max_unverified: Text,
    /// How long one replica may be the only one to ask for what several miss at once; "0s": each asks for
    /// itself.
    pub(in crate::config) lease: Text,
}

/// The journal of changes.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Journal {
    /// Its folder; a relative one starts at the folder of this file.
    pub(in crate::config) data: Text,
    /// How long delivered changes can be replayed.
    pub(in crate::config) retention: Text,
    /// Its largest size.
    pub(in crate::config) max_size: Text,
    /// What becomes of changes for a destination that is not configured any more.
    pub(in crate::config) removed: Given<Removed>,
}

/// What becomes of changes for a destination that is not configured any more.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Removed {
    Drain,
    Drop,
}

/// A system that has data.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Source {
    /// Its name.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) name: Text,
    /// Where it is; a base path is kept in front.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) urls: Given<Vec<Given<Address>>>,
    /// Until a connection stands.
    pub(in crate::config) connect_timeout: Text,
    /// Until the head of the answer.
    pub(in crate::config) timeout: Text,
    /// Between two parts of a body.
    pub(in crate::config) body_idle: Text,
    /// Requests at once, all causes together.
    pub(in crate::config) concurrency: Given<i64>,
    /// Whether that many are let through, or as many as it answers without getting slower.
    pub(in crate::config) concurrency_mode: Given<ConcurrencyMode>,
    /// How long an unused connection is kept.
    pub(in crate::config) idle_timeout: Text,
    /// The Host sent to it: client, source, or a name.
    pub(in crate::config) host: Text,
    /// Fields of Tidegate's own requests.
    #[serde(default)]
    pub(in crate::config) headers: BTreeMap<String, Given<Hidden>>,
    /// Whether a write in doubt may be sent again with the same Idempotency-Key.
    pub(in crate::config) idempotent: Given<bool>,
    /// When an accepted write that failed is sent again.
    pub(in crate::config) retry: Given<Retry>,
    /// PEM file of the authorities that it is verified by; left out: the system's.
    pub(in crate::config) ca: Option<Text>,
    /// PEM file of the certificate chain that it is shown where it asks for one.
    pub(in crate::config) cert: Option<Text>,
    /// PEM file of its key.
    pub(in crate::config) key: Option<Text>,
    /// An active check.
    pub(in crate::config) health: Option<Given<Health>>,
}

/// How many requests a source gets at once: fixed, or adaptive up to `concurrency`.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum ConcurrencyMode {
    Fixed,
    Adaptive,
}

/// An active check of a source.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Health {
    /// What is asked for.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) path: Text,
    /// How often.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) every: Text,
}

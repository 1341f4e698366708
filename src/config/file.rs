//! The shape of a configuration file: what `structure` walks along, `check` reads, `schema` prints
//! and `GET /v1/config` shows.
//!
//! `Given` is always there: written, or filled in from the reference. `Option` and `serde(default)`
//! may be left out. A key marked `x-required` has to be written, and a table with such a key is
//! there only where it is written.

use super::given::{Address, Given, Hidden};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A text with its place.
pub(super) type Text = Given<String>;

/// Texts, each with its place.
pub(super) type Texts = Given<Vec<Text>>;

/// The configuration of Tidegate. Durations are written "250ms", sizes "64MiB"; `${NAME}` and
/// `${NAME:-default}` read the environment inside strings.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// The public side.
    pub(super) server: Given<Server>,
    /// The operators' listener.
    pub(super) admin: Given<Admin>,
    /// Stored responses.
    pub(super) cache: Given<Cache>,
    /// The journal of changes.
    pub(super) sync: Given<Journal>,
    /// The systems that have the data.
    #[serde(default)]
    pub(super) source: Vec<Given<Source>>,
    /// The systems that must follow.
    #[serde(default)]
    pub(super) destination: Vec<Given<Destination>>,
    /// The first route that matches wins.
    #[serde(default)]
    pub(super) route: Vec<Given<Route>>,
}

/// The public side.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    /// Where clients are listened to: IP addresses with ports.
    pub(super) listen: Texts,
    /// Worker threads; left out: the number of cores.
    pub(super) threads: Option<Given<i64>>,
    /// CIDRs whose X-Forwarded-For and Forwarded is believed.
    pub(super) trusted_proxies: Texts,
    /// Until the head of the answer.
    pub(super) request_timeout: Text,
    /// How long requests may still take after a signal to stop.
    pub(super) shutdown_grace: Text,
    /// TLS on the public listeners.
    pub(super) tls: Option<Given<Tls>>,
    /// Bounds of what a client may send.
    pub(super) limits: Given<Limits>,
}

/// TLS on the public listeners.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    /// PEM file of the certificate chain.
    #[schemars(extend("x-required" = true))]
    pub(super) cert: Text,
    /// PEM file of its key.
    #[schemars(extend("x-required" = true))]
    pub(super) key: Text,
    /// PEM file of the authorities whose clients may connect; switches mutual TLS on.
    pub(super) client_ca: Option<Text>,
}

/// Bounds of what a client may send.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    /// The head, from the request line to the empty line; beyond it 431.
    pub(super) head: Text,
    /// Field lines; beyond it 431.
    pub(super) fields: Given<i64>,
    /// The target with its query; beyond it 414.
    pub(super) target: Text,
    /// The body after chunk decoding, or "none"; beyond it 413.
    pub(super) body: Text,
    /// Connections at once.
    pub(super) connections: Given<i64>,
    /// Until a head is complete; then 408.
    pub(super) header_timeout: Text,
    /// Between two requests.
    pub(super) idle_timeout: Text,
    /// Bytes a second, measured over 10 s, under which a sender is cut.
    pub(super) body_rate: Text,
}

/// The operators' listener.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    /// An IP address with a port.
    pub(super) listen: Text,
    /// What `/v1` asks for; required unless the listener is loopback.
    pub(super) token: Given<Hidden>,
    /// Further Host values that are answered.
    pub(super) hosts: Texts,
}

/// Stored responses.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cache {
    /// The first tier, in bytes of stored responses.
    pub(super) memory: Text,
    /// A larger response is not kept in the first tier.
    pub(super) memory_object: Text,
    /// The second tier; left out: memory only.
    pub(super) shared: Option<Given<Shared>>,
}

/// The second tier, in Redis.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Shared {
    /// Where Redis is: redis://, rediss://, redis-cluster:// or redis-sentinel://.
    #[schemars(extend("x-required" = true))]
    pub(super) redis: Given<Address>,
    /// Every key in Redis begins with it and ":".
    pub(super) namespace: Text,
    /// A larger response is not kept in Redis.
    pub(super) object: Text,
    /// Authenticates stored bytes; left out: a checksum only.
    pub(super) secret: Given<Hidden>,
    /// Whether keys in Redis carry no readable path.
    pub(super) hash_keys: Given<bool>,
    /// How long memory is served when cut off from the purge log; "0s": it is validated at once.
    pub(super) max_unverified: Text,
}

/// The journal of changes.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Journal {
    /// Its folder; a relative one starts at the folder of this file.
    pub(super) data: Text,
    /// How long delivered changes can be replayed.
    pub(super) retention: Text,
    /// Its largest size.
    pub(super) max_size: Text,
}

/// A system that has data.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    /// Its name.
    #[schemars(extend("x-required" = true))]
    pub(super) name: Text,
    /// Where it is; a base path is kept in front.
    #[schemars(extend("x-required" = true))]
    pub(super) urls: Given<Vec<Given<Address>>>,
    /// Until a connection stands.
    pub(super) connect_timeout: Text,
    /// Until the head of the answer.
    pub(super) timeout: Text,
    /// Between two parts of a body.
    pub(super) body_idle: Text,
    /// Requests at once, all causes together.
    pub(super) concurrency: Given<i64>,
    /// How long an unused connection is kept.
    pub(super) idle_timeout: Text,
    /// The Host sent to it: client, source, or a name.
    pub(super) host: Text,
    /// Fields of Tidegate's own requests.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Given<Hidden>>,
    /// Whether a write in doubt may be sent again with the same Idempotency-Key.
    pub(super) idempotent: Given<bool>,
    /// An active check.
    pub(super) health: Option<Given<Health>>,
}

/// An active check of a source.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Health {
    /// What is asked for.
    #[schemars(extend("x-required" = true))]
    pub(super) path: Text,
    /// How often.
    #[schemars(extend("x-required" = true))]
    pub(super) every: Text,
}

/// A system that must follow.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Destination {
    /// Its name.
    #[schemars(extend("x-required" = true))]
    pub(super) name: Text,
    /// Where it is; the change's path and query are appended for format = "replay".
    #[schemars(extend("x-required" = true))]
    pub(super) url: Given<Address>,
    /// What it gets.
    pub(super) format: Given<Format>,
    /// Deliveries at once.
    pub(super) concurrency: Given<i64>,
    /// Until the whole answer of an attempt.
    pub(super) timeout: Text,
    /// What a dead letter does to the later changes of its key.
    pub(super) on_failure: Given<OnFailure>,
    /// When a failed attempt is repeated.
    pub(super) retry: Given<Retry>,
    /// What may wait for it before it is detached; left out: what the journal takes.
    pub(super) backlog: Option<Text>,
    /// When it is left alone for a while.
    pub(super) breaker: Given<Breaker>,
    /// The most attempts in a time; left out: no such bound.
    pub(super) rate: Option<Given<Rate>>,
    /// Signs deliveries (Standard Webhooks); two while rotating.
    #[serde(default)]
    pub(super) secrets: Vec<Given<Hidden>>,
    /// Which resolved addresses may be connected to: any, public, or CIDRs.
    pub(super) allow: Given<Allow>,
    /// Other classes for statuses.
    #[serde(default)]
    pub(super) outcome: BTreeMap<String, Given<Class>>,
    /// Where a new destination starts.
    pub(super) from: Given<From>,
    /// Fields of every delivery.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Given<Hidden>>,
}

/// What a destination gets.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Replay,
    State,
    CloudEvents,
}

/// What a dead letter does to the later changes of its key.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OnFailure {
    ParkKey,
    Block,
    Skip,
}

/// When a failed attempt is repeated.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Retry {
    /// The first step.
    pub(super) base: Text,
    /// The largest step.
    pub(super) cap: Text,
    /// After this long a delivery becomes a dead letter.
    pub(super) give_up: Text,
    /// The longest Retry-After that is obeyed.
    pub(super) after_cap: Text,
    /// After so many attempts a delivery becomes a dead letter; left out: no such bound.
    pub(super) attempts: Option<Given<i64>>,
}

/// When a destination is left alone for a while.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Breaker {
    /// Failures in a row that open it.
    pub(super) failures: Given<i64>,
    /// How long it is open the first time; doubles.
    pub(super) open: Text,
    /// The longest it is open.
    pub(super) open_cap: Text,
}

/// The most attempts in a time.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rate {
    /// So many.
    #[schemars(extend("x-required" = true))]
    pub(super) requests: Given<i64>,
    /// In this time.
    #[schemars(extend("x-required" = true))]
    pub(super) per: Text,
}

/// Which resolved addresses may be connected to.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Allow {
    Known(AllowKnown),
    // Behind `untagged` places are lost: the whole list is the place of a fault.
    Networks(Vec<String>),
}

/// Sets of addresses with a name.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum AllowKnown {
    Any,
    Public,
}

/// The class of an attempt's outcome.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Class {
    Delivered,
    Absent,
    Retry,
    Hold,
    Superseded,
    Permanent,
}

/// Where a new destination starts.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum From {
    Now,
    Retention,
}

/// A pattern of paths and its policies.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    /// Its name.
    #[schemars(extend("x-required" = true))]
    pub(super) name: Text,
    /// Only this host; left out: any.
    pub(super) host: Option<Text>,
    /// "/exact", "/items/{id}", "/items/{*rest}"; "/{*rest}" is everything.
    #[schemars(extend("x-required" = true))]
    pub(super) path: Text,
    /// Its methods; left out: all.
    pub(super) methods: Option<Texts>,
    /// Upgrades that are passed on; others are forwarded without the upgrade.
    pub(super) upgrade: Texts,
    /// Prefix taken off before forwarding; left out: the path is never rewritten.
    pub(super) strip: Option<Text>,
    /// The largest body; left out: the server's bound.
    pub(super) body: Option<Text>,
    /// Further paths, prefixes (a trailing *) or "tag:.." that a write here makes old.
    #[serde(default)]
    pub(super) invalidates: Vec<Text>,
    /// The name of its source.
    #[schemars(extend("x-required" = true))]
    pub(super) source: Text,
    /// What is stored.
    pub(super) cache: Given<RouteCache>,
    /// Quotas, all of which must admit.
    #[serde(default)]
    pub(super) limit: Vec<Given<Limit>>,
    /// What is recorded and delivered; left out: nothing.
    pub(super) sync: Option<Given<RouteSync>>,
}

/// What a route stores.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteCache {
    /// Whether responses are stored at all.
    pub(super) enabled: Given<bool>,
    /// Freshness where the response gives none; left out: none.
    pub(super) ttl: Option<Text>,
    /// Used where the response gives none (RFC 5861 3).
    pub(super) stale_while_revalidate: Text,
    /// Used where the response gives none (RFC 5861 4).
    pub(super) stale_if_error: Text,
    /// Also serve stale where the source closes without an answer.
    pub(super) stale_on_disconnect: Given<bool>,
    /// Whether freshness may be guessed from Last-Modified (RFC 9111 4.2.2).
    pub(super) heuristic: Given<bool>,
    /// Query parameters left out of the key and of what is forwarded; a trailing * is a prefix.
    #[serde(default)]
    pub(super) ignore_query: Vec<Text>,
    /// What splits stored responses: shared, "header:Name" or "cookie:name".
    pub(super) identity: Text,
    /// Freshness for statuses that give none; never for 5xx.
    #[serde(default)]
    pub(super) negative: BTreeMap<String, Text>,
    /// Whether a response with Set-Cookie may be stored.
    pub(super) store_set_cookie: Given<bool>,
    /// What becomes of the client's Cache-Control (RFC 9111 5.2.1).
    pub(super) request_directives: Given<RequestDirectives>,
    /// Tags added to those that the source sends.
    #[serde(default)]
    pub(super) tags: Vec<Text>,
}

/// What becomes of the client's Cache-Control.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RequestDirectives {
    Ignore,
    Honour,
}

/// A quota.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Limit {
    /// Its name, in RateLimit-Policy.
    #[schemars(extend("x-required" = true))]
    pub(super) name: Text,
    /// So many requests.
    pub(super) requests: Given<i64>,
    /// In this time.
    pub(super) per: Text,
    /// Requests at once; left out: the same as requests.
    pub(super) burst: Option<Given<i64>>,
    /// What is counted apart: client, "header:Name" or route.
    pub(super) key: Text,
    /// Who counts together.
    pub(super) scope: Given<Scope>,
    /// Which requests it counts: every one, or only what is forwarded.
    pub(super) stage: Given<Stage>,
    /// Whether it stops requests or only counts what it would deny.
    pub(super) mode: Given<LimitMode>,
}

/// Who counts together.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scope {
    Local,
    Shared,
}

/// Which requests a quota counts.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stage {
    Edge,
    Source,
}

/// Whether a quota stops requests.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum LimitMode {
    Enforce,
    Shadow,
}

/// What a route records and delivers.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteSync {
    /// through: the source first, then deliver; accept: 202 once durable.
    pub(super) mode: Given<SyncMode>,
    /// What orders changes: {location}, {path}, names of the path, {header:Name}, {json:/pointer}.
    pub(super) key: Text,
    /// accept: what a refusal of the source does to the later changes of the key.
    pub(super) on_refusal: Given<OnRefusal>,
    /// The names of the destinations.
    #[schemars(extend("x-required" = true))]
    pub(super) destinations: Texts,
    /// The largest body of a change.
    pub(super) body: Text,
}

/// When a synced write is answered.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum SyncMode {
    Through,
    Accept,
}

/// What a refusal of the source does to the later changes of the key.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OnRefusal {
    Skip,
    ParkKey,
}

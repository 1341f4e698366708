//! The shape of `[[route]]` and what stands below it.

use super::{Text, Texts};
use crate::config::given::{Given, Hidden};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A pattern of paths and its policies.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Route {
    /// Its name.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) name: Text,
    /// Only this host; left out: any.
    pub(in crate::config) host: Option<Text>,
    /// "/exact", "/items/{id}", "/items/{*rest}"; "/{*rest}" is everything.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) path: Text,
    /// Its methods; left out: all.
    pub(in crate::config) methods: Option<Texts>,
    /// The name of who may come in; left out: anybody.
    pub(in crate::config) access: Option<Text>,
    /// Upgrades that are passed on; others are forwarded without the upgrade.
    pub(in crate::config) upgrade: Texts,
    /// Until the head of the answer; left out: the source's timeout.
    pub(in crate::config) timeout: Option<Text>,
    /// In which form targets are forwarded: canonical, or opaque (as they came).
    pub(in crate::config) target: Given<TargetForm>,
    /// Prefix taken off before forwarding; left out: the path is never rewritten.
    pub(in crate::config) strip: Option<Text>,
    /// The largest body; left out: the server's bound.
    pub(in crate::config) body: Option<Text>,
    /// Fields such as X-Original-URL that are not removed here, and are part of the key.
    #[serde(default)]
    pub(in crate::config) let_through: Vec<Text>,
    /// What is done to the fields that the source gets.
    pub(in crate::config) request_headers: Option<Given<FieldChanges>>,
    /// What is done to the fields of what the source answers.
    pub(in crate::config) response_headers: Option<Given<FieldChanges>>,
    /// Further paths, prefixes (a trailing *) or "tag:.." that a write here makes old.
    #[serde(default)]
    pub(in crate::config) invalidates: Vec<Text>,
    /// The name of its source.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) source: Text,
    /// What is stored.
    pub(in crate::config) cache: Given<RouteCache>,
    /// Quotas, all of which must admit.
    #[serde(default)]
    pub(in crate::config) limit: Vec<Given<Limit>>,
    /// What is recorded and delivered; left out: nothing.
    pub(in crate::config) sync: Option<Given<RouteSync>>,
}

/// Changes of fields: what is removed goes first.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct FieldChanges {
    /// Fields that take the place of what was there.
    #[serde(default)]
    pub(in crate::config) set: BTreeMap<String, Given<Hidden>>,
    /// Fields that go.
    #[serde(default)]
    pub(in crate::config) remove: Vec<Text>,
}

/// What a route stores.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RouteCache {
    /// Whether responses are stored at all.
    pub(in crate::config) enabled: Given<bool>,
    /// Freshness where the response gives none; left out: none.
    pub(in crate::config) ttl: Option<Text>,
    /// Used where the response gives none (RFC 5861 3).
    pub(in crate::config) stale_while_revalidate: Text,
    /// Used where the response gives none (RFC 5861 4).
    pub(in crate::config) stale_if_error: Text,
    /// Also serve stale where the source closes without an answer.
    pub(in crate::config) stale_on_disconnect: Given<bool>,
    /// Whether freshness may be guessed from Last-Modified (RFC 9111 4.2.2).
    pub(in crate::config) heuristic: Given<bool>,
    /// Query parameters left out of the key and of what is forwarded; a trailing * is a prefix.
    #[serde(default)]
    pub(in crate::config) ignore_query: Vec<Text>,
    /// What splits stored responses: shared, "header:Name" or "cookie:name".
    pub(in crate::config) identity: Text,
    /// Freshness for statuses that give none; never for 5xx.
    #[serde(default)]
    pub(in crate::config) negative: BTreeMap<String, Text>,
    /// Whether a response with Set-Cookie may be stored.
    pub(in crate::config) store_set_cookie: Given<bool>,
    /// What becomes of the client's Cache-Control (RFC 9111 5.2.1).
    pub(in crate::config) request_directives: Given<RequestDirectives>,
    /// Tags added to those that the source sends.
    #[serde(default)]
    pub(in crate::config) tags: Vec<Text>,
}

/// In which form targets are forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum TargetForm {
    Canonical,
    Opaque,
}

/// What becomes of the client's Cache-Control.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RequestDirectives {
    Ignore,
    Honour,
}

/// A quota.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Limit {
    /// Its name, in RateLimit-Policy.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) name: Text,
    /// So many requests.
    pub(in crate::config) requests: Given<i64>,
    /// In this time.
    pub(in crate::config) per: Text,
    /// Requests at once; left out: the same as requests.
    pub(in crate::config) burst: Option<Given<i64>>,
    /// What is counted apart: client, "header:Name" or route.
    pub(in crate::config) key: Text,
    /// Who counts together.
    pub(in crate::config) scope: Given<Scope>,
    /// Which requests it counts: every one, or only what is forwarded.
    pub(in crate::config) stage: Given<Stage>,
    /// Whether it stops requests or only counts what it would deny.
    pub(in crate::config) mode: Given<LimitMode>,
}

/// Who counts together.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Scope {
    Local,
    Shared,
}

/// Which requests a quota counts.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Stage {
    Edge,
    Source,
}

/// Whether a quota stops requests.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum LimitMode {
    Enforce,
    Shadow,
}

/// What a route records and delivers.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RouteSync {
    /// through: the source first, then deliver; accept: 202 once durable.
    pub(in crate::config) mode: Given<SyncMode>,
    /// What orders changes: `{location}`, `{path}`, names of the path, `{header:Name}`, `{json:/pointer}`.
    pub(in crate::config) key: Text,
    /// accept: what a refusal of the source does to the later changes of the key.
    pub(in crate::config) on_refusal: Given<OnRefusal>,
    /// The names of the destinations.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) destinations: Texts,
    /// The largest body of a change.
    pub(in crate::config) body: Text,
}

/// When a synced write is answered.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum SyncMode {
    Through,
    Accept,
}

/// What a refusal of the source does to the later changes of the key.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum OnRefusal {
    Skip,
    ParkKey,
}

//! The shape of `[[destination]]`.

use super::Text;
use crate::config::given::{Address, Given, Hidden};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A system that must follow.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Destination {
    /// Its name.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) name: Text,
    /// Where it is; the change's path and query are appended for format = "replay".
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) url: Given<Address>,
    /// What it gets.
    pub(in crate::config) format: Given<Format>,
    /// Deliveries at once.
    pub(in crate::config) concurrency: Given<i64>,
    /// Until the whole answer of an attempt.
    pub(in crate::config) timeout: Text,
    /// What a dead letter does to the later changes of its key.
    pub(in crate::config) on_failure: Given<OnFailure>,
    /// When a failed attempt is repeated.
    pub(in crate::config) retry: Given<Retry>,
    /// What may wait for it before it is detached; left out: what the journal takes.
    pub(in crate::config) backlog: Option<Text>,
    /// When it is left alone for a while.
    pub(in crate::config) breaker: Given<Breaker>,
    /// The most attempts in a time; left out: no such bound.
    pub(in crate::config) rate: Option<Given<Rate>>,
    /// Signs deliveries (Standard Webhooks); two while rotating.
    #[serde(default)]
    pub(in crate::config) secrets: Vec<Given<Hidden>>,
    /// Which resolved addresses may be connected to: any, public, or CIDRs.
    pub(in crate::config) allow: Given<Allow>,
    /// PEM file of the authorities that it is verified by; left out: the system's.
    pub(in crate::config) ca: Option<Text>,
    /// PEM file of the certificate chain that it is shown where it asks for one.
    pub(in crate::config) cert: Option<Text>,
    /// PEM file of its key.
    pub(in crate::config) key: Option<Text>,
    /// Other classes for statuses.
    #[serde(default)]
    pub(in crate::config) outcome: BTreeMap<String, Given<Class>>,
    /// Where a new destination starts.
    pub(in crate::config) from: Given<From>,
    /// Fields of every delivery.
    #[serde(default)]
    pub(in crate::config) headers: BTreeMap<String, Given<Hidden>>,
}

/// What a destination gets.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Format {
    Replay,
    State,
    CloudEvents,
}

/// What a dead letter does to the later changes of its key.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum OnFailure {
    ParkKey,
    Block,
    Skip,
}

/// When a failed attempt is repeated.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Retry {
    /// The first step.
    pub(in crate::config) base: Text,
    /// The largest step.
    pub(in crate::config) cap: Text,
    /// After this long a delivery becomes a dead letter.
    pub(in crate::config) give_up: Text,
    /// The longest Retry-After that is obeyed.
    pub(in crate::config) after_cap: Text,
    /// After so many attempts a delivery becomes a dead letter; left out: no such bound.
    pub(in crate::config) attempts: Option<Given<i64>>,
}

/// When a destination is left alone for a while.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Breaker {
    /// Failures in a row that open it.
    pub(in crate::config) failures: Given<i64>,
    /// How long it is open the first time; doubles.
    pub(in crate::config) open: Text,
    /// The longest it is open.
    pub(in crate::config) open_cap: Text,
}

/// The most attempts in a time.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Rate {
    /// So many.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) requests: Given<i64>,
    /// In this time.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) per: Text,
}

/// Which resolved addresses may be connected to.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Allow {
    Known(AllowKnown),
    // Behind `untagged` places are lost: the whole list is the place of a fault.
    Networks(Vec<String>),
}

/// Sets of addresses with a name.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum AllowKnown {
    Any,
    Public,
}

/// The class of an attempt's outcome.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Class {
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
pub(in crate::config) enum From {
    Now,
    Retention,
}

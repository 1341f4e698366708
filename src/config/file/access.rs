//! The shape of `[[access]]`: who may come in.

use super::{Text, Texts};
use crate::config::given::{Address, Given, Hidden};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may come in: any of these ways suffices.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Access {
    /// Its name, which routes name in `access`.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) name: Text,
    /// CIDRs of clients that come in without anything else.
    #[serde(default)]
    pub(in crate::config) addresses: Vec<Text>,
    /// Names in certificates of clients; "*": every one.
    #[serde(default)]
    pub(in crate::config) certificates: Vec<Text>,
    /// Where keys are looked for; "Authorization": behind `Bearer`.
    pub(in crate::config) key_field: Text,
    /// What becomes of a credential that was looked at.
    pub(in crate::config) credentials: Given<Credentials>,
    /// The field that tells the source the name of who asks; left out: none.
    pub(in crate::config) identity_field: Option<Text>,
    /// What becomes of CORS preflights, which have no credential.
    pub(in crate::config) preflight: Given<Preflight>,
    /// API keys.
    #[serde(default)]
    pub(in crate::config) key: Vec<Given<Key>>,
    /// Tokens; left out: none.
    pub(in crate::config) jwt: Option<Given<Jwt>>,
}

/// What becomes of a credential that was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Credentials {
    Remove,
    Forward,
}

/// What becomes of CORS preflights.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum Preflight {
    Refuse,
    Pass,
}

/// An API key.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Key {
    /// Whose it is.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) name: Text,
    /// Its SHA-256 in hexadecimal digits; two while it is being replaced.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) sha256: Given<Vec<Given<Hidden>>>,
}

/// Tokens that are good.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Jwt {
    /// Their `iss`.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) issuer: Text,
    /// Their `aud` has one of these.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) audience: Texts,
    /// They are signed in one of these ways.
    pub(in crate::config) algorithms: Texts,
    /// Where the signers' keys are: a file, or a URL: https://, or http:// on loopback.
    #[schemars(extend("x-required" = true))]
    pub(in crate::config) jwks: Given<Address>,
    /// PEM file of the authorities that it is verified by; left out: the system's.
    pub(in crate::config) ca: Option<Text>,
    /// How far the clocks may differ.
    pub(in crate::config) leeway: Text,
    /// The claim that names who it is.
    pub(in crate::config) claim: Text,
    /// How old the keys become before they are fetched anew.
    pub(in crate::config) refresh: Text,
}

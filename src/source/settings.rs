//! What a source is built from (`[[source]]`).

use crate::secret::{Endpoint, Secret};
use crate::tls::ClientTls;
use http::HeaderName;
use http::uri::PathAndQuery;
use std::time::Duration;

/// A source (`[[source]]`).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// Its addresses, 1 to [`super::ADDRESSES_MAX`]; a base path is kept in front.
    pub urls: Vec<Endpoint>,
    /// Until a connection stands, name and TLS included.
    pub connect_timeout: Duration,
    /// Until the head of the answer.
    pub timeout: Duration,
    /// Between two parts of a body.
    pub body_idle: Duration,
    /// The most requests at once, all causes together.
    pub concurrency: usize,
    /// Whether that many are let through, or as many as it answers without getting slower.
    pub concurrency_mode: ConcurrencyMode,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// The Host sent to it.
    pub host: HostSent,
    /// Fields of Tidegate's own requests; the values may be secrets.
    pub headers: Vec<(HeaderName, Secret)>,
    /// How it is verified, and what it is shown, where a URL says https.
    pub tls: ClientTls,
    /// An active check of each address.
    pub health: Option<HealthSettings>,
}

/// How many requests a source gets at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConcurrencyMode {
    /// `concurrency`.
    Fixed,
    /// As many as it answers without getting slower, at most `concurrency`.
    Adaptive,
}

/// The Host field that a source gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostSent {
    /// The one that the client asked.
    Client,
    /// The source URL's own.
    Source,
    /// A fixed one.
    Name(String),
}

/// An active check.
#[derive(Clone, Debug)]
pub struct HealthSettings {
    /// What is asked for; the base path of each address is put in front.
    pub path: PathAndQuery,
    /// How often.
    pub every: Duration,
}

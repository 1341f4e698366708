//! A source's addresses: connections, concurrency, deadlines.

use crate::secret::{Endpoint, Secret};
use http::HeaderName;
use std::time::Duration;

/// A source (`[[source]]`).
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// Where it is; a base path is kept in front.
    pub url: Endpoint,
    /// Until a connection stands.
    pub connect_timeout: Duration,
    /// Until the head of the answer.
    pub timeout: Duration,
    /// Between two parts of a body.
    pub body_idle: Duration,
    /// Requests at once, all causes together.
    pub concurrency: usize,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// The Host sent to it.
    pub host: HostSent,
    /// Fields of Tidegate's own requests; the values may be secrets.
    pub headers: Vec<(HeaderName, Secret)>,
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

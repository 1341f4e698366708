//! What a route decides about storing (`[route.cache]`). RFC 9111 decides the rest.

use super::rules::identity::Identity;
use http::StatusCode;
use std::time::Duration;

/// A route's cache policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Whether responses are stored at all.
    pub storing: Storing,
    /// Freshness where the response gives none; never for 5xx.
    pub ttl: Option<Duration>,
    /// Used where the response gives none (RFC 5861 3).
    pub stale_while_revalidate: Duration,
    /// Used where the response gives none (RFC 5861 4).
    pub stale_if_error: Duration,
    /// Also serve stale where the source cannot be reached or closes without an answer.
    pub stale_on_disconnect: bool,
    /// Whether freshness may be guessed from Last-Modified (RFC 9111 4.2.2).
    pub heuristic: bool,
    /// Query parameters left out of the key and of what is forwarded; `*` at the end is a prefix.
    pub ignore_query: Vec<String>,
    /// What splits stored responses.
    pub identity: Identity,
    /// Freshness for statuses that give none; never for 5xx.
    pub negative: Vec<(StatusCode, Duration)>,
    /// Whether a response with Set-Cookie may be stored.
    pub set_cookie: SetCookie,
    /// What becomes of the client's Cache-Control (RFC 9111 5.2.1).
    pub request_directives: RequestDirectives,
    /// Tags added to those that the source sends.
    pub tags: Vec<String>,
}

/// Whether a route stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storing {
    /// As RFC 9111 and this policy say.
    Enabled,
    /// Never.
    Disabled,
}

/// What a Set-Cookie field does to a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetCookie {
    /// It is not stored.
    NotStored,
    /// It is stored with the cookie.
    Stored,
}

/// Whether the client's Cache-Control counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestDirectives {
    /// It does not.
    Ignore,
    /// It does.
    Honour,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            storing: Storing::Enabled,
            ttl: None,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::from_mins(5),
            stale_on_disconnect: false,
            heuristic: true,
            ignore_query: Vec::new(),
            identity: Identity::Shared,
            negative: Vec::new(),
            set_cookie: SetCookie::NotStored,
            request_directives: RequestDirectives::Ignore,
            tags: Vec::new(),
        }
    }
}

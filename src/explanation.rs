//! How a request would be answered, and why: what `GET /v1/explain` asks for and tells. Values only:
//! `gateway` fills them in, `admin` and `cli` show them.

use crate::target::{Authority, Scheme, TargetError};
use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use utoipa::ToSchema;

/// The request that is asked about; it has no content.
#[derive(Clone, Debug)]
pub struct Question {
    /// Whom it is sent to, unless its fields have a Host.
    pub authority: Authority,
    /// Its path and query, as they would be sent.
    pub origin_form: String,
    /// Its method.
    pub method: Method,
    /// Its fields.
    pub fields: HeaderMap,
    /// Who would send it.
    pub peer: SocketAddr,
}

impl Question {
    /// Takes an absolute URL apart. Whether its path would be taken is left to the gateway.
    ///
    /// # Errors
    /// [`TargetError::Scheme`], [`TargetError::Host`]: it is no absolute http URL.
    pub fn parts(url: &str) -> Result<(Authority, String), TargetError> {
        let (scheme, rest) = url.split_once("://").ok_or(TargetError::Scheme)?;
        let scheme = match scheme {
            _ if scheme.eq_ignore_ascii_case("http") => Scheme::Http,
            _ if scheme.eq_ignore_ascii_case("https") => Scheme::Https,
            _ => return Err(TargetError::Scheme),
        };
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let slash = if rest.starts_with('/') { "" } else { "/" };
        Ok((Authority::parse(authority, scheme)?, format!("{slash}{rest}")))
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// A fresh stored response answers it.
    Fresh,
    /// A stale stored response answers it.
    Stale,
    /// The source is asked whether what is stored is still right.
    Validate,
    /// The source is asked.
    Forward,
    /// Tidegate answers by itself: nothing stored is used and nobody is asked.
    Own,
}

impl Decision {
    /// The word for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Validate => "validate",
            Self::Forward => "forward",
            Self::Own => "own",
        }
    }
}

/// How a request would be answered now, and why.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The canonical target: what is routed, keyed, purged and forwarded.
    #[schema(example = "http://api.example.com/items/7")]
    pub target: Option<String>,
    /// What becomes of the request.
    pub decision: Decision,
    /// What Cache-Status would say: `hit`, or the token of `fwd` (RFC 9211); null where it would say neither.
    #[schema(example = "uri-miss")]
    pub reason: Option<String>,
    /// The rule that decides.
    pub rule: Rule,
    /// What Tidegate would answer by itself.
    pub answer: Option<OwnAnswer>,
    /// Where the response is that answers it, or that is asked about: `memory`, `shared` or null.
    #[schema(example = "memory")]
    pub tier: Option<String>,
    /// What a stored response is found by.
    #[schema(example = "http://api.example.com/items/7")]
    pub key: Option<String>,
    /// The request fields that select the stored response, and their values as they are compared.
    pub variant: Option<BTreeMap<String, Option<String>>>,
    /// The arithmetic of its freshness (RFC 9111 4.2).
    pub freshness: Option<Freshness>,
    /// The route that takes the request.
    pub route: Option<MatchedRoute>,
    /// Routes before it, and why they do not take the request.
    pub passed_over: Vec<PassedOver>,
    /// What is held for the key.
    pub variants: Vec<HeldVariant>,
    /// Why nobody waits for another's forward of this key (hit-for-miss).
    pub marker: Option<MarkedKey>,
    /// The number of the last purge that this gateway has applied; what is stored carries its own.
    pub fence: u64,
    /// The quotas that count the request, as they are before it.
    pub quotas: Vec<QuotaState>,
    /// The health of its source.
    pub source: Option<SourceHealth>,
}

/// A rule and where it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rule {
    /// Where it is written.
    #[schema(example = "RFC 9111 4.2")]
    pub section: String,
    /// What it says of this request.
    pub says: String,
}

/// An answer of Tidegate's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnAnswer {
    /// Its status.
    #[schema(example = 404)]
    pub status: u16,
    /// What it tells.
    pub detail: String,
}

/// A figure and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Figure {
    /// In seconds.
    pub seconds: f64,
    /// The field, the route's key, or the rule that gives it.
    #[schema(example = "cache-control: max-age")]
    pub from: String,
}

/// How fresh a stored response is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Freshness {
    /// How long it is fresh, from age zero (RFC 9111 4.2.1).
    pub lifetime: Figure,
    /// How old it was when it came (RFC 9111 4.2.3).
    pub initial_age: Figure,
    /// How long it has been here.
    pub resident_time: Figure,
    /// How old it is: both together.
    pub current_age: Figure,
    /// What is left of the lifetime; below zero it is stale.
    pub ttl: Figure,
    /// How long it is then served while it is validated (RFC 5861 3).
    pub stale_while_revalidate: Figure,
    /// How long it is then served where the source fails (RFC 5861 4).
    pub stale_if_error: Figure,
    /// How long it is then served where the source cannot be reached.
    pub stale_on_disconnect: Figure,
    /// Whether it may be used unvalidated: `always-validate`, `while-fresh`, `with-stale`.
    #[schema(example = "with-stale")]
    pub reuse: String,
}

/// A route and what of it matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MatchedRoute {
    /// Its name.
    #[schema(example = "items")]
    pub name: String,
    /// Its place among the routes, from 1; the first that matches wins.
    pub place: usize,
    /// Its host; null: any.
    pub host: Option<String>,
    /// Its path pattern.
    #[schema(example = "/items/{id}")]
    pub path: String,
    /// Its methods; null: all.
    pub methods: Option<Vec<String>>,
    /// What the names of the pattern match.
    pub names: BTreeMap<String, String>,
    /// Its source.
    #[schema(example = "inventory")]
    pub source: String,
    /// What the source is asked for, before its base path.
    #[schema(example = "/items/7")]
    pub forwarded: String,
}

/// A route that does not take the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PassedOver {
    /// Its name.
    pub name: String,
    /// What does not match: `host`, `method` or `path`.
    #[schema(example = "path")]
    pub because: String,
}

/// A stored response of the key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HeldVariant {
    /// Where it is.
    #[schema(example = "memory")]
    pub tier: String,
    /// The request fields that select it; of what may be a secret only that it is there.
    pub variant: BTreeMap<String, Option<String>>,
    /// Whether this request selects it.
    pub selected: bool,
    /// Its status.
    #[schema(example = 200)]
    pub status: u16,
    /// The bytes of its content.
    pub bytes: usize,
    /// How old it is, in seconds.
    pub age: f64,
    /// What is left of its lifetime, in seconds.
    pub ttl: f64,
    /// Its tags.
    pub tags: Vec<String>,
    /// The number of the last purge applied before its forward began.
    pub fence: u64,
    /// What purges since then have made of it: `valid`, `stale`, `unverified` or `gone`.
    #[schema(example = "valid")]
    pub standing: String,
    /// Which kinds of purges have: `url`, `path`, `prefix`, `tag`, `group`, `all`; `unheard`: some may have
    /// been missed.
    pub purged_by: Vec<String>,
}

/// Why the answers for a key are not waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MarkedKey {
    /// Why the last answer could not be stored.
    #[schema(example = "private")]
    pub reason: String,
    /// The status that it had.
    #[schema(example = 200)]
    pub status: u16,
    /// How long that still counts, in seconds.
    pub left: f64,
}

/// A quota and what is left of it for this request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QuotaState {
    /// Its name.
    #[schema(example = "per-client")]
    pub name: String,
    /// What it counts: `edge`, every request; `source`, what is forwarded.
    #[schema(example = "edge")]
    pub stage: String,
    /// Whether it denies: `enforce`, or `shadow`, which only counts.
    #[schema(example = "enforce")]
    pub mode: String,
    /// Requests that fit now.
    pub remaining: u64,
    /// Until one more fits, in seconds; zero where it is full.
    pub until_more: f64,
}

/// The health of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceHealth {
    /// Its name.
    #[schema(example = "inventory")]
    pub name: String,
    /// Its breaker: `closed`, `open` or `half-open`.
    #[schema(example = "closed")]
    pub breaker: String,
    /// Its addresses.
    pub addresses: Vec<SourceAddress>,
    /// Requests under way.
    pub active: usize,
    /// Requests that wait for a place.
    pub waiting: usize,
    /// The most at once, as it is in force.
    pub concurrency: usize,
}

/// One address of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceAddress {
    /// Scheme, authority and base path.
    #[schema(example = "http://127.0.0.1:9001")]
    pub address: String,
    /// Whether it is left out because it failed.
    pub ejected: bool,
    /// Requests under way there.
    pub in_flight: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_its_path_left_as_it_is() {
        for (url, parts) in [
            ("http://A.example:80/a/../b?c", Ok(("a.example", "/a/../b?c"))),
            ("HTTPS://h:443", Ok(("h", "/"))),
            ("http://h?a=b", Ok(("h", "/?a=b"))),
            ("http://h/a\\b", Ok(("h", "/a\\b"))),
            ("/items/7", Err(TargetError::Scheme)),
            ("ftp://h/", Err(TargetError::Scheme)),
            ("http:///a", Err(TargetError::Host)),
            ("http://user@h/", Err(TargetError::Host)),
        ] {
            let given = Question::parts(url);
            let shown = given.as_ref().map(|(host, path)| (host.as_str(), path.as_str()));
            assert_eq!(shown.map_err(|fault| *fault), parts, "{url}");
        }
    }
}

//! Who may call: Host, token, Origin and content type are checked before anything is routed.
//!
//! Host and Origin keep pages in an operator's browser out, also where they point a name of their
//! own at this address (DNS rebinding); the token keeps everybody else out.

use super::operator::{NOBODY, Operators, Role};
use super::problem::Problem;
use super::serve::Peer;
use super::{Listen, Parts, Settings};
use crate::target::{Authority, Scheme};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body::Body as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tracing::info;

/// Paths for probes and scrapers, which know neither the token nor a name.
const OPEN_PATHS: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// What a caller must show.
#[derive(Debug)]
pub(super) struct Guard {
    operators: Operators,
    /// `None`: a Unix socket.
    listening_on: Option<SocketAddr>,
    hosts: Vec<Authority>,
}

/// What a call did, for its line in the audit log; without secrets.
#[derive(Clone, Debug)]
pub(super) struct Done(pub(super) String);

/// Lets a request pass, or answers it with a problem; notes what changed.
pub(super) async fn guard(State(parts): State<Arc<Parts>>, request: Request, next: Next) -> Response {
    let changing = !matches!(*request.method(), Method::GET | Method::HEAD);
    let call = changing.then(|| format!("{} {}", request.method(), request.uri().path()));
    let peer = request.extensions().get::<Peer>().and_then(|peer| peer.0);
    let told = parts.in_force.told();
    let who = call.as_ref().map(|_| told.guard.caller(request.headers()).to_owned());
    let mut response = match told.guard.check(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    if let Some(call) = call {
        let status = response.status().as_u16();
        let done = response.extensions().get::<Done>().map(|done| done.0.as_str());
        info!(target: "tidegate::audit", call, status, done, who, peer = peer.map(tracing::field::display));
    }
    let fields = response.headers_mut();
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

impl Guard {
    pub(super) fn new(settings: &Settings, listening_on: &Listen) -> Self {
        let hosts = settings.hosts.iter().filter_map(|host| Authority::parse(host, Scheme::Http).ok());
        Self {
            operators: Operators::new(settings),
            listening_on: listening_on.address(),
            hosts: hosts.collect(),
        }
    }

    /// Who calls, for the audit log.
    fn caller(&self, fields: &HeaderMap) -> &str {
        self.operator(fields).map_or(NOBODY, |(name, _)| name)
    }

    /// What a caller may do; `None`: nothing.
    fn role(&self, fields: &HeaderMap) -> Option<Role> {
        if self.operators.are_none() { Some(Role::All) } else { self.operator(fields).map(|(_, role)| role) }
    }

    /// Whose token it shows.
    fn operator(&self, fields: &HeaderMap) -> Option<(&str, Role)> {
        let (scheme, token) = only(fields, &AUTHORIZATION).and_then(|value| value.split_once(' '))?;
        if scheme.eq_ignore_ascii_case("bearer") { self.operators.of(token.trim_matches(' ')) } else { None }
    }

    fn check(&self, request: &Request) -> Result<(), Problem> {
        let path = request.uri().path();
        if OPEN_PATHS.contains(&path) {
            return Ok(());
        }
        let host = self.host(request).ok_or(Problem::FOREIGN_HOST)?;
        let fields = request.headers();
        let is_guarded = path == "/v1" || path.starts_with("/v1/");
        let role = if is_guarded { self.role(fields).ok_or(Problem::UNAUTHORIZED)? } else { Role::All };
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(());
        }
        if fields.contains_key(ORIGIN) && !is_own_origin(fields, &host) {
            return Err(Problem::FOREIGN_ORIGIN);
        }
        let sends_body = !request.body().is_end_stream();
        if (sends_body || fields.contains_key(CONTENT_TYPE)) && !is_json(fields) {
            return Err(Problem::MEDIA_TYPE);
        }
        if !role.may(request.method(), path) {
            return Err(Problem::ROLE);
        }
        Ok(())
    }

    /// The authority that was asked, where it is one of this listener.
    fn host(&self, request: &Request) -> Option<Authority> {
        let asked = Authority::parse(only(request.headers(), &HOST)?, Scheme::Http).ok()?;
        if let Some(of_target) = request.uri().authority() {
            let of_target = Authority::parse(of_target.as_str(), Scheme::Http).ok()?;
            if of_target != asked {
                return None;
            }
        }
        let port = port(&asked);
        let own = (port.is_none() || port == self.listening_on.map(|own| own.port()))
            && (asked.host() == "localhost" || self.is_own_address(asked.host()));
        let named = self
            .hosts
            .iter()
            .any(|named| *named == asked || (named.as_str() == named.host() && named.host() == asked.host()));
        (own || named).then_some(asked)
    }

    /// A listener on every address answers to any of them: an address, unlike a name, cannot be
    /// pointed elsewhere.
    fn is_own_address(&self, host: &str) -> bool {
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let Some(own) = self.listening_on.map(|own| own.ip().to_canonical()) else { return false };
        literal.parse::<IpAddr>().is_ok_and(|asked| own.is_unspecified() || asked.to_canonical() == own)
    }
}

/// The port of an authority that is not its default.
fn port(authority: &Authority) -> Option<u16> {
    authority.as_str().strip_prefix(authority.host())?.strip_prefix(':')?.parse().ok()
}

/// The value of a field that stands once and is text.
fn only<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut lines = fields.get_all(name).iter();
    let first = lines.next()?;
    if lines.next().is_some() { None } else { first.to_str().ok() }
}

/// Whether Origin is what the caller asked: `http`, and the host and port of its Host.
fn is_own_origin(fields: &HeaderMap, host: &Authority) -> bool {
    let origin = only(fields, &ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
    origin.is_some_and(|origin| Authority::parse(origin, Scheme::Http).as_ref() == Ok(host))
}

fn is_json(fields: &HeaderMap) -> bool {
    only(fields, &CONTENT_TYPE).is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    })
}

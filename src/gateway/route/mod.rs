//! Which route takes a request, and what it makes of it. The canonical target decides, for routing,
//! key and forward alike (I8).

mod pattern;
mod readings;

pub use pattern::{PathPattern, PatternError};

use super::RouteSettings;
use super::content::Bounds;
use super::forwarded;
use super::metrics::RouteMetrics;
use super::problem::GatewayError;
use super::request::{Request, Trust};
use super::strict::Refusal;
use super::upgrade;
use crate::access::Access;
use crate::cache::CacheKey;
use crate::cache::policy::{RequestDirectives, Storing};
use crate::cache::rules::cache_control::Directives;
use crate::cache::rules::identity::TIDEGATE_IDENTITY;
use crate::cache::rules::key::QueryDigest;
use crate::cache::rules::{ForwardReason, invalidation, preconditions};
use crate::clock::Timestamp;
use crate::explanation::QuotaState;
use crate::in_flight::InFlight;
use crate::rate_limit::{Caller, Fields, Quotas, Stage, Verdict};
use crate::secret::KeyedHash;
use crate::source::{Protocol, Source};
use crate::target::{Target, TargetError, TargetForm};
use http::header::{RANGE, TRAILER};
use http::{HeaderMap, Method};
use readings::{every_reading, other_readings};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// A route at work.
#[derive(Debug)]
pub(crate) struct Route {
    pub settings: RouteSettings,
    pub name: Arc<str>,
    pub source: Arc<Source>,
    pub quotas: Quotas,
    pub metrics: RouteMetrics,
    pub content_bounds: Bounds,
    /// No request waits longer for the head of its answer (`server.request_timeout`).
    pub request_timeout: Duration,
    pub in_flight: Arc<InFlight>,
    pub keyed_hash: KeyedHash,
    /// Who may come in; `None`: anybody.
    pub access: Option<Arc<Access>>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Sent to the source with the upgrade that it asks for.
    Upgrade(Protocol),
    /// Answered from what is stored, or by a collapsed forward.
    Reuse,
    /// As [`Action::Reuse`], by what its content asks (RFC 10008 2.7).
    Query,
    /// Relayed to the source, for this client alone.
    Relay(ForwardReason),
    /// Sent to the source; what it makes old is forgotten.
    Write,
    /// As [`Action::Write`], recorded before and delivered after.
    Record,
}

impl Route {
    /// What becomes of a request on this route.
    pub(crate) fn action(&self, request: &Request) -> Action {
        if let Some(protocol) = upgrade::asked(self, request) {
            return Action::Upgrade(protocol);
        }
        let storing = self.settings.cache.storing == Storing::Enabled;
        match request.method {
            Method::GET | Method::HEAD if !storing || !request.content.is_none() => {
                Action::Relay(ForwardReason::Bypass)
            }
            Method::GET | Method::HEAD => Action::Reuse,
            Method::QUERY if !storing => Action::Relay(ForwardReason::Bypass),
            Method::QUERY if preconditions::are_for_the_source(&request.fields) => {
                Action::Relay(ForwardReason::Request)
            }
            Method::QUERY => Action::Query,
            ref safe if !invalidation::is_unsafe(safe) => Action::Relay(ForwardReason::Method),
            _ if self.settings.sync.is_some() => Action::Record,
            _ => Action::Write,
        }
    }

    /// All quotas of a stage admit, or one denies; what the answer tells of them. Redis is asked where several
    /// gateways count together.
    ///
    /// # Errors
    /// [`GatewayError::Quota`]
    pub(crate) async fn admitted_together(
        &self,
        stage: Stage,
        request: &Request,
        now: Timestamp,
    ) -> Result<Fields, GatewayError> {
        if !self.quotas.asks_redis(stage) {
            return self.admit(stage, request, now);
        }
        let caller = caller(request);
        let asked = self.quotas.admit_shared(stage, &caller, now, &request.patience);
        match Box::pin(asked).await {
            Verdict::Admit(fields) => Ok(fields),
            Verdict::Deny(denied) => Err(GatewayError::Quota(denied)),
        }
    }

    /// The same for what is forwarded.
    ///
    /// # Errors
    /// [`GatewayError::Quota`]
    pub(crate) async fn admitted(&self, request: &Request, now: Timestamp) -> Result<Fields, GatewayError> {
        self.admitted_together(Stage::Source, request, now).await
    }

    /// As this gateway alone decides, which waits for nothing.
    ///
    /// # Errors
    /// [`GatewayError::Quota`]
    pub(crate) fn admit(
        &self,
        stage: Stage,
        request: &Request,
        now: Timestamp,
    ) -> Result<Fields, GatewayError> {
        if self.quotas.is_empty() {
            return Ok(Fields::default());
        }
        match self.quotas.admit(stage, &caller(request), now) {
            Verdict::Admit(fields) => Ok(fields),
            Verdict::Deny(denied) => Err(GatewayError::Quota(denied)),
        }
    }

    /// The same where no quota has a word against it and nobody has to be asked; else `None`, without a trace.
    pub(crate) fn admit_at_once(&self, request: &Request, now: Timestamp) -> Option<Fields> {
        self.quotas.admit_at_once(Stage::Edge, &caller(request), now)
    }

    /// Whether neither a request's fields nor a stored answer's are changed or judged here.
    pub(crate) fn lets_hits_pass(&self) -> bool {
        self.access.is_none()
            && self.settings.cache.identity.claim().is_none()
            && self.settings.response_fields.is_empty()
    }

    /// What [`Route::admit`] would deny the request with.
    pub(crate) fn would_deny(&self, stage: Stage, request: &Request, now: Timestamp) -> Option<GatewayError> {
        self.quotas.would_deny(stage, &caller(request), now).map(GatewayError::Quota)
    }

    /// Learns what other gateways have used of shared quotas.
    pub(crate) async fn hear_quotas(&self, request: &Request, now: Timestamp) {
        self.quotas.hear(&caller(request), now, &request.patience).await;
    }

    /// The quotas as the request finds them.
    pub(crate) fn quota_states(&self, request: &Request, now: Timestamp) -> Vec<QuotaState> {
        self.quotas.look(&caller(request), now)
    }

    /// How long a forward may take until the head of its answer.
    pub(crate) fn timeout(&self) -> Duration {
        self.settings.timeout.unwrap_or(self.source.settings().timeout)
    }

    /// The same for one that a single request waits for.
    pub(crate) fn timeout_alone(&self) -> Duration {
        self.timeout().min(self.request_timeout)
    }

    /// The request's own Cache-Control, where it counts here (RFC 9111 5.2.1).
    pub(crate) fn directives(&self, request: &Request) -> Option<Directives> {
        (self.settings.cache.request_directives == RequestDirectives::Honour)
            .then(|| Directives::of_request(request.asking()))
    }

    /// What the stored response to GET and HEAD is found by, for who sends these fields.
    pub(crate) fn key(&self, target: &Target, fields: &HeaderMap) -> CacheKey {
        CacheKey::new(&self.without_ignored_query(target), self.identity(fields).as_deref())
    }

    /// What the stored response to a QUERY is found by, for who sends these fields.
    pub(crate) fn query_key(&self, target: &Target, fields: &HeaderMap, query: QueryDigest) -> CacheKey {
        CacheKey::of_query(&self.without_ignored_query(target), self.identity(fields).as_deref(), query)
    }

    /// Who asks, and what a source may act on besides, as a hash; `None` where that splits nothing, empty where
    /// nothing tells.
    fn identity(&self, fields: &HeaderMap) -> Option<Vec<u8>> {
        let (identity, through) = (&self.settings.cache.identity, &self.settings.let_through);
        if !identity.splits() && through.is_empty() {
            return None;
        }
        let mut parts = if identity.splits() { identity.parts(fields) } else { Vec::new() };
        for name in through {
            // No kind of an identity is as long as the name of such a field.
            parts.extend(
                fields.get_all(name).iter().flat_map(|line| [name.as_str().as_bytes(), line.as_bytes()]),
            );
        }
        Some(match parts.as_slice() {
            [] => Vec::new(),
            parts => self.keyed_hash.digest("identity", parts.iter().copied()).to_vec(),
        })
    }

    /// Takes away a client's word on who it is, where only a trusted proxy is believed: neither key nor source
    /// hears of it.
    pub(crate) fn disbelieve(&self, request: &mut Request) {
        if let Some(claim) = self.settings.cache.identity.claim() {
            forwarded::remove_claim(&mut request.fields, claim, request.client.trust);
            if request.client.trust == Trust::Nobody {
                // Sources that read trailers as fields would believe what stands there; only what is announced goes on.
                request.fields.remove(TRAILER);
            }
        }
    }

    /// The target that the source gets, before its base path.
    pub(crate) fn forwarded<'a>(&self, target: &'a Target) -> Cow<'a, Target> {
        if self.settings.target == TargetForm::Opaque {
            return target.as_forwarded();
        }
        let target = self.without_ignored_query(target);
        match &self.settings.strip {
            Some(prefix) => Cow::Owned(target.into_owned().strip(prefix)),
            None => target,
        }
    }

    /// What its path pattern's names match.
    pub(crate) fn names<'a>(&'a self, target: &'a Target) -> Vec<(&'a str, &'a str)> {
        self.settings.path.matching(target.path()).unwrap_or_default()
    }

    fn without_ignored_query<'a>(&self, target: &'a Target) -> Cow<'a, Target> {
        without_query(target, &self.settings.cache.ignore_query)
    }

    /// What of a request does not match; `None`: it is taken.
    pub(crate) fn mismatch(&self, method: &Method, target: &Target, path: &str) -> Option<Mismatch> {
        let settings = &self.settings;
        let authority = target.authority();
        let is_host = |host: &str| host == authority.as_str() || host == authority.host();
        if !settings.host.as_deref().is_none_or(is_host) {
            Some(Mismatch::Host)
        } else if !settings.methods.as_ref().is_none_or(|methods| methods.contains(method)) {
            Some(Mismatch::Method)
        } else if settings.path.matches(path) {
            None
        } else {
            Some(Mismatch::Path)
        }
    }
}

/// Who asks, for quotas.
fn caller(request: &Request) -> Caller<'_> {
    let certificate = request.tls.as_ref().and_then(|session| session.client_name.as_deref());
    let identity = request.fields.get(TIDEGATE_IDENTITY).map(http::HeaderValue::as_bytes);
    Caller { address: request.client.address, fields: &request.fields, certificate, identity }
}

/// Why a route does not take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    Host,
    Method,
    Path,
}

impl Mismatch {
    /// The word for operators.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Method => "method",
            Self::Path => "path",
        }
    }
}

/// The target less the pairs of its query that are left out.
fn without_query<'a>(target: &'a Target, ignored: &[String]) -> Cow<'a, Target> {
    let Some(query) = target.query().filter(|_| !ignored.is_empty()) else {
        return Cow::Borrowed(target);
    };
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_ignored(pair, ignored)).collect();
    if kept.len() == query.split('&').count() {
        return Cow::Borrowed(target);
    }
    let kept = kept.join("&");
    Cow::Owned(target.clone().with_query((!kept.is_empty()).then_some(&kept)))
}

/// Whether a query's pair is left out; a trailing `*` stands for any end of the name.
fn is_ignored(pair: &str, ignored: &[String]) -> bool {
    let name = pair.split_once('=').map_or(pair, |(name, _)| name);
    ignored.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    })
}

/// Whether a read asks for a part: where nothing is stored, that is the source's affair. If-Range alone
/// asks for nothing (RFC 9110 13.1.5).
pub(crate) fn is_partial(request: &Request) -> bool {
    request.fields.contains_key(RANGE)
}

/// All routes, in their order.
#[derive(Debug)]
pub(crate) struct Routes(pub Vec<Arc<Route>>);

impl Routes {
    /// The one of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Route>> {
        self.0.iter().find(|route| *route.name == *name)
    }

    /// The first that matches; from here on the target is in the form that it forwards.
    ///
    /// # Errors
    /// [`GatewayError::NoRoute`]; a refusal where another parser of the same path could come to
    /// another route.
    pub(crate) fn settle(&self, request: &mut Request) -> Result<&Arc<Route>, GatewayError> {
        let route = self.matching(request)?;
        let formed = request.target.take_form(route.settings.target);
        formed.map_err(|error| GatewayError::Refused(Refusal::Target(error)))?;
        Ok(route)
    }

    fn matching(&self, request: &Request) -> Result<&Arc<Route>, GatewayError> {
        let target = &request.target;
        let refused = |error| Err(GatewayError::Refused(Refusal::Target(error)));
        let first =
            |path: &str| self.0.iter().find(|route| route.mismatch(&request.method, target, path).is_none());
        let found = first(target.path());
        if let Some(error) = target.unclear() {
            // Only where the bytes are nothing but data: whatever they are taken for, it is this route's.
            let is_data = |route: &&Arc<Route>| {
                let leads_here = |path: String| first(&path).is_some_and(|other| Arc::ptr_eq(other, route));
                route.settings.target == TargetForm::Opaque
                    && every_reading(target.path()).into_iter().all(leads_here)
            };
            return found.filter(is_data).map_or_else(|| refused(error), Ok);
        }
        let route = found.ok_or(GatewayError::NoRoute)?;
        let confused = other_readings(target.path())
            .into_iter()
            .filter_map(|path| first(&path))
            .any(|other| !Arc::ptr_eq(other, route));
        if confused {
            return refused(TargetError::Ambiguous);
        }
        Ok(route)
    }
}

#[cfg(test)]
mod tests;

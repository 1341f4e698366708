//! The door of a route: who may come in, and what becomes of what they have shown (`route.access`).
//!
//! What comes in carries who it is in a field of Tidegate's own, which no client can set: it splits what is stored
//! and what quotas count, and goes no further. Every way of a request leads through here, hits included.

use super::forwarded;
use super::problem::GatewayError;
use super::request::{Request, Trust};
use super::route::Route;
use crate::access::{
    Access, Credential, Credentials, Denial, Identity, Preflight, Settings, Shown, Verdict, Way,
};
use crate::cache::rules::identity::{TIDEGATE_AUTHORIZED, TIDEGATE_IDENTITY};
use crate::clock::Timestamp;
use crate::telemetry::metrics as names;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, ORIGIN, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::sync::Arc;

/// Lets a request in, or says why not; counted.
///
/// # Errors
/// [`GatewayError::Access`]
pub(crate) async fn enter(route: &Route, request: &mut Request, now: Timestamp) -> Result<(), GatewayError> {
    let Some(access) = &route.access else { return Ok(()) };
    let mut verdict = judged(access, request, now);
    if verdict == Verdict::KeysNeeded {
        // Boxed: a hit is not moved with what a fetch needs. Nobody waits longer than for anything else.
        let renewed = Box::pin(access.renewed(now));
        drop(tokio::time::timeout_at(request.deadline, renewed).await);
        verdict = judged(access, request, now);
    }
    let admitted = settled(access, verdict, request, now);
    if let Err(GatewayError::Access(refused)) = &admitted {
        let labels = [("route", route.name.to_string()), ("reason", refused.denial.as_str().to_owned())];
        metrics::counter!(names::ACCESS_DENIED, &labels).increment(1);
    }
    admitted
}

/// The same by what is known now, without any effect but on the request.
///
/// # Errors
/// [`GatewayError::Access`]
pub(crate) fn foresee(route: &Route, request: &mut Request, now: Timestamp) -> Result<(), GatewayError> {
    let Some(access) = &route.access else { return Ok(()) };
    settled(access, judged(access, request, now), request, now)
}

fn judged(access: &Access, request: &Request, now: Timestamp) -> Verdict {
    let settings = access.settings();
    if settings.preflight == Preflight::Pass && is_preflight(request) {
        return Verdict::Admitted(None);
    }
    let bearer = if settings.looks_at_bearer() { bearer(&request.fields) } else { Credential::None };
    let key = match settings.keys.is_empty() {
        true => Credential::None,
        false if settings.key_field == AUTHORIZATION => bearer,
        false => one(&request.fields, &settings.key_field),
    };
    let certificate = request.tls.as_ref().and_then(|session| session.client_name.as_deref());
    access.judge(&Shown { address: request.client.address, certificate, key, bearer }, now)
}

fn settled(
    access: &Arc<Access>,
    verdict: Verdict,
    request: &mut Request,
    now: Timestamp,
) -> Result<(), GatewayError> {
    let refused = |denial| GatewayError::Access(Box::new(Refused { denial, access: Arc::clone(access) }));
    let identity = match verdict {
        Verdict::Admitted(identity) => identity,
        Verdict::Denied(denial) => return Err(refused(denial)),
        Verdict::KeysNeeded => return Err(refused(access.unknown_signer(now))),
    };
    let (settings, fields) = (access.settings(), &mut request.fields);
    let came_by = identity.as_ref().map(Identity::way);
    let in_authorization = match came_by {
        Some(Way::Token) => true,
        Some(Way::Key) => settings.key_field == AUTHORIZATION,
        Some(Way::Certificate) | None => false,
    };
    take_credentials(settings, fields, came_by);
    if let Some(name) = &settings.identity_field {
        forwarded::remove_claim(fields, name, Trust::Nobody);
        // Sources that read trailers as fields would believe what stands there; only what is announced goes on.
        fields.remove(TRAILER);
    }
    let Some(identity) = identity else { return Ok(()) };
    // Names were found fit for fields when they were read; one that is not would be nobody's.
    let value = identity.value().ok_or_else(|| refused(Denial::Claim))?;
    fields.insert(TIDEGATE_IDENTITY, value);
    let is_forwarded = settings.credentials == Credentials::Forward && came_by != Some(Way::Certificate);
    if in_authorization || is_forwarded || settings.identity_field.is_some() {
        // What the certificate's name has made of it stays.
        fields.entry(TIDEGATE_AUTHORIZED).or_insert(HeaderValue::from_static("1"));
    }
    if let Some(name) = &settings.identity_field {
        tell(fields, name, identity.name());
    }
    Ok(())
}

/// Takes away what was looked at, and whatever a source could take for it because it reads `_` as `-`. Only the
/// credential that let the request in may go on: of another nobody knows whose it is.
fn take_credentials(settings: &Settings, fields: &mut HeaderMap, came_by: Option<Way>) {
    let goes_on = |way| settings.credentials == Credentials::Forward && came_by == Some(way);
    let key_in_authorization = settings.key_field == AUTHORIZATION;
    if !settings.keys.is_empty() && !key_in_authorization {
        let trust = if goes_on(Way::Key) { Trust::Proxy } else { Trust::Nobody };
        forwarded::remove_claim(fields, &settings.key_field, trust);
    }
    let bearer_goes_on = goes_on(Way::Token) || (key_in_authorization && goes_on(Way::Key));
    if settings.looks_at_bearer() && !bearer_goes_on && bearer(fields) != Credential::None {
        fields.remove(AUTHORIZATION);
    }
}

/// Writes a name into the field that tells the source who asks.
pub(crate) fn tell(fields: &mut HeaderMap, field: &HeaderName, name: &str) {
    if let Ok(mut value) = HeaderValue::from_bytes(name.as_bytes()) {
        value.set_sensitive(true);
        fields.insert(field.clone(), value);
    }
}

/// Tells the source the name in the client's certificate (`server.tls.client_name_field`), which then counts as
/// Authorization: what it is answered may be meant for it alone.
pub(crate) fn name_client(request: &mut Request, field: &HeaderName) {
    forwarded::remove_claim(&mut request.fields, field, Trust::Nobody);
    request.fields.remove(TRAILER);
    let Some(name) = request.tls.as_ref().and_then(|session| session.client_name.clone()) else { return };
    if let Some(value) = Identity::of_certificate(&name).value() {
        tell(&mut request.fields, field, &name);
        request.fields.insert(TIDEGATE_AUTHORIZED, value);
    }
}

/// Removes what only Tidegate writes.
pub(crate) fn remove_own(fields: &mut HeaderMap) {
    fields.remove(TIDEGATE_IDENTITY);
    fields.remove(TIDEGATE_AUTHORIZED);
}

/// A browser's question whether it may ask (Fetch standard, 3.3.2); it never has a credential.
fn is_preflight(request: &Request) -> bool {
    request.method == Method::OPTIONS
        && request.fields.contains_key(ORIGIN)
        && request.fields.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

fn one<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Credential<'a> {
    let mut lines = fields.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Credential::None,
        (Some(line), None) => Credential::One(line.as_bytes()),
        (Some(_), Some(_)) => Credential::Ambiguous,
    }
}

/// What stands behind `Bearer` in Authorization (RFC 6750 2.1); other schemes are the source's affair.
fn bearer(fields: &HeaderMap) -> Credential<'_> {
    match one(fields, &AUTHORIZATION) {
        Credential::One(line) => {
            let Some((scheme, token)) =
                line.iter().position(|byte| *byte == b' ').map(|end| line.split_at(end))
            else {
                return Credential::None;
            };
            if scheme.eq_ignore_ascii_case(b"bearer") {
                Credential::One(token.trim_ascii())
            } else {
                Credential::None
            }
        }
        other => other,
    }
}

/// Somebody who was not let in.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) denial: Denial,
    access: Arc<Access>,
}

impl Refused {
    /// What would be accepted (RFC 9110 11.6.1); it stands beside 401.
    pub(crate) fn challenges(&self) -> Vec<HeaderValue> {
        let settings = self.access.settings();
        let mut challenges = Vec::with_capacity(2);
        if settings.looks_at_bearer() {
            let error = if self.denial.is_of_token() { ", error=\"invalid_token\"" } else { "" };
            challenges.push(format!("Bearer realm=\"tidegate\"{error}"));
        }
        if !settings.keys.is_empty() && settings.key_field != AUTHORIZATION {
            challenges.push(format!("ApiKey realm=\"tidegate\", field=\"{}\"", settings.key_field));
        }
        challenges.into_iter().filter_map(|challenge| HeaderValue::try_from(challenge).ok()).collect()
    }
}

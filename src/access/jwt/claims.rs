//! What a token claims (RFC 7519 4.1), judged by what the configuration says. Pure.

use crate::access::Denial;
use crate::access::settings::Jwt;
use crate::clock::Timestamp;
use serde_json::{Map, Value};
use std::time::Duration;

/// The longest name that a claim may give, in bytes: it becomes a key of quotas and part of fields.
const NAME_BYTES_MAX: usize = 256;

/// Whose token it is, if it is good now.
///
/// # Errors
/// The first of [`Denial::Expired`], [`Denial::NotYet`], [`Denial::Issuer`], [`Denial::Audience`] and
/// [`Denial::Claim`].
pub(super) fn subject(claims: &Map<String, Value>, jwt: &Jwt, now: Timestamp) -> Result<String, Denial> {
    let seconds = Duration::from_millis(now.as_millis()).as_secs_f64();
    let leeway = jwt.leeway.as_secs_f64();
    let expires = time(claims, "exp", Denial::Expired)?.ok_or(Denial::Expired)?;
    if seconds >= expires + leeway {
        return Err(Denial::Expired);
    }
    if time(claims, "nbf", Denial::NotYet)?.is_some_and(|begins| seconds + leeway < begins) {
        return Err(Denial::NotYet);
    }
    if claims.get("iss").and_then(Value::as_str) != Some(jwt.issuer.as_str()) {
        return Err(Denial::Issuer);
    }
    let is_own =
        |value: &Value| value.as_str().is_some_and(|text| jwt.audience.iter().any(|own| own == text));
    let is_for_us = match claims.get("aud") {
        Some(Value::Array(several)) => several.iter().any(is_own),
        Some(one) => is_own(one),
        None => false,
    };
    if !is_for_us {
        return Err(Denial::Audience);
    }
    let name = claims.get(&jwt.claim).and_then(Value::as_str).ok_or(Denial::Claim)?;
    let is_usable = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    if is_usable { Ok(name.to_owned()) } else { Err(Denial::Claim) }
}

/// Seconds since the epoch (RFC 7519 2, `NumericDate`), where the claim is there.
///
/// # Errors
/// `otherwise`: it is no time.
fn time(claims: &Map<String, Value>, name: &str, otherwise: Denial) -> Result<Option<f64>, Denial> {
    let Some(claim) = claims.get(name) else { return Ok(None) };
    claim.as_f64().filter(|seconds| seconds.is_finite()).map(Some).ok_or(otherwise)
}

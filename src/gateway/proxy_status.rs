//! What became of a forward, or why there was none or no answer (RFC 9209).
//!
//! Every answer that tells of the source has it, and every error of the gateway's own. An answer from the
//! store has not: nothing was proxied.

use super::cache_status::{CacheStatus, Trouble};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Adds this gateway's member to an answer that a forward brought, or that stands in for it.
pub(crate) fn forwarded(status: CacheStatus, fields: &mut HeaderMap) {
    match status {
        CacheStatus::Forwarded { status, .. }
        | CacheStatus::Collapsed { status, .. }
        | CacheStatus::StaleIfError { trouble: Trouble::Answered(status), .. } => received(status, fields),
        CacheStatus::StaleIfError { trouble: Trouble::NoAnswer(failure), .. } => {
            failed(failure.as_str(), fields);
        }
        CacheStatus::StaleIfError { trouble: Trouble::Unwaited(_), .. }
        | CacheStatus::Hit { .. }
        | CacheStatus::HitStale { .. }
        | CacheStatus::Failed { .. }
        | CacheStatus::Unwaited(_)
        | CacheStatus::Own => {}
    }
}

/// Adds this gateway's member with an error type (RFC 9209 2.3).
pub(crate) fn failed(error: &'static str, fields: &mut HeaderMap) {
    append(format!("tidegate; error={error}"), fields);
}

fn received(status: StatusCode, fields: &mut HeaderMap) {
    append(format!("tidegate; received-status={}", status.as_u16()), fields);
}

/// Behind those of the proxies nearer to the source.
fn append(member: String, fields: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::try_from(member) {
        fields.append(PROXY_STATUS, value);
    }
}

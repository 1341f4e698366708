//! How long a response is fresh, and how old it already is (RFC 9111 4.2).

use super::cache_control::{DELTA_SECONDS_MAX, Directives, Flag, Origin, delta_seconds};
use super::{Exchange, ResponseHead, date};
use crate::cache::policy::Policy;
use crate::clock::Timestamp;
use http::header::{AGE, DATE, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};
use std::time::Duration;

/// The longest lifetime that is guessed.
pub const HEURISTIC_MAX: Duration = Duration::from_hours(24);

/// The part of the time since the last modification that is guessed to go on (4.2.2: typically 10 %).
const HEURISTIC_DIVISOR: u32 = 10;

/// The largest part that jitter takes off a lifetime.
const JITTER_PART_MAX: f64 = 0.1;

/// What a freshness lifetime was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifetimeSource {
    /// `s-maxage`.
    SMaxAge,
    /// `max-age`.
    MaxAge,
    /// Expires minus Date.
    Expires,
    /// The route's `negative`.
    Negative,
    /// The route's `ttl`.
    Ttl,
    /// Guessed from Last-Modified.
    Heuristic,
}

impl LifetimeSource {
    /// The field, or the route's key; with the section that says so.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SMaxAge => "s-maxage (RFC 9111 5.2.2.10)",
            Self::MaxAge => "max-age (RFC 9111 5.2.2.1)",
            Self::Expires => "Expires less Date (RFC 9111 5.3)",
            Self::Negative => "the route's negative",
            Self::Ttl => "the route's ttl",
            Self::Heuristic => "heuristic: a tenth of Date less Last-Modified (RFC 9111 4.2.2)",
        }
    }
}

/// A freshness lifetime and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Counted from age zero.
    pub duration: Duration,
    /// What it was taken from.
    pub source: LifetimeSource,
}

impl Lifetime {
    /// The same, shortened by at most a tenth where it is not the source's own word.
    #[must_use]
    pub fn jittered(self, jitter: f64) -> Self {
        if !matches!(self.source, LifetimeSource::Ttl | LifetimeSource::Heuristic) {
            return self;
        }
        let kept = 1.0 - jitter.clamp(0.0, 1.0) * JITTER_PART_MAX;
        // NaN passes `clamp`; a lifetime must never become longer than it was.
        let kept = if kept.is_finite() { kept } else { 1.0 };
        Self { duration: self.duration.mul_f64(kept).min(self.duration), ..self }
    }
}

/// The lifetime that the response states (4.2.1).
fn explicit(response: ResponseHead<'_>, directives: &Directives, received_at: Timestamp) -> Option<Lifetime> {
    let found = |source| move |duration| Lifetime { duration, source };
    let expires = || match directives.origin {
        Origin::Untargeted => until_expires(response.fields, received_at),
        Origin::Targeted => None,
    };
    (directives.s_maxage.map(found(LifetimeSource::SMaxAge)))
        .or_else(|| directives.max_age.map(found(LifetimeSource::MaxAge)))
        .or_else(|| expires().map(found(LifetimeSource::Expires)))
}

/// The lifetime of a response: what it states, else what the route gives its status, else a guess.
#[must_use]
pub fn lifetime(
    response: ResponseHead<'_>,
    directives: &Directives,
    policy: &Policy,
    received_at: Timestamp,
) -> Option<Lifetime> {
    if let Some(stated) = explicit(response, directives, received_at) {
        return Some(stated);
    }
    let is_cacheable = is_cacheable_by_default(response.status, directives);
    // A source in trouble is asked again as soon as it may be: the route gives its errors no time.
    if !response.status.is_server_error() {
        if let Some((_, duration)) = policy.negative.iter().find(|(status, _)| *status == response.status) {
            return Some(Lifetime { duration: *duration, source: LifetimeSource::Negative });
        }
        if let Some(duration) = policy.ttl.filter(|_| is_cacheable) {
            return Some(Lifetime { duration, source: LifetimeSource::Ttl });
        }
    }
    if !is_cacheable || !policy.heuristic {
        return None;
    }
    let duration = guess(response.fields, received_at)?;
    Some(Lifetime { duration, source: LifetimeSource::Heuristic })
}

/// Storable, and fresh by a guess, without a word on freshness (RFC 9111 3, last item; 4.2.2).
#[must_use]
pub fn is_cacheable_by_default(status: StatusCode, directives: &Directives) -> bool {
    is_heuristically_cacheable(status) || directives.grants(Flag::Public)
}

/// RFC 9110 15.1, and RFC 7725 3 for 451; 206 is left out, it is not stored.
fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 451 | 501)
}

/// Several Expires count with the earliest, an unreadable one is the past (5.3).
fn until_expires(fields: &HeaderMap, received_at: Timestamp) -> Option<Duration> {
    let sent = date_or(fields, received_at);
    let left = |value| date::parse(value, received_at).map(|expires| seconds_between(sent, expires));
    let earliest = fields.get_all(EXPIRES).iter().map(|value| left(value).unwrap_or_default()).min();
    earliest.map(|left| left.min(DELTA_SECONDS_MAX))
}

/// `None` where Last-Modified tells nothing: it is absent, unreadable, or still to come.
fn guess(fields: &HeaderMap, received_at: Timestamp) -> Option<Duration> {
    let modified = date::of_field(fields, &LAST_MODIFIED, received_at)?;
    // A Date ahead of us would lengthen the guess.
    let sent = date_or(fields, received_at).min(received_at);
    let unchanged = date::whole_seconds(sent).checked_sub(date::whole_seconds(modified))?;
    Some((Duration::from_secs(unchanged) / HEURISTIC_DIVISOR).min(HEURISTIC_MAX))
}

fn date_or(fields: &HeaderMap, received_at: Timestamp) -> Timestamp {
    date::of_field(fields, &DATE, received_at).unwrap_or(received_at)
}

fn seconds_between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_secs(date::whole_seconds(to).saturating_sub(date::whole_seconds(from)))
}

/// `corrected_initial_age` (4.2.3).
#[must_use]
pub fn initial_age(fields: &HeaderMap, exchange: &Exchange) -> Duration {
    let apparent = seconds_between(date_or(fields, exchange.received_at), exchange.received_at);
    let delay = exchange.received_at.since(exchange.requested_at);
    apparent.max(age_value(fields) + delay)
}

/// The first member of Age, or zero where that is no number of seconds (5.1).
fn age_value(fields: &HeaderMap) -> Duration {
    let lines = fields.get_all(AGE).iter();
    let mut members =
        lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let first = members.find(|member| !member.is_empty());
    first.and_then(|member| delta_seconds(member.iter().copied())).unwrap_or_default()
}

#[cfg(test)]
mod tests;

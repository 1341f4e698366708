//! What callers send: JSON bodies and query parameters, with nothing unknown in them.

use super::problem::Problem;
use crate::clock::Timestamp;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use http::request;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};
use std::fmt;
use std::time::Duration;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

/// The largest body of a call.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Until a body has arrived.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The query's parameters.
pub(super) struct Parameters<T>(pub(super) T);

/// A JSON body; the call takes no query.
pub(super) struct Content<T>(pub(super) T);

/// No body, or an empty object, and no query.
pub(super) struct NoContent;

/// What takes no parameters.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::try_from_uri(&parts.uri);
        query
            .map(|Query(parameters)| Self(parameters))
            .map_err(|fault| Problem::unreadable(fault.body_text()))
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Content<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = collect(request, state).await?;
        object(&bytes).map(Self)
    }
}

impl<S: Sync> FromRequest<S> for NoContent {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = collect(request, state).await?;
        if bytes.is_empty() {
            return Ok(Self);
        }
        object(&bytes).map(|Nothing {}| Self)
    }
}

/// Reads a JSON object. serde would take an array of its values, too.
fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let read = serde_json::from_slice(bytes).map_err(|fault| Problem::unreadable(fault.to_string()))?;
    if bytes.trim_ascii_start().starts_with(b"{") { Ok(read) } else { Err(Problem::NO_OBJECT) }
}

async fn collect<S: Sync>(request: Request, state: &S) -> Result<bytes::Bytes, Problem> {
    let (mut parts, body): (_, Body) = request.into_parts();
    let Parameters(Nothing {}) = Parameters::from_request_parts(&mut parts, state).await?;
    let collected = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_TIMEOUT, collected).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(fault)) if fault.is::<LengthLimitError>() => Err(Problem::TOO_LARGE),
        Ok(Err(_)) => Err(Problem::unreadable("the body broke off")),
        Err(_) => Err(Problem::TOO_SLOW),
    }
}

/// The last millisecond of the year 9999, where RFC 3339 ends.
const MILLIS_MAX: u64 = 253_402_300_799_999;
/// Digits of milliseconds that are written as a text.
const MILLIS_DIGITS_MAX: usize = 14;

/// A moment: milliseconds since the Unix epoch, or a date and time as RFC 3339 writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(pub(super) Timestamp);

impl<'de> de::Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MomentVisitor)
    }
}

impl PartialSchema for Moment {
    fn schema() -> RefOr<Schema> {
        let millis =
            ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(MILLIS_MAX));
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let time = text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
        let digits = text().pattern(Some("^[0-9]{1,14}$"));
        let either = OneOfBuilder::new().item(millis).item(time).item(digits);
        either.description(Some("milliseconds since the Unix epoch, or a time as RFC 3339 writes it")).into()
    }
}

impl ToSchema for Moment {}

struct MomentVisitor;

impl Visitor<'_> for MomentVisitor {
    type Value = Moment;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("milliseconds since the Unix epoch or a time like 2026-01-31T12:00:00Z")
    }

    fn visit_u64<E: de::Error>(self, millis: u64) -> Result<Moment, E> {
        if millis > MILLIS_MAX {
            return Err(E::invalid_value(de::Unexpected::Unsigned(millis), &self));
        }
        Ok(Moment(Timestamp::from_millis(millis)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Moment, E> {
        if let Ok(millis) = text.parse()
            && text.len() <= MILLIS_DIGITS_MAX
        {
            return self.visit_u64(millis);
        }
        let time = Timestamp::parse_rfc3339(text);
        time.map(Moment).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_milliseconds_or_rfc_3339() {
        for (given, millis) in [
            ("1500", Some(1500)),
            ("\"1500\"", Some(1500)),
            ("\"1970-01-01T00:00:02Z\"", Some(2000)),
            ("\"1970-01-01T02:00:02.5+02:00\"", Some(2500)),
            ("\"1969-12-31T23:00:00-01:30\"", Some(1_800_000)),
            ("\"1950-01-01t00:00:00z\"", Some(0)),
            ("\"1970-01-01T00:00:02+24:00\"", None),
            ("\"1970-01-01T00:00:02\"", None),
            ("\"\"", None),
            ("253402300800000", None),
            ("\"253402300800000\"", None),
            ("\"yesterday\"", None),
            ("-1", None),
            ("1.5", None),
        ] {
            let moment: Option<Moment> = serde_json::from_str(given).ok();
            assert_eq!(moment.map(|moment| moment.0.as_millis()), millis, "{given}");
        }
    }
}

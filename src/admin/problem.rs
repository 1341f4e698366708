//! Refusals as `application/problem+json` (RFC 9457).

use crate::sync::CommandError;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::json;
use std::borrow::Cow;

/// Why a call is refused. The status says what kind of problem it is (`about:blank`, RFC 9457
/// 4.2.1), the detail what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    /// The extension member `faults`; null: there is none.
    faults: serde_json::Value,
}

impl Problem {
    pub(super) const NOT_FOUND: Self = Self::fixed(StatusCode::NOT_FOUND, "there is nothing at this path");
    /// axum adds Allow.
    pub(super) const METHOD_NOT_ALLOWED: Self =
        Self::fixed(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method; see Allow");
    pub(super) const UNAUTHORIZED: Self =
        Self::fixed(StatusCode::UNAUTHORIZED, "this path asks for `Authorization: Bearer` and admin.token");
    pub(super) const ROLE: Self =
        Self::fixed(StatusCode::FORBIDDEN, "the role of this token may not do that");
    pub(super) const FOREIGN_HOST: Self = Self::fixed(
        StatusCode::FORBIDDEN,
        "Host is neither the listener's address nor localhost; other names go into admin.hosts",
    );
    pub(super) const FOREIGN_ORIGIN: Self =
        Self::fixed(StatusCode::FORBIDDEN, "a page of another origin may not call this");
    pub(super) const MEDIA_TYPE: Self =
        Self::fixed(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the body as application/json");
    pub(super) const NO_OBJECT: Self = Self::fixed(StatusCode::BAD_REQUEST, "the body is not a JSON object");
    pub(super) const TOO_LARGE: Self =
        Self::fixed(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB");
    pub(super) const TOO_SLOW: Self =
        Self::fixed(StatusCode::REQUEST_TIMEOUT, "the body did not arrive within 10 s");

    const fn fixed(status: StatusCode, detail: &'static str) -> Self {
        Self { status, detail: Cow::Borrowed(detail), faults: serde_json::Value::Null }
    }

    fn of(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), faults: serde_json::Value::Null }
    }

    /// With every fault of what was sent, or read.
    pub(super) fn with_faults(self, faults: serde_json::Value) -> Self {
        Self { faults, ..self }
    }

    /// 503: not now.
    pub(super) fn unavailable(detail: &'static str) -> Self {
        Self::of(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// 400: it cannot be read.
    pub(super) fn unreadable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::of(StatusCode::BAD_REQUEST, detail)
    }

    /// 503: as many as may have it already.
    pub(super) fn busy(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::of(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// 404: there is no such thing.
    pub(super) fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::of(StatusCode::NOT_FOUND, detail)
    }

    /// 422: it can be read and cannot be done.
    pub(super) fn refused(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::of(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let status = match error {
            CommandError::UnknownDestination
            | CommandError::UnknownSource
            | CommandError::UnknownChange
            | CommandError::UnknownDeadLetter
            | CommandError::UnknownOperation => StatusCode::NOT_FOUND,
            CommandError::NotConfigured | CommandError::NotInDoubt | CommandError::ReplayUnderWay => {
                StatusCode::CONFLICT
            }
            CommandError::TooManyOperations => StatusCode::TOO_MANY_REQUESTS,
            CommandError::Full => StatusCode::INSUFFICIENT_STORAGE,
            CommandError::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::of(status, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(members) = body.as_object_mut().filter(|_| !self.faults.is_null()) {
            members.insert("faults".to_owned(), self.faults);
        }
        let mut response = (self.status, body.to_string()).into_response();
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            fields.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            fields.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

//! The only place where an error becomes a response (RFC 9457).

mod failure;

pub(crate) use failure::SourceFailure;

use super::body::Body;
use super::cache_status::{CacheStatus, Unwaited};
use super::content::ContentFault;
use super::door;
use super::proxy_status;
use super::strict::Refusal;
use super::write::TIDEGATE_CHANGE;
use crate::access::Denial;
use crate::cache::rules::ForwardReason;
use crate::rate_limit::Denied;
use crate::sync::{ClaimError, RecordError};
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};

/// What clients are told to wait where nothing better is known, in seconds.
const RETRY_AFTER_SECONDS: u64 = 1;

/// The type of problems of load.
const REDUCED_CAPACITY: &str = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";

/// Why a request got no answer of a source's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GatewayError {
    #[error("refused: {}", .0.as_str())]
    Refused(Refusal),
    #[error("no route")]
    NoRoute,
    /// The source was seen before in this very request's path (RFC 8586).
    #[error("loop")]
    Loop,
    /// The route's access does not let it in.
    #[error("not let in: {}", .0.denial.as_str())]
    Access(Box<door::Refused>),
    #[error("a quota denies")]
    Quota(Denied),
    #[error(transparent)]
    Content(#[from] ContentFault),
    #[error("{0}")]
    Source(SourceFailure, ForwardReason),
    /// What is stored must be validated first, and the source cannot be reached (RFC 9111 5.2.2.2).
    #[error("{0}, and what is stored must be validated")]
    Unvalidated(SourceFailure),
    #[error(transparent)]
    Record(#[from] RecordError),
    /// An Idempotency-Key that cannot be read.
    #[error("unreadable Idempotency-Key")]
    IdempotencyKey,
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The request wants what is stored or nothing (RFC 9111 5.2.1.7), and nothing stored may be used.
    #[error("only-if-cached")]
    OnlyIfCached,
    /// What was waited for did not come in time.
    #[error("overloaded")]
    Overloaded,
    /// Another request's forward was waited for, to no avail.
    #[error("{}", .0.as_str())]
    Unwaited(Unwaited),
    /// The gateway stops: a tunnel would not last.
    #[error("stopping")]
    Stopping,
    #[error("a fault of the gateway's own")]
    Panicked,
}

impl GatewayError {
    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => refusal.status(),
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::Access(refused) => refused.denial.status(),
            Self::Quota(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Content(ContentFault::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Content(ContentFault::TooSlow) => StatusCode::REQUEST_TIMEOUT,
            Self::Content(ContentFault::Broken) | Self::IdempotencyKey => StatusCode::BAD_REQUEST,
            Self::Source(failure, _) => failure.status(),
            Self::Unvalidated(_) | Self::OnlyIfCached => StatusCode::GATEWAY_TIMEOUT,
            Self::Record(RecordError::Full) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Claim(ClaimError::OtherContent) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Claim(
                ClaimError::Running | ClaimError::InDoubt(_) | ClaimError::Unkept(_) | ClaimError::Damaged,
            ) => StatusCode::CONFLICT,
            Self::Record(RecordError::Unavailable | RecordError::KeyBusy | RecordError::KeyInDoubt)
            | Self::Claim(ClaimError::Crowded | ClaimError::Unavailable)
            | Self::Content(ContentFault::NoRoom)
            | Self::Overloaded
            | Self::Unwaited(_)
            | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::Record(RecordError::Undecided) | Self::Panicked => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What Cache-Status tells: whether the request went forward.
    pub(crate) const fn cache_status(&self) -> CacheStatus {
        match self {
            Self::Source(failure, _) if failure.is_refusal() => CacheStatus::Own,
            Self::Source(_, reason) => CacheStatus::Failed { reason: *reason },
            Self::Unvalidated(_) => CacheStatus::Failed { reason: ForwardReason::Stale },
            Self::Unwaited(why) => CacheStatus::Unwaited(*why),
            _ => CacheStatus::Own,
        }
    }

    /// What went wrong, in the words of RFC 9209 2.3.
    const fn error_type(&self) -> &'static str {
        match self {
            Self::Refused(_)
            | Self::IdempotencyKey
            | Self::Claim(
                ClaimError::OtherContent
                | ClaimError::Running
                | ClaimError::InDoubt(_)
                | ClaimError::Unkept(_)
                | ClaimError::Damaged,
            )
            | Self::Content(ContentFault::TooLarge | ContentFault::TooSlow | ContentFault::Broken) => {
                "http_request_error"
            }
            Self::NoRoute => "destination_not_found",
            Self::Loop => "proxy_loop_detected",
            Self::Quota(_) | Self::Access(_) => "http_request_denied",
            Self::Source(failure, _) | Self::Unvalidated(failure) => failure.as_str(),
            Self::OnlyIfCached
            | Self::Content(ContentFault::NoRoom)
            | Self::Overloaded
            | Self::Unwaited(_)
            | Self::Stopping
            | Self::Claim(ClaimError::Crowded)
            | Self::Record(RecordError::KeyBusy | RecordError::KeyInDoubt) => "proxy_internal_response",
            Self::Claim(ClaimError::Unavailable)
            | Self::Record(RecordError::Full | RecordError::Unavailable | RecordError::Undecided)
            | Self::Panicked => "proxy_internal_error",
        }
    }

    fn problem_type(&self) -> &'static str {
        match self {
            Self::Quota(_) => "https://iana.org/assignments/http-problem-types#quota-exceeded",
            Self::Overloaded
            | Self::Unwaited(_)
            | Self::Stopping
            | Self::Content(ContentFault::NoRoom)
            | Self::Claim(ClaimError::Crowded)
            | Self::Record(RecordError::KeyBusy) => REDUCED_CAPACITY,
            Self::Source(failure, _) if failure.is_refusal() => REDUCED_CAPACITY,
            _ => "about:blank",
        }
    }

    /// What the client is told.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.detail(),
            Self::NoRoute => "no route takes this host, path and method".into(),
            Self::Loop => "this request has passed through here before".into(),
            Self::Access(refused) => refused.denial.detail().into(),
            Self::Quota(denied) => format!("the quota {} is used up", denied.violated.join(", ")),
            Self::Content(fault) => fault.to_string(),
            Self::Source(failure, _) | Self::Unvalidated(failure) => match failure {
                SourceFailure::Busy => "too many requests toward the source are under way".into(),
                SourceFailure::Overloaded => "too many bytes are in flight; try again".into(),
                SourceFailure::Open(_) => "the source has failed repeatedly; it is asked again soon".into(),
                SourceFailure::Timeout => "the source did not answer in time".into(),
                SourceFailure::Terminated => "the source closed without an answer".into(),
                SourceFailure::Incomplete => "the source's answer broke off".into(),
                SourceFailure::Protocol => "the source's answer is not proper HTTP".into(),
                SourceFailure::Tls(fault) => format!("the source cannot be spoken to over TLS: {fault}"),
                _ => format!("the source cannot be reached ({failure})"),
            },
            Self::Record(error) => error.to_string(),
            Self::IdempotencyKey => {
                "Idempotency-Key is not one string of 1 to 255 characters; send \"a new UUID\" for each write, in quotes".into()
            }
            Self::Claim(error) => error.to_string(),
            Self::OnlyIfCached => "nothing is stored that this request may be answered with".into(),
            Self::Overloaded => "this waited for too long; try again".into(),
            Self::Unwaited(Unwaited::Timeout) => "another request's forward of this takes too long".into(),
            Self::Unwaited(Unwaited::Crowded) => "too many requests are waiting for this; try again".into(),
            Self::Stopping => "this gateway stops; try again".into(),
            Self::Panicked => "the gateway met a fault of its own; the log tells more".into(),
        }
    }

    fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Quota(denied) => Some(denied.retry_after_seconds()),
            Self::Record(RecordError::Undecided) => None,
            Self::Record(_)
            | Self::Claim(
                ClaimError::Running | ClaimError::InDoubt(_) | ClaimError::Crowded | ClaimError::Unavailable,
            )
            | Self::Overloaded
            | Self::Unwaited(_)
            | Self::Stopping
            | Self::Content(ContentFault::NoRoom)
            | Self::Refused(Refusal::Connections) => Some(RETRY_AFTER_SECONDS),
            Self::Source(failure, _) if failure.is_refusal() => Some(RETRY_AFTER_SECONDS),
            Self::Access(refused) if refused.denial == Denial::KeysUnavailable => Some(RETRY_AFTER_SECONDS),
            _ => None,
        }
    }

    /// The answer. A connection whose framing or content cannot be trusted any more is closed.
    pub(crate) fn into_response(self) -> Response<Body> {
        let status = self.status();
        let mut problem = serde_json::json!({
            "type": self.problem_type(),
            "title": status.canonical_reason().unwrap_or("error"),
            "status": status.as_u16(),
            "detail": self.detail(),
        });
        if let (Self::Quota(denied), Some(problem)) = (&self, problem.as_object_mut()) {
            let violated: Vec<&str> = denied.violated.iter().map(AsRef::as_ref).collect();
            problem.insert("violated-policies".into(), violated.into());
        }
        let change = match &self {
            Self::Claim(ClaimError::InDoubt(change) | ClaimError::Unkept(change)) => Some(change.to_string()),
            _ => None,
        };
        if let (Some(change), Some(problem)) = (&change, problem.as_object_mut()) {
            problem.insert("change".into(), change.as_str().into());
        }
        let mut response = Response::new(Body::Full(Bytes::from(problem.to_string())));
        *response.status_mut() = status;
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(change) = change.and_then(|change| HeaderValue::try_from(change).ok()) {
            fields.insert(TIDEGATE_CHANGE, change);
        }
        if let Some(seconds) = self.retry_after_seconds() {
            fields.insert(RETRY_AFTER, seconds.into());
        }
        if let Self::Refused(Refusal::Method) = &self {
            fields.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        if let Self::Access(refused) = &self {
            // What others are answered after it must not be this one's refusal, nor the other way round.
            fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            let challenges = (status == StatusCode::UNAUTHORIZED).then(|| refused.challenges());
            for challenge in challenges.into_iter().flatten() {
                fields.append(WWW_AUTHENTICATE, challenge);
            }
        }
        proxy_status::failed(self.error_type(), fields);
        if matches!(self, Self::Refused(_) | Self::Content(_)) {
            fields.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

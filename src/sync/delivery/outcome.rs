//! What an attempt met, as a type; which statuses mean what. Pure.

use http::{HeaderMap, Method, StatusCode, header};
use std::time::{Duration, SystemTime};

/// The result of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The destination has it.
    Delivered,
    /// A DELETE of what the destination does not have.
    Absent,
    /// Later, perhaps.
    Retry(Failure, Blame),
    /// The destination refuses Tidegate as such.
    Hold(Failure),
    /// Never, as it is.
    Permanent(Failure),
}

/// Whom a failure that may pass says something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The destination: its breaker counts it.
    Destination,
    /// This change alone.
    Change,
}

/// Why an attempt did not deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) status: Option<u16>,
    pub(crate) retry_after: Option<Duration>,
    /// Whether the destination may have acted on it although no answer arrived.
    pub(crate) answer_lost: bool,
    /// The beginning of the answer.
    pub(crate) answer: String,
}

/// What is known of earlier attempts of the same delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// None of them was acted upon.
    Nothing,
    /// One may have been: its answer was lost.
    AnswerLost,
}

/// The cause, as operators read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    HttpStatus,
    Timeout,
    Connect,
    Tls,
    Dns,
    Damaged,
    Unsendable,
}

impl Code {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::HttpStatus => "http_status",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Dns => "dns",
            Self::Damaged => "damaged",
            Self::Unsendable => "unsendable",
        }
    }
}

impl Failure {
    /// A failure without an answer.
    pub(crate) fn of(code: Code) -> Self {
        let answer_lost = matches!(code, Code::Timeout);
        Self { code, status: None, retry_after: None, answer_lost, answer: String::new() }
    }

    /// For logs and the admin API; holds nothing of the request.
    pub(crate) fn summary(&self) -> String {
        match self.status {
            Some(status) => format!("the destination answered {status}"),
            None => self.code.as_str().to_owned(),
        }
    }
}

impl Outcome {
    /// The metric's label.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Absent => "absent",
            Self::Retry(..) => "retry",
            Self::Hold(_) => "hold",
            Self::Permanent(_) => "permanent",
        }
    }

    /// Why it did not deliver.
    pub(crate) const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Delivered | Self::Absent => None,
            Self::Retry(failure, _) | Self::Hold(failure) | Self::Permanent(failure) => Some(failure),
        }
    }

    /// What a destination's answer means for a replayed request. `before`: what is
    /// known of earlier attempts of the same delivery.
    pub(crate) fn of_answer(
        method: &Method,
        status: StatusCode,
        retry_after: Option<Duration>,
        answer: String,
        before: Before,
    ) -> Self {
        let failure = Failure {
            code: Code::HttpStatus,
            status: Some(status.as_u16()),
            retry_after,
            answer_lost: false,
            answer,
        };
        match status.as_u16() {
            200..=299 => Self::Delivered,
            409 if *method == Method::POST && before == Before::AnswerLost => Self::Delivered,
            404 | 410 if *method == Method::DELETE => Self::Absent,
            404 => Self::Retry(failure, Blame::Change),
            413 if retry_after.is_some() => Self::Retry(failure, Blame::Change),
            401 | 403 | 407 => Self::Hold(failure),
            // Other server errors than 501 and 505 may pass; other refusals will not.
            408 | 409 | 425 | 429 | 500 | 502..=504 | 506..=599 => Self::Retry(failure, Blame::Destination),
            _ => Self::Permanent(failure),
        }
    }
}

/// Retry-After in seconds or as a date (RFC 9110 10.2.3); what cannot be read is ignored.
pub(crate) fn retry_after(fields: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let text = fields.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(wall).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_class() {
        let after = Some(Duration::from_secs(1));
        for (method, status, retry_after, lost, class) in [
            (Method::PUT, 200, None, false, "delivered"),
            (Method::PUT, 204, None, false, "delivered"),
            (Method::POST, 409, None, true, "delivered"),
            (Method::POST, 409, None, false, "retry"),
            (Method::PUT, 409, None, true, "retry"),
            (Method::DELETE, 404, None, false, "absent"),
            (Method::DELETE, 410, None, false, "absent"),
            (Method::PUT, 404, None, false, "retry"),
            (Method::PUT, 408, None, false, "retry"),
            (Method::PUT, 425, None, false, "retry"),
            (Method::PUT, 429, after, false, "retry"),
            (Method::PUT, 500, None, false, "retry"),
            (Method::PUT, 502, None, false, "retry"),
            (Method::PUT, 503, None, false, "retry"),
            (Method::PUT, 504, None, false, "retry"),
            (Method::PUT, 413, after, false, "retry"),
            (Method::PUT, 413, None, false, "permanent"),
            (Method::PUT, 401, None, false, "hold"),
            (Method::PUT, 403, None, false, "hold"),
            (Method::PUT, 407, None, false, "hold"),
            (Method::PUT, 400, None, false, "permanent"),
            (Method::PUT, 405, None, false, "permanent"),
            (Method::PUT, 410, None, false, "permanent"),
            (Method::PUT, 412, None, false, "permanent"),
            (Method::PUT, 414, None, false, "permanent"),
            (Method::PUT, 415, None, false, "permanent"),
            (Method::PUT, 422, None, false, "permanent"),
            (Method::PUT, 501, None, false, "permanent"),
            (Method::PUT, 505, None, false, "permanent"),
            (Method::PUT, 301, None, false, "permanent"),
            (Method::PUT, 304, None, false, "permanent"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let before = if lost { Before::AnswerLost } else { Before::Nothing };
            let outcome = Outcome::of_answer(&method, status, retry_after, String::new(), before);
            assert_eq!(outcome.as_str(), class, "{method} {status}");
        }
    }

    #[test]
    fn rfc_9110_10_2_3_retry_after() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, wait) in [
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(header::RETRY_AFTER, value.parse().unwrap());
            assert_eq!(retry_after(&fields, wall), wait.map(Duration::from_secs), "{value}");
        }
    }
}

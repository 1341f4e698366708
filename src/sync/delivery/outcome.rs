//! What an attempt met, as a type; which statuses mean what. Pure.

use crate::sync::settings::{Class, Format};
use crate::tls::TlsFault;
use http::{HeaderMap, Method, StatusCode, header};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// The result of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The destination has it.
    Delivered,
    /// A DELETE of what the destination does not have, as this status says.
    Absent(Option<u16>),
    /// The destination has something newer.
    Superseded,
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
    Tls(TlsFault),
    Dns,
    /// It takes no content of this size.
    TooLarge,
    /// It was tried for so long, or so often.
    GivenUp,
    /// Its name resolves to nothing that `allow` lets through.
    AddressDenied,
    /// What it answered is no HTTP.
    Garbage,
    Damaged,
    Unsendable,
}

impl Code {
    /// The words of all.
    pub(crate) const WORDS: [&str; 11] = [
        Self::HttpStatus.as_str(),
        Self::Timeout.as_str(),
        Self::Connect.as_str(),
        Self::Tls(TlsFault::Protocol).as_str(),
        Self::Dns.as_str(),
        Self::TooLarge.as_str(),
        Self::GivenUp.as_str(),
        Self::AddressDenied.as_str(),
        Self::Garbage.as_str(),
        Self::Damaged.as_str(),
        Self::Unsendable.as_str(),
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::HttpStatus => "http_status",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Tls(_) => "tls",
            Self::Dns => "dns",
            Self::TooLarge => "too_large",
            Self::GivenUp => "given_up",
            Self::AddressDenied => "address_denied",
            Self::Garbage => "garbage",
            Self::Damaged => "damaged",
            Self::Unsendable => "unsendable",
        }
    }
}

impl Failure {
    /// A failure without an answer.
    pub(crate) const fn of(code: Code) -> Self {
        Self { code, status: None, retry_after: None, answer_lost: false, answer: String::new() }
    }

    /// A failure after the request may have arrived.
    pub(crate) fn lost(code: Code) -> Self {
        Self { answer_lost: true, ..Self::of(code) }
    }

    /// What an answer is where it is no success.
    pub(crate) fn answered(status: StatusCode, retry_after: Option<Duration>, answer: String) -> Self {
        let code = if status == StatusCode::PAYLOAD_TOO_LARGE { Code::TooLarge } else { Code::HttpStatus };
        Self { status: Some(status.as_u16()), retry_after, answer, ..Self::of(code) }
    }

    /// For logs and the admin API; holds nothing of the request.
    pub(crate) fn summary(&self) -> String {
        match (self.status, self.code) {
            (Some(status), _) => format!("the destination answered {status}"),
            // The word alone where there is nothing to say of a certificate.
            (None, Code::Tls(fault)) if fault != TlsFault::Protocol => format!("tls: {fault}"),
            (None, code) => code.as_str().to_owned(),
        }
    }
}

impl Outcome {
    /// The metric's label.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Absent(_) => "absent",
            Self::Superseded => "superseded",
            Self::Retry(..) => "retry",
            Self::Hold(_) => "hold",
            Self::Permanent(_) => "permanent",
        }
    }

    /// Why it did not deliver.
    pub(crate) const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Delivered | Self::Absent(_) | Self::Superseded => None,
            Self::Retry(failure, _) | Self::Hold(failure) | Self::Permanent(failure) => Some(failure),
        }
    }

    /// What comes of a request that was not answered.
    pub(crate) const fn of_silence(failure: Failure) -> Self {
        match failure.code {
            // The certificate or the configuration is at fault, not the change: nothing dies of it, and
            // a probe now and then is all that is sent.
            Code::Tls(_) | Code::AddressDenied => Self::Hold(failure),
            Code::Damaged | Code::Unsendable => Self::Permanent(failure),
            Code::HttpStatus
            | Code::Timeout
            | Code::Connect
            | Code::Dns
            | Code::TooLarge
            | Code::GivenUp
            | Code::Garbage => Self::Retry(failure, Blame::Destination),
        }
    }
}

/// What the answers of one destination mean.
#[derive(Clone, Debug)]
pub(crate) struct Meanings {
    pub(crate) format: Format,
    /// The operator's word, which is the last.
    pub(crate) given: BTreeMap<u16, Class>,
}

impl Meanings {
    /// Types an answer to a request of this method, as it was sent.
    pub(crate) fn of(&self, method: &Method, before: Before, answered: Failure) -> Outcome {
        let status = answered.status.unwrap_or_default();
        let usual = || self.usual(method, before, &answered);
        match self.given.get(&status).copied().unwrap_or_else(usual) {
            Class::Delivered => Outcome::Delivered,
            Class::Absent => Outcome::Absent(answered.status),
            Class::Superseded => Outcome::Superseded,
            Class::Retry => Outcome::Retry(answered, self.blame(status)),
            Class::Hold => Outcome::Hold(answered),
            Class::Permanent => Outcome::Permanent(answered),
        }
    }

    /// A status that is not known means what the first one of its hundred does (RFC 9110 15); one that
    /// HTTP does not have is a server's fault.
    fn usual(&self, method: &Method, before: Before, answered: &Failure) -> Class {
        match answered.status.unwrap_or_default() {
            200..=299 => Class::Delivered,
            409 if *method == Method::POST && before == Before::AnswerLost => Class::Delivered,
            404 | 410 if *method == Method::DELETE => Class::Absent,
            404 => match self.format {
                Format::Replay | Format::State => Class::Retry,
                // Every change goes to this URL: it is the URL that is wrong.
                Format::CloudEvents => Class::Hold,
            },
            413 if answered.retry_after.is_some() => Class::Retry,
            // 402 and 511 refuse Tidegate, too: an account that is not paid, a network's own gate.
            401..=403 | 407 | 511 => Class::Hold,
            // 421 is a connection that went wrong, 423 a lock that somebody has.
            408 | 409 | 421 | 423 | 425 | 429 => Class::Retry,
            300..=499 | 501 | 505 => Class::Permanent,
            _ => Class::Retry,
        }
    }

    /// Whether a status that is tried again speaks of the destination or of the change.
    fn blame(&self, status: u16) -> Blame {
        match (status, self.format) {
            (404, Format::CloudEvents) | (401..=403 | 407..=409 | 421 | 425 | 429, _) => Blame::Destination,
            (200..=499, _) => Blame::Change,
            _ => Blame::Destination,
        }
    }
}

/// Retry-After in seconds or as a date (RFC 9110 10.2.3); what cannot be read is ignored.
pub(crate) fn retry_after(fields: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let text = fields.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than a number can hold is long; the bound of what is obeyed comes later.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(wall).unwrap_or_default())
}

#[cfg(test)]
mod tests;

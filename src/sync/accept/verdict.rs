//! What a source's answer to an accepted write means. Pure.

use crate::sync::delivery::outcome::{Blame, Code, Failure, Outcome, retry_after};
use crate::sync::ports::{Lost, SourceWritten, Unreached};
use crate::sync::settings::Repeats;
use http::{HeaderMap, Method, StatusCode};
use std::time::SystemTime;

/// What follows from a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The source did it; its Location, if any.
    Committed(Option<String>),
    /// Nobody knows whether it did, and it cannot be asked again.
    InDoubt,
    /// It was not asked.
    Held,
    /// It did not.
    Failed(Outcome),
}

/// What is known of a write before it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent<'a> {
    pub(super) method: &'a Method,
    pub(super) repeats: Repeats,
    /// The answer to an earlier attempt was lost.
    pub(super) answer_lost: bool,
}

impl Sent<'_> {
    /// Whether it may be sent again after its answer was lost.
    pub(super) fn may_repeat(&self) -> bool {
        self.repeats == Repeats::ByKey || matches!(*self.method, Method::PUT | Method::DELETE)
    }

    /// What an answer, or its absence, means.
    pub(super) fn verdict(&self, written: SourceWritten, wall: SystemTime) -> Verdict {
        let later = |code| Verdict::Failed(Outcome::Retry(Failure::of(code), Blame::Destination));
        match written {
            SourceWritten::Held => Verdict::Held,
            SourceWritten::Unsayable => Verdict::Failed(Outcome::Permanent(Failure::of(Code::Unsendable))),
            SourceWritten::Unreached(Unreached::Connect) => later(Code::Connect),
            SourceWritten::Unreached(Unreached::Tls(fault)) => later(Code::Tls(fault)),
            SourceWritten::Unreached(Unreached::Dns) => later(Code::Dns),
            SourceWritten::Lost(_) if !self.may_repeat() => Verdict::InDoubt,
            SourceWritten::Lost(lost) => {
                let code = match lost {
                    Lost::Timeout => Code::Timeout,
                    Lost::Broken => Code::Connect,
                };
                Verdict::Failed(Outcome::Retry(Failure::lost(code), Blame::Destination))
            }
            SourceWritten::Answered { status, fields, location, answer } => {
                self.answered(status, &fields, location, answer, wall)
            }
        }
    }

    fn answered(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        location: Option<String>,
        answer: String,
        wall: SystemTime,
    ) -> Verdict {
        let failure = Failure::answered(status, retry_after(fields, wall), answer);
        match status.as_u16() {
            200..=299 | 303 => Verdict::Committed(location),
            // A POST that was done by sending the client to its result.
            300..=302 if *self.method == Method::POST => Verdict::Committed(location),
            // The attempt whose answer was lost did it.
            404 | 410 if self.answer_lost && *self.method == Method::DELETE => Verdict::Committed(None),
            // Whether that attempt, or somebody else, changed what the precondition is about.
            412 if self.answer_lost => Verdict::InDoubt,
            408 | 425 | 429 | 500..=599 => Verdict::Failed(Outcome::Retry(failure, Blame::Destination)),
            // Every other 4xx; and a redirect is never followed.
            _ => Verdict::Failed(Outcome::Permanent(failure)),
        }
    }
}

impl Verdict {
    /// The metric's label.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Committed(_) => "committed",
            Self::InDoubt => "in-doubt",
            Self::Held => "held",
            Self::Failed(outcome) => outcome.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_says_about_an_accepted_write() {
        for (method, status, answer_lost, word) in [
            ("PUT", 200, false, "committed"),
            ("PUT", 204, false, "committed"),
            ("POST", 201, false, "committed"),
            ("POST", 303, false, "committed"),
            ("PUT", 303, false, "committed"),
            ("POST", 302, false, "committed"),
            ("PUT", 302, false, "permanent"),
            ("PUT", 304, false, "permanent"),
            ("PUT", 307, false, "permanent"),
            ("PUT", 400, false, "permanent"),
            ("PUT", 401, false, "permanent"),
            ("PUT", 403, false, "permanent"),
            ("PUT", 404, false, "permanent"),
            ("DELETE", 404, false, "permanent"),
            ("DELETE", 404, true, "committed"),
            ("DELETE", 410, true, "committed"),
            ("PUT", 404, true, "permanent"),
            ("PUT", 408, false, "retry"),
            ("PUT", 409, false, "permanent"),
            ("PUT", 412, false, "permanent"),
            ("PUT", 412, true, "in-doubt"),
            ("PUT", 413, false, "permanent"),
            ("PUT", 422, false, "permanent"),
            ("PUT", 425, false, "retry"),
            ("PUT", 429, false, "retry"),
            ("POST", 500, false, "retry"),
            ("PUT", 501, false, "retry"),
            ("PUT", 502, false, "retry"),
            ("PUT", 503, false, "retry"),
            ("PUT", 504, false, "retry"),
        ] {
            let written = SourceWritten::Answered {
                status: StatusCode::from_u16(status).unwrap(),
                fields: HeaderMap::new(),
                location: None,
                answer: String::new(),
            };
            let method = method.parse().unwrap();
            let verdict = Sent { method: &method, repeats: Repeats::ByMethod, answer_lost }
                .verdict(written, SystemTime::UNIX_EPOCH);
            assert_eq!(verdict.as_str(), word, "{method} {status} {answer_lost}");
        }
    }

    #[test]
    fn rfc9110_9_2_2_what_may_be_sent_again_after_a_lost_answer() {
        for (method, repeats, word) in [
            ("PUT", Repeats::ByMethod, "retry"),
            ("DELETE", Repeats::ByMethod, "retry"),
            ("POST", Repeats::ByMethod, "in-doubt"),
            ("PATCH", Repeats::ByMethod, "in-doubt"),
            ("POST", Repeats::ByKey, "retry"),
            ("PATCH", Repeats::ByKey, "retry"),
        ] {
            let method = method.parse().unwrap();
            for lost in [Lost::Timeout, Lost::Broken] {
                let verdict = Sent { method: &method, repeats, answer_lost: false }
                    .verdict(SourceWritten::Lost(lost), SystemTime::UNIX_EPOCH);
                assert_eq!(verdict.as_str(), word, "{method} {repeats:?} {lost:?}");
                if let Verdict::Failed(outcome) = verdict {
                    assert!(outcome.failure().is_some_and(|failure| failure.answer_lost));
                }
            }
        }
        for (written, word) in [
            (SourceWritten::Held, "held"),
            (SourceWritten::Unreached(Unreached::Connect), "retry"),
            (SourceWritten::Unsayable, "permanent"),
        ] {
            let verdict = Sent { method: &Method::POST, repeats: Repeats::ByMethod, answer_lost: false }
                .verdict(written, SystemTime::UNIX_EPOCH);
            assert_eq!(verdict.as_str(), word);
        }
    }
}

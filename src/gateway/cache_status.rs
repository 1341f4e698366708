//! How a request was answered: one closed vocabulary for field (RFC 9211), log and metric.

use super::problem::SourceFailure;
use crate::cache::Tier;
use crate::cache::rules::{ForwardReason, NoStoreReason};
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Bytes of the longest member but for its numbers.
const MEMBER_BYTES: usize = 64;

/// The field's name.
pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheStatus {
    /// From a fresh stored response.
    Hit { ttl: i64, tier: Tier },
    /// From a stale one.
    HitStale { ttl: i64, by: StaleBy },
    /// By a forward of this request's own.
    Forwarded { reason: ForwardReason, status: StatusCode, stored: Stored },
    /// By somebody else's forward.
    Collapsed { reason: ForwardReason, status: StatusCode },
    /// From a stale response after a forward that gave no good answer.
    StaleIfError { trouble: Trouble, ttl: i64 },
    /// The forward gave no answer.
    Failed { reason: ForwardReason },
    /// By Tidegate itself: another request's forward was waited for, to no avail.
    Unwaited(Unwaited),
    /// By Tidegate itself, without asking anybody.
    Own,
}

/// Why a request did not get what another request's forward brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwaited {
    /// It did not come until the request's deadline.
    Timeout,
    /// As many wait already as may.
    Crowded,
}

impl Unwaited {
    /// The word for field, log and metric.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "wait-timeout",
            Self::Crowded => "follower-limit",
        }
    }
}

/// What a stale response stands in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The source answered this error.
    Answered(StatusCode),
    /// The source gave no answer.
    NoAnswer(SourceFailure),
    /// Its answer to another request could not be waited for.
    Unwaited(Unwaited),
}

/// What allowed a stale response to be used without asking the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StaleBy {
    /// It is validated in the background (RFC 5861 3).
    WhileRevalidate,
    /// The request's `max-stale` (RFC 9111 5.2.1.2).
    MaxStale,
}

impl StaleBy {
    const fn as_str(self) -> &'static str {
        match self {
            Self::WhileRevalidate => "stale-while-revalidate",
            Self::MaxStale => "max-stale",
        }
    }
}

/// What became of a forwarded answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// It is being stored.
    Yes,
    /// It is not, and why.
    No(NoStoreReason),
    /// Nobody thought of storing it.
    NotConsidered,
}

impl CacheStatus {
    /// Where its label for the metric stands in [`LABELS`].
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Hit { .. } => 0,
            Self::HitStale { .. } => 1,
            Self::Collapsed { .. } => 2,
            Self::StaleIfError { .. } => 3,
            Self::Own | Self::Unwaited(_) => 4,
            Self::Forwarded { reason, .. } | Self::Failed { reason } => 5 + reason as usize,
        }
    }

    /// Adds this gateway's member behind those of the caches before it.
    pub(crate) fn append_to(self, fields: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.member()) {
            fields.append(CACHE_STATUS, value);
        }
    }

    /// This gateway's member.
    pub(crate) fn member(self) -> String {
        let mut member = String::with_capacity(MEMBER_BYTES);
        member.push_str("tidegate");
        self.write(&mut member);
        member
    }

    fn write(self, out: &mut String) {
        match self {
            Self::Hit { ttl, tier } => {
                out.push_str("; hit; ttl=");
                out.push_str(itoa::Buffer::new().format(ttl));
                detail(out, tier.as_str());
            }
            Self::HitStale { ttl, by } => {
                out.push_str("; hit; ttl=");
                out.push_str(itoa::Buffer::new().format(ttl));
                detail(out, by.as_str());
            }
            Self::Collapsed { reason, .. } => {
                forwarded(out, reason);
                out.push_str("; collapsed");
            }
            Self::Forwarded { reason, status, stored } => {
                forwarded(out, reason);
                answered(out, status);
                match stored {
                    Stored::Yes => out.push_str("; stored"),
                    Stored::No(why) => detail(out, why.as_str()),
                    Stored::NotConsidered => {}
                }
            }
            Self::StaleIfError { trouble, ttl } => {
                forwarded(out, ForwardReason::Stale);
                if let Trouble::Answered(status) = trouble {
                    answered(out, status);
                }
                out.push_str("; ttl=");
                out.push_str(itoa::Buffer::new().format(ttl));
                detail(out, "stale-if-error");
            }
            Self::Failed { reason } => forwarded(out, reason),
            Self::Unwaited(why) => detail(out, why.as_str()),
            Self::Own => {}
        }
    }
}

fn forwarded(out: &mut String, reason: ForwardReason) {
    out.push_str("; fwd=");
    out.push_str(reason.as_str());
}

fn answered(out: &mut String, status: StatusCode) {
    out.push_str("; fwd-status=");
    out.push_str(status.as_str());
}

fn detail(out: &mut String, detail: &str) {
    out.push_str("; detail=");
    out.push_str(detail);
}

/// Every label of the metric: `hit`, `hit-stale`, `collapsed`, `stale-if-error`, `none`, or why it was
/// forwarded; in the order of [`CacheStatus::index`].
pub(crate) const LABELS: [&str; 13] = [
    "hit",
    "hit-stale",
    "collapsed",
    "stale-if-error",
    "none",
    ForwardReason::Bypass.as_str(),
    ForwardReason::Method.as_str(),
    ForwardReason::UriMiss.as_str(),
    ForwardReason::VaryMiss.as_str(),
    ForwardReason::Miss.as_str(),
    ForwardReason::Request.as_str(),
    ForwardReason::Stale.as_str(),
    ForwardReason::Partial.as_str(),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(status: CacheStatus) -> String {
        let mut fields = HeaderMap::new();
        status.append_to(&mut fields);
        fields.get(CACHE_STATUS).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn rfc9211_members() {
        let forwarded = |reason, status, stored| CacheStatus::Forwarded { reason, status, stored };
        for (status, text) in [
            (CacheStatus::Hit { ttl: 42, tier: Tier::Memory }, "tidegate; hit; ttl=42; detail=memory"),
            (
                CacheStatus::HitStale { ttl: -12, by: StaleBy::WhileRevalidate },
                "tidegate; hit; ttl=-12; detail=stale-while-revalidate",
            ),
            (
                CacheStatus::HitStale { ttl: -3, by: StaleBy::MaxStale },
                "tidegate; hit; ttl=-3; detail=max-stale",
            ),
            (
                forwarded(ForwardReason::UriMiss, StatusCode::OK, Stored::Yes),
                "tidegate; fwd=uri-miss; fwd-status=200; stored",
            ),
            (
                forwarded(ForwardReason::UriMiss, StatusCode::OK, Stored::No(NoStoreReason::Private)),
                "tidegate; fwd=uri-miss; fwd-status=200; detail=private",
            ),
            (
                CacheStatus::Collapsed { reason: ForwardReason::UriMiss, status: StatusCode::OK },
                "tidegate; fwd=uri-miss; collapsed",
            ),
            (
                CacheStatus::StaleIfError {
                    trouble: Trouble::Answered(StatusCode::SERVICE_UNAVAILABLE),
                    ttl: -30,
                },
                "tidegate; fwd=stale; fwd-status=503; ttl=-30; detail=stale-if-error",
            ),
            (CacheStatus::Own, "tidegate"),
            (CacheStatus::Unwaited(Unwaited::Timeout), "tidegate; detail=wait-timeout"),
            (CacheStatus::Unwaited(Unwaited::Crowded), "tidegate; detail=follower-limit"),
        ] {
            assert_eq!(shown(status), text);
        }
    }

    #[test]
    fn several_caches_in_a_row_append() {
        let mut fields = HeaderMap::new();
        fields.insert(CACHE_STATUS, HeaderValue::from_static("origin; hit"));
        CacheStatus::Own.append_to(&mut fields);
        let members: Vec<_> = fields.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(members, ["origin; hit", "tidegate"], "lines of one list (RFC 9651 4.2)");
    }

    #[test]
    fn every_reason_has_its_label() {
        for reason in [
            ForwardReason::Bypass,
            ForwardReason::Method,
            ForwardReason::UriMiss,
            ForwardReason::VaryMiss,
            ForwardReason::Miss,
            ForwardReason::Request,
            ForwardReason::Stale,
            ForwardReason::Partial,
        ] {
            assert_eq!(LABELS[CacheStatus::Failed { reason }.index()], reason.as_str());
        }
    }
}

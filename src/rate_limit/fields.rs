//! The `RateLimit` and `RateLimit-Policy` fields (draft-ietf-httpapi-ratelimit-headers): lists of
//! structured fields (RFC 9651), one member per quota.

use super::quota::whole_seconds;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt::Write as _;
use std::time::Duration;

/// What is left of the quotas.
pub const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// What the quotas are.
pub const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What a route's quotas tell the client; without quotas that hold it adds nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    pub(super) policy: Option<HeaderValue>,
    pub(super) limit: Option<HeaderValue>,
}

impl Fields {
    /// The value of `RateLimit-Policy`.
    #[must_use]
    pub const fn policy(&self) -> Option<&HeaderValue> {
        self.policy.as_ref()
    }

    /// The value of `RateLimit`.
    #[must_use]
    pub const fn limit(&self) -> Option<&HeaderValue> {
        self.limit.as_ref()
    }

    /// Both as the lines of an answer.
    pub fn lines(&self) -> impl Iterator<Item = (HeaderName, &HeaderValue)> {
        let both = self.policy.as_ref().zip(self.limit.as_ref());
        both.into_iter().flat_map(|(policy, limit)| [(RATELIMIT_POLICY, policy), (RATELIMIT, limit)])
    }

    /// Writes both into an answer's fields, in the place of what the source sent.
    pub fn apply(&self, fields: &mut HeaderMap) {
        if let (Some(policy), Some(limit)) = (&self.policy, &self.limit) {
            fields.insert(RATELIMIT_POLICY, policy.clone());
            fields.insert(RATELIMIT, limit.clone());
        }
    }
}

/// A name as a string of structured fields (RFC 9651 4.1.6); what such a string cannot hold
/// becomes `_`.
pub(super) fn quoted(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len() + 2);
    quoted.push('"');
    for character in name.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ => quoted.push('_'),
        }
    }
    quoted.push('"');
    quoted
}

/// Adds a member of `RateLimit-Policy`. `w` is a whole number of seconds, at least 1.
pub(super) fn push_policy(list: &mut String, quoted: &str, requests: u32, per: Duration) {
    separate(list);
    let window = whole_seconds(per).max(1);
    write!(list, "{quoted};q={requests};w={window}").unwrap_or_default();
}

/// Adds a member of `RateLimit`: requests that fit now, and whole seconds until more of
/// them do. For a denied request that is the moment of Retry-After, as the draft asks.
pub(super) fn push_limit(list: &mut String, quoted: &str, remaining: u64, until_more: Duration) {
    separate(list);
    write!(list, "{quoted};r={remaining};t={}", whole_seconds(until_more)).unwrap_or_default();
}

fn separate(list: &mut String) {
    if !list.is_empty() {
        list.push_str(", ");
    }
}

/// A list as a field value; `None` where it is empty.
pub(super) fn value(list: String) -> Option<HeaderValue> {
    if list.is_empty() { None } else { HeaderValue::try_from(list).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_structured_fields() {
        let (mut policy, mut limit) = (String::new(), String::new());
        push_policy(&mut policy, &quoted("per-client"), 100, Duration::from_secs(1));
        push_policy(&mut policy, &quoted("a \"b\" \\ \u{e9}"), 5, Duration::from_millis(1500));
        push_limit(&mut limit, &quoted("per-client"), 12, Duration::from_millis(880));
        assert_eq!(policy, "\"per-client\";q=100;w=1, \"a \\\"b\\\" \\\\ _\";q=5;w=2");
        assert_eq!(limit, "\"per-client\";r=12;t=1");
        for list in [policy, limit] {
            sfv::Parser::new(&list).parse::<sfv::List>().unwrap();
            assert!(value(list).is_some());
        }
        assert_eq!(value(String::new()), None);
    }
}

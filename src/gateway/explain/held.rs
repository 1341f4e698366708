//! What is held for a key, without what may be a secret of somebody else's (I12). Pure.

use crate::cache::Sighted;
use crate::clock::Timestamp;
use crate::explanation::HeldVariant;
use http::{HeaderName, HeaderValue};
use std::collections::BTreeMap;

/// Parts of names of fields whose values are not shown.
const SECRET: [&str; 7] = ["auth", "cookie", "key", "token", "secret", "session", "credential"];

/// The fields that select a response; `None`: absent.
pub(super) fn selecting(fields: &[(HeaderName, Option<HeaderValue>)]) -> BTreeMap<String, Option<String>> {
    let shown = |name: &HeaderName, value: &HeaderValue| {
        if SECRET.iter().any(|part| name.as_str().contains(part)) {
            return "redacted".to_owned();
        }
        String::from_utf8_lossy(value.as_bytes()).into_owned()
    };
    let field = |(name, value): &(HeaderName, Option<HeaderValue>)| {
        (name.as_str().to_owned(), value.as_ref().map(|value| shown(name, value)))
    };
    fields.iter().map(field).collect()
}

/// One of those that are held.
pub(super) fn variant(sighted: &Sighted, now: Timestamp) -> HeldVariant {
    let stored = &sighted.stored;
    let age = stored.current_age(now).as_secs_f64();
    HeldVariant {
        tier: sighted.tier.as_str().to_owned(),
        variant: selecting(&stored.selecting_fields),
        selected: sighted.selected,
        status: stored.status.as_u16(),
        bytes: stored.body.len(),
        age,
        ttl: stored.freshness_lifetime.duration().as_secs_f64() - age,
        tags: stored.tags.to_vec(),
        fence: stored.fence.0,
        standing: sighted.standing.as_str().to_owned(),
        purged_by: sighted.purged_by.iter().map(|(cause, _)| cause.as_str().to_owned()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i12_what_may_be_a_secret_is_not_shown() {
        let fields: Vec<_> = ["authorization", "cookie", "x-api-key", "accept-language"]
            .map(|name| (HeaderName::from_static(name), Some(HeaderValue::from_static("CANARY"))))
            .to_vec();
        let shown = selecting(&fields);
        assert_eq!(shown["accept-language"].as_deref(), Some("CANARY"));
        assert_eq!(shown.values().filter(|value| value.as_deref() == Some("redacted")).count(), 3);
    }
}

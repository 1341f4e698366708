//! STAND-IN, deleted when the rules are merged: `reuse` and `vary` as `cache::rules` will have them.

pub(super) mod reuse {
    use crate::cache::stored::{Reuse, StoredResponse};
    use crate::clock::Timestamp;
    use std::time::Duration;

    pub(in crate::cache) enum Verdict {
        Fresh,
        StaleWhileRevalidate,
        MustValidate,
    }

    pub(in crate::cache) fn assess(stored: &StoredResponse, now: Timestamp) -> Verdict {
        let age = stored.current_age(now);
        match stored.reuse {
            Reuse::ValidateAlways => Verdict::MustValidate,
            _ if age < stored.freshness_lifetime => Verdict::Fresh,
            Reuse::WithStale { while_revalidate, .. }
                if age < stored.freshness_lifetime + while_revalidate =>
            {
                Verdict::StaleWhileRevalidate
            }
            _ => Verdict::MustValidate,
        }
    }

    pub(in crate::cache) fn retention(stored: &StoredResponse) -> Duration {
        let fresh = stored.freshness_lifetime.saturating_sub(stored.initial_age);
        let window = match stored.reuse {
            Reuse::ValidateAlways | Reuse::WhileFresh => Duration::ZERO,
            Reuse::WithStale { while_revalidate, if_error, .. } => while_revalidate.max(if_error),
        };
        fresh + window + Duration::from_mins(10)
    }
}

pub(super) mod vary {
    use http::{HeaderMap, HeaderName, HeaderValue};

    pub(in crate::cache) fn selecting_fields(
        names: Vec<HeaderName>,
        request: &HeaderMap,
    ) -> Vec<(HeaderName, Option<HeaderValue>)> {
        let value = |name: HeaderName| {
            let value = request.get(&name).cloned();
            (name, value)
        };
        names.into_iter().map(value).collect()
    }

    pub(in crate::cache) fn matches(
        selecting: &[(HeaderName, Option<HeaderValue>)],
        request: &HeaderMap,
    ) -> bool {
        selecting.iter().all(|(name, stored)| request.get(name) == stored.as_ref())
    }
}

//! The arithmetic of freshness, each figure with its source (RFC 9111 4.2). Pure: the figures are those that
//! were decided when the response was stored; where they come from is read from its fields once more, by the
//! rules that decided them.

use crate::cache::rules::ResponseHead;
use crate::cache::rules::cache_control::{Directives, Flag, Origin};
use crate::cache::rules::freshness::{self, LifetimeSource};
use crate::cache::rules::reuse::does_route_decide;
use crate::cache::stored::{Reuse, Span};
use crate::cache::{Found, Policy, Sight, Standing, StoredResponse};
use crate::clock::Timestamp;
use crate::explanation::{Figure, Freshness};
use http::StatusCode;
use std::time::Duration;

/// The arithmetic of a response that was found, as it stands.
pub(super) fn arithmetic(found: &Found, sight: &Sight, policy: &Policy, now: Timestamp) -> Freshness {
    let stored = &*found.stored;
    let directives = Directives::of_response(&stored.fields.to_map());
    let computed = lifetime(stored, &directives, policy);
    let is_it = |one: &&crate::cache::Sighted| one.selected && one.stored.received_at == stored.received_at;
    let standing = sight.held.iter().find(is_it).map_or(Standing::Valid, |one| one.standing);
    let field = match directives.origin {
        Origin::Untargeted => "Cache-Control",
        Origin::Targeted => "CDN-Cache-Control",
    };
    let age = stored.current_age(now);
    let [while_revalidate, if_error, on_disconnect] = windows(stored, &directives, field);
    Freshness {
        lifetime: Figure {
            seconds: stored.freshness_lifetime.duration().as_secs_f64(),
            from: lifetime_from(stored, computed, standing, field),
        },
        initial_age: figure(
            stored.initial_age.duration(),
            "the larger of its distance from Date and of Age plus the round trip (RFC 9111 4.2.3)",
        ),
        resident_time: figure(
            now.since(stored.received_at),
            "since it came, or was validated last (RFC 9111 4.2.3)",
        ),
        current_age: figure(age, "initial age plus resident time (RFC 9111 4.2.3)"),
        ttl: Figure {
            seconds: stored.freshness_lifetime.duration().as_secs_f64() - age.as_secs_f64(),
            from: "lifetime less current age (RFC 9111 4.2)".to_owned(),
        },
        stale_while_revalidate: while_revalidate,
        stale_if_error: if_error,
        stale_on_disconnect: on_disconnect,
        reuse: match stored.reuse {
            Reuse::ValidateAlways => "always-validate",
            Reuse::WhileFresh => "while-fresh",
            Reuse::WithStale { .. } => "with-stale",
        }
        .to_owned(),
    }
}

fn figure(duration: Duration, from: &str) -> Figure {
    Figure { seconds: duration.as_secs_f64(), from: from.to_owned() }
}

fn lifetime(
    stored: &StoredResponse,
    directives: &Directives,
    policy: &Policy,
) -> Option<freshness::Lifetime> {
    // A part was judged as the whole that it is of (RFC 9111 3.3).
    let is_part = stored.status == StatusCode::PARTIAL_CONTENT;
    let status = if is_part { StatusCode::OK } else { stored.status };
    let head = ResponseHead { status, fields: &stored.fields.to_map() };
    freshness::lifetime(head, directives, policy, stored.received_at)
}

fn lifetime_from(
    stored: &StoredResponse,
    computed: Option<freshness::Lifetime>,
    standing: Standing,
    field: &str,
) -> String {
    if let Standing::StaleSince(_) = standing {
        return "ended by a soft purge".to_owned();
    }
    let Some(computed) = computed else {
        return "neither the response nor the route gives one".to_owned();
    };
    let source = computed.source.as_str();
    let named = match computed.source {
        LifetimeSource::SMaxAge | LifetimeSource::MaxAge => format!("{field}: {source}"),
        LifetimeSource::Expires
        | LifetimeSource::Negative
        | LifetimeSource::Ttl
        | LifetimeSource::Heuristic => source.to_owned(),
    };
    let (kept, full) = (stored.freshness_lifetime.duration(), computed.duration);
    match computed.source {
        _ if stored.freshness_lifetime == full.into() => named,
        LifetimeSource::Ttl | LifetimeSource::Heuristic if kept < full => {
            let less = full.saturating_sub(kept).as_secs_f64();
            format!("{named}, {full:?} less {less:.1} s so that not all end at once")
        }
        _ => format!("{named} when it was stored; by now it would be {full:?}"),
    }
}

/// How long stale use is allowed: while it is validated, on errors, where the source is not reached.
fn windows(stored: &StoredResponse, directives: &Directives, field: &str) -> [Figure; 3] {
    let nothing = |why: &str| [(); 3].map(|()| figure(Duration::ZERO, why));
    match stored.reuse {
        Reuse::ValidateAlways if directives.has(Flag::NoCache) => nothing("no-cache (RFC 9111 5.2.2.4)"),
        Reuse::ValidateAlways => nothing("it must be validated before each use"),
        Reuse::WhileFresh => nothing("must-revalidate or proxy-revalidate (RFC 9111 5.2.2.2)"),
        Reuse::WithStale { while_revalidate, if_error, on_disconnect, .. } => {
            let lifetime = Some(stored.freshness_lifetime.duration()).filter(|lifetime| !lifetime.is_zero());
            let by_route = does_route_decide(directives, lifetime);
            let given = |stated: Option<Duration>, directive: &str, key: &str| match stated {
                Some(_) => format!("{field}: {directive}"),
                None if by_route => format!("the route's {key}"),
                None => "not stated, and with s-maxage or without freshness the route adds none".to_owned(),
            };
            let window = |window: Span, stated, directive, key| {
                figure(window.duration(), &given(stated, directive, key))
            };
            [
                window(
                    while_revalidate,
                    directives.stale_while_revalidate,
                    "stale-while-revalidate (RFC 5861 3)",
                    "stale_while_revalidate",
                ),
                window(if_error, directives.stale_if_error, "stale-if-error (RFC 5861 4)", "stale_if_error"),
                window(on_disconnect, None, "", "stale_on_disconnect"),
            ]
        }
    }
}

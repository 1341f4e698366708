//! Which rule decides, and where it is written: for people. Pure; it names what was decided elsewhere.

use crate::cache::rules::cache_control::{Directives, Flag};
use crate::cache::rules::reuse::insists;
use crate::cache::rules::{ForwardReason, preconditions};
use crate::cache::stored::Reuse;
use crate::cache::{Found, Standing};
use crate::clock::Timestamp;
use crate::explanation::{MarkedKey, Rule};
use crate::gateway::cache_status::StaleBy;
use crate::gateway::problem::GatewayError;
use crate::gateway::read::{Foreseen, Judged, Way};
use crate::gateway::request::Request;
use crate::gateway::route::Route;

/// A section and what it says.
pub(super) type Text = (&'static str, &'static str);

pub(super) const UPGRADE: Text =
    ("RFC 9110 7.8", "it asks for another protocol that the route allows: it is forwarded for itself");
pub(super) const WRITE: Text = ("RFC 9111 4.4", "a write goes to the source, and makes what is stored old");
pub(super) const RECORDED: Text =
    ("RFC 9111 4.4", "a write is recorded, goes to the source, makes what is stored old, and is delivered");
pub(super) const ACCEPTED: Text =
    ("RFC 9110 15.3.3", "the write is recorded and answered 202; its source is asked later");
pub(super) const LAST_HOP: Text = ("RFC 9110 7.6.2", "Max-Forwards is 0: it goes no further");
pub(super) const IN_DOUBT: Text = (
    "Changes in doubt",
    "a write that may have made it old is in doubt: until that is decided nothing of it is stored (see the changes \
     of this key)",
);
pub(super) const STALE_IF_ERROR: Text =
    ("RFC 5861 4", "the source is left alone because it fails, and what is stale may be used instead");

/// A rule in its own words.
pub(super) fn rule((section, says): Text) -> Rule {
    Rule { section: section.to_owned(), says: says.to_owned() }
}

/// Why Tidegate answers by itself.
pub(super) fn of_error(error: &GatewayError) -> Rule {
    let section = match error {
        GatewayError::Refused(_) => "RFC 9112 3, RFC 9110 7.2",
        GatewayError::NoRoute => "the configuration's routes",
        GatewayError::Access(_) => "route.access",
        GatewayError::Loop => "RFC 8586 2",
        GatewayError::Quota(_) => "RFC 6585 4",
        GatewayError::OnlyIfCached => "RFC 9111 5.2.1.7",
        GatewayError::Unvalidated(_) => "RFC 9111 5.2.2.2",
        GatewayError::Source(..) => "RFC 9110 15.6.4",
        GatewayError::Record(_) => "RFC 4918 11.5, RFC 9110 15.6.4",
        GatewayError::IdempotencyKey => "draft-ietf-httpapi-idempotency-key-header 2.1",
        _ => "RFC 9110 15.6",
    };
    Rule { section: section.to_owned(), says: error.detail() }
}

/// Why a request is forwarded for its client alone.
pub(super) const fn relayed(reason: ForwardReason) -> Text {
    match reason {
        ForwardReason::Request => (
            "RFC 9111 4.3.2",
            "it has a condition that only the source can decide on: If-Match, If-Unmodified-Since",
        ),
        ForwardReason::Method => ("RFC 9111 3", "the answers to this method are not stored"),
        _ => ("RFC 9211 2.2", "the route does not store (cache.enabled = false), or the request has content"),
    }
}

/// The rule that decides on a read.
pub(super) fn of_read(
    foreseen: &Foreseen,
    route: &Route,
    request: &Request,
    marker: Option<&MarkedKey>,
    now: Timestamp,
) -> Rule {
    let asked = route.directives(request);
    match &foreseen.judged {
        Err(error) => of_error(error),
        Ok(Judged::Fresh(_)) if foreseen.way.is_none() => {
            rule(("RFC 9111 4.2", "its age is below its freshness lifetime"))
        }
        Ok(Judged::Fresh(_)) if foreseen.way == Some(Way::Part) => {
            rule(("RFC 9111 3.3", "a stored part has all of what Range asks for, and it is fresh"))
        }
        Ok(Judged::Fresh(_)) => rule(("RFC 9110 9.3.2", "an earlier HEAD was told this, and it is fresh")),
        Ok(Judged::Stale(_, StaleBy::WhileRevalidate)) => rule((
            "RFC 5861 3",
            "it is stale for less than stale-while-revalidate: used, and validated in the background",
        )),
        Ok(Judged::Stale(_, StaleBy::MaxStale)) => {
            rule(("RFC 9111 5.2.1.2", "it is stale for no longer than the request's max-stale"))
        }
        Ok(Judged::Validate(found, ForwardReason::Request)) => {
            rule(demanded(found, asked.as_ref(), request, now))
        }
        Ok(Judged::Validate(found, _)) => rule(outlived(found, foreseen)),
        Ok(Judged::Forward(why)) => missing(*why, foreseen, request, marker),
    }
}

/// What of the request does not content itself with what is stored.
fn demanded(found: &Found, asked: Option<&Directives>, request: &Request, now: Timestamp) -> Text {
    let Some(asked) =
        asked.filter(|asked| insists(asked) || asked.max_age.is_some() || asked.min_fresh.is_some())
    else {
        return SEEN_A_WRITE;
    };
    let age = found.stored.current_age(now);
    if asked.has(Flag::NoCache) {
        ("RFC 9111 5.2.1.4", "the request says no-cache, and the route honours it")
    } else if asked.max_age.is_some_and(|oldest| age > oldest) {
        ("RFC 9111 5.2.1.1", "it is older than the request's max-age")
    } else if asked.min_fresh.is_some() || request.min_version.is_none() {
        ("RFC 9111 5.2.1.3", "it is not fresh for as long as the request's min-fresh")
    } else {
        SEEN_A_WRITE
    }
}

const SEEN_A_WRITE: Text =
    ("Tidegate-Min-Version", "it may be older than the write that the request's Tidegate-Min-Version names");

/// Why what is stored must be validated.
fn outlived(found: &Found, foreseen: &Foreseen) -> Text {
    let standing = foreseen.sight.held.iter().find(|one| one.selected && one.tier == found.tier);
    match (standing.map(|one| one.standing), found.stored.reuse) {
        (Some(Standing::Unverified), _) => (
            "RFC 9111 4.4",
            "purges may have been missed since it was stored: the source must say that it is still right",
        ),
        (_, Reuse::ValidateAlways) => (
            "RFC 9111 5.2.2.4",
            "the response says no-cache, or gives no freshness: it is validated before each use",
        ),
        (_, Reuse::WhileFresh) => {
            ("RFC 9111 5.2.2.2", "it is stale, and must-revalidate or proxy-revalidate forbids its use")
        }
        (Some(Standing::StaleSince(_)), _) => {
            ("RFC 9111 4.2.4", "a soft purge has made it stale, and no window allows its use")
        }
        _ => ("RFC 9111 4.2.4", "it is stale, and no window allows its use before it is validated"),
    }
}

/// Why nothing that is stored is used.
fn missing(why: ForwardReason, foreseen: &Foreseen, request: &Request, marker: Option<&MarkedKey>) -> Rule {
    let gone = foreseen.sight.held.iter().any(|one| one.standing == Standing::Gone);
    match (why, marker) {
        (ForwardReason::Request, _) if preconditions::are_for_the_source(&request.fields) => {
            rule(relayed(ForwardReason::Request))
        }
        (ForwardReason::VaryMiss, _) => rule((
            "RFC 9111 4.1",
            "responses are stored for this key, none for the request fields that select them (see variants)",
        )),
        (ForwardReason::Partial, _) => {
            rule(("RFC 9111 3.3", "a part is stored, but not all of what Range asks for"))
        }
        (_, Some(marker)) => Rule {
            section: "RFC 9111 3".to_owned(),
            says: format!(
                "the last answer (status {}) could not be stored: {}; nobody waits for another's",
                marker.status, marker.reason
            ),
        },
        (_, None) if gone => rule(("RFC 9111 4.4", "what was stored has been purged (see variants)")),
        (_, None) if foreseen.way == Some(Way::Part) => {
            rule(("RFC 9111 3.3", "nothing is stored for this key, neither the whole nor a part"))
        }
        (_, None) => rule(("RFC 9111 4", "nothing is stored for this key")),
    }
}

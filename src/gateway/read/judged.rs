//! What becomes of a read, by what is stored, by the request's own Cache-Control where its route honours it
//! (RFC 9111 5.2.1), and by the write that its reader has seen (I6). Pure; explanations ask here too.

use crate::cache::rules::cache_control::{Directives, Flag};
use crate::cache::rules::reuse::{Demand, demand};
use crate::cache::rules::{ForwardReason, incremental};
use crate::cache::{Floor, Found, Lookup};
use crate::clock::Timestamp;
use crate::gateway::cache_status::StaleBy;
use crate::gateway::problem::GatewayError;
use crate::gateway::request::Request;
use crate::gateway::route::is_partial;
use http::Method;

/// What becomes of a read.
#[derive(Debug)]
pub(crate) enum Judged {
    /// It is answered with what is stored.
    Fresh(Found),
    /// As before, though that is stale.
    Stale(Found, StaleBy),
    /// The source is asked about what is stored.
    Validate(Found, ForwardReason),
    /// The source is asked.
    Forward(ForwardReason),
}

/// Judges what a lookup has found. `asked`: the request's own directives; `None` where they do not count.
///
/// # Errors
/// [`GatewayError::OnlyIfCached`]
pub(crate) fn judge(
    lookup: Lookup,
    asked: Option<&Directives>,
    floor: Floor,
    now: Timestamp,
) -> Result<Judged, GatewayError> {
    let judged = match lookup {
        // A source that says that it is still right makes it as young as it needs to be.
        Lookup::Fresh(found) | Lookup::StaleUsable(found) | Lookup::MustValidate(found, _)
            if !floor.admits(found.stored.fence) =>
        {
            Judged::Validate(found, ForwardReason::Request)
        }
        Lookup::Fresh(found) | Lookup::StaleUsable(found)
            if demanded(&found, asked, now) == Demand::Validate =>
        {
            Judged::Validate(found, ForwardReason::Request)
        }
        Lookup::MustValidate(found, _) if demanded(&found, asked, now) == Demand::StaleIsFine => {
            Judged::Stale(found, StaleBy::MaxStale)
        }
        Lookup::Fresh(found) => Judged::Fresh(found),
        Lookup::StaleUsable(found) => Judged::Stale(found, StaleBy::WhileRevalidate),
        Lookup::MustValidate(found, why) => Judged::Validate(found, why),
        Lookup::Forward(why) => Judged::Forward(why),
    };
    match judged {
        Judged::Validate(..) | Judged::Forward(_) => for_the_source(asked).map(|()| judged),
        Judged::Fresh(_) | Judged::Stale(..) => Ok(judged),
    }
}

/// What needs the source is not asked for by who wants only what is stored (RFC 9111 5.2.1.7).
///
/// # Errors
/// [`GatewayError::OnlyIfCached`]
pub(crate) fn for_the_source(asked: Option<&Directives>) -> Result<(), GatewayError> {
    let only_if_cached = asked.is_some_and(|asked| asked.has(Flag::OnlyIfCached));
    if only_if_cached { Err(GatewayError::OnlyIfCached) } else { Ok(()) }
}

fn demanded(found: &Found, asked: Option<&Directives>, now: Timestamp) -> Demand {
    asked.map_or(Demand::AsUsual, |asked| demand(&found.stored, asked, now))
}

/// How a read that what is stored does not answer goes to the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As a HEAD of its own.
    HeadAlone,
    /// As a HEAD that answers all who send one.
    Head,
    /// For its client alone.
    Alone,
    /// As a request for a part.
    Part,
    /// As a fill, for all who wait; alone where the key is marked.
    Fill,
}

impl Way {
    /// The way of a request. `stale`: what is asked about, if anything is.
    pub(crate) fn of<T>(request: &Request, asked: Option<&Directives>, stale: Option<&T>) -> Self {
        let no_store = asked.is_some_and(|asked| asked.has(Flag::NoStore));
        let alone = no_store || incremental::is_asked_for(&request.fields);
        match (&request.method, alone) {
            (&Method::HEAD, true) => Self::HeadAlone,
            (&Method::HEAD, false) => Self::Head,
            (_, true) => Self::Alone,
            (_, false) if stale.is_none() && is_partial(request) => Self::Part,
            (_, false) => Self::Fill,
        }
    }
}

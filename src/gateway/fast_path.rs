//! The fast path: hits that need nobody but memory, answered where they arrive.
//!
//! ```text
//! arrived --a plain GET or HEAD--> the fields known?--> route, key, look, quota --> the answer
//!              `------------------------`------------------`---- else: the gate, hyper, gateway/pipeline.rs
//! ```
//!
//! It takes no decision of its own: each is that of the function which the long way asks as well. A client's requests
//! on one connection mostly repeat their fields, so these are checked once and kept with the request that was made of
//! them; fields that are equal, byte for byte, mean the same. Whatever is not plain goes the long way, as if
//! nobody had looked: nothing is charged, counted or taken from what has arrived before it is certain that the answer
//! is given here.

mod http1;
mod http2;
mod lines;
mod plain;

pub(super) use http1::Lines;
pub(super) use http2::Block;

use super::cache_status::CacheStatus;
use super::read::{Judged, judge};
use super::request::{Peer, Request};
use super::route::{Action, Route};
use super::{Gateway, InForce, background};
use crate::cache::{Floor, Found, Lookup, StoredResponse};
use crate::clock::Timestamp;
use crate::rate_limit::Fields;
use crate::telemetry::{metrics as names, spans};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use tokio::time::Instant;

/// The fast path of one connection, whose requests have their fields as [`Lines`] or as a [`Block`].
#[derive(Debug)]
pub(super) struct FastPath<F> {
    in_force: Arc<InForce>,
    peer: Peer,
    known: Option<Known<F>>,
    /// Looks in a row that brought nothing.
    vain: u32,
}

/// Looks in vain, in a row, behind which a connection is taken for one that asks for other things than hits.
const VAIN_MAX: u32 = 8;
/// One request in so many is still looked at there.
const LOOK_EVERY: u32 = 4;

/// Fields that came before, and what they say.
#[derive(Debug)]
struct Known<F> {
    fields: F,
    /// By whose settings they were understood.
    by: Weak<Gateway>,
    /// The last request with these fields; `None` where such a request goes the long way.
    request: Option<Box<Request>>,
}

/// A hit that is answered here.
struct Hit<'a, S> {
    route: &'a Route,
    found: Found,
    shape: S,
    status: CacheStatus,
    quota: Fields,
}

impl<F> FastPath<F> {
    pub(super) const fn new(in_force: Arc<InForce>, peer: Peer) -> Self {
        Self { in_force, peer, known: None, vain: 0 }
    }

    /// Whether it is likely enough that a plain request is answered here: a look in vain is a twentieth of a forward.
    const fn is_worth_a_look(&mut self) -> bool {
        self.vain = self.vain.wrapping_add(1);
        self.vain <= VAIN_MAX || self.vain.is_multiple_of(LOOK_EVERY)
    }

    /// What is kept of fields like these, which are understood where they are not the same as before.
    fn known(
        &mut self,
        gateway: &Arc<Gateway>,
        are_same: impl FnOnce(&F) -> bool,
        understand: impl FnOnce(&Peer) -> Option<(F, Option<Box<Request>>)>,
    ) -> Option<&mut Known<F>> {
        let is_known = self.known.as_ref().is_some_and(|known| {
            std::ptr::eq(known.by.as_ptr(), Arc::as_ptr(gateway)) && are_same(&known.fields)
        });
        if !is_known {
            let (fields, request) = understand(&self.peer)?;
            self.known = Some(Known { fields, by: Arc::downgrade(gateway), request });
        }
        self.known.as_mut()
    }

    /// A panic is told by the long way, which its request goes then.
    fn contained<T>(&mut self, answer: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let answered = catch_unwind(AssertUnwindSafe(|| answer(self)));
        let answered = answered.unwrap_or_else(|_| {
            metrics::counter!(names::PANICS).increment(1);
            self.known = None;
            None
        });
        if answered.is_some() {
            self.vain = 0;
        }
        answered
    }
}

/// Takes what a plain request is answered with, if that is fresh in memory, fits, and no quota has a word against it.
fn take<'a, S>(
    gateway: &'a Arc<Gateway>,
    request: &mut Request,
    fits: impl FnOnce(&Request, &StoredResponse) -> Option<S>,
    now: Timestamp,
) -> Option<Hit<'a, S>> {
    let route = gateway.routes.settle(request).ok().filter(|route| route.lets_hits_pass())?;
    if route.action(request) != Action::Reuse {
        return None;
    }
    let key = route.key(&request.target, &request.fields);
    let ready = gateway.cache.ready(&key, &request.fields, now)?;
    let shape = fits(request, &ready.found().stored)?;
    let (lookup, asked) = (Lookup::Fresh(ready.found().clone()), route.directives(request));
    let Ok(Judged::Fresh(_)) = judge(lookup, asked.as_ref(), Floor::None, now) else { return None };
    let quota = route.admit_at_once(request, now)?;
    let found = gateway.cache.take(&key, ready, now);
    background::validate_early(gateway, route, &key, request, &found.stored, now);
    let status = CacheStatus::Hit { ttl: found.stored.ttl_seconds(now), tier: found.tier };
    Some(Hit { route, found, shape, status, quota })
}

impl<S> Hit<'_, S> {
    /// It was answered; its request came at `since`.
    fn answered(&self, since: Instant) {
        self.route.metrics.answered(self.status, since.elapsed());
    }
}

impl Gateway {
    /// Whether something is told of each hit that the fast path does not tell.
    fn tells_of_hits(&self) -> bool {
        self.access_log.is_some()
            || spans::are_recorded()
            || tracing::enabled!(target: "tidegate::access", tracing::Level::DEBUG)
    }
}

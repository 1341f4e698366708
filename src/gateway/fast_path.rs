//! The fast path: hits that need nobody but memory, answered where they arrive.
//!
//! ```text
//! arrived --a plain GET or HEAD--> the fields known?--> route, key, look, quota --> the answer's bytes
//!              `------------------------`------------------`---- else: the gate, hyper, gateway/pipeline.rs
//! ```
//!
//! It takes no decision of its own: each is that of the function which the long way asks as well. A client's requests
//! on one connection mostly repeat their field lines, so these are checked once and kept with what was made of them;
//! lines that are equal, byte for byte, are well-formed and mean the same. Whatever is not plain goes the long
//! way, as if nobody had looked: nothing is charged, counted or taken from what has arrived before it is certain that
//! the answer is given here.

mod answer;
mod plain;

use super::cache_status::CacheStatus;
use super::gate::{self, PlainLine};
use super::read::{Judged, judge};
use super::request::{Peer, Request};
use super::route::Action;
use super::{Gateway, InForce, Limits, background};
use crate::cache::{Floor, Lookup};
use crate::telemetry::{metrics as names, spans};
use answer::Shape;
use bytes::Bytes;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use tokio::time::Instant;

/// Field lines that are kept for the next request; longer ones go the long way.
const LINES_BYTES_MAX: usize = 4 * 1024;

/// The fast path of one connection.
#[derive(Debug)]
pub(super) struct FastPath {
    in_force: Arc<InForce>,
    peer: Peer,
    known: Option<Known>,
}

/// Field lines that came before, and what they say.
#[derive(Debug)]
struct Known {
    lines: Box<[u8]>,
    /// By whose settings they were understood.
    gateway: Weak<Gateway>,
    /// The last request with these lines; `None` where such a request goes the long way.
    request: Option<Box<Request>>,
}

/// A hit whose answer's head is written.
#[derive(Debug)]
pub(super) struct Hit {
    /// When its request was looked at.
    pub since: Instant,
    /// Bytes of the request's head.
    pub request_bytes: usize,
    /// Goes behind the head.
    pub content: Bytes,
}

impl FastPath {
    pub(super) const fn new(in_force: Arc<InForce>, peer: Peer) -> Self {
        Self { in_force, peer, known: None }
    }

    /// Answers what is at the front of what has arrived, and writes the head of the answer behind `out`; `None`: it
    /// goes the long way, and `out` is as it was. A panic is told there.
    pub(super) fn answer(&mut self, arrived: &[u8], limits: &Limits, out: &mut Vec<u8>) -> Option<Hit> {
        let written = out.len();
        let answered = catch_unwind(AssertUnwindSafe(|| self.answered(arrived, limits, out)));
        let answered = answered.unwrap_or_else(|_| {
            metrics::counter!(names::PANICS).increment(1);
            self.known = None;
            None
        });
        if answered.is_none() {
            out.truncate(written);
        }
        answered
    }

    /// What the field lines behind a request's first line say.
    fn known(
        &mut self,
        arrived: &[u8],
        line: &PlainLine<'_>,
        gateway: &Arc<Gateway>,
        limits: &Limits,
    ) -> Option<&mut Known> {
        let behind = arrived.get(line.bytes..)?;
        let is_known = self.known.as_ref().is_some_and(|known| {
            behind.starts_with(&known.lines) && std::ptr::eq(known.gateway.as_ptr(), Arc::as_ptr(gateway))
        });
        if !is_known {
            let lines = gate::lines(arrived, line, limits).filter(|lines| lines.len() <= LINES_BYTES_MAX)?;
            let request = plain::request(lines, &self.peer, &gateway.settings);
            self.known = Some(Known { lines: lines.into(), gateway: Arc::downgrade(gateway), request });
        }
        self.known.as_mut()
    }

    fn answered(&mut self, arrived: &[u8], limits: &Limits, out: &mut Vec<u8>) -> Option<Hit> {
        let since = Instant::now();
        let line = PlainLine::of(arrived)?;
        let gateway = self.in_force.gateway();
        if gateway.tells_of_hits() {
            return None;
        }
        let known = self.known(arrived, &line, &gateway, limits)?;
        let request_bytes = line.bytes + known.lines.len();
        if line.target.len() as u64 > limits.target_bytes || request_bytes as u64 > limits.head_bytes {
            return None;
        }
        let request = known.request.as_deref_mut()?;
        let now = gateway.clock.now();
        request.becomes(line.method, line.target, since + gateway.settings.request_timeout)?;
        let route = gateway.routes.settle(request).ok().filter(|route| route.lets_hits_pass())?;
        if route.action(request) != Action::Reuse {
            return None;
        }
        let key = route.key(&request.target, &request.fields);
        let ready = gateway.cache.ready(&key, &request.fields, now)?;
        let shape = Shape::of(request, &ready.found().stored)?;
        let asked = route.directives(request);
        let Ok(Judged::Fresh(_)) =
            judge(Lookup::Fresh(ready.found().clone()), asked.as_ref(), Floor::None, now)
        else {
            return None;
        };
        let quota = route.admit_at_once(request, now)?;
        let found = gateway.cache.take(&key, ready, now);
        background::validate_early(&gateway, route, &key, request, &found.stored, now);
        let status = CacheStatus::Hit { ttl: found.stored.ttl_seconds(now), tier: found.tier };
        let content = answer::write(&found, shape, request, (status, now), &quota, out);
        route.metrics.answered(status, since.elapsed());
        Some(Hit { since, request_bytes, content })
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

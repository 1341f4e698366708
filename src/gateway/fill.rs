//! A fill: one forward for everybody who waits for its key, in a task that no client owns.
//!
//! ```text
//! turn -> another replica has it  land Found
//! send -> everybody leaves     drop the forward, unless a hit began it
//!      -> no answer            land Failed, unless the flight's other leader may still have one
//!      -> yielded              nobody waits for it, and others wait for a place: leave
//!      -> the other lands      drop the forward; go on for the own client where that landing is not for it
//!      -> 304 to a validation  freshen, store, land Validated; it names something else: send once more,
//!      |                       without conditions
//!      -> head may be shared   land Shared, then pump the body: complete -> store, close
//!      |                                                        broken   -> abort, close
//!      |                                                        outgrown -> close, go on for who reads
//!      |                                                        nobody reads, far from done -> drop
//!      -> head may not         close; the leader gets the answer for itself, stored where it may be
//! ```

mod heads;
mod pump;
mod taken;
mod turn;

pub(crate) use turn::Among;

use super::Gateway;
use super::cache_status::Stored;
use super::forward::{self, Head};
use super::freshening::Freshening;
use super::landing::Landing;
use super::problem::SourceFailure;
use super::route::Route;
use crate::cache::collapse::{Lead, Turn};
use crate::cache::rules::validation::{self, Asked};
use crate::cache::rules::{Exchange, ForwardReason};
use crate::cache::{CacheKey, StoredResponse};
use crate::source::{SourceBody, SourceError, Visited};
use crate::telemetry::metrics as names;
use futures_util::FutureExt;

use http::{HeaderMap, HeaderValue, Response, StatusCode, response};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::oneshot;

/// How many 304s that do not fit what is stored are put up with.
const MISFITS_MAX: u32 = 1;

/// Everything a fill needs; nothing of it belongs to a client.
pub(crate) struct Fill {
    pub gateway: Arc<Gateway>,
    pub route: Arc<Route>,
    pub key: CacheKey,
    /// The head for the source, without validators.
    pub head: Head,
    /// The request's own fields: what selects a variant, and whether it carried Authorization.
    pub request_fields: HeaderMap,
    /// What is stored and stale.
    pub stale: Option<Arc<StoredResponse>>,
    pub reason: ForwardReason,
    pub began_by: BeganBy,
    pub wants: Wants,
    pub among: Among,
}

/// What a fill asks its source for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    Whole,
    /// What this Range names, for all who send the same.
    Part(HeaderValue),
    /// The head alone (HEAD).
    Head,
}

/// Who began a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BeganBy {
    /// A request that waits for it.
    Request,
    /// A hit, which is answered already.
    Hit,
}

/// An answer that only the leader may have, and why.
pub(crate) type Private = (Response<SourceBody>, Stored);

/// A head that has arrived, and when.
struct Arrived {
    parts: response::Parts,
    body: SourceBody,
    exchange: Exchange,
}

/// What became of a forward.
enum Forwarded {
    Arrived(Box<Arrived>),
    Failed(SourceFailure),
    /// The flight's other leader was faster, or nobody is left who waits.
    NotNeeded,
    /// A hit began it, and the places toward the source are for those who wait: nothing is landed.
    Yielded,
}

/// Which forward of a fill it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Try {
    First,
    /// What the first brought was no answer to anybody.
    Again,
}

/// Hands over an answer that came second: its own client may have it, nobody else.
fn to_own_client(arrived: Arrived, private: Option<oneshot::Sender<Private>>) {
    let Arrived { mut parts, body, .. } = arrived;
    if let Some(private) = private {
        forward::pass_on(&mut parts.headers, parts.version);
        // A client that has what the other one landed, or has left, has no use for it.
        drop(private.send((Response::from_parts(parts, body), Stored::NotConsidered)));
    }
}

impl Fill {
    /// Runs to its end, whoever waits. What its flight has landed by then.
    pub(crate) async fn run(
        self,
        lead: Lead<Landing>,
        private: Option<oneshot::Sender<Private>>,
    ) -> Option<Landing> {
        let work = AssertUnwindSafe(self.among_replicas(&lead, private));
        // Those who wait are let go of with the lead, and ask for themselves.
        if work.catch_unwind().await.is_err() {
            metrics::counter!(names::PANICS).increment(1);
        }
        lead.landing()
    }

    async fn forwarded(&self, lead: &Lead<Landing>, private: Option<oneshot::Sender<Private>>) {
        let (mut asked, mut misfits) = (self.asked(), 0);
        loop {
            let which = if misfits == 0 { Try::First } else { Try::Again };
            let arrived = match self.forward(lead, &asked, which).await {
                Forwarded::Arrived(arrived) => *arrived,
                Forwarded::Failed(failure) => return lead.fail(Landing::Failed(failure)),
                Forwarded::NotNeeded | Forwarded::Yielded => return,
            };
            if !lead.claim() {
                return to_own_client(arrived, private);
            }
            let mut arrived = arrived;
            forward::sign(&mut arrived.parts.headers, arrived.parts.version);
            let about = std::mem::take(&mut asked);
            if arrived.parts.status != StatusCode::NOT_MODIFIED || (about == Asked::Nothing && misfits == 0) {
                return match self.wants {
                    Wants::Head => self.take_head(lead, arrived, private),
                    Wants::Whole | Wants::Part(_) => self.take(lead, arrived, private).await,
                };
            }
            if let Some(freshened) = self.freshen(&about, &arrived) {
                lead.close();
                return lead.land(freshened);
            }
            // The 304 does not fit what is stored: ask for the whole, once. Another 304 is of no use to
            // anybody: there was no condition that could fail.
            misfits += 1;
            if misfits > MISFITS_MAX {
                lead.close();
                return lead.land(Landing::Failed(SourceFailure::Protocol));
            }
        }
    }

    /// What the source is asked about first.
    fn asked(&self) -> Asked {
        match (&self.stale, self.reason) {
            _ if self.wants != Wants::Whole => Asked::Nothing,
            (Some(stored), _) => Asked::Selected(Arc::clone(stored)),
            (None, ForwardReason::VaryMiss) => {
                validation::askable(self.gateway.cache.variants(&self.key), &self.request_fields)
            }
            (None, _) => Asked::Nothing,
        }
    }

    async fn forward(&self, lead: &Lead<Landing>, asked: &Asked, which: Try) -> Forwarded {
        let mut head = self.head.clone();
        head.visited = Some(Visited(lead.visited()));
        if self.wants == Wants::Whole {
            validation::add_conditions(asked, &mut head.fields);
        }
        let requested_at = self.gateway.clock.now();
        let body = crate::source::full(head.held.clone().unwrap_or_default());
        let sending = forward::send(&self.route, head, body, None, self.reason);
        tokio::pin!(sending);
        let too_late = self.too_late(lead, which);
        tokio::pin!(too_late);
        let mut outrun = false;
        let outcome = loop {
            tokio::select! {
                outcome = &mut sending => break outcome,
                landing = lead.outrun(), if !outrun => {
                    if landing.spares(&self.request_fields) {
                        return Forwarded::NotNeeded;
                    }
                    // What the other one brought is not for this one's client: this is.
                    outrun = true;
                }
                () = lead.deserted(), if self.began_by == BeganBy::Request => return Forwarded::NotNeeded,
                () = &mut too_late => return Forwarded::Failed(SourceFailure::Timeout),
            }
        };
        let received_at = self.gateway.clock.now();
        let exchange = Exchange { requested_at, received_at, fence: lead.fence(), jitter: fastrand::f64() };
        match outcome.map(Response::into_parts) {
            Ok((parts, mut body)) => match body.look_ahead() {
                Ok(()) => Forwarded::Arrived(Box::new(Arrived { parts, body, exchange })),
                // Nobody was told of it yet.
                Err(error) => Forwarded::Failed(SourceFailure::from(&error)),
            },
            Err(SourceError::Yielded) => Forwarded::Yielded,
            Err(error) => Forwarded::Failed(SourceFailure::from(&error)),
        }
    }

    /// Nobody waits past the deadline of the flight's first forward, which the source itself keeps: it ends
    /// what was begun later too.
    async fn too_late(&self, lead: &Lead<Landing>, which: Try) {
        if lead.turn() == Turn::First && which == Try::First {
            return std::future::pending().await;
        }
        tokio::time::sleep_until(lead.began() + self.route.timeout()).await;
    }

    /// What a 304 lands; `None` where it speaks of something else.
    fn freshen(&self, asked: &Asked, arrived: &Arrived) -> Option<Landing> {
        let freshening = Freshening {
            gateway: &self.gateway,
            route: &self.route,
            key: &self.key,
            request_fields: &self.request_fields,
            exchange: &arrived.exchange,
        };
        freshening.not_modified(asked, &arrived.parts.headers)
    }
}

//! A fill: one forward for everybody who waits for its key, in a task that no client owns.
//!
//! ```text
//! send -> no answer            land Failed, unless the flight's other leader may still have one
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

mod pump;

use super::Gateway;
use super::cache_status::Stored;
use super::forward::{self, Head};
use super::forwarded;
use super::freshening::Freshening;
use super::landing::{Audience, Landing, Shared};
use super::problem::SourceFailure;
use super::route::Route;
use super::trailers;
use crate::cache::collapse::Lead;
use crate::cache::growing::Growing;
use crate::cache::rules::reuse::{Failure, Verdict, assess, may_use_on_failure};
use crate::cache::rules::storable::{self, Admitted};
use crate::cache::rules::tags;
use crate::cache::rules::validation::{self, Asked};
use crate::cache::rules::{Exchange, ForwardReason, NoStoreReason, RequestHead, ResponseHead};
use crate::cache::rules::{early, incremental};
use crate::cache::{CacheKey, StoredResponse};
use crate::in_flight::Work;
use crate::source::{SourceBody, SourceError};
use crate::telemetry::metrics as names;
use bytes::Bytes;
use http::header::{AGE, VIA};
use http::{HeaderMap, Response, StatusCode, response};
use http_body::Body as _;
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
    /// The flight's other leader was faster: nobody needs this one.
    Outrun,
    /// A hit began it, and the places toward the source are for those who wait: nothing is landed.
    Yielded,
}

/// Hands over an answer that came second: its own client may have it, nobody else.
fn to_own_client(arrived: Arrived, private: Option<oneshot::Sender<Private>>) {
    let Arrived { mut parts, body, .. } = arrived;
    if let Some(private) = private {
        forward::pass_on(&mut parts.headers);
        // A client that has what the other one landed, or has left, has no use for it.
        drop(private.send((Response::from_parts(parts, body), Stored::NotConsidered)));
    }
}

impl Fill {
    /// Runs to its end, whoever waits.
    pub(crate) async fn run(self, lead: Lead<Landing>, private: Option<oneshot::Sender<Private>>) {
        let (mut asked, mut misfits) = (self.asked(), 0);
        loop {
            let arrived = match self.forward(&lead, &asked).await {
                Forwarded::Arrived(arrived) => *arrived,
                Forwarded::Failed(failure) => return lead.fail(Landing::Failed(failure)),
                Forwarded::Outrun | Forwarded::Yielded => return,
            };
            if !lead.claim() {
                return to_own_client(arrived, private);
            }
            let mut arrived = arrived;
            forwarded::append(&mut arrived.parts.headers, &VIA, "1.1 tidegate");
            let about = std::mem::take(&mut asked);
            if arrived.parts.status != StatusCode::NOT_MODIFIED || (about == Asked::Nothing && misfits == 0) {
                return self.take(&lead, arrived, private).await;
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
            (Some(stored), _) => Asked::Selected(Arc::clone(stored)),
            (None, ForwardReason::VaryMiss) => {
                validation::askable(self.gateway.cache.variants(&self.key), &self.request_fields)
            }
            (None, _) => Asked::Nothing,
        }
    }

    async fn forward(&self, lead: &Lead<Landing>, asked: &Asked) -> Forwarded {
        let mut head = self.head.clone();
        validation::add_conditions(asked, &mut head.fields);
        let requested_at = self.gateway.clock.now();
        let body = crate::source::full(head.held.clone().unwrap_or_default());
        let sending = forward::send(&self.route, head, body, None, self.reason);
        tokio::pin!(sending);
        let outcome = tokio::select! {
            outcome = &mut sending => outcome,
            landing = lead.outrun() => match landing.audience() {
                Audience::All => return Forwarded::Outrun,
                // What the other one brought is not for this one's client: this is.
                Audience::Leader => sending.await,
            },
        };
        let received_at = self.gateway.clock.now();
        let exchange = Exchange { requested_at, received_at, fence: lead.fence(), jitter: fastrand::f64() };
        match outcome.map(Response::into_parts) {
            Ok((parts, body)) => Forwarded::Arrived(Box::new(Arrived { parts, body, exchange })),
            Err(SourceError::Yielded) => Forwarded::Yielded,
            Err(error) => Forwarded::Failed(SourceFailure::from(&error)),
        }
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

    /// Shares and stores an answer, or hands it to the leader alone.
    async fn take(&self, lead: &Lead<Landing>, arrived: Arrived, private: Option<oneshot::Sender<Private>>) {
        let Arrived { mut parts, body, exchange } = arrived;
        let policy = &self.route.settings.cache;
        let request = RequestHead { method: &self.head.method, fields: &self.request_fields };
        let head = ResponseHead { status: parts.status, fields: &parts.headers };
        let object_bytes_max = self.gateway.cache.object_bytes_max();
        let length = body.size_hint().exact();
        let too_large = length.is_some_and(|length| length > object_bytes_max);
        let admitted = match storable::admit(request, head, policy, &exchange) {
            // What is read as it goes on may never end.
            Ok(_) if too_large || incremental::is_sent(&parts.headers) => Err(NoStoreReason::TooLarge),
            Ok(_) if self.is_worse_than_stored(parts.status) => Err(NoStoreReason::Status),
            Ok(_) if !self.gateway.in_flight.admits_copy(length.unwrap_or_default()) => {
                Err(NoStoreReason::Overload)
            }
            admitted => admitted,
        };
        if let Ok(admitted) = &admitted {
            count_dropped_tags(&parts.headers, admitted);
        }
        let shareable = storable::may_share(request, head, policy, &exchange);
        match (shareable, admitted) {
            (Ok(()), admitted) => {
                self.share(lead, Arrived { parts, body, exchange }, admitted, Audience::All).await;
            }
            // It may be stored, to be validated before each use; those who waited ask for themselves.
            (Err(_), Ok(admitted)) => {
                let arrived = Arrived { parts, body, exchange };
                self.share(lead, arrived, Ok(admitted), Audience::Leader).await;
            }
            (Err(reason), Err(not_stored)) => {
                self.not_storable(not_stored, parts.status, &exchange);
                lead.close();
                lead.land(Landing::Alone);
                if let Some(private) = private {
                    forward::end_to_end(&mut parts.headers);
                    // A leader whose client has left has no use for it.
                    drop(private.send((Response::from_parts(parts, body), Stored::No(reason))));
                }
            }
        }
    }

    /// What an answer that may not be stored leaves behind: a marker, and nothing of what was asked about.
    fn not_storable(&self, reason: NoStoreReason, status: StatusCode, exchange: &Exchange) {
        let cache = &self.gateway.cache;
        if let Some(stale) = self.stale.as_ref().filter(|_| storable::supersedes(reason, status)) {
            cache.discard(&self.key, stale);
        }
        cache.mark(&self.key, reason, status, exchange);
    }

    /// Whether an error came although what is stored may still be used in its place: then it is not
    /// stored over it, whatever freshness it claims (RFC 9111 4.3.3). In the background no error is.
    fn is_worse_than_stored(&self, status: StatusCode) -> bool {
        if self.began_by == BeganBy::Hit && status.is_server_error() {
            return true;
        }
        let now = self.gateway.clock.now();
        Failure::of_status(status).is_some_and(|failure| {
            self.stale.as_deref().is_some_and(|stale| may_use_on_failure(stale, now, failure))
        })
    }

    async fn share(
        &self,
        lead: &Lead<Landing>,
        arrived: Arrived,
        admitted: Result<Admitted, NoStoreReason>,
        audience: Audience,
    ) {
        let Arrived { parts, body, exchange } = arrived;
        let request = RequestHead { method: &self.head.method, fields: &self.request_fields };
        let response = ResponseHead { status: parts.status, fields: &parts.headers };
        let length = body.size_hint().exact();
        let stored = admitted.as_ref().map_or_else(|reason| Stored::No(*reason), |_| Stored::Yes);
        // What is not stored needs no more than a window for those who read along.
        let whole_bytes_max = admitted.as_ref().map_or(0, |_| self.gateway.cache.object_bytes_max());
        let growing = Growing::new(whole_bytes_max, self.gateway.in_flight.share(Work::Copy));
        let head = match &admitted {
            Ok(admitted) => admitted.head().clone(),
            Err(_) => storable::unstored(request, response, &exchange),
        };
        // Late comers may join only what they could have been given from the store.
        let fresh = admitted.is_ok() && assess(&head, self.gateway.clock.now()) == Verdict::Fresh;
        if !fresh || audience == Audience::Leader {
            lead.close();
        }
        let announced = trailers::announced(&parts.headers);
        let age = parts.headers.get_all(AGE).iter().cloned().collect();
        let shared = Shared { head, body: Arc::clone(&growing), length, stored, age, announced };
        let shared = Arc::new(shared);
        lead.land(match audience {
            Audience::All => Landing::Shared(shared),
            Audience::Leader => Landing::SharedOnce(shared),
        });
        let store = |whole: Bytes| {
            if let Ok(admitted) = admitted {
                self.store(admitted.into_stored(whole));
            }
            // Before anybody sees the end: who then asks for another variant must not meet this flight.
            lead.close();
        };
        pump::pump(lead, body, &growing, store).await;
    }

    fn store(&self, whole: StoredResponse) {
        let cache = &self.gateway.cache;
        // A full answer says that what it was asked about is not suitable any more (RFC 9111 4.3.3). Selected
        // by other fields, that would not be replaced, but chosen and asked about again and again.
        if let Some(stale) = self.stale.as_ref().filter(|old| old.selecting_fields != whole.selecting_fields)
        {
            cache.discard(&self.key, stale);
        }
        let whole = match &self.stale {
            Some(stale) => early::smoothed(whole, stale),
            None => whole,
        };
        // Purged meanwhile: those who waited have it, nobody else will.
        drop(cache.store(&self.key, whole));
    }
}

/// At the bounds it says so (I10): whoever purges by a tag must be able to know that it was dropped.
fn count_dropped_tags(fields: &HeaderMap, admitted: &Admitted) {
    let dropped = tags::dropped(fields, &admitted.head().tags);
    if dropped > 0 {
        metrics::counter!(names::TAGS_DROPPED).increment(dropped as u64);
    }
}

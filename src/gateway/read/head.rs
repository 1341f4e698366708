//! The way of a HEAD that nothing stored answers. It stays a HEAD: who wants no content makes nobody send
//! it. What the source says of the representation updates what is stored of it (RFC 9111 4.3.5).

use super::{Wanted, kind};
use crate::cache::Lookup;
use crate::cache::rules::reuse::{Demand, Failure, Verdict, assess, demand};
use crate::cache::rules::{Exchange, NoStoreReason, RequestHead, ResponseHead, preconditions, storable};
use crate::gateway::body::Body;
use crate::gateway::cache_status::{CacheStatus, Stored, Trouble};
use crate::gateway::forward::{self, Purpose};
use crate::gateway::forwarded;
use crate::gateway::freshening::Freshening;
use crate::gateway::problem::{GatewayError, SourceFailure};
use crate::gateway::reply::{self, Answer};
use crate::rate_limit::Stage;
use crate::source::SourceBody;
use bytes::Bytes;
use http::header::VIA;
use http::{Method, Response};

impl Wanted<'_> {
    /// Forwards it, updates what is stored, and passes the answer on; where there is no good one, a stale
    /// response answers if it may.
    ///
    /// # Errors
    /// [`GatewayError`]
    pub(super) async fn forwarded_head(&self) -> Result<Answer, GatewayError> {
        if let Some(answer) = self.known_by_head().await {
            return Ok(answer);
        }
        let quota = self.route.admit(Stage::Source, self.request, self.now)?;
        let (mut response, exchange) = match self.asked_by_head().await {
            Ok(answered) => answered,
            Err(failure) => {
                let stale = self.stale_answer(kind(failure), Trouble::NoAnswer(failure));
                return stale.ok_or_else(|| self.no_answer(failure));
            }
        };
        let status = response.status();
        if let Some(failure) = Failure::of_status(status)
            && let Some(answer) = self.stale_answer(failure, Trouble::Answered(status))
        {
            return Ok(answer);
        }
        let freshening = Freshening {
            gateway: self.gateway,
            route: self.route,
            key: self.key,
            request_fields: &self.request.fields,
            exchange: &exchange,
        };
        forwarded::append(response.headers_mut(), &VIA, "1.1 tidegate");
        freshening.head(self.stale.as_ref(), ResponseHead { status, fields: response.headers() });
        // Stored parts are not compared with it, so they go.
        self.gateway.cache.forget_parts(self.key);
        let stored = self.keep(ResponseHead { status, fields: response.headers() }, &exchange);
        forward::end_to_end(response.headers_mut());
        let status = CacheStatus::Forwarded { reason: self.reason, status, stored };
        Ok(Answer { response: response.map(Body::forwarded), status, quota: Some(quota) })
    }

    /// What an earlier HEAD was told, while it is fresh and nothing is stored for GET.
    async fn known_by_head(&self) -> Option<Answer> {
        if self.stale.is_some() || preconditions::are_for_the_source(&self.request.fields) {
            return None;
        }
        let key = self.key.of_head();
        match self.gateway.cache.lookup(&key, &self.request.fields, self.now).await {
            Lookup::Fresh(found) if demand(&found.stored, &self.asked, self.now) == Demand::AsUsual => {
                let status = CacheStatus::Hit { ttl: found.stored.ttl_seconds(self.now), tier: found.tier };
                Some(reply::head(&found.stored, self.request, self.now, status))
            }
            _ => None,
        }
    }

    /// Keeps what a HEAD was told for the next one, by the rules of GET; where a response to GET is stored,
    /// that one was updated.
    fn keep(&self, response: ResponseHead<'_>, exchange: &Exchange) -> Stored {
        if self.stale.is_some() {
            return Stored::NotConsidered;
        }
        let request = RequestHead { method: &Method::GET, fields: &self.request.fields };
        let admitted = storable::admit(request, response, &self.route.settings.cache, exchange);
        match admitted {
            Err(reason) => Stored::No(reason),
            // Without content it can be validated, but nothing is won by that.
            Ok(admitted) if assess(admitted.head(), exchange.received_at) != Verdict::Fresh => {
                Stored::No(NoStoreReason::NoFreshness)
            }
            Ok(admitted) => {
                let stored =
                    self.gateway.cache.store(&self.key.of_head(), admitted.into_stored(Bytes::new()));
                stored.map_or(Stored::No(NoStoreReason::Purged), |_| Stored::Yes)
            }
        }
    }

    async fn asked_by_head(&self) -> Result<(Response<SourceBody>, Exchange), SourceFailure> {
        // Before the forward begins, so that a purge meanwhile counts (I5).
        let fence = self.gateway.cache.fence();
        let head = forward::head(self.route, self.request, Purpose::Head);
        let requested_at = self.gateway.clock.now();
        let sending = forward::send(self.route, head, crate::source::empty(), None, self.reason);
        let outcome = tokio::time::timeout_at(self.request.deadline, sending).await;
        let response =
            outcome.map_err(|_| SourceFailure::Timeout)?.map_err(|error| SourceFailure::from(&error))?;
        let received_at = self.gateway.clock.now();
        Ok((response, Exchange { requested_at, received_at, fence, jitter: fastrand::f64() }))
    }
}

//! The way of a HEAD that nothing stored answers. It stays a HEAD: who wants no content makes nobody send
//! it. What the source says of the representation updates what is stored of it (RFC 9111 4.3.5).

use super::{Wanted, kind};
use crate::cache::rules::reuse::Failure;
use crate::cache::rules::{Exchange, ResponseHead};
use crate::gateway::body::Body;
use crate::gateway::cache_status::{CacheStatus, Stored, Trouble};
use crate::gateway::forward::{self, Purpose};
use crate::gateway::forwarded;
use crate::gateway::freshening::Freshening;
use crate::gateway::problem::{GatewayError, SourceFailure};
use crate::gateway::reply::Answer;
use crate::rate_limit::Stage;
use crate::source::SourceBody;
use http::Response;
use http::header::VIA;

impl Wanted<'_> {
    /// Forwards it, updates what is stored, and passes the answer on; where there is no good one, a stale
    /// response answers if it may.
    ///
    /// # Errors
    /// [`GatewayError`]
    pub(super) async fn forwarded_head(&self) -> Result<Answer, GatewayError> {
        let quota = self.route.admit(Stage::Source, self.request, self.now)?;
        let (mut response, exchange) = match self.asked_by_head().await {
            Ok(answered) => answered,
            Err(failure) => {
                let error = || GatewayError::Source(failure, self.reason);
                return self.stale_answer(kind(failure), Trouble::NoAnswer(failure)).ok_or_else(error);
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
        forward::end_to_end(response.headers_mut());
        let status = CacheStatus::Forwarded { reason: self.reason, status, stored: Stored::NotConsidered };
        Ok(Answer { response: response.map(Body::forwarded), status, quota: Some(quota) })
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

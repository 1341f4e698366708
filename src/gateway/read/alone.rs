//! The way of a read that nobody else waits for: its key is marked (hit-for-miss), or the answer that it
//! waited for may not be shared. It goes with the client's own conditions and ranges. What comes is stored
//! where it may be, which ends the marker; else it makes the marker last.

use super::Wanted;
use crate::cache::rules::reuse::Failure;
use crate::cache::rules::storable::{self, Admitted};
use crate::cache::rules::{Exchange, NoStoreReason, RequestHead, ResponseHead};
use crate::gateway::body::Body;
use crate::gateway::cache_status::{CacheStatus, Stored, Trouble};
use crate::gateway::forward::{self, Purpose};
use crate::gateway::kept::{Keeping, Kept, Whole};
use crate::gateway::problem::{GatewayError, SourceFailure};
use crate::gateway::reply::Answer;
use crate::in_flight::Work;
use crate::source::SourceBody;
use http::{Response, StatusCode};
use http_body::Body as _;
use std::pin::pin;
use std::sync::Arc;

/// Why a read goes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Because {
    /// The request says so.
    Asked,
    /// Its key is marked.
    Marked,
    /// What it waited for is nobody else's.
    Released,
}

impl Wanted<'_> {
    /// Forwards the request for its client alone; where there is no good answer, a stale response answers
    /// if it may.
    ///
    /// # Errors
    /// [`GatewayError`]
    pub(super) async fn forwarded_alone(&self, because: Because) -> Result<Answer, GatewayError> {
        let quota = self.route.admitted(self.request, self.now).await?;
        let (response, exchange) = match self.asked_alone(Purpose::Alone).await {
            Ok(answered) => answered,
            Err(failure) => return self.instead_of(failure),
        };
        let (mut parts, body) = response.into_parts();
        if let Some(failure) = Failure::of_status(parts.status)
            && let Some(answer) = self.stale_answer(failure, Trouble::Answered(parts.status))
        {
            return Ok(answer);
        }
        forward::sign(&mut parts.headers, parts.version);
        let head = ResponseHead { status: parts.status, fields: &parts.headers };
        let (body, stored) = match self.kept(head, &body, &exchange) {
            Ok(admitted) => {
                let whole = Whole {
                    cache: Arc::clone(&self.gateway.cache),
                    key: self.key.clone(),
                    admitted,
                    request_fields: self.request.fields.clone(),
                    share: self.gateway.in_flight.share(Work::Copy),
                };
                (Body::Kept(Box::new(Kept::new(body, Keeping::Whole(whole)))), Stored::Yes)
            }
            Err(why) => {
                self.gateway.cache.mark(self.key, why, parts.status, &exchange);
                let why = if because == Because::Marked { NoStoreReason::HitForMiss } else { why };
                (Body::forwarded(body), Stored::No(why))
            }
        };
        forward::end_to_end(&mut parts.headers);
        let status = CacheStatus::Forwarded { reason: self.reason, status: parts.status, stored };
        Ok(Answer { response: Response::from_parts(parts, body), status, quota: Some(quota) })
    }

    pub(super) async fn asked_alone(
        &self,
        purpose: Purpose,
    ) -> Result<(Response<SourceBody>, Exchange), SourceFailure> {
        // Before the forward begins, so that a purge meanwhile counts (I5).
        let fence = self.gateway.cache.fence();
        let head = forward::head(self.route, self.request, purpose);
        let content = crate::source::full(head.held.clone().unwrap_or_default());
        let requested_at = self.gateway.clock.now();
        let timeout = head.timeout;
        let sending = pin!(forward::send(self.route, head, content, None, self.reason));
        let outcome = forward::until(self.request.deadline, timeout, sending).await;
        let response = outcome.ok_or(SourceFailure::Timeout)?.map_err(|error| SourceFailure::from(&error))?;
        let received_at = self.gateway.clock.now();
        Ok((response, Exchange { requested_at, received_at, fence, jitter: fastrand::f64() }))
    }

    /// What an answer would be stored as, where there is room for it until it is complete.
    fn kept(
        &self,
        response: ResponseHead<'_>,
        body: &SourceBody,
        exchange: &Exchange,
    ) -> Result<Admitted, NoStoreReason> {
        // They may be the answer to this client's own condition or range; 206 and 304 are never stored.
        if matches!(response.status, StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE) {
            return Err(NoStoreReason::Status);
        }
        let request = RequestHead { method: &self.request.method, fields: &self.request.fields };
        let admitted = storable::admit(request, response, &self.route.settings.cache, exchange)?;
        if self.gateway.cache.is_held(self.key, &admitted.head().tags) {
            return Err(NoStoreReason::Purged);
        }
        let bytes = body.size_hint().exact().unwrap_or_default();
        if bytes > self.gateway.cache.object_bytes_max() {
            return Err(NoStoreReason::TooLarge);
        }
        if !self.gateway.in_flight.admits_copy(bytes) {
            return Err(NoStoreReason::Overload);
        }
        Ok(admitted)
    }
}

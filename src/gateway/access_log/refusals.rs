//! Refusals that never became requests: the gate, or a timer, ended them before there was a head to read.

use super::Asked;
use crate::gateway::InForce;
use crate::gateway::cache_status::CacheStatus;
use crate::gateway::problem::GatewayError;
use crate::gateway::strict::Refusal;
use http_body::Body as _;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::time::Instant;

/// Where a connection tells of them.
pub(in crate::gateway) struct Refusals {
    in_force: Arc<InForce>,
    client: IpAddr,
}

impl std::fmt::Debug for Refusals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Refusals")
    }
}

impl Refusals {
    /// Of the connection of this peer.
    pub(in crate::gateway) const fn of(in_force: Arc<InForce>, client: IpAddr) -> Self {
        Self { in_force, client }
    }

    /// Leaves a line where the rule takes it; it has no method and no route.
    pub(in crate::gateway) fn note(&self, refusal: Refusal) {
        let gateway = self.in_force.gateway();
        let Some(log) = &gateway.access_log else { return };
        let (began, since) = (gateway.clock.now(), Instant::now());
        let asked = Asked { began, since, method: None, client: self.client };
        let answer = GatewayError::Refused(refusal).into_response();
        let pending = log.pending(&asked, None, (answer.status(), CacheStatus::Own), answer.headers());
        if let Some(mut pending) = pending {
            let bytes = answer.body().size_hint().exact().unwrap_or_default();
            pending.sent(usize::try_from(bytes).unwrap_or_default());
        }
    }
}

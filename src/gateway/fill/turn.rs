//! A fill among replicas: one of them forwards for a key that several miss at once.

use super::{BeganBy, Fill, Private, Wants};
use crate::cache::collapse::{Lead, Turn};
use crate::cache::{Begun, Brought, FillTurn};
use crate::gateway::landing::Landing;
use crate::redis::Patience;
use http::Method;
use tokio::sync::oneshot;

/// Whether a fill may bring what another replica has asked for.
#[derive(Debug)]
pub(crate) enum Among {
    /// It may, for as long as its client may still wait for Redis.
    Replicas(Patience),
    /// Its client wants what the source says from now on.
    Nobody,
}

impl Fill {
    /// Forwards, unless another replica has brought meanwhile what is asked for.
    pub(super) async fn among_replicas(
        &self,
        lead: &Lead<Landing>,
        private: Option<oneshot::Sender<Private>>,
    ) {
        let turn = match self.begun(lead).await {
            Some(Begun::Found(found)) => {
                lead.close();
                return lead.land(Landing::Found(found));
            }
            Some(Begun::Forward(turn)) => Some(turn),
            None => None,
        };
        self.forwarded(lead, private).await;
        if let Some(turn) = turn {
            self.ended(lead, turn);
        }
    }

    async fn begun(&self, lead: &Lead<Landing>) -> Option<Begun> {
        let Among::Replicas(patience) = &self.among else { return None };
        let takes_turns = self.began_by == BeganBy::Request
            && self.wants == Wants::Whole
            && self.head.method == Method::GET
            && lead.turn() == Turn::First;
        if !takes_turns {
            return None;
        }
        tokio::select! {
            begun = self.gateway.cache.begin_fill(&self.key, &self.request_fields, patience) => Some(begun),
            // Nobody waits any more: the forward finds that out for itself.
            () = lead.deserted() => None,
        }
    }

    fn ended(&self, lead: &Lead<Landing>, turn: FillTurn) {
        let brought = match lead.landing() {
            Some(Landing::Shared(_) | Landing::Validated(_) | Landing::Found(_)) => Brought::Storable,
            Some(Landing::SharedOnce(_) | Landing::ValidatedOnce(..) | Landing::Alone) => {
                Brought::NotStorable
            }
            Some(Landing::Failed(_)) | None => Brought::Nothing,
        };
        self.gateway.cache.end_fill(&self.key, turn, brought);
    }
}

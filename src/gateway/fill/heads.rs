//! What becomes of the answer to a HEAD that a fill has sent for all who ask alike.

use super::{Arrived, Fill, Private};
use crate::cache::collapse::Lead;
use crate::cache::growing::Growing;
use crate::cache::rules::ResponseHead;
use crate::gateway::forward;
use crate::gateway::landing::{Landing, Shared};
use crate::gateway::told::Told;
use crate::in_flight::Work;
use http::Response;
use http::header::{AGE, CONTENT_LENGTH};
use std::sync::Arc;
use tokio::sync::oneshot;

impl Fill {
    /// Notes what was told, and tells all who wait, or the leader alone.
    pub(super) fn take_head(
        &self,
        lead: &Lead<Landing>,
        arrived: Arrived,
        private: Option<oneshot::Sender<Private>>,
    ) {
        let Arrived { mut parts, body, exchange } = arrived;
        let (gateway, stale) = (&self.gateway, self.stale.as_ref());
        let (route, key, request_fields) = (&self.route, &self.key, &self.request_fields);
        let told = Told { gateway, route, key, request_fields, stale, exchange: &exchange };
        let head = ResponseHead { status: parts.status, fields: &parts.headers };
        let stored = told.note(head);
        lead.close();
        if let Some(shared) = told.shared(head) {
            let length = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
            lead.land(Landing::Shared(Arc::new(Shared {
                head: shared,
                body: Growing::nothing(gateway.in_flight.share(Work::Copy)),
                length: length.and_then(|text| text.parse().ok()),
                stored,
                age: parts.headers.get_all(AGE).iter().cloned().collect(),
                range: None,
                announced: None,
            })));
            return;
        }
        lead.land(Landing::Alone);
        if let Some(private) = private {
            forward::end_to_end(&mut parts.headers);
            // A leader whose client has left has no use for it.
            drop(private.send((Response::from_parts(parts, body), stored)));
        }
    }
}

//! What answers a range, on its way to one client and into the store. A client that leaves takes it along.

use super::Gateway;
use super::route::Route;
use crate::cache::CacheKey;
use crate::cache::rules::partial::{Forwarded, Piece};
use crate::cache::rules::{Exchange, RequestHead};
use crate::in_flight::Share;
use bytes::Bytes;
use http::{HeaderMap, Method};
use std::sync::Arc;

/// A piece, and all that it takes to store it.
#[derive(Debug)]
pub(crate) struct Ranged {
    pub gateway: Arc<Gateway>,
    pub route: Arc<Route>,
    pub key: CacheKey,
    pub request_fields: HeaderMap,
    pub exchange: Exchange,
    pub piece: Piece,
    /// What the copy holds of what may be in flight, until it is stored or dropped.
    pub share: Share,
}

impl Ranged {
    /// Stores the content, if it is as long as Content-Range says.
    pub(super) fn store(self, content: Bytes) {
        if content.len() as u64 != self.piece.bytes() {
            return;
        }
        let request = RequestHead { method: &Method::GET, fields: &self.request_fields };
        let policy = &self.route.settings.cache;
        let forwarded = Forwarded { request, policy, exchange: &self.exchange };
        self.gateway.cache.store_piece(&self.key, self.piece, content, forwarded);
    }
}

//! What answers a range, on its way to one client and into the store. A client that leaves takes it along.

use super::Gateway;
use super::route::Route;
use crate::cache::CacheKey;
use crate::cache::rules::partial::{Forwarded, Piece};
use crate::cache::rules::{Exchange, RequestHead};
use bytes::Bytes;
use http::{HeaderMap, Method};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most that is held at once of what is not complete yet, in KiB; beyond it answers pass through and
/// are not kept.
const HELD_KIB_MAX: usize = 64 * 1024;

const KIB: u64 = 1024;

/// Room for what is held until it is complete (I10).
#[derive(Debug)]
pub(crate) struct Room(Arc<Semaphore>);

/// A place in it for so many bytes.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Room {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(HELD_KIB_MAX)))
    }

    /// A place for `bytes`, where there is one.
    pub(crate) fn place(&self, bytes: u64) -> Option<Place> {
        let kib = u32::try_from(bytes.div_ceil(KIB)).ok()?;
        let permit = Arc::clone(&self.0).try_acquire_many_owned(kib).ok()?;
        Some(Place { _permit: permit })
    }
}

/// A piece, and all that it takes to store it.
#[derive(Debug)]
pub(crate) struct Ranged {
    pub gateway: Arc<Gateway>,
    pub route: Arc<Route>,
    pub key: CacheKey,
    pub request_fields: HeaderMap,
    pub exchange: Exchange,
    pub piece: Piece,
    /// Held until the piece is stored or dropped.
    pub place: Place,
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
        drop(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i10_no_more_is_held_than_there_is_room_for() {
        let room = Room::new();
        let bound = HELD_KIB_MAX as u64 * KIB;
        assert!(room.place(bound + 1).is_none());
        let most = room.place(bound - KIB + 1);
        assert!(most.is_some());
        assert!(room.place(1).is_none());
        drop(most);
        assert!(room.place(1).is_some());
    }
}

//! What is held of large bodies, as the cache takes them in (`tiers/large.rs`).

use super::Cache;
use crate::cache::StoredResponse;
use crate::cache::tiers::shared::SharedFound;

impl Cache {
    /// The same, its body noticed by those who count what is held.
    pub(super) fn noticed(&self, stored: StoredResponse) -> StoredResponse {
        StoredResponse { body: self.large.noticed(stored.body), ..stored }
    }

    /// What the shared tier has, noticed. At the bound, who would hold another copy of a large body is
    /// answered as if it were not there (I10).
    pub(super) fn taken_in(&self, found: SharedFound) -> SharedFound {
        match found {
            SharedFound::Response(stored) if !self.large.admits(stored.body.len() as u64) => {
                SharedFound::Nothing
            }
            SharedFound::Response(stored) => SharedFound::Response(Box::new(self.noticed(*stored))),
            SharedFound::OtherVariants
            | SharedFound::Nothing
            | SharedFound::Unasked
            | SharedFound::Unavailable => found,
        }
    }
}

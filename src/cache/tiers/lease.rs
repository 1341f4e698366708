//! One replica forwards for a key that several miss at once: it has a short lease in Redis, and the
//! others wait for it, once and bounded, and read what it has stored.
//!
//! ```text
//! SET NX PX -> taken    forward; give it back behind the write of what was stored
//!           -> another's: look at it again and again, at most as long as a lease lasts
//!                gone          read the shared tier; nothing there: forward
//!                NOT_STORABLE  forward at once
//!           -> no answer   forward at once
//! ```
//! A holder that has died costs the others what is left of its lease. Nobody waits twice.

use super::shared::{Parts, Shared, SharedFound};
use crate::cache::CacheKey;
use crate::redis::{Lane, Patience};
use crate::telemetry::metrics;
use http::HeaderMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What one look at a lease may take.
const BUDGET: Duration = Duration::from_millis(20);
/// What giving it back may take; nobody waits for it.
const RELEASE_BUDGET: Duration = Duration::from_millis(500);
/// Between the first two looks at another's lease; it doubles.
const LOOK_FIRST: Duration = Duration::from_millis(5);
/// Between two looks, at most.
const LOOK_MOST: Duration = Duration::from_millis(40);
/// The last word of a holder whose answer may not be stored.
const NOT_STORABLE: &str = "-";
/// How long that word stands.
const NOT_STORABLE_KEPT: Duration = Duration::from_secs(5);

/// The right to forward for a key; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    parts: Arc<Parts>,
    name: String,
    token: String,
    word: &'static str,
}

/// Who forwards for a key.
#[derive(Debug)]
pub(crate) enum Turn {
    /// This replica; others wait for it while it has this.
    Own(Lease),
    /// Another one, for now.
    Other,
    /// Nobody is kept from it: there are no other replicas, or Redis does not answer.
    Everybody,
}

/// What came of waiting for another's fill.
#[derive(Debug)]
pub(crate) enum Awaited {
    /// It has stored something.
    Stored(SharedFound),
    /// Its answer may not be stored.
    NotStorable,
    /// It has stored nothing, or has not finished in time.
    Nothing,
}

impl Lease {
    /// The answer may not be stored: the others need not wait for the next one either.
    pub(crate) fn not_storable(mut self) {
        self.word = NOT_STORABLE;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (parts, word) = (Arc::clone(&self.parts), self.word);
        let (name, token) = (std::mem::take(&mut self.name), std::mem::take(&mut self.token));
        runtime.spawn(async move {
            let word = if word.is_empty() { String::new() } else { parts.naming.vouched(&name, word) };
            let last = (&*word, NOT_STORABLE_KEPT);
            let released = parts.redis.release_lease(&name, &token, last, RELEASE_BUDGET).await;
            // Else it expires.
            released.unwrap_or_default();
        });
    }
}

impl Parts {
    /// Who has a lease, or its last word; `None`: no gateway of the namespace has said that.
    fn holder<'s>(&self, name: &str, said: &'s [u8]) -> Option<&'s str> {
        let holder = std::str::from_utf8(said).ok().and_then(|said| Some(said.rsplit_once('-')?.0));
        let holder = holder.filter(|holder| self.naming.vouched(name, holder).as_bytes() == said);
        if holder.is_none() {
            ::metrics::counter!(metrics::TIER_UNREADABLE, "reason" => "lease").increment(1);
        }
        holder
    }
}

impl Shared {
    /// Takes the lease of a key, where there are others who could want it too.
    pub(crate) async fn take_turn(&self, key: &CacheKey, patience: &Patience) -> Turn {
        let parts = &self.parts;
        let lasts = parts.lease;
        let may_ask = !lasts.is_zero() && !patience.is_over() && parts.redis.is_connected();
        if !may_ask || parts.log.replicas() < 2 || !parts.log.is_trusted() {
            return Turn::Everybody;
        }
        let name = parts.naming.lease(key);
        let holder = format!("{:x}-{:x}", parts.log.gateway(), fastrand::u64(..));
        let token = parts.naming.vouched(&name, &holder);
        let asked = parts.redis.take_lease(&name, &token, lasts, patience.left(BUDGET));
        match patience.spent_on(asked).await {
            Ok(true) => Turn::Own(Lease { parts: Arc::clone(parts), name, token, word: "" }),
            Ok(false) => Turn::Other,
            Err(_) => Turn::Everybody,
        }
    }

    /// Waits for another's fill, at most as long as its lease may last, and as Redis may be waited for to
    /// tell of it.
    pub(crate) async fn another_fills(
        &self,
        key: &CacheKey,
        request: &HeaderMap,
        patience: &Patience,
    ) -> Awaited {
        let parts = &self.parts;
        let (name, until) = (parts.naming.lease(key), Instant::now() + parts.lease);
        let mut pause = LOOK_FIRST;
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_MOST);
            if patience.is_over() {
                return Awaited::Nothing;
            }
            let look = parts.redis.get(Lane::Quick, &name, patience.left(BUDGET));
            match patience.spent_on(look).await {
                Err(_) => return Awaited::Nothing,
                Ok(None) => return Awaited::Stored(self.find(key, request, patience).await),
                Ok(Some(said)) => match parts.holder(&name, &said) {
                    Some(NOT_STORABLE) => return Awaited::NotStorable,
                    Some(_) if Instant::now() < until => {}
                    Some(_) | None => return Awaited::Nothing,
                },
            }
        }
    }

    /// Gives a lease back once everything of its key that waits has been written.
    pub(crate) fn release_behind_writes(&self, key: &CacheKey, lease: Lease) {
        self.writer.release(key, lease);
    }
}

//! A lease: one of several gateways has a key of Redis to itself for a short while.

use super::{Lane, Redis, Unavailable, millis};
use std::time::Duration;

/// Deletes a lease, or puts a last word in its place for a while, where it is still its holder's.
const RELEASE: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
     if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end \
     redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1";

impl Redis {
    /// Takes a lease where nobody has it; whether it was free.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn take_lease(
        &self,
        name: &str,
        token: &str,
        expiry: Duration,
        budget: Duration,
    ) -> Result<bool, Unavailable> {
        let mut command = redis::cmd("SET");
        command.arg(name).arg(token).arg("NX").arg("PX").arg(millis(expiry));
        let was_free: Option<String> = self.query(Lane::Quick, &command, budget).await?;
        Ok(was_free.is_some())
    }

    /// Gives a lease back, if it is still held by `token`; `word` stands in its place for a while.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn release_lease(
        &self,
        name: &str,
        token: &str,
        (word, kept): (&str, Duration),
        budget: Duration,
    ) -> Result<(), Unavailable> {
        let mut command = redis::cmd("EVAL");
        command.arg(RELEASE).arg(1).arg(name).arg(token).arg(word).arg(millis(kept));
        self.query(Lane::Bulk, &command, budget).await
    }
}

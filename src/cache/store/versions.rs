//! Which stored responses are not older than a write that a reader has seen (I6).

use super::Cache;
use crate::cache::version::{Floor, Token, Unreadable, Version};
use crate::cache::{Applied, Fence};
use std::time::Duration;
use tokio::time::Instant;

/// How long a reader waits for this gateway to hear of another's write.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);

impl Cache {
    /// The token of a write, by the purge of what it made old.
    #[must_use]
    pub fn version(&self, applied: Applied) -> String {
        self.signing.token(Version { run: self.run, number: applied.seq })
    }

    /// How old an answer may be for somebody who has seen a write. For another gateway's it waits until
    /// this one has heard of it: at most to `deadline`, and no longer than 2 s; not at all where there is
    /// nobody to hear it from.
    ///
    /// # Errors
    /// [`Unreadable`]
    pub async fn floor(&self, token: Token, deadline: Instant) -> Result<Floor, Unreadable> {
        let version = self.signing.verified(token)?;
        if version.run == self.run {
            return Ok(Floor::At(Fence(version.number)));
        }
        let Some(shared) = &self.shared else { return Ok(Floor::Source) };
        let until = deadline.min(Instant::now() + CATCH_UP_MAX);
        let heard = shared.log.hears_of(version.run, version.number, until).await;
        Ok(heard.map_or(Floor::Source, Floor::At))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Purge, PurgeMode, Settings};
    use crate::clock::Clock;
    use crate::in_flight::InFlight;
    use std::sync::Arc;

    fn cache() -> Arc<Cache> {
        let settings = Settings { memory_bytes: 1 << 20, memory_object_bytes: 1 << 10, shared: None };
        Cache::new(&settings, Clock::system(), None, &InFlight::new(u64::MAX))
    }

    async fn floor(cache: &Cache, token: &str) -> Floor {
        cache.floor(Token::parse(token.as_bytes()).unwrap(), Instant::now()).await.unwrap()
    }

    #[tokio::test]
    async fn i6_an_own_write_is_a_fence_and_any_other_is_the_sources_affair() {
        let (cache, other) = (cache(), cache());
        let before = cache.fence();
        let applied = cache.purge(vec![Purge::All], PurgeMode::Hard).await;
        let token = cache.version(applied);
        let own = floor(&cache, &token).await;
        assert!(own.admits(cache.fence()) && !own.admits(before), "{own:?}");
        assert_eq!(floor(&other, &token).await, Floor::Source);
    }
}

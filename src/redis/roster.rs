//! A roster: what each of several gateways last said of itself, in one hash.

use super::{Lane, Redis, Unavailable, millis};
use std::time::Duration;

/// The roster itself expires so long after the last gateway has written to it.
const ROSTER_EXPIRY: Duration = Duration::from_hours(1);

impl Redis {
    /// Learns whether Redis still answers, where somebody has reason to doubt it: else only the next command
    /// would.
    pub async fn look(&self, budget: Duration) {
        // Its outcome moves the breaker, which is all that is wanted.
        drop(self.query::<redis::Value>(Lane::Bulk, &redis::cmd("PING"), budget).await);
    }

    /// Writes an own line, and reads everybody's.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn sign_roster(
        &self,
        roster: &str,
        (name, told): (&str, &str),
        budget: Duration,
    ) -> Result<Vec<(String, String)>, Unavailable> {
        let mut link = self.links.get(Lane::Bulk).ok_or(Unavailable::NotConnected)?;
        let mut pipeline = redis::pipe();
        pipeline.cmd("HSET").arg(roster).arg(name).arg(told).ignore();
        pipeline.cmd("PEXPIRE").arg(roster).arg(millis(ROSTER_EXPIRY)).ignore().cmd("HGETALL").arg(roster);
        let answer = tokio::time::timeout(budget, pipeline.query_async(&mut link.connection)).await;
        let (lines,): (Vec<(String, String)>,) = self.outcome(Lane::Bulk, link.generation, answer)?;
        Ok(lines)
    }

    /// Everybody's lines.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn roster(&self, roster: &str, budget: Duration) -> Result<Vec<(String, String)>, Unavailable> {
        self.query(Lane::Quick, redis::cmd("HGETALL").arg(roster), budget).await
    }

    /// Strikes lines out.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn strike_roster(
        &self,
        roster: &str,
        names: &[String],
        budget: Duration,
    ) -> Result<(), Unavailable> {
        self.query(Lane::Bulk, redis::cmd("HDEL").arg(roster).arg(names), budget).await
    }
}

//! Scripts that Redis runs: sent by their digest, and whole where it does not know them yet.

use crate::redis::{Lane, Redis, Unavailable};
use redis::Cmd;
use std::fmt::Write as _;
use std::time::Duration;
use tokio::time::Instant;

/// A script whose keys lie in one slot, and whose answer is a list of numbers.
#[derive(Debug)]
pub(super) struct Script {
    text: &'static str,
    digest: String,
}

impl Script {
    pub(super) fn new(text: &'static str) -> Self {
        // Not for safety: it is the name that Redis gives a script.
        let sha1 = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        let mut digest = String::with_capacity(40);
        for byte in sha1.as_ref() {
            write!(digest, "{byte:02x}").unwrap_or_default();
        }
        Self { text, digest }
    }

    /// Runs it within a budget.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub(super) async fn run(
        &self,
        redis: &Redis,
        keys: &[String],
        arguments: &[String],
        budget: Duration,
    ) -> Result<Vec<i64>, Unavailable> {
        let began = Instant::now();
        let known = command("EVALSHA", &self.digest, keys, arguments);
        match redis.query(Lane::Quick, &known, budget).await {
            // One that has never run it, or was restarted.
            Err(Unavailable::Refused) => {
                let whole = command("EVAL", self.text, keys, arguments);
                redis.query(Lane::Quick, &whole, budget.saturating_sub(began.elapsed())).await
            }
            outcome => outcome,
        }
    }
}

fn command(name: &str, script: &str, keys: &[String], arguments: &[String]) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script).arg(keys.len()).arg(keys).arg(arguments);
    command
}

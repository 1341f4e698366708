//! Durable writes: the scenario `writes`, its figures held against bounds.

use super::report::{Finding, Findings};
use super::verdict::{Bound, Spread};
use crate::gateway::Gateway;
use crate::stage::Stage;
use crate::writes::{self, Plan, Written};
use std::path::Path;
use std::time::Duration;

/// The row's name.
pub(crate) const NAME: &str = "durable write, 1 KiB, 64 connections";
/// Connections.
const CLIENTS: u64 = 64;
/// Messages a second over those of Redis and of `PostgreSQL`.
const REDIS_MIN: f64 = 0.5;
const POSTGRES_MIN: f64 = 2.0;
/// Microseconds beyond a forward, and beyond a delivery where there is one.
const EXTRA_MAX: f64 = 25.0;

/// Runs it; its own table goes to the notes.
pub(crate) async fn measure(rounds: u64, length: Duration, binary: &Path, found: &mut Findings) {
    match written(rounds, length, binary).await {
        Ok(Written { lines, over_redis, over_postgres, record_micros, extra_micros }) => {
            found.notes.push(format!("\n{NAME}, as in make load-writes:"));
            found.notes.extend(lines);
            for (compared, values, bound) in [
                ("durable answers a second over Redis XADD", over_redis, Bound::AtLeast(REDIS_MIN)),
                ("durable answers a second over PostgreSQL", over_postgres, Bound::AtLeast(POSTGRES_MIN)),
                ("accepted, beyond a forward, us", record_micros, Bound::AtMost(EXTRA_MAX)),
                ("through, beyond its forward and its delivery, us", extra_micros, Bound::Stated),
            ] {
                let add = |value| Finding::new(NAME, compared.to_owned(), value, bound);
                found.figures.extend(Spread::of(&values).map(add));
            }
        }
        Err(fault) => found.broken(NAME, &fault),
    }
}

async fn written(rounds: u64, length: Duration, binary: &Path) -> anyhow::Result<Written> {
    let stage = Stage::start().await?;
    let gateway = Gateway::start(Some(binary), &stage).await?;
    let written = writes::run(Plan { clients: CLIENTS, rounds, length }, &gateway, &stage).await?;
    gateway.stop().await?;
    Ok(written)
}

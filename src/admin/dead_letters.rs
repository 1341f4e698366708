//! `/v1/dead-letters`: what could not be delivered, or what a source refused of what was accepted; sending it again, or discarding it.

use super::Parts;
use super::guard::Done;
use super::input::{Content, Moment, Parameters};
use super::problem::Problem;
use crate::sync::{DeadLetterFilter, DeadLetterView, Run};
use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::sync::Arc;

/// Which dead letters are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    destination: Option<String>,
    source: Option<String>,
    code: Option<String>,
    key_prefix: Option<String>,
    since: Option<Moment>,
    until: Option<Moment>,
}

/// Which dead letters are meant, and how.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    destination: Option<String>,
    source: Option<String>,
    code: Option<String>,
    key_prefix: Option<String>,
    since: Option<Moment>,
    until: Option<Moment>,
    #[serde(default)]
    dry_run: bool,
    rate: Option<NonZeroU32>,
}

impl Order {
    fn read(self) -> Result<(DeadLetterFilter, Run), Problem> {
        if self.rate.is_some() {
            return Err(Problem::refused(
                "rate is not supported yet; leave it out: the destination's concurrency bounds the redrive",
            ));
        }
        let filter = DeadLetterFilter {
            destination: self.destination,
            source: self.source,
            code: self.code,
            key_prefix: self.key_prefix,
            since: self.since.map(|since| since.0),
            until: self.until.map(|until| until.0),
        };
        Ok((filter, if self.dry_run { Run::Dry } else { Run::Real }))
    }
}

#[derive(Serialize)]
pub(super) struct DeadLetters {
    dead_letters: Vec<DeadLetterView>,
}

/// Those that match.
pub(super) async fn list(
    State(parts): State<Arc<Parts>>,
    Parameters(asked): Parameters<Asked>,
) -> Result<Json<DeadLetters>, Problem> {
    let filter = DeadLetterFilter {
        destination: asked.destination,
        source: asked.source,
        code: asked.code,
        key_prefix: asked.key_prefix,
        since: asked.since.map(|since| since.0),
        until: asked.until.map(|until| until.0),
    };
    let dead_letters = match &parts.engine {
        Some(engine) => engine.dead_letters(filter).await?,
        None => Vec::new(),
    };
    Ok(Json(DeadLetters { dead_letters }))
}

/// How many an order concerned.
#[derive(Serialize)]
pub(super) struct Count {
    count: u64,
}

type Answer = Result<(StatusCode, Extension<Done>, Json<Count>), Problem>;

/// Sends those that match again.
pub(super) async fn redrive(State(parts): State<Arc<Parts>>, Content(order): Content<Order>) -> Answer {
    let (filter, run) = order.read()?;
    let noted = format!("redrive {run:?} {filter:?}");
    let count = match &parts.engine {
        Some(engine) => engine.redrive(filter, run).await?,
        None => 0,
    };
    Ok((StatusCode::ACCEPTED, Extension(Done(format!("{noted} count={count}"))), Json(Count { count })))
}

/// Gives those that match up; what was parked behind them goes on.
pub(super) async fn discard(State(parts): State<Arc<Parts>>, Content(order): Content<Order>) -> Answer {
    let (filter, run) = order.read()?;
    let noted = format!("discard {run:?} {filter:?}");
    let count = match &parts.engine {
        Some(engine) => engine.discard(filter, run).await?,
        None => 0,
    };
    Ok((StatusCode::ACCEPTED, Extension(Done(format!("{noted} count={count}"))), Json(Count { count })))
}

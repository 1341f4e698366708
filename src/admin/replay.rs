//! `/v1/replay`: what a destination has had is sent to it again.

use super::Parts;
use super::dead_letters::{Concerned, Counted, counted};
use super::input::{Content, Moment};
use super::problem::Problem;
use crate::sync::{CommandError, ReplayOrder, Run};
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;
use std::num::NonZeroU32;
use std::sync::Arc;
use utoipa::ToSchema;

/// What is sent again, and how.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReplayOrder)]
pub(super) struct Order {
    destination: String,
    /// Keys that changed at or after.
    #[schema(value_type = Option<Moment>)]
    since: Option<Value>,
    /// Keys that changed before.
    #[schema(value_type = Option<Moment>)]
    until: Option<Value>,
    #[serde(default)]
    dry_run: bool,
    /// At most so many a second.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 4_294_967_295_u64)]
    rate: Option<NonZeroU32>,
}

impl Order {
    fn read(self) -> Result<ReplayOrder, Problem> {
        let moment = |name: &str, value: Option<Value>| {
            let read =
                value.filter(|value| !value.is_null()).map(serde_json::from_value::<Moment>).transpose();
            let read = read.map_err(|fault| Problem::refused(format!("{name}: {fault}")))?;
            Ok::<_, Problem>(read.map(|moment| moment.0))
        };
        let (since, until) = (moment("since", self.since)?, moment("until", self.until)?);
        if since.zip(until).is_some_and(|(since, until)| until < since) {
            return Err(Problem::refused("until is before since"));
        }
        let run = if self.dry_run { Run::Dry } else { Run::Real };
        Ok(ReplayOrder { destination: self.destination, since, until, run, rate: self.rate })
    }
}

/// Begins a replay; it goes on as an operation.
#[utoipa::path(
    post, path = "/v1/replay", tag = "destinations", operation_id = "replay",
    request_body(content = Order, example = json!({ "destination": "search", "since": "2026-01-31T12:00:00Z" })),
    responses((status = 202, body = Concerned, example = json!({ "count": 3, "operation": 1 }))),
)]
pub(super) async fn replay(
    State(parts): State<Arc<Parts>>,
    Content(order): Content<Order>,
) -> Result<Counted, Problem> {
    let order = order.read()?;
    let noted = format!("replay {order:?}");
    let engine = parts.in_force.engine().ok_or(CommandError::UnknownDestination)?;
    let told = engine.replay(order).await?;
    Ok(counted(&noted, told))
}

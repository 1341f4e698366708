//! `/v1/destinations`: who must follow, how far they are, and holding them.

use super::Parts;
use super::guard::Done;
use super::input::{NoContent, Nothing, Parameters};
use super::problem::Problem;
use crate::sync::{CommandError, DestinationStatus};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub(super) struct Destinations {
    destinations: Vec<DestinationStatus>,
}

/// All of them, as they are now.
#[utoipa::path(
    get, path = "/v1/destinations", tag = "destinations", operation_id = "destinations",
    responses((status = 200, body = Destinations, example = json!({ "destinations": [{
        "name": "search", "state": "running", "pending": 0, "in_flight": 0, "lag_seconds": 0.0, "breaker": "closed",
        "concurrency": 16, "parked_keys": 0, "dead_letters": 0, "last_error": null, "next_attempt_at": null
    }] }))),
)]
pub(super) async fn list(
    State(parts): State<Arc<Parts>>,
    _: Parameters<Nothing>,
) -> Result<Json<Destinations>, Problem> {
    let destinations = match &parts.in_force.engine() {
        Some(engine) => engine.destinations().await?,
        None => Vec::new(),
    };
    Ok(Json(Destinations { destinations }))
}

/// What became of a call.
#[derive(Serialize, ToSchema)]
pub(super) struct Held {
    name: String,
    paused: bool,
}

type Answer = Result<(Extension<Done>, Json<Held>), Problem>;

/// Holds one, across restarts.
#[utoipa::path(
    post, path = "/v1/destinations/{name}/pause", tag = "destinations", operation_id = "pause",
    params(("name" = String, Path, example = "search")),
    responses((status = 200, body = Held, example = json!({ "name": "search", "paused": true }))),
)]
pub(super) async fn pause(
    State(parts): State<Arc<Parts>>,
    name: Result<Path<String>, PathRejection>,
    _: NoContent,
) -> Answer {
    let Path(name) = name.map_err(|_| CommandError::UnknownDestination)?;
    let engine = parts.in_force.engine().ok_or(CommandError::UnknownDestination)?;
    engine.pause(&name).await?;
    Ok((Extension(Done(format!("paused {name:?}"))), Json(Held { name, paused: true })))
}

/// Releases one, and ends its waits.
#[utoipa::path(
    post, path = "/v1/destinations/{name}/resume", tag = "destinations", operation_id = "resume",
    params(("name" = String, Path, example = "search")),
    responses((status = 200, body = Held, example = json!({ "name": "search", "paused": false }))),
)]
pub(super) async fn resume(
    State(parts): State<Arc<Parts>>,
    name: Result<Path<String>, PathRejection>,
    _: NoContent,
) -> Answer {
    let Path(name) = name.map_err(|_| CommandError::UnknownDestination)?;
    let engine = parts.in_force.engine().ok_or(CommandError::UnknownDestination)?;
    engine.resume(&name).await?;
    Ok((Extension(Done(format!("resumed {name:?}"))), Json(Held { name, paused: false })))
}

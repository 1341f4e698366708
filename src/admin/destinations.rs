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

#[derive(Serialize)]
pub(super) struct Destinations {
    destinations: Vec<DestinationStatus>,
}

/// All of them, as they are now.
pub(super) async fn list(
    State(parts): State<Arc<Parts>>,
    _: Parameters<Nothing>,
) -> Result<Json<Destinations>, Problem> {
    let destinations = match &parts.engine {
        Some(engine) => engine.destinations().await?,
        None => Vec::new(),
    };
    Ok(Json(Destinations { destinations }))
}

/// What became of a call.
#[derive(Serialize)]
pub(super) struct Held {
    name: String,
    paused: bool,
}

type Answer = Result<(Extension<Done>, Json<Held>), Problem>;

/// Holds one, across restarts.
pub(super) async fn pause(
    State(parts): State<Arc<Parts>>,
    name: Result<Path<String>, PathRejection>,
    _: NoContent,
) -> Answer {
    let Path(name) = name.map_err(|_| CommandError::UnknownDestination)?;
    let engine = parts.engine.as_ref().ok_or(CommandError::UnknownDestination)?;
    engine.pause(&name).await?;
    Ok((Extension(Done(format!("paused {name:?}"))), Json(Held { name, paused: true })))
}

/// Releases one, and ends its waits.
pub(super) async fn resume(
    State(parts): State<Arc<Parts>>,
    name: Result<Path<String>, PathRejection>,
    _: NoContent,
) -> Answer {
    let Path(name) = name.map_err(|_| CommandError::UnknownDestination)?;
    let engine = parts.engine.as_ref().ok_or(CommandError::UnknownDestination)?;
    engine.resume(&name).await?;
    Ok((Extension(Done(format!("resumed {name:?}"))), Json(Held { name, paused: false })))
}

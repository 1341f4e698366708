//! `/v1/operations`: redrives, discards and replays under way; how far they are, and stopping them.

use super::Parts;
use super::guard::Done;
use super::input::{NoContent, Nothing, Parameters};
use super::problem::Problem;
use crate::sync::{CommandError, OperationView};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub(super) struct Operations {
    operations: Vec<OperationView>,
}

/// Those under way, and the last ones that ended, the newest first.
#[utoipa::path(
    get, path = "/v1/operations", tag = "operations", operation_id = "operations",
    responses((status = 200, body = Operations, example = json!({ "operations": [{
        "id": 1, "kind": "replay", "destination": "search", "state": "running", "count": 3, "done": 1, "left_out": 0,
        "rate": null, "started_at": 1_767_225_600_000_u64, "reached": null
    }] }))),
)]
pub(super) async fn list(
    State(parts): State<Arc<Parts>>,
    _: Parameters<Nothing>,
) -> Result<Json<Operations>, Problem> {
    let operations = parts.in_force.engine().map(|engine| engine.operations()).unwrap_or_default();
    Ok(Json(Operations { operations }))
}

/// Stops one; what it has not reached stays as it is.
#[utoipa::path(
    post, path = "/v1/operations/{id}/stop", tag = "operations", operation_id = "stop",
    params(("id" = u64, Path, example = 1)),
    responses((status = 200, body = OperationView, example = json!({
        "id": 1, "kind": "replay", "destination": "search", "state": "running", "count": 3, "done": 1, "left_out": 0,
        "rate": null, "started_at": 1_767_225_600_000_u64, "reached": null
    }))),
)]
pub(super) async fn stop(
    State(parts): State<Arc<Parts>>,
    id: Result<Path<u64>, PathRejection>,
    _: NoContent,
) -> Result<(Extension<Done>, Json<OperationView>), Problem> {
    // What is no number is the number of no operation.
    let Path(id) = id.map_err(|_| CommandError::UnknownOperation)?;
    let engine = parts.in_force.engine().ok_or(CommandError::UnknownOperation)?;
    let operation = engine.stop_operation(id)?;
    Ok((Extension(Done(format!("stopped operation {id}"))), Json(operation)))
}

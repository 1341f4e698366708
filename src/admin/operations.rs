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

#[derive(Serialize)]
pub(super) struct Operations {
    operations: Vec<OperationView>,
}

/// Those under way, and the last ones that ended, the newest first.
pub(super) async fn list(
    State(parts): State<Arc<Parts>>,
    _: Parameters<Nothing>,
) -> Result<Json<Operations>, Problem> {
    let operations = parts.engine.as_ref().map(|engine| engine.operations()).unwrap_or_default();
    Ok(Json(Operations { operations }))
}

/// Stops one; what it has not reached stays as it is.
pub(super) async fn stop(
    State(parts): State<Arc<Parts>>,
    id: Result<Path<u64>, PathRejection>,
    _: NoContent,
) -> Result<(Extension<Done>, Json<OperationView>), Problem> {
    // What is no number is the number of no operation.
    let Path(id) = id.map_err(|_| CommandError::UnknownOperation)?;
    let engine = parts.engine.as_ref().ok_or(CommandError::UnknownOperation)?;
    let operation = engine.stop_operation(id)?;
    Ok((Extension(Done(format!("stopped operation {id}"))), Json(operation)))
}

//! `/v1/changes`: changes with their deliveries and attempts.

use super::Parts;
use super::input::{Nothing, Parameters};
use super::problem::Problem;
use crate::sync::{ChangeFilter, ChangeId, ChangeView};
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// Which changes are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    state: Option<String>,
    destination: Option<String>,
    key: Option<String>,
    limit: Option<u32>,
    after: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Changes {
    changes: Vec<ChangeView>,
}

/// Those that match, newest last.
pub(super) async fn list(
    State(parts): State<Arc<Parts>>,
    Parameters(asked): Parameters<Asked>,
) -> Result<Json<Changes>, Problem> {
    let Asked { state, destination, key, limit, after } = asked;
    if after.as_deref().is_some_and(|id| Uuid::try_parse(id).is_err()) {
        return Err(Problem::unreadable("after is not the id of a change"));
    }
    let changes = match &parts.engine {
        Some(engine) => engine.changes(ChangeFilter { state, destination, key, limit, after }).await?,
        None => Vec::new(),
    };
    Ok(Json(Changes { changes }))
}

/// One of them.
pub(super) async fn show(
    State(parts): State<Arc<Parts>>,
    id: Result<Path<String>, PathRejection>,
    _: Parameters<Nothing>,
) -> Result<Json<ChangeView>, Problem> {
    let unknown =
        || Problem::unknown("there is no change of that id; delivered ones are kept for sync.retention");
    let Path(id) = id.map_err(|_| unknown())?;
    let id = Uuid::try_parse(&id).map_err(|_| unknown())?;
    let Some(engine) = &parts.engine else { return Err(unknown()) };
    engine.change(ChangeId(id)).await?.map(Json).ok_or_else(unknown)
}

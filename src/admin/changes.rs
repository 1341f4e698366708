//! `/v1/changes`: changes with their deliveries and attempts.

use super::Parts;
use super::guard::Done;
use super::input::{Content, Nothing, Parameters};
use super::problem::Problem;
use crate::sync::{ChangeFilter, ChangeId, ChangeState, ChangeView, CommandError, Resolution};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Changes shown where no limit is given.
const SHOWN: u32 = 100;
/// The most changes shown at once.
const SHOWN_MAX: u32 = 1000;

/// Which changes are asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Only in this state, e.g. `in-doubt`.
    #[param(pattern = "^(intent|in-doubt|committed|reconciled|aborted|accepted|dead-letter|damaged)$")]
    state: Option<String>,
    /// Only those for this destination.
    destination: Option<String>,
    /// Only of this key.
    key: Option<String>,
    /// At most so many: 100 unless given, 1,000 at most.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 4_294_967_295_u64)]
    limit: Option<u32>,
    /// Only those behind this change.
    #[param(format = "uuid")]
    after: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Changes {
    changes: Vec<ChangeView>,
    /// What `after` is to be for those behind these, where there may be some.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Those that match, the oldest first.
#[utoipa::path(
    get, path = "/v1/changes", tag = "changes", operation_id = "changes", params(Asked),
    responses((status = 200, body = Changes, example = json!({ "changes": [{
        "id": "01900000-0000-7000-8000-000000000000", "key": "/items/7", "sequence": 3, "state": "committed",
        "route": "items", "source": "inventory", "method": "PUT", "target": "/items/7",
        "recorded_at": 1_767_225_600_000_u64, "deliveries": []
    }] }))),
)]
pub(super) async fn list(
    State(parts): State<Arc<Parts>>,
    Parameters(asked): Parameters<Asked>,
) -> Result<Json<Changes>, Problem> {
    let Asked { state, destination, key, limit, after } = asked;
    let after =
        after.map(|id| ChangeId::parse(&id).ok_or(Problem::unreadable("after is not the id of a change")));
    let state = state.map(|word| ChangeState::parse(&word).ok_or_else(unknown_state));
    let limit = limit.unwrap_or(SHOWN).min(SHOWN_MAX);
    if limit == 0 {
        return Err(Problem::refused("limit is 0; it is at least 1"));
    }
    let filter = ChangeFilter {
        state: state.transpose()?,
        destination,
        key,
        limit: Some(limit),
        after: after.transpose()?,
    };
    let changes = match &parts.in_force.engine() {
        Some(engine) => engine.changes(filter).await?,
        None if filter.destination.is_some() => return Err(CommandError::UnknownDestination.into()),
        None => Vec::new(),
    };
    let is_full = changes.len() >= limit as usize;
    let next = changes.last().filter(|_| is_full).map(|last| last.id.clone());
    Ok(Json(Changes { changes, next }))
}

fn unknown_state() -> Problem {
    Problem::refused(format!("there is no such state; the states are {}", ChangeState::WORDS.join(", ")))
}

/// One of them.
#[utoipa::path(
    get, path = "/v1/changes/{id}", tag = "changes", operation_id = "change",
    params(("id" = String, Path, example = "01900000-0000-7000-8000-000000000000")),
    responses((status = 200, body = ChangeView, example = json!({
        "id": "01900000-0000-7000-8000-000000000000", "key": "/items/7", "sequence": 3, "state": "committed",
        "route": "items", "source": "inventory", "method": "PUT", "target": "/items/7",
        "recorded_at": 1_767_225_600_000_u64, "deliveries": []
    }))),
)]
pub(super) async fn show(
    State(parts): State<Arc<Parts>>,
    id: Result<Path<String>, PathRejection>,
    _: Parameters<Nothing>,
) -> Result<Json<ChangeView>, Problem> {
    let id = named(id)?;
    let engine = parts.in_force.engine().ok_or(CommandError::UnknownChange)?;
    Ok(engine.change(id).await?.map(Json).ok_or(CommandError::UnknownChange)?)
}

/// What an operator found out about a change in doubt.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Resolution)]
pub(super) struct Found {
    r#as: Word,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = ResolutionWord)]
pub(super) enum Word {
    Committed,
    Aborted,
}

/// What became of a call.
#[derive(Serialize, ToSchema)]
pub(super) struct Resolved {
    id: String,
    r#as: Word,
}

/// Decides one that is in doubt.
#[utoipa::path(
    post, path = "/v1/changes/{id}/resolve", tag = "changes", operation_id = "resolve",
    params(("id" = String, Path, example = "01900000-0000-7000-8000-000000000000")),
    request_body(content = Found, example = json!({ "as": "committed" })),
    responses((status = 200, body = Resolved,
        example = json!({ "id": "01900000-0000-7000-8000-000000000000", "as": "committed" }))),
)]
pub(super) async fn resolve(
    State(parts): State<Arc<Parts>>,
    id: Result<Path<String>, PathRejection>,
    Content(found): Content<Found>,
) -> Result<(Extension<Done>, Json<Resolved>), Problem> {
    let id = named(id)?;
    let engine = parts.in_force.engine().ok_or(CommandError::UnknownChange)?;
    let (resolution, word) = match found.r#as {
        Word::Committed => (Resolution::Committed, "committed"),
        Word::Aborted => (Resolution::Aborted, "aborted"),
    };
    engine.resolve(id, resolution).await?;
    let done = Done(format!("resolved change {id} as {word}"));
    Ok((Extension(done), Json(Resolved { id: id.to_string(), r#as: found.r#as })))
}

/// The change that a path names; what is no id is the id of no change.
fn named(id: Result<Path<String>, PathRejection>) -> Result<ChangeId, CommandError> {
    let Path(id) = id.map_err(|_| CommandError::UnknownChange)?;
    ChangeId::parse(&id).ok_or(CommandError::UnknownChange)
}

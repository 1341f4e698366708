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

/// Changes shown where no limit is given.
const SHOWN: u32 = 100;
/// The most changes shown at once.
const SHOWN_MAX: u32 = 1000;

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
    /// What `after` is to be for those behind these, where there may be some.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Those that match, the oldest first.
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
    let changes = match &parts.engine {
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
pub(super) async fn show(
    State(parts): State<Arc<Parts>>,
    id: Result<Path<String>, PathRejection>,
    _: Parameters<Nothing>,
) -> Result<Json<ChangeView>, Problem> {
    let id = named(id)?;
    let engine = parts.engine.as_ref().ok_or(CommandError::UnknownChange)?;
    Ok(engine.change(id).await?.map(Json).ok_or(CommandError::UnknownChange)?)
}

/// What an operator found out about a change in doubt.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Found {
    r#as: Word,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Committed,
    Aborted,
}

/// What became of a call.
#[derive(Serialize)]
pub(super) struct Resolved {
    id: String,
    r#as: Word,
}

/// Decides one that is in doubt.
pub(super) async fn resolve(
    State(parts): State<Arc<Parts>>,
    id: Result<Path<String>, PathRejection>,
    Content(found): Content<Found>,
) -> Result<(Extension<Done>, Json<Resolved>), Problem> {
    let id = named(id)?;
    let engine = parts.engine.as_ref().ok_or(CommandError::UnknownChange)?;
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

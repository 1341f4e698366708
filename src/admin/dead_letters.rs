//! `/v1/dead-letters`: what could not be delivered, or what a source refused of what was accepted; sending it again, or discarding it.

use super::Parts;
use super::guard::Done;
use super::input::{Content, Moment, Parameters};
use super::problem::Problem;
use crate::sync::status::DEAD_LETTER_CODES;
use crate::sync::{
    Answer, ChangeId, CommandError, DeadLetterFilter, DeadLetters, LetterPage, Pacing, Run, Told,
};
use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Which dead letters are asked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    change: Option<String>,
    destination: Option<String>,
    source: Option<String>,
    #[param(
        pattern = "^(http_status|timeout|connect|tls|dns|too_large|given_up|address_denied|garbage|damaged|unsendable)$"
    )]
    code: Option<String>,
    key_prefix: Option<String>,
    /// Those that died at or after.
    #[param(value_type = Option<Moment>)]
    since: Option<Moment>,
    /// Those that died before.
    #[param(value_type = Option<Moment>)]
    until: Option<Moment>,
    /// At most so many: 1,000 unless given, and at most.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 4_294_967_295_u64)]
    limit: Option<u32>,
    /// Only those behind these: `next` of the page before.
    #[param(pattern = "^(d[0-9]{1,18}\\.[0-9]{1,18}|s[0-9]{1,18})$")]
    after: Option<String>,
}

impl Asked {
    fn page(&self) -> Result<LetterPage, Problem> {
        let after = self.after.as_deref().map(str::parse).transpose();
        let after = after.map_err(|_| Problem::unreadable("after is not the `next` of a page"))?;
        match self.limit.unwrap_or(LetterPage::FIRST.limit) {
            0 => Err(Problem::refused("limit is 0; it is at least 1")),
            limit => Ok(LetterPage { after, limit }),
        }
    }

    /// What is no id is the id of no dead letter.
    fn filter(self) -> Result<DeadLetterFilter, Problem> {
        let change = self.change.map(|id| ChangeId::parse(&id).ok_or(CommandError::UnknownDeadLetter));
        let (since, until) = (self.since.map(|since| since.0), self.until.map(|until| until.0));
        if self.code.as_deref().is_some_and(|code| !DEAD_LETTER_CODES.contains(&code)) {
            let codes = DEAD_LETTER_CODES.join(", ");
            return Err(Problem::refused(format!("there is no such code; the codes are {codes}")));
        }
        if since.zip(until).is_some_and(|(since, until)| until < since) {
            return Err(Problem::refused("until is before since"));
        }
        let Self { destination, source, code, key_prefix, .. } = self;
        let change = change.transpose()?;
        Ok(DeadLetterFilter { change, destination, source, code, key_prefix, since, until })
    }
}

/// Which dead letters are meant, and how.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DeadLetterOrder)]
pub(super) struct Order {
    #[serde(alias = "id")]
    change: Option<String>,
    destination: Option<String>,
    source: Option<String>,
    #[schema(
        pattern = "^(http_status|timeout|connect|tls|dns|too_large|given_up|address_denied|garbage|damaged|unsendable)$"
    )]
    code: Option<String>,
    key_prefix: Option<String>,
    since: Option<Moment>,
    until: Option<Moment>,
    #[serde(default)]
    dry_run: bool,
    /// At most so many a second.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 4_294_967_295_u64)]
    rate: Option<NonZeroU32>,
    /// Whether it is answered at once and goes on as an operation; with a rate it always is.
    #[serde(default)]
    background: bool,
}

impl Order {
    fn read(self) -> Result<(DeadLetterFilter, Run, Pacing), Problem> {
        let Self { dry_run, rate, background, .. } = self;
        let Self { change, destination, source, code, key_prefix, since, until, .. } = self;
        let (limit, after) = (None, None);
        let asked = Asked { change, destination, source, code, key_prefix, since, until, limit, after };
        let filter = asked.filter()?;
        let answer = if background || rate.is_some() { Answer::AtOnce } else { Answer::AtEnd };
        Ok((filter, if dry_run { Run::Dry } else { Run::Real }, Pacing { rate, answer }))
    }
}

/// Those that match.
#[utoipa::path(
    get, path = "/v1/dead-letters", tag = "dead letters", operation_id = "dead_letters", params(Asked),
    responses((status = 200, body = DeadLetters, example = json!({ "dead_letters": [{
        "change": "01900000-0000-7000-8000-000000000000", "destination": "search", "key": "/items/7", "sequence": 3,
        "class": "permanent", "code": "http_status", "status": 400, "attempts": 1,
        "first_at": 1_767_225_600_000_u64, "last_at": 1_767_225_600_000_u64, "answer": "no such field"
    }] }))),
)]
pub(super) async fn list(
    State(parts): State<Arc<Parts>>,
    Parameters(asked): Parameters<Asked>,
) -> Result<Json<DeadLetters>, Problem> {
    let page = asked.page()?;
    let filter = asked.filter()?;
    match &parts.in_force.engine() {
        Some(engine) => Ok(Json(engine.dead_letters(filter, page).await?)),
        None => unsynced(&filter).map(|()| Json(DeadLetters::default())),
    }
}

/// Where no route syncs there is no destination, and no dead letter of any change.
fn unsynced(filter: &DeadLetterFilter) -> Result<(), Problem> {
    match filter {
        DeadLetterFilter { destination: Some(_), .. } => Err(CommandError::UnknownDestination.into()),
        DeadLetterFilter { source: Some(_), .. } => Err(CommandError::UnknownSource.into()),
        DeadLetterFilter { change: Some(_), .. } => Err(CommandError::UnknownDeadLetter.into()),
        _ => Ok(()),
    }
}

/// How many an order concerns.
#[derive(Serialize, ToSchema)]
pub(super) struct Concerned {
    count: u64,
    /// Those that match and are left out, because a newer change of their key has arrived since.
    #[serde(skip_serializing_if = "is_none_left_out")]
    left_out: u64,
    /// What goes on: see `/v1/operations`.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
fn is_none_left_out(left_out: &u64) -> bool {
    *left_out == 0
}

impl From<Told> for Concerned {
    fn from(Told { count, left_out, operation }: Told) -> Self {
        Self { count, left_out, operation }
    }
}

pub(super) type Counted = (StatusCode, Extension<Done>, Json<Concerned>);

/// The answer to an order, and its line in the audit log.
pub(super) fn counted(ordered: &str, told: Told) -> Counted {
    let Told { count, left_out, .. } = told;
    let done = Done(format!("{ordered} count={count} left_out={left_out}"));
    (StatusCode::ACCEPTED, Extension(done), Json(told.into()))
}

/// Sends those that match again.
#[utoipa::path(
    post, path = "/v1/dead-letters/redrive", tag = "dead letters", operation_id = "redrive",
    request_body(content = Order, example = json!({ "destination": "search", "dry_run": true })),
    responses((status = 202, body = Concerned, example = json!({ "count": 3 }))),
)]
pub(super) async fn redrive(
    State(parts): State<Arc<Parts>>,
    Content(order): Content<Order>,
) -> Result<Counted, Problem> {
    let (filter, run, pacing) = order.read()?;
    let noted = format!("redrive {run:?} {filter:?}");
    let told = match &parts.in_force.engine() {
        Some(engine) => engine.redrive(filter, run, pacing).await?,
        None => unsynced(&filter).map(|()| Told::default())?,
    };
    Ok(counted(&noted, told))
}

/// Gives those that match up; what was parked behind them goes on.
#[utoipa::path(
    post, path = "/v1/dead-letters/discard", tag = "dead letters", operation_id = "discard",
    request_body(content = Order, example = json!({ "destination": "search", "code": "http_status" })),
    responses((status = 202, body = Concerned, example = json!({ "count": 3 }))),
)]
pub(super) async fn discard(
    State(parts): State<Arc<Parts>>,
    Content(order): Content<Order>,
) -> Result<Counted, Problem> {
    let (filter, run, pacing) = order.read()?;
    let noted = format!("discard {run:?} {filter:?}");
    let told = match &parts.in_force.engine() {
        Some(engine) => engine.discard(filter, run, pacing).await?,
        None => unsynced(&filter).map(|()| Told::default())?,
    };
    Ok(counted(&noted, told))
}

//! `POST /v1/reload`: reads the configuration's file again, and puts all of it in force or nothing.

use super::Parts;
use super::guard::Done;
use super::input::NoContent;
use super::problem::Problem;
use axum::extract::State;
use axum::{Extension, Json};
use futures_util::future::BoxFuture;
use http::StatusCode;
use serde::Serialize;
use std::sync::Arc;

/// What reads the file again.
pub type Reload = Box<dyn Fn() -> BoxFuture<'static, Result<Reloaded, Refused>> + Send + Sync>;

/// A configuration that was read and is in force.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Reloaded {
    /// `applied`, or `unchanged` where it says the same as before.
    pub result: &'static str,
    /// The SHA-256 of the file in hexadecimal digits.
    pub digest: String,
    /// What was added, changed and removed.
    #[schema(value_type = Vec<Object>)]
    pub changes: serde_json::Value,
}

/// Why the configuration that was in force still is.
#[derive(Clone, Debug)]
pub enum Refused {
    /// Every fault of the file, as `tidegate check --json` shows them.
    Faults(serde_json::Value),
    /// The gateway was started without a file.
    NoFile,
    /// Too many reloads wait for one another.
    Crowded,
    /// The gateway stops.
    Stopping,
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Faults(faults) => {
                Self::refused("the file is refused, see `faults`; the configuration in force stays")
                    .with_faults(faults)
            }
            Refused::NoFile => {
                Self::refused("the gateway was started without a file: there is nothing to reload")
            }
            Refused::Crowded => Self::unavailable("too many reloads wait for one another: call again"),
            Refused::Stopping => Self::unavailable("the gateway is stopping"),
        }
    }
}

/// Reads the configuration's file again: all of it is in force then, or nothing of it.
#[utoipa::path(
    post, path = "/v1/reload", tag = "gateway", operation_id = "reload",
    responses((status = 200, body = Reloaded, example = json!({
        "result": "applied",
        "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "changes": [{ "what": "route", "name": "items", "change": "changed", "keys": ["cache.ttl"] }]
    }))),
)]
pub(super) async fn reload(
    State(parts): State<Arc<Parts>>,
    _: NoContent,
) -> Result<(StatusCode, Extension<Done>, Json<Reloaded>), Problem> {
    let reloaded = (parts.reload)().await?;
    let done = Done(format!("result={} digest={}", reloaded.result, reloaded.digest));
    Ok((StatusCode::OK, Extension(done), Json(reloaded)))
}

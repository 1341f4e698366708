//! `/v1/config`: the configuration in force.

use super::Parts;
use super::input::{Nothing, Parameters};
use axum::Json;
use axum::extract::State;
use std::sync::Arc;

/// The configuration in force, secrets redacted where it was read (I12).
#[utoipa::path(
    get, path = "/v1/config", tag = "gateway", operation_id = "config",
    responses((status = 200, body = Object, example = json!({ "admin": { "listen": "127.0.0.1:9090" } }))),
)]
pub(super) async fn show(State(parts): State<Arc<Parts>>, _: Parameters<Nothing>) -> Json<serde_json::Value> {
    Json(parts.in_force.told().configuration.config.clone())
}

//! `/v1/config`: the configuration in force.

use super::Parts;
use super::input::{Nothing, Parameters};
use axum::Json;
use axum::extract::State;
use std::sync::Arc;

/// The configuration in force, secrets redacted where it was read (I12).
pub(super) async fn show(State(parts): State<Arc<Parts>>, _: Parameters<Nothing>) -> Json<serde_json::Value> {
    Json(parts.config.clone())
}

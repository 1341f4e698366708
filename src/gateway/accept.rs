//! A write whose client is answered once it is durable (`mode = "accept"`): its source is asked later.

use super::body::Body;
use super::cache_status::CacheStatus;
use super::problem::GatewayError;
use super::reply::Answer;
use super::write::TIDEGATE_CHANGE;
use crate::sync::{Draft, Engine, OnRefusal};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

/// Records a write and answers 202 (RFC 9110 15.3.3). Nothing has been written at the source: there is
/// no version, and what is stored stays what it was until the source has answered.
///
/// # Errors
/// [`GatewayError::Record`]: nothing is recorded.
pub(crate) async fn record(
    engine: &Engine,
    draft: Draft,
    on_refusal: OnRefusal,
) -> Result<Answer, GatewayError> {
    let change = engine.accept(draft, on_refusal).await?.to_string();
    let told = serde_json::json!({ "change": change }).to_string();
    let mut response = Response::new(Body::Full(Bytes::from(told)));
    *response.status_mut() = StatusCode::ACCEPTED;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(change) = HeaderValue::try_from(change) {
        fields.insert(TIDEGATE_CHANGE, change);
    }
    Ok(Answer { response, status: CacheStatus::Own, quota: None })
}

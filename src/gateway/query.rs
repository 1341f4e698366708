//! The way of a QUERY: its content is held, because it is part of the key; from there on it is a read.

use super::Gateway;
use super::content::{Content, QUERY_BYTES_MAX};
use super::problem::GatewayError;
use super::reply::Answer;
use super::request::Request;
use super::route::Route;
use super::{read, relay};
use crate::cache::rules::ForwardReason;
use crate::cache::rules::key::QueryDigest;
use crate::clock::Timestamp;
use crate::in_flight::Work;
use std::sync::Arc;
use tokio::time::Instant;

/// Answers a QUERY as a GET of the resource that its content names (RFC 10008 2.2). Content longer than
/// [`QUERY_BYTES_MAX`] is relayed for its client alone.
///
/// # Errors
/// [`GatewayError`]
pub(crate) async fn answer(
    gateway: &Arc<Gateway>,
    route: &Arc<Route>,
    mut request: Box<Request>,
    now: Timestamp,
) -> Result<Answer, GatewayError> {
    let content = std::mem::replace(&mut request.content, Content::None);
    let share = gateway.in_flight.share(Work::Forward);
    request.content = content.hold(route.content_bounds, QUERY_BYTES_MAX, share).await?;
    let Some(content) = request.content.held() else {
        return relay::alone(route, request, ForwardReason::Bypass, now).await;
    };
    // The content took its own time; waiting for the answer begins now.
    request.deadline = Instant::now() + gateway.settings.request_timeout;
    let digest = QueryDigest::new(&content, &request.fields);
    let key = route.query_key(&request.target, &request.fields, digest);
    read::answer_by(gateway, route, &key, request, now).await
}

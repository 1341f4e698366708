//! The models of plain requests, from which those of other targets by the same fields are made.

use super::{Head, Refusal, http2, modelled};
use crate::gateway::Settings;
use crate::gateway::content::Content;
use crate::gateway::request::{Peer, Request};
use http::{HeaderMap, Method, Version};
use tokio::time::Instant;

/// As [`super::admit`], of a GET of `/` whose fields the gate has looked at.
///
/// # Errors
/// The first [`Refusal`] found.
pub(crate) fn plain(fields: HeaderMap, peer: &Peer, settings: &Settings) -> Result<Box<Request>, Refusal> {
    let uri = http::Uri::from_static("/");
    let head = Head { method: Method::GET, uri: &uri, version: Version::HTTP_11, fields };
    modelled(head, "/", Content::None, peer, settings, Instant::now())
}

/// As [`plain`], over HTTP/2; `uri` is for its scheme and authority.
///
/// # Errors
/// The first [`Refusal`] found.
pub(crate) fn plain_http2(
    fields: &HeaderMap,
    uri: &http::Uri,
    peer: &Peer,
    settings: &Settings,
) -> Result<Box<Request>, Refusal> {
    http2::values(fields)?;
    http2::framing(fields)?;
    let mut fields = fields.clone();
    http2::join_cookies(&mut fields);
    let head = Head { method: Method::GET, uri, version: Version::HTTP_2, fields };
    modelled(head, "/", Content::None, peer, settings, Instant::now())
}

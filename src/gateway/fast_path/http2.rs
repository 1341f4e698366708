//! The fast path of HTTP/2: hyper frames it, so it begins behind hyper, with the fields as a map.

use super::{FastPath, plain, take};
use crate::cache::StoredResponse;
use crate::cache::stored::Sending;
use crate::gateway::body::Body;
use crate::gateway::reply;
use crate::gateway::request::X_REQUEST_ID;
use crate::gateway::strict;
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use hyper::body::{Body as _, Incoming};
use std::fmt;
use tokio::time::Instant;

/// Bytes of fields that are kept for the next request; longer ones go the long way. An idle connection holds them
/// twice, and may take 64 KiB in all.
const BLOCK_BYTES_MAX: usize = 2 * 1024;

/// The fields of a request as they came, but for its path.
pub(in crate::gateway) struct Block {
    fields: HeaderMap,
    /// For its scheme and authority.
    uri: Uri,
}

/// Without what may be a secret (I12).
impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({} fields)", self.fields.len())
    }
}

impl Block {
    fn is_that_of(&self, request: &Request<Incoming>) -> bool {
        self.uri.authority() == request.uri().authority()
            && self.uri.scheme() == request.uri().scheme()
            && self.fields.iter().eq(request.headers())
    }
}

fn bytes(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

impl FastPath<Block> {
    /// The answer to a request; `None`: it goes the long way.
    pub(in crate::gateway) fn answer(&mut self, request: &Request<Incoming>) -> Option<Response<Body>> {
        self.contained(|path| path.made(request))
    }

    fn made(&mut self, asked: &Request<Incoming>) -> Option<Response<Body>> {
        let since = Instant::now();
        let is_plain = asked.version() == Version::HTTP_2
            && matches!(*asked.method(), Method::GET | Method::HEAD)
            && asked.body().is_end_stream();
        if !is_plain || !self.is_worth_a_look() {
            return None;
        }
        let gateway = self.in_force.gateway();
        if gateway.tells_of_hits() {
            return None;
        }
        let settings = &gateway.settings;
        let known = self.known(
            &gateway,
            |block| block.is_that_of(asked),
            |peer| {
                if bytes(asked.headers()) > BLOCK_BYTES_MAX {
                    return None;
                }
                let request = plain::of_block(asked.headers(), asked.uri(), peer, settings)?;
                Some((Block { fields: asked.headers().clone(), uri: asked.uri().clone() }, Some(request)))
            },
        )?;
        let target = asked.uri().path_and_query()?.as_str();
        strict::sizes(asked.method(), asked.uri(), asked.headers(), settings).ok()?;
        let request = known.request.as_deref_mut()?;
        let now = gateway.clock.now();
        request.becomes(asked.method().clone(), target, since + settings.request_timeout)?;
        let fits =
            |_: &_, stored: &StoredResponse| (stored.fields.sending() != Sending::MadeAnew).then_some(());
        let hit = take(&gateway, request, fits, now)?;
        let mut response = reply::stored(&hit.found.stored, request, now, hit.status).response;
        hit.status.append_to(response.headers_mut());
        hit.quota.apply(response.headers_mut());
        response.headers_mut().insert(X_REQUEST_ID, request.id.value());
        hit.answered(since);
        Some(response)
    }
}

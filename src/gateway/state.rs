//! Reading the state that a source has now, past every cache: for changes in doubt.

use crate::in_flight::{InFlight, Work};
use crate::source::{HostSent, Source};
use crate::sync::{ReadSource, SourceState, Unreadable};
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ETAG, HOST, IF_NONE_MATCH, VIA};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use std::sync::Arc;

/// The largest representation that is read to resolve a doubt, in bytes.
const STATE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Asks `source` what it has. Where there is no room to hold that, it is asked again later.
pub async fn read_state(source: &Source, in_flight: &Arc<InFlight>, read: ReadSource) -> SourceState {
    let Some(uri) = source.uri(&read.path_and_query) else { return SourceState::UNANSWERED };
    let mut request = Request::new(crate::source::empty());
    *request.uri_mut() = uri;
    let fields = request.headers_mut();
    own_fields(source, &read.authority, fields);
    if let Some(accept) = read.accept {
        fields.insert(ACCEPT, accept);
    }
    let is_conditional = read.known_etag.is_some();
    if let Some(etag) = read.known_etag {
        fields.insert(IF_NONE_MATCH, etag);
    }
    let Ok(response) = source.send(request, None).await else { return SourceState::UNANSWERED };
    let (head, mut body) = response.into_parts();
    match head.status {
        StatusCode::NOT_FOUND | StatusCode::GONE => return SourceState::Absent,
        StatusCode::NOT_MODIFIED if is_conditional => return SourceState::Unchanged,
        // A part, although none was asked for (RFC 9110 15.3.7), is not what the source has.
        status if status.is_success() && status != StatusCode::PARTIAL_CONTENT => {}
        status => return SourceState::Unreadable(Unreadable::Answered { status, fields: head.headers }),
    }
    let (mut whole, mut share) = (BytesMut::new(), in_flight.share(Work::Background));
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return SourceState::UNANSWERED };
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > STATE_BYTES_MAX {
            return SourceState::UNANSWERED;
        }
        if share.grow(data.len() as u64).is_err() {
            share.count_shed();
            return SourceState::UNANSWERED;
        }
        whole.extend_from_slice(&data);
    }
    present(&head.headers, whole.freeze())
}

/// The fields of Tidegate's own requests.
fn own_fields(source: &Source, asked: &str, fields: &mut HeaderMap) {
    crate::source::own_fields(source.settings(), fields);
    let host = match &source.settings().host {
        HostSent::Client => asked.to_owned(),
        HostSent::Source => source.authority(),
        HostSent::Name(name) => name.clone(),
    };
    if let Ok(host) = HeaderValue::try_from(host) {
        fields.insert(HOST, host);
    }
    fields.insert(VIA, HeaderValue::from_static("1.1 tidegate"));
}

fn present(fields: &HeaderMap, body: Bytes) -> SourceState {
    let strong = |etag: &&HeaderValue| !etag.as_bytes().starts_with(b"W/");
    let content_fields = fields.iter().filter(|(name, _)| describes_content(name.as_str()));
    SourceState::Present {
        etag: fields.get(ETAG).filter(strong).cloned(),
        fields: content_fields.map(|(name, value)| (name.clone(), value.clone())).collect(),
        body,
    }
}

/// Whether a field of an answer means the same with its content in a request: not what frames the answer,
/// nor what is said to browsers, nor where the content is found (RFC 9110 8.7).
fn describes_content(name: &str) -> bool {
    name.starts_with("content-")
        && !matches!(name, "content-length" | "content-range" | "content-location")
        && !name.starts_with("content-security-policy")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_describes_content_goes_with_it_and_nothing_else_does() {
        for (name, goes) in [
            ("content-type", true),
            ("content-encoding", true),
            ("content-language", true),
            ("content-disposition", true),
            ("content-digest", true),
            ("content-length", false),
            ("content-range", false),
            ("content-location", false),
            ("content-security-policy", false),
            ("content-security-policy-report-only", false),
            ("etag", false),
        ] {
            assert_eq!(describes_content(name), goes, "{name}");
        }
    }
}

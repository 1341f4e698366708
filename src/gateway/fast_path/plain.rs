//! Which requests are plain: all their fields are such that no way of a read acts on them but those that the fast path
//! goes itself. Pure.

use crate::gateway::gate;
use crate::gateway::request::{Asks, Peer, Request};
use crate::gateway::{Settings, strict};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, COOKIE, DNT, FORWARDED, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    ORIGIN, PRAGMA, UPGRADE_INSECURE_REQUESTS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// Plain besides those on which nobody acts: conditions, directives and who asks are looked at on the fast path too.
const PLAIN: [HeaderName; 13] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    COOKIE,
    DNT,
    FORWARDED,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    ORIGIN,
    PRAGMA,
    UPGRADE_INSECURE_REQUESTS,
    HeaderName::from_static("priority"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("x-request-id"),
];

/// Of these kinds all are plain.
const PLAIN_PREFIXES: [&str; 2] = ["sec-", "x-forwarded-"];

/// The request for `/` with these field lines, which another target may take the place of; `None`: it is not plain, or
/// would be refused.
pub(super) fn of_lines(lines: &[u8], peer: &Peer, settings: &Settings) -> Option<Box<Request>> {
    let fields = gate::fields(lines)?;
    are_plain(&fields, settings).then(|| strict::plain(fields, peer, settings).ok()).flatten()
}

/// The same of HTTP/2.
pub(super) fn of_block(
    fields: &HeaderMap,
    uri: &Uri,
    peer: &Peer,
    settings: &Settings,
) -> Option<Box<Request>> {
    are_plain(fields, settings).then(|| strict::plain_http2(fields, uri, peer, settings).ok()).flatten()
}

fn are_plain(fields: &HeaderMap, settings: &Settings) -> bool {
    // The name in a certificate goes into a field of the request.
    settings.client_name_field.is_none() && fields.iter().all(|(name, value)| is_plain(name, value))
}

fn is_plain(name: &HeaderName, value: &HeaderValue) -> bool {
    Asks::is_inert(name)
        || PLAIN.contains(name)
        || PLAIN_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
        || (*name == CONNECTION && is_keep_alive(value))
}

/// What HTTP/1.1 does anyway.
fn is_keep_alive(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"keep-alive")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_acts_on_otherwise_is_plain() {
        let of = |lines: &str| {
            gate::fields(lines.as_bytes()).unwrap().iter().all(|(name, value)| is_plain(name, value))
        };
        for plain in [
            "Host: a\r\n\r\n",
            "Host: a\r\nConnection: Keep-Alive\r\nAccept: */*\r\nCookie: a=b\r\n\r\n",
            "Host: a\r\nIf-None-Match: \"a\"\r\nSec-Fetch-Mode: cors\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n",
        ] {
            assert!(of(plain), "{plain}");
        }
        for name in [
            "range",
            "if-range",
            "if-match",
            "if-unmodified-since",
            "connection",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "content-length",
            "upgrade",
            "expect",
            "max-forwards",
            "via",
            "cdn-loop",
            "tidegate-min-version",
            "tidegate-identity",
            "idempotency-key",
            "incremental",
            "http2-settings",
            "x-http-method-override",
            "x_forwarded_for",
        ] {
            assert!(!of(&format!("Host: a\r\n{name}: close\r\n\r\n")), "{name}");
        }
    }
}

//! Trailers (RFC 9110 6.5): which fields may stand there, who takes them, and how they are announced.
//! Pure.
//!
//! hyper's HTTP/1 writes only those that `Trailer` announces, and toward clients only where the request
//! had `TE: trailers`; others are discarded, as RFC 9110 6.5.2 allows. So are those of what is kept whole:
//! stored responses and recorded writes.

use super::forwarded;
use crate::cache::rules::hop_by_hop::{self, CDN_LOOP};
use http::header::{self, CONTENT_LENGTH, TE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

/// The largest trailer section, in bytes; a larger one is left out whole.
const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Fields that must be known before the content: framing, routing, authentication, conditions and
/// directives, what the content is (RFC 9110 6.5.1).
const FORBIDDEN: [HeaderName; 31] = [
    header::AGE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::EXPECT,
    header::EXPIRES,
    header::FORWARDED,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::LOCATION,
    header::MAX_FORWARDS,
    header::PRAGMA,
    header::RANGE,
    header::RETRY_AFTER,
    header::SET_COOKIE,
    header::VARY,
    header::VIA,
    header::WARNING,
    header::WWW_AUTHENTICATE,
    CDN_LOOP,
];

const OF_PROXIES: [&str; 9] = [
    "cache-groups",
    "cache-group-invalidation",
    "cache-status",
    "cache-tag",
    "cdn-cache-control",
    "idempotency-key",
    "proxy-status",
    "surrogate-key",
    "x-request-id",
];

const OF_PROXIES_BEGIN: &str = "tidegate-";

/// Whether a message's recipient takes trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Welcome {
    Yes,
    No,
}

impl Welcome {
    /// What a request says: over HTTP/2 they are always taken, over HTTP/1.1 where TE says so
    /// (RFC 9110 10.1.4).
    pub(crate) fn of(version: Version, fields: &HeaderMap) -> Self {
        match version {
            Version::HTTP_2 => Self::Yes,
            Version::HTTP_11 if is_in_te(fields) => Self::Yes,
            _ => Self::No,
        }
    }
}

fn is_in_te(fields: &HeaderMap) -> bool {
    let lines = fields.get_all(TE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|member| member.trim().eq_ignore_ascii_case("trailers"))
}

/// Also fields by which gateways and caches speak, and those that are taken from strangers in a head: one that
/// came behind the content would be read by somebody as set by Tidegate, or as it was not to be. So would one
/// with `_` for `-`.
fn is_permitted(name: &HeaderName) -> bool {
    if name.as_str().contains('_') {
        return HeaderName::try_from(name.as_str().replace('_', "-"))
            .is_ok_and(|read_as| is_permitted(&read_as));
    }
    let speaks_for_a_proxy = || {
        let name = name.as_str();
        OF_PROXIES.contains(&name) || name.starts_with(OF_PROXIES_BEGIN) || forwarded::is_unkeyed(name)
    };
    !hop_by_hop::is_hop_by_hop(name) && !FORBIDDEN.contains(name) && !speaks_for_a_proxy()
}

/// The permitted names that a message announces, as a value of its `Trailer`; `None` where there are
/// none, or where its length is stated, so that none can follow.
pub(crate) fn announced(fields: &HeaderMap) -> Option<HeaderValue> {
    if !fields.contains_key(TRAILER) || fields.contains_key(CONTENT_LENGTH) {
        return None;
    }
    let lines = fields.get_all(TRAILER).iter().filter_map(|line| line.to_str().ok());
    let names: Vec<HeaderName> = lines
        .flat_map(|line| line.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .filter(is_permitted)
        .collect();
    let list: Vec<&str> = names.iter().map(HeaderName::as_str).collect();
    (!list.is_empty()).then(|| HeaderValue::try_from(list.join(", ")).ok()).flatten()
}

/// What may pass of a trailer section; `None` where that is nothing.
pub(crate) fn permitted(mut trailers: HeaderMap) -> Option<HeaderMap> {
    let bytes: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes > TRAILER_BYTES_MAX {
        return None;
    }
    let forbidden: Vec<HeaderName> = trailers.keys().filter(|name| !is_permitted(name)).cloned().collect();
    for name in forbidden {
        trailers.remove(name);
    }
    (!trailers.is_empty()).then_some(trailers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for &(name, value) in lines {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn rfc9110_6_5_1_what_may_stand_in_trailers() {
        let given = [
            ("cache-tag", "a"),
            ("tidegate-version", "1"),
            ("x-forwarded-for", "192.0.2.1"),
            ("content-length", "1"),
            ("transfer-encoding", "chunked"),
            ("host", "h"),
            ("authorization", "a"),
            ("set-cookie", "a=b"),
            ("cache-control", "max-age=1"),
            ("content-type", "text/plain"),
            ("connection", "x"),
            ("trailer", "x"),
            ("x-checksum", "1"),
            ("etag", "\"a\""),
            ("x_checksum", "1"),
        ];
        let left = permitted(fields(&given)).unwrap();
        let mut names: Vec<&str> = left.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["etag", "x-checksum", "x_checksum"]);
        assert_eq!(permitted(fields(&given[..12])), None);
    }

    /// Each line counts with its `: ` and its end, as on the wire.
    #[test]
    fn i10_trailers_are_bounded_to_the_byte() {
        for (bytes, passes) in [(16_384, true), (16_385, false)] {
            let mut large = HeaderMap::new();
            large.insert("x-large", HeaderValue::from_str(&"x".repeat(bytes - 11 - 6)).unwrap());
            large.insert("y", HeaderValue::from_static("1"));
            assert_eq!(permitted(large).is_some(), passes, "{bytes} bytes");
        }
    }

    #[test]
    fn what_a_head_may_not_say_no_trailer_says() {
        for name in [
            "x-forwarded-host",
            "x_forwarded_host",
            "x-original-url",
            "x-rewrite-url",
            "x-http-method-override",
            "x-method-override",
            "x-host",
            "x-real-ip",
            "true-client-ip",
            "content_length",
            "transfer_encoding",
            "cdn_loop",
            "set_cookie",
            "tidegate_change",
            "proxy_authorization",
        ] {
            assert_eq!(permitted(fields(&[(name, "1")])), None, "{name}");
            assert_eq!(announced(&fields(&[("trailer", name)])), None, "{name}");
        }
    }

    #[test]
    fn rfc9110_6_6_2_what_is_announced() {
        for (given, value) in [
            (&[("trailer", "X-A, x-b")][..], Some("x-a, x-b")),
            (&[("trailer", "x-a"), ("trailer", ", x-b,")], Some("x-a, x-b")),
            (&[("trailer", "content-length, x-a, (")], Some("x-a")),
            (&[("trailer", "host")], None),
            (&[("trailer", "x-a"), ("content-length", "3")], None),
            (&[], None),
        ] {
            let value = value.map(HeaderValue::from_static);
            assert_eq!(announced(&fields(given)), value, "{given:?}");
        }
    }

    #[test]
    fn rfc9110_10_1_4_who_takes_trailers() {
        let of = |version, te: &'static str| Welcome::of(version, &fields(&[("te", te)]));
        assert_eq!(of(Version::HTTP_11, "trailers"), Welcome::Yes);
        assert_eq!(of(Version::HTTP_11, "gzip;q=0.5, Trailers"), Welcome::Yes);
        assert_eq!(of(Version::HTTP_11, "gzip"), Welcome::No);
        assert_eq!(of(Version::HTTP_10, "trailers"), Welcome::No);
        assert_eq!(of(Version::HTTP_2, "gzip"), Welcome::Yes);
    }
}

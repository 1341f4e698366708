//! Which fields of a stored response its parts carry, and which the answer does that there is no such
//! part (RFC 9110 15.3.7, 15.5.17).

use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    EXPIRES, IF_RANGE, LAST_MODIFIED, PRAGMA,
};
use http::{HeaderMap, HeaderName, HeaderValue};

const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// What the whole message is described by, not the representation (RFC 9110 8.6, 14.4; RFC 9530 2).
const OF_THE_MESSAGE: [HeaderName; 4] = [
    CONTENT_LENGTH,
    CONTENT_RANGE,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
];

/// What a client that named the representation in If-Range has already (15.3.7).
const OF_THE_REPRESENTATION: [HeaderName; 4] =
    [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, REPR_DIGEST];

/// The fields of a 206 that is made of a stored 200 with these fields, before Content-Range, or the
/// Content-Type of several parts, is added: all of them, but after an If-Range that holds those only that
/// 15.3.7 requires. Without an entity tag, Last-Modified is all that tells this part from another's.
#[must_use]
pub fn of_part(stored: HeaderMap, request: &HeaderMap) -> HeaderMap {
    let mut fields = stored;
    for name in &OF_THE_MESSAGE {
        fields.remove(name);
    }
    if request.contains_key(IF_RANGE) {
        for name in &OF_THE_REPRESENTATION {
            fields.remove(name);
        }
        if fields.contains_key(ETAG) {
            fields.remove(LAST_MODIFIED);
        }
    }
    fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    fields
}

/// The fields of a 416 in the place of a stored 200 with these fields, before Content-Range is added.
/// What describes the content of the 200 is not true of it; and with the freshness of the 200 the next
/// cache would answer everybody with it.
#[must_use]
pub fn of_unsatisfied(stored: &HeaderMap) -> HeaderMap {
    let is_of_the_whole = |name: &HeaderName| {
        let text = name.as_str();
        text.starts_with("content-")
            || text.ends_with("cache-control")
            || [ETAG, LAST_MODIFIED, EXPIRES, PRAGMA, REPR_DIGEST].contains(name)
    };
    let kept = stored.iter().filter(|(name, _)| !is_of_the_whole(name));
    let mut fields: HeaderMap = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: [(&str, &str); 19] = [
        ("accept-ranges", "none"),
        ("cache-control", "max-age=60"),
        ("cdn-cache-control", "max-age=60"),
        ("content-digest", "sha-256=:eA==:"),
        ("content-encoding", "gzip"),
        ("content-language", "en"),
        ("content-length", "10"),
        ("content-location", "/a.en"),
        ("content-md5", "eA=="),
        ("content-range", "bytes 0-1/3"),
        ("content-type", "text/plain"),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("etag", "\"a\""),
        ("expires", "Sun, 06 Nov 1994 08:50:37 GMT"),
        ("last-modified", "Sun, 06 Nov 1994 08:49:36 GMT"),
        ("repr-digest", "sha-256=:eA==:"),
        ("set-cookie", "a=b"),
        ("vary", "accept"),
        ("x-own", "1"),
    ];

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn names(fields: &HeaderMap) -> String {
        let mut names: Vec<&str> = fields.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names.join(" ")
    }

    #[test]
    fn rfc9110_15_3_7_fields_of_a_part() {
        let all = "accept-ranges cache-control cdn-cache-control content-encoding content-language \
                   content-location content-type date etag expires last-modified repr-digest set-cookie \
                   vary x-own";
        let required = "accept-ranges cache-control cdn-cache-control content-location date etag expires \
                        set-cookie vary x-own";
        let if_range = fields(&[("if-range", "\"a\"")]);
        let stored = fields(&STORED);
        let part = of_part(stored.clone(), &HeaderMap::new());
        assert_eq!(names(&part), all, "15.3.7: all that the 200 has, less what describes its message");
        assert_eq!(part[ACCEPT_RANGES], "bytes");
        assert_eq!(names(&of_part(stored.clone(), &if_range)), required, "15.3.7: after If-Range");
        let mut untagged = stored;
        untagged.remove(ETAG);
        let part = of_part(untagged, &if_range);
        assert!(part.contains_key(LAST_MODIFIED), "15.3.7.3: a validator is needed to combine parts");
    }

    #[test]
    fn rfc9110_15_5_17_fields_of_the_answer_that_there_is_no_such_part() {
        let answer = of_unsatisfied(&fields(&STORED));
        assert_eq!(names(&answer), "accept-ranges date set-cookie vary x-own");
    }
}

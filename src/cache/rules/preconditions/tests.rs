use super::*;
use crate::cache::purge::Fence;
use crate::cache::stored::Reuse;
use crate::clock::Timestamp;
use bytes::Bytes;
use http::StatusCode;
use std::time::Duration;

type Lines<'a> = &'a [(&'a str, &'a str)];

fn fields(lines: Lines<'_>) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

fn stored(status: StatusCode, lines: Lines<'_>) -> StoredResponse {
    StoredResponse {
        status,
        fields: fields(lines),
        body: Bytes::new(),
        received_at: Timestamp::from_millis(784_111_777_900),
        initial_age: Duration::ZERO,
        freshness_lifetime: Duration::ZERO,
        reuse: Reuse::WhileFresh,
        selecting_fields: Vec::new(),
        tags: Vec::new(),
        fence: Fence(0),
    }
}

const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

#[test]
fn rfc9110_13_2_2_order_and_outcome() {
    use Answer::{Forward, NotModified, Send};
    let both: Lines<'_> = &[("etag", "\"a\""), ("last-modified", THEN), ("date", THEN)];
    let weak: Lines<'_> = &[("etag", "W/\"a\"")];
    let dated: Lines<'_> = &[("date", THEN)];
    let since = "if-modified-since";
    for (section, kept, request, answer) in [
        ("none", both, &[][..], Send),
        ("13.1.2", both, &[("if-none-match", "\"a\"")], NotModified),
        ("13.1.2: list", both, &[("if-none-match", "\"x,\", W/\"a\"")], NotModified),
        ("13.1.2: lines", both, &[("if-none-match", "\"x\""), ("if-none-match", "\"a\"")], NotModified),
        ("13.1.2: weak", weak, &[("if-none-match", "\"a\"")], NotModified),
        ("13.1.2: *", dated, &[("if-none-match", "*")], NotModified),
        ("13.1.2: other", both, &[("if-none-match", "\"b\"")], Send),
        ("13.1.2: no tag stored", dated, &[("if-none-match", "\"b\"")], Send),
        ("13.1.3: ignored after 13.1.2", both, &[("if-none-match", "\"b\""), (since, THEN)], Send),
        ("13.1.3", both, &[(since, THEN)], NotModified),
        ("13.1.3: earlier", both, &[(since, EARLIER)], Send),
        ("13.1.3: no date", both, &[(since, "yesterday")], Send),
        ("13.1.3: two lines", both, &[(since, THEN), (since, THEN)], Send),
        ("9111 4.3.2: Date", dated, &[(since, THEN)], NotModified),
        ("9111 4.3.2: Date, earlier", dated, &[(since, EARLIER)], Send),
        ("9111 4.3.2: arrival", weak, &[(since, THEN)], NotModified),
        ("13.1.1: the source's", both, &[("if-match", "\"a\""), ("if-none-match", "\"a\"")], Forward),
        ("13.1.4: the source's", both, &[("if-unmodified-since", THEN)], Forward),
    ] {
        assert_eq!(evaluate(&fields(request), &stored(StatusCode::OK, kept)), answer, "{section}");
    }
    let missing = stored(StatusCode::NOT_FOUND, both);
    assert_eq!(evaluate(&fields(&[("if-none-match", "\"a\"")]), &missing), Send, "13.2.1");
}

#[test]
fn rfc9110_15_4_5_fields_of_a_304() {
    let kept: Lines<'_> = &[
        ("cache-control", "max-age=1"),
        ("cache-control", "public"),
        ("cdn-cache-control", "max-age=2"),
        ("content-location", "/a"),
        ("date", THEN),
        ("expires", THEN),
        ("vary", "x"),
    ];
    let dropped: Lines<'_> =
        &[("content-type", "a/b"), ("content-length", "5"), ("set-cookie", "a=b"), ("x", "1")];
    let tag: Lines<'_> = &[("etag", "\"a\"")];
    let modified: Lines<'_> = &[("last-modified", EARLIER)];
    let tagged = stored(StatusCode::OK, &[kept, dropped, tag, modified].concat());
    assert_eq!(not_modified_fields(&tagged), fields(&[kept, tag].concat()));
    let untagged = stored(StatusCode::OK, &[kept, dropped, modified].concat());
    assert_eq!(not_modified_fields(&untagged), fields(&[kept, modified].concat()));
}

use super::*;

type Lines<'a> = &'a [(&'a str, &'a str)];

fn fields(lines: Lines<'_>) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

const RECEIVED: Timestamp = Timestamp::from_millis(784_111_777_900);

fn outcome(status: StatusCode, kept: Lines<'_>, request: Lines<'_>) -> Answer {
    let (request, kept) = (fields(request), fields(kept));
    let stored = StoredFields::from(&kept);
    let answer = evaluate(&request, status, Compared::from(&kept), RECEIVED);
    assert_eq!(evaluate(&request, status, Compared::from(&stored), RECEIVED), answer);
    answer
}

const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

#[test]
fn rfc9110_13_2_2_order_and_outcome() {
    use Answer::{NotModified, Send};
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
        ("13.1.2: not a tag", both, &[("if-none-match", "a")], Send),
        ("13.1.2: never closed", both, &[("if-none-match", "\"a")], Send),
        ("13.1.2: a tag beside none", both, &[("if-none-match", "a, \"a\"")], NotModified),
        ("13.1.2: tags have case", both, &[("if-none-match", "\"A\"")], Send),
        ("13.1.2: * within a list is no *", both, &[("if-none-match", "*, \"b\"")], Send),
        ("8.8.3: what is stored is no tag", &[("etag", "a")], &[("if-none-match", "a")], Send),
        ("13.1.3: ignored, though 13.1.2 is malformed", both, &[("if-none-match", "b"), (since, THEN)], Send),
        ("13.1.3: ignored after 13.1.2", both, &[("if-none-match", "\"b\""), (since, THEN)], Send),
        ("13.1.3", both, &[(since, THEN)], NotModified),
        ("13.1.3: earlier", both, &[(since, EARLIER)], Send),
        ("13.1.3: no date", both, &[(since, "yesterday")], Send),
        ("13.1.3: two lines", both, &[(since, THEN), (since, THEN)], Send),
        ("9111 4.3.2: Date", dated, &[(since, THEN)], NotModified),
        ("9111 4.3.2: Date, earlier", dated, &[(since, EARLIER)], Send),
        ("9111 4.3.2: arrival", weak, &[(since, THEN)], NotModified),
    ] {
        assert_eq!(outcome(StatusCode::OK, kept, request), answer, "{section}");
    }
    for (status, answer) in [(200, NotModified), (203, NotModified), (301, Send), (404, Send), (503, Send)] {
        let status = StatusCode::from_u16(status).unwrap();
        for condition in [("if-none-match", "\"a\""), ("if-none-match", "*"), (since, THEN)] {
            assert_eq!(outcome(status, both, &[condition]), answer, "13.2.1: {status} {condition:?}");
        }
    }
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
    let tagged = fields(&[kept, dropped, tag, modified].concat());
    assert_eq!(not_modified_fields(&tagged), fields(&[kept, tag].concat()));
    let untagged = fields(&[kept, dropped, modified].concat());
    assert_eq!(not_modified_fields(&untagged), fields(&[kept, modified].concat()));
    let own: Lines<'_> = &[("age", "3"), ("set-cookie", "a=b")];
    let for_one = fields(&[kept, &[("age", "3"), ("x", "1")], tag, &own[1..]].concat());
    assert_eq!(not_modified_fields_for_one(&for_one), fields(&[kept, tag, own].concat()));
}

#[test]
fn rfc9111_4_3_2_what_the_source_decides_on() {
    for (name, expected) in [
        ("if-match", true),
        ("if-unmodified-since", true),
        ("if-none-match", false),
        ("if-modified-since", false),
        ("if-range", false),
    ] {
        assert_eq!(are_for_the_source(&fields(&[(name, "\"a\"")])), expected, "{name}");
    }
}

//! RFC 9110 14 ranges; RFC 9111 3.3, 3.4.

mod parts;

use super::{Turn, get, play, row};
use crate::support::{Ask, Gate, Reply, ScriptedSource, Step, gateway_for};

/// The time at which everything here was last modified.
const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

/// Ten bytes to cut from, fresh.
fn digits() -> Reply {
    Reply::ok("0123456789")
        .cache_control("max-age=60")
        .field("ETag", "\"a\"")
        .field("Last-Modified", MODIFIED)
        .field("Content-Type", "text/plain")
        .field("Content-Language", "en")
}

/// The same, to be validated before it is used.
fn stale_digits() -> Reply {
    Reply::ok("0123456789").cache_control("max-age=0").field("ETag", "\"a\"")
}

fn ranged(range: &str) -> Turn {
    get().field("Range", range)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_14_ranges_of_a_stored_response() {
    let part = |name: &str, range: &str, text: &str, content_range: &str| {
        row(format!("14 {name}: {range}")).filled(digits()).then(
            ranged(range)
                .reused()
                .status(206)
                .text(text)
                .has("Content-Range", content_range)
                .has("Content-Length", &text.len().to_string())
                .has("Content-Type", "text/plain")
                .has("Accept-Ranges", "bytes")
                .has("Age", "0")
                .says("hit"),
        )
    };
    let whole = |name: &str, range: &str| {
        row(format!("14 {name}: {range}"))
            .filled(digits())
            .then(ranged(range).reused().status(200).text("0123456789").lacks("Content-Range"))
    };
    let unsatisfiable = |name: &str, range: &str| {
        row(format!("15.5.17 {name}: {range}")).filled(digits()).then(
            ranged(range)
                .reused()
                .status(416)
                .text("")
                .has("Content-Range", "bytes */10")
                .has("Content-Length", "0")
                .lacks("Content-Type")
                .lacks("Cache-Control")
                .lacks("ETag")
                .says("hit"),
        )
    };
    play(
        "",
        [
            part("first and last", "bytes=0-1", "01", "bytes 0-1/10"),
            part("one byte", "bytes=9-9", "9", "bytes 9-9/10"),
            part("open", "bytes=4-", "456789", "bytes 4-9/10"),
            part("suffix", "bytes=-3", "789", "bytes 7-9/10"),
            part("suffix longer than the whole", "bytes=-11", "0123456789", "bytes 0-9/10"),
            part("last beyond the end", "bytes=8-99999999999999999999999", "89", "bytes 8-9/10"),
            part("unit in any case", "BYTES=0-1", "01", "bytes 0-1/10"),
            part("empty members", "bytes=,0-1 , ,", "01", "bytes 0-1/10"),
            part("one of several is there", "bytes=20-,0-1", "01", "bytes 0-1/10"),
            part("overlapping", "bytes=0-4,2-5,5-6", "0123456", "bytes 0-6/10"),
            whole("other unit", "lines=0-1"),
            whole("last before first", "bytes=4-3"),
            whole("one of several invalid", "bytes=0-1,4-3"),
            whole("malformed", "bytes=a-b"),
            whole("malformed", "0-1"),
            whole("malformed", "bytes="),
            whole("too many", "bytes=0-0,2-2,4-4,6-6,8-8,9-9"),
            unsatisfiable("beyond the end", "bytes=10-"),
            unsatisfiable("beyond any end", "bytes=99999999999999999999999-"),
            unsatisfiable("empty suffix", "bytes=-0"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_14_2_what_has_no_ranges() {
    play(
        "",
        [
            row("14.2 two lines of Range").filled(digits()).then(
                ranged("bytes=0-1").field("Range", "bytes=0-1").reused().status(200).text("0123456789"),
            ),
            row("14.2 HEAD").filled(digits()).then(
                super::ask("HEAD")
                    .field("Range", "bytes=0-1")
                    .reused()
                    .status(200)
                    .has("Content-Length", "10")
                    .lacks("Content-Range"),
            ),
            row("14.2 not a 200")
                .filled(Reply::new(404, "absent").cache_control("max-age=60"))
                .then(ranged("bytes=0-1").reused().status(404).text("absent").lacks("Content-Range")),
            row("14.1.2 nothing in it")
                .filled(Reply::ok("").cache_control("max-age=60"))
                .then(ranged("bytes=0-").reused().status(416).has("Content-Range", "bytes */0"))
                .then(ranged("bytes=-1").reused().status(200).text("").lacks("Content-Range")),
            row("14.1.2 ranges are of the bytes as they are coded")
                .filled(digits().field("Content-Encoding", "gzip"))
                .then(ranged("bytes=0-1").reused().status(206).text("01").has("Content-Encoding", "gzip")),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_15_3_7_fields_of_a_206_from_the_store() {
    play(
        "",
        [
            row("15.3.7 what a 200 would carry")
                .filled(
                    digits()
                        .field("Date", "Sun, 06 Nov 2044 08:49:37 GMT")
                        .field("Expires", "Sun, 06 Nov 2044 08:50:37 GMT")
                        .field("Content-Location", "/a.en")
                        .field("Vary", "Accept")
                        .field("X-Own", "1"),
                )
                .then(
                    ranged("bytes=0-1")
                        .reused()
                        .status(206)
                        .has("Date", "Sun, 06 Nov 2044 08:49:37 GMT")
                        .has("Cache-Control", "max-age=60")
                        .has("ETag", "\"a\"")
                        .has("Expires", "Sun, 06 Nov 2044 08:50:37 GMT")
                        .has("Content-Location", "/a.en")
                        .has("Vary", "Accept")
                        .has("Last-Modified", MODIFIED)
                        .has("Content-Language", "en")
                        .has("X-Own", "1"),
                ),
            row("15.3.7 after If-Range only what is required").filled(digits().field("X-Own", "1")).then(
                ranged("bytes=0-1")
                    .field("If-Range", "\"a\"")
                    .reused()
                    .status(206)
                    .text("01")
                    .has("Cache-Control", "max-age=60")
                    .has("ETag", "\"a\"")
                    .has("X-Own", "1")
                    .has("Content-Range", "bytes 0-1/10")
                    .lacks("Content-Type")
                    .lacks("Content-Language")
                    .lacks("Last-Modified"),
            ),
            row("14.4 a Content-Range of a 200 means nothing")
                .filled(digits().field("Content-Range", "bytes 3-4/5"))
                .then(ranged("bytes=0-1").reused().status(206).has("Content-Range", "bytes 0-1/10"))
                .then(ranged("bytes=0-1,4-5").reused().status(206).lacks("Content-Range")),
            row("9530 2 a digest of other content is not repeated")
                .filled(
                    digits().field("Content-Digest", "sha-256=:eA==:").field("Repr-Digest", "sha-256=:eA==:"),
                )
                .then(
                    ranged("bytes=0-1").reused().lacks("Content-Digest").has("Repr-Digest", "sha-256=:eA==:"),
                ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_15_3_7_2_several_parts() {
    let source = ScriptedSource::start().await;
    source.always("/a", digits());
    let gateway = gateway_for(&source, "").await;
    gateway.send(Ask::get("/a")).await;
    let part = |boundary: &str, range: &str, bytes: &str| {
        format!(
            "--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {range}/10\r\n\r\n{bytes}\r\n"
        )
    };
    for (asked, parts) in [
        ("bytes=0-1,-2", &[("0-1", "01"), ("8-9", "89")][..]),
        ("bytes=7-7, 0-1,4-4", &[("7-7", "7"), ("0-1", "01"), ("4-4", "4")]),
        ("bytes=0-1,20-,4-5,5-6", &[("0-1", "01"), ("4-6", "456")]),
        (
            "bytes=0-0,2-2,4-4,6-6,8-8",
            &[("0-0", "0"), ("2-2", "2"), ("4-4", "4"), ("6-6", "6"), ("8-8", "8")],
        ),
    ] {
        let answer = gateway.send(Ask::get("/a").field("Range", asked)).await;
        assert_eq!(answer.status, 206, "{asked}");
        assert!(!answer.fields.has("Content-Range"), "{asked}");
        let kind = answer.field("Content-Type").to_owned();
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("parts have a boundary");
        let expected: String = parts.iter().map(|(range, bytes)| part(boundary, range, bytes)).collect();
        assert_eq!(answer.text(), format!("{expected}--{boundary}--\r\n"), "{asked}");
        assert_eq!(answer.field("Content-Length"), answer.body.len().to_string(), "{asked}");
        assert_eq!(answer.field("ETag"), "\"a\"", "{asked}");
        assert!(answer.is_hit(), "{asked}");
    }
    assert_eq!(source.count("/a"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_13_conditions_come_before_ranges() {
    let asked = |name: &str, reply: Reply, turn: Turn| row(format!("13 {name}")).filled(reply).then(turn);
    let part = || ranged("bytes=0-1").reused().status(206).text("01");
    let unchanged = || ranged("bytes=0-1").reused().status(304).text("").lacks("Content-Range");
    play(
        "",
        [
            asked("13.2.2 If-None-Match", digits(), unchanged().field("If-None-Match", "W/\"a\"")),
            asked(
                "13.2.2 If-None-Match and If-Range",
                digits(),
                unchanged().field("If-None-Match", "\"a\"").field("If-Range", "\"a\""),
            ),
            asked("13.2.2 If-None-Match of another", digits(), part().field("If-None-Match", "\"b\"")),
            asked("13.2.2 If-Modified-Since", digits(), unchanged().field("If-Modified-Since", MODIFIED)),
            asked(
                "13.2.2 If-None-Match first, then the range",
                digits(),
                part().field("If-None-Match", "\"b\"").field("If-Modified-Since", MODIFIED),
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_13_1_5_if_range() {
    let asked = |name: &str, reply: Reply, turn: Turn| row(name).filled(reply).then(turn);
    let part = || ranged("bytes=0-1").reused().status(206).text("01");
    let whole = || ranged("bytes=0-1").reused().status(200).text("0123456789").lacks("Content-Range");
    let just_now = "Sun, 06 Nov 2044 08:49:37 GMT";
    play(
        "",
        [
            asked("13.1.5 the tag", digits(), part().field("If-Range", "\"a\"")),
            asked("13.1.5 another tag", digits(), whole().field("If-Range", "\"b\"")),
            asked("13.1.5 a weak tag", digits(), whole().field("If-Range", "W/\"a\"")),
            asked(
                "13.1.5 a weak tag is stored",
                Reply::ok("0123456789").cache_control("max-age=60").field("ETag", "W/\"a\""),
                whole().field("If-Range", "W/\"a\""),
            ),
            asked("13.1.5 the date", digits(), part().field("If-Range", MODIFIED)),
            asked(
                "13.1.5 a later date",
                digits(),
                whole().field("If-Range", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ),
            asked(
                "13.1.5 an earlier date",
                digits(),
                whole().field("If-Range", "Sun, 06 Nov 1994 08:49:35 GMT"),
            ),
            asked("13.1.5 no validator", digits(), whole().field("If-Range", "a")),
            asked(
                "13.1.5 no range beside a false condition: no 416",
                digits(),
                ranged("bytes=90-").field("If-Range", "\"b\"").reused().status(200).lacks("Content-Range"),
            ),
            asked(
                "8.8.2.2 modified in the second in which it was sent",
                Reply::ok("0123456789")
                    .cache_control("max-age=60")
                    .field("Date", just_now)
                    .field("Last-Modified", just_now),
                whole().field("If-Range", just_now),
            ),
            asked(
                "13.1.5 If-Range alone",
                digits(),
                get().field("If-Range", "\"b\"").reused().status(200).text("0123456789"),
            ),
            row("13.1.5 If-Range alone is not a range: it fills")
                .source(digits())
                .then(
                    get()
                        .field("If-Range", "\"a\"")
                        .forwarded()
                        .status(200)
                        .withholds("If-Range")
                        .says("stored"),
                )
                .then(get().reused()),
        ],
    )
    .await;
}

/// A part, as a source sends it.
fn part(range: &str, text: &str) -> Reply {
    Reply::new(206, text).field("Content-Range", range)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_3_3_what_the_source_makes_of_a_range_passes_through() {
    let parts = "--B\r\nContent-Range: bytes 0-0/10\r\n\r\n0\r\n--B\r\nContent-Range: bytes 2-2/10\r\n\r\n2\r\n--B--\r\n";
    let forwarded = || ranged("bytes=0-1").forwarded().sends("Range", "bytes=0-1");
    // Each is asked for twice: what is not stored is forwarded again.
    let passed = |name: &str, reply: Reply, turn: Turn| {
        row(format!("3.3 {name}")).source(reply).then(turn.clone()).then(turn)
    };
    play(
        "",
        [
            passed(
                "a part and its fields",
                part("bytes 0-1/10", "01").field("ETag", "\"a\"").field("X-Own", "1"),
                forwarded()
                    .status(206)
                    .text("01")
                    .has("Content-Range", "bytes 0-1/10")
                    .has("ETag", "\"a\"")
                    .has("X-Own", "1")
                    .says("fwd-status=206"),
            ),
            passed(
                "several parts",
                Reply::new(206, parts)
                    .field("Content-Type", "multipart/byteranges; boundary=B")
                    .cache_control("max-age=60")
                    .field("ETag", "\"a\""),
                forwarded()
                    .status(206)
                    .text(parts)
                    .has("Content-Type", "multipart/byteranges; boundary=B")
                    .lacks("Content-Range"),
            ),
            passed(
                "no such part",
                Reply::new(416, "").field("Content-Range", "bytes */7").cache_control("max-age=60"),
                forwarded().status(416).has("Content-Range", "bytes */7"),
            ),
            passed(
                "If-Range goes unchanged",
                part("bytes 0-1/10", "01").cache_control("max-age=60").field("ETag", "\"a\""),
                forwarded().field("If-Range", "W/\"x\" ").sends("If-Range", "W/\"x\"").status(206),
            ),
            passed(
                "a part without Content-Range",
                Reply::new(206, "01").cache_control("max-age=60").field("ETag", "\"a\""),
                forwarded().status(206).text("01"),
            ),
            row("3.3 a part that nobody asked for")
                .source(part("bytes 0-1/10", "01").cache_control("max-age=60").field("ETag", "\"a\""))
                .then(
                    get()
                        .forwarded()
                        .withholds("Range")
                        .status(206)
                        .text("01")
                        .has("Content-Range", "bytes 0-1/10"),
                )
                .then(get().forwarded().status(206))
                .then(ranged("bytes=0-1").forwarded().status(206)),
            row("3.3 a whole that nobody asked for by a range is not a part")
                .source(part("bytes 0-1/2", "01").cache_control("max-age=60").field("ETag", "\"a\""))
                .then(get().forwarded().status(206))
                .then(get().forwarded().status(206)),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_3_a_stale_response_is_validated_as_a_whole_and_cut_then() {
    let stale = |name: &str| row(format!("4.3 {name}")).filled(stale_digits());
    let validated = || {
        ranged("bytes=0-1")
            .forwarded()
            .withholds("Range")
            .withholds("If-Range")
            .sends("If-None-Match", "\"a\"")
    };
    let unchanged = || Reply::new(304, "").field("ETag", "\"a\"").cache_control("max-age=60");
    let changed = || Reply::ok("abcdefghij").field("ETag", "\"b\"").cache_control("max-age=60");
    play(
        "",
        [
            stale("confirmed: a part of what is stored")
                .source(unchanged())
                .then(validated().status(206).text("01").has("Content-Range", "bytes 0-1/10"))
                .then(ranged("bytes=-1").reused().status(206).text("9")),
            stale("confirmed: If-Range is decided by what was confirmed")
                .source(unchanged())
                .then(validated().field("If-Range", "\"b\"").status(200).text("0123456789")),
            stale("confirmed: no such part")
                .source(unchanged())
                .then(ranged("bytes=10-").forwarded().status(416).has("Content-Range", "bytes */10")),
            stale("changed: cut from what has come in its place")
                .source(changed())
                .then(
                    validated()
                        .status(206)
                        .text("ab")
                        .has("ETag", "\"b\"")
                        .has("Content-Range", "bytes 0-1/10"),
                )
                .then(ranged("bytes=0-1").reused().status(206).text("ab")),
            stale("changed: the whole, as If-Range asks for")
                .source(changed())
                .then(validated().field("If-Range", "\"a\"").status(200).text("abcdefghij"))
                .then(ranged("bytes=0-1").field("If-Range", "\"b\"").reused().status(206).text("ab")),
            stale("a part although the whole was asked for is nobody's whole")
                .source(part("bytes 0-1/10", "ab").field("ETag", "\"b\"").cache_control("max-age=60"))
                .then(validated().status(206).text("ab").has("Content-Range", "bytes 0-1/10"))
                .then(get().forwarded().sends("If-None-Match", "\"a\"").status(206)),
            stale("5861 4: the source fails, and what is stale is cut").source(Reply::new(503, "down")).then(
                ranged("bytes=0-1").forwarded().status(206).text("01").has("Content-Range", "bytes 0-1/10"),
            ),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_13_1_5_who_waits_for_a_validation_gets_a_part_of_what_it_brings_or_the_whole() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let changed = Reply::promising(
        10,
        vec![Step::Bytes(b"abcde".to_vec()), Step::Wait(gate.clone()), Step::Bytes(b"fghij".to_vec())],
    );
    let changed = changed.cache_control("max-age=60").field("ETag", "\"b\"");
    source.sequence("/a", vec![stale_digits(), changed]);
    let gateway = gateway_for(&source, "").await;
    gateway.send(Ask::get("/a")).await;
    let ask = |validator: Option<&str>| {
        let ask = Ask::get("/a").field("Range", "bytes=0-1");
        let ask = validator.map_or(ask.clone(), |validator| ask.field("If-Range", validator));
        ask.open(gateway.public)
    };
    // The first leads, the others join while the body is on its way.
    let mut opened = vec![ask(None).await.expect("a head")];
    for validator in [None, Some("\"a\""), Some("\"b\""), Some("W/\"b\"")] {
        opened.push(ask(validator).await.expect("a head"));
    }
    gate.open();
    let expected = [206, 206, 200, 206, 200];
    for (one, status) in opened.iter_mut().zip(expected) {
        assert_eq!(one.head.status, status, "{:?}", one.head);
        let part: &[u8] = if status == 206 { b"ab" } else { b"abcdefghij" };
        assert_eq!(one.rest().await.expect("what was asked for"), part);
        if status == 206 {
            assert_eq!(one.head.field("Content-Range"), "bytes 0-1/10");
        } else {
            assert_eq!(one.head.field("ETag"), "\"b\"", "{:?}", one.head);
        }
    }
    assert_eq!(source.count("/a"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_3_3_what_broke_off_is_not_stored() {
    let source = ScriptedSource::start().await;
    let whole = || digits().field("X-Turn", "2");
    let cut = |gate: &Gate| vec![Step::Bytes(b"01".to_vec()), Step::Wait(gate.clone()), Step::Cut];
    let gateway = gateway_for(&source, "").await;
    for path in ["/whole", "/chunks", "/part"] {
        let gate = Gate::closed();
        let mut broken = match path {
            "/chunks" => Reply::chunks(cut(&gate)),
            _ => Reply::promising(10, cut(&gate)),
        };
        let mut asked = Ask::get(path);
        if path == "/part" {
            broken = broken.field("Content-Range", "bytes 0-9/10");
            broken.status = 206;
            asked = asked.field("Range", "bytes=0-9");
        }
        let broken = broken.cache_control("max-age=60").field("ETag", "\"a\"");
        source.sequence(path, vec![broken, whole()]);
        let mut opened = asked.open(gateway.public).await.expect("a head");
        assert_eq!(opened.next().await.expect("a beginning"), Some(b"01".to_vec()), "{path}");
        gate.open();
        assert!(opened.rest().await.is_err(), "{path}: it looked complete");
        let next = gateway.send(Ask::get(path).field("Range", "bytes=0-1")).await;
        assert_eq!((next.text().as_str(), next.field("X-Turn")), ("01", "2"), "{path}: {next:?}");
        assert_eq!((next.status, source.count(path)), (206, 2));
    }
}

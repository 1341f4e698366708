//! RFC 9111 3.3, 3.4: parts that are stored.

use super::super::{Turn, ask, get, play, row};
use super::{digits, part, ranged};
use crate::support::{Reply, Step};

/// A fresh part with a strong validator.
fn fresh_part(range: &str, text: &str) -> Reply {
    part(range, text).cache_control("max-age=60").field("ETag", "\"a\"").field("Content-Type", "text/plain")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_3_3_a_stored_part_answers_what_lies_within_it() {
    let stored = |name: &str| {
        row(format!("3.3 {name}"))
            .source(fresh_part("bytes 2-5/10", "2345").field("X-Own", "1"))
            .source(fresh_part("bytes 0-0/10", "X"))
            .then(
                ranged("bytes=2-5").forwarded().status(206).text("2345").says("fwd=uri-miss").says("stored"),
            )
    };
    let kept = |name: &str, turn: Turn| stored(name).then(turn.reused().says("hit"));
    let passed = |name: &str, turn: Turn| stored(name).then(turn.forwarded());
    play(
        "",
        [
            kept(
                "within it",
                ranged("bytes=3-4")
                    .status(206)
                    .text("34")
                    .has("Content-Range", "bytes 3-4/10")
                    .has("Content-Length", "2")
                    .has("Content-Type", "text/plain")
                    .has("ETag", "\"a\"")
                    .has("X-Own", "1")
                    .has("Age", "0"),
            ),
            kept(
                "all of it",
                ranged("bytes=2-5").status(206).text("2345").has("Content-Range", "bytes 2-5/10"),
            ),
            kept(
                "If-Range names it",
                ranged("bytes=3-4").field("If-Range", "\"a\"").status(206).text("34").lacks("Content-Type"),
            ),
            kept(
                "9110 13.2.2 If-None-Match comes first",
                ranged("bytes=3-4")
                    .field("If-None-Match", "\"a\"")
                    .status(304)
                    .text("")
                    .lacks("Content-Range"),
            ),
            passed(
                "If-Range names another",
                ranged("bytes=3-4").field("If-Range", "\"b\"").sends("If-Range", "\"b\"").says("fwd=partial"),
            ),
            passed("beyond it", ranged("bytes=3-6").sends("Range", "bytes=3-6").says("fwd=partial")),
            passed("before it", ranged("bytes=0-2").says("fwd=partial")),
            passed("open", ranged("bytes=2-").says("fwd=partial")),
            passed("suffix", ranged("bytes=-1").says("fwd=partial")),
            passed("several", ranged("bytes=2-2,4-4").says("fwd=partial")),
            passed("the whole", get().withholds("Range").says("fwd=uri-miss")),
            passed("malformed", ranged("bytes=5-2")),
            passed("9110 9.3.2 HEAD", ask("HEAD").field("Range", "bytes=3-4")),
            passed("another query", ranged("bytes=2-5").at("?x")),
            stored("4.3.5 HEAD may know better")
                .then(ask("HEAD").forwarded())
                .then(ranged("bytes=3-4").forwarded()),
            stored("4.4 an unsafe request")
                .then(ask("POST").body("").forwarded().status(206))
                .then(ranged("bytes=3-4").forwarded()),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_3_3_which_parts_are_stored() {
    play(
        "",
        [
            row("4.2 stale")
                .source(fresh_part("bytes 2-5/10", "2345").field("Age", "60"))
                .then(ranged("bytes=2-5").forwarded())
                .then(ranged("bytes=2-5").forwarded().sends("Range", "bytes=2-5")),
            row("4.2.1 max-age=0 and a window for stale use")
                .source(
                    part("bytes 2-5/10", "2345")
                        .cache_control("max-age=0, stale-while-revalidate=60")
                        .field("ETag", "\"a\""),
                )
                .then(ranged("bytes=2-5").forwarded())
                .then(ranged("bytes=2-5").forwarded()),
            row("3 private")
                .source(part("bytes 2-5/10", "2345").cache_control("private, max-age=60"))
                .then(ranged("bytes=2-5").forwarded().says("detail=private"))
                .then(ranged("bytes=2-5").forwarded()),
            row("3.5 Authorization")
                .source(fresh_part("bytes 2-5/10", "2345"))
                .then(
                    ranged("bytes=2-5").field("Authorization", "a").forwarded().says("detail=authorization"),
                )
                .then(ranged("bytes=2-5").forwarded())
                .then(ranged("bytes=2-5").field("Authorization", "a").reused()),
            row("4.1 Vary")
                .source(fresh_part("bytes 2-5/10", "2345").field("Vary", "Accept-Language"))
                .then(ranged("bytes=2-5").field("Accept-Language", "de").forwarded())
                .then(ranged("bytes=2-5").field("Accept-Language", "en").forwarded())
                .then(ranged("bytes=2-5").field("Accept-Language", "de").reused())
                .then(ranged("bytes=2-5").forwarded()),
            row("coded for one client")
                .source(fresh_part("bytes 2-5/10", "2345").field("Content-Encoding", "x"))
                .then(ranged("bytes=2-5").forwarded())
                .then(ranged("bytes=2-5").forwarded()),
            row("9110 14.4 the whole length is not known")
                .source(fresh_part("bytes 2-5/*", "2345"))
                .then(ranged("bytes=2-5").forwarded().has("Content-Range", "bytes 2-5/*"))
                .then(ranged("bytes=2-5").forwarded()),
            row("9110 14.4 it has more bytes than it says")
                .source(fresh_part("bytes 2-4/10", "2345"))
                .then(ranged("bytes=2-4").forwarded().text("2345"))
                .then(ranged("bytes=2-4").forwarded()),
            row("4 a whole that is newer takes its place")
                .source(fresh_part("bytes 2-5/10", "2345"))
                .source(Reply::ok("abcdefghij").cache_control("max-age=60").field("ETag", "\"b\""))
                .then(ranged("bytes=2-5").forwarded())
                .then(get().forwarded())
                .then(ranged("bytes=2-5").reused().text("cdef").has("ETag", "\"b\"")),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_3_4_parts_are_combined() {
    let two = |name: &str, second: Reply| {
        row(format!("3.4 {name}"))
            .source(fresh_part("bytes 0-4/10", "01234"))
            .source(second)
            .then(ranged("bytes=0-4").forwarded().text("01234"))
    };
    let rest = || ranged("bytes=5-9").forwarded().status(206).text("56789");
    play(
        "",
        [
            two("all of it: a whole", fresh_part("bytes 5-9/10", "56789").field("X-New", "1"))
                .then(rest())
                .then(
                    get()
                        .reused()
                        .status(200)
                        .text("0123456789")
                        .has("Content-Length", "10")
                        .lacks("Content-Range")
                        .has("X-New", "1"),
                )
                .then(ranged("bytes=-3").reused().status(206).text("789")),
            two("more of it", fresh_part("bytes 5-6/10", "56"))
                .then(ranged("bytes=5-6").forwarded())
                .then(ranged("bytes=3-6").reused().text("3456").has("Content-Range", "bytes 3-6/10"))
                .then(get().forwarded()),
            two(
                "another representation",
                part("bytes 5-9/10", "fghij").cache_control("max-age=60").field("ETag", "\"b\""),
            )
            .then(ranged("bytes=5-9").forwarded().text("fghij"))
            .then(ranged("bytes=5-9").reused().text("fghij"))
            .then(ranged("bytes=3-6").forwarded().says("fwd=partial"))
            .then(get().forwarded()),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_3_4_only_a_strong_validator_combines() {
    let rest = || ranged("bytes=5-9").forwarded().status(206).text("56789");
    play(
        "",
        [
            row("3.4 weak validators are not combined")
                .source(part("bytes 0-4/10", "01234").cache_control("max-age=60").field("ETag", "W/\"a\""))
                .source(part("bytes 5-9/10", "56789").cache_control("max-age=60").field("ETag", "W/\"a\""))
                .then(ranged("bytes=0-4").forwarded())
                .then(rest())
                .then(get().forwarded()),
            row("3.4 a stale part is completed by one that shares its validator")
                .source(fresh_part("bytes 0-4/10", "01234").field("Age", "60"))
                .source(fresh_part("bytes 5-9/10", "56789"))
                .then(ranged("bytes=0-4").forwarded())
                .then(rest())
                .then(get().reused().status(200).text("0123456789")),
            row("4.4 what was invalidated is not completed")
                .source(fresh_part("bytes 0-4/10", "01234"))
                .source(Reply::ok(""))
                .source(fresh_part("bytes 5-9/10", "56789"))
                .then(ranged("bytes=0-4").forwarded())
                .then(ask("POST").body("").forwarded().status(200))
                .then(rest())
                .then(get().forwarded()),
            row("3.3 a part that is all of it is a whole")
                .source(fresh_part("bytes 0-9/10", "0123456789"))
                .then(ranged("bytes=0-").forwarded().status(206).says("stored"))
                .then(
                    get()
                        .reused()
                        .status(200)
                        .text("0123456789")
                        .has("Content-Length", "10")
                        .lacks("Content-Range"),
                )
                .then(ranged("bytes=0-1,4-5").reused().status(206)),
            row("3.3 a whole that answers a range is stored")
                .source(digits())
                .then(
                    ranged("bytes=0-1")
                        .forwarded()
                        .sends("Range", "bytes=0-1")
                        .status(206)
                        .text("01")
                        .has("Content-Range", "bytes 0-1/10")
                        .says("stored"),
                )
                .then(get().reused().status(200).text("0123456789"))
                .then(ranged("bytes=0-1").reused().status(206).text("01")),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_5_2_1_a_part_suits_the_request_or_is_not_used() {
    let stored = |name: &str| {
        row(format!("5.2.1 {name}"))
            .source(fresh_part("bytes 2-5/10", "2345").field("Age", "20"))
            .then(ranged("bytes=2-5").forwarded())
    };
    let asked = |control: &str| ranged("bytes=2-5").field("Cache-Control", control);
    play(
        "[route.cache]\nrequest_directives = \"honour\"\n",
        [
            stored("max-age not exceeded").then(asked("max-age=50").reused()),
            stored("max-age").then(asked("max-age=10").forwarded()),
            stored("min-fresh").then(asked("min-fresh=50").forwarded()),
            stored("no-cache").then(asked("no-cache").forwarded()),
            row("5.2.1.5 no-store")
                .source(fresh_part("bytes 2-5/10", "2345"))
                .then(asked("no-store").forwarded())
                .then(ranged("bytes=2-5").forwarded()),
        ],
    )
    .await;
}

/// What does not say its length is as long as Content-Range says, or is not stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_3_3_parts_and_wholes_in_chunks() {
    let chunked = |status: u16, text: &str| {
        let steps = text.as_bytes().chunks(3).map(|chunk| Step::Bytes(chunk.to_vec()));
        let mut reply = Reply::chunks(steps.collect::<Vec<_>>());
        reply.status = status;
        reply.cache_control("max-age=60").field("ETag", "\"a\"")
    };
    let part = |text: &str| chunked(206, text).field("Content-Range", "bytes 2-5/10");
    play(
        "",
        [
            row("3.3 a part")
                .source(part("2345"))
                .then(ranged("bytes=2-5").forwarded().status(206).text("2345").says("stored"))
                .then(ranged("bytes=3-4").reused().status(206).text("34")),
            row("3.3 a part that is shorter than it says")
                .source(part("234"))
                .then(ranged("bytes=2-5").forwarded().status(206))
                .then(ranged("bytes=3-4").forwarded()),
            row("3.3 a part that is longer than it says")
                .source(part("23456"))
                .then(ranged("bytes=2-5").forwarded().status(206))
                .then(ranged("bytes=3-4").forwarded()),
            row("3 a whole that the source did not cut")
                .source(chunked(200, "0123456789"))
                .then(ranged("bytes=2-5").forwarded().status(200).text("0123456789").says("stored"))
                .then(get().reused().text("0123456789"))
                .then(ranged("bytes=2-5").reused().status(206).text("2345")),
            row("3 one in a coding: this client's condition makes it its own")
                .source(chunked(200, "0123456789").field("Content-Encoding", "gzip"))
                .then(ranged("bytes=2-5").field("If-Range", "\"a\"").forwarded().status(200))
                .then(get().forwarded()),
        ],
    )
    .await;
}

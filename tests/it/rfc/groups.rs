//! RFC 9875, and the fields of common use that tag responses for purges.

use super::{Row, Turn, ask, get, play, row};
use crate::support::Reply;

fn grouped(groups: &str) -> Reply {
    Reply::ok("a").cache_control("max-age=600").field("Cache-Groups", groups)
}

fn invalidates(groups: &str) -> Reply {
    Reply::new(204, "").field("Cache-Group-Invalidation", groups)
}

/// What is stored beside the path that is then written to.
fn stored(name: &str, tagged: Reply, written: Reply) -> Row {
    row(format!("RFC 9875 {name}"))
        .source(written)
        .beside("/x", tagged)
        .then(get().at("/x").forwarded())
        .then(get().at("/x").reused())
}

fn write() -> Turn {
    ask("POST").body("x").forwarded()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9875_3_an_answer_to_a_write_invalidates_groups() {
    let gone = |name: &str, groups: &str, invalidated: &str| {
        stored(name, grouped(groups), invalidates(invalidated))
            .then(write())
            .then(get().at("/x").forwarded())
            .then(get().at("/x").reused())
    };
    let stays = |name: &str, groups: &str, invalidated: &str| {
        stored(name, grouped(groups), invalidates(invalidated)).then(write()).then(get().at("/x").reused())
    };
    let many =
        |count: usize| (0..count).map(|number| format!("\"{number:032}\"")).collect::<Vec<_>>().join(", ");
    play(
        "",
        [
            gone("2 one", "\"a\"", "\"a\""),
            gone("2 in any position", "\"b\", \"a\"", "\"c\", \"a\""),
            gone("2 parameters are ignored", "\"a\";x;y=1", "\"a\";z"),
            gone("2 space and punctuation", "\"a, b\"", "\"a, b\""),
            gone("2 32 of 32 characters", &many(32), &format!("\"{:032}\"", 31)),
            gone("3 32 of 32 characters", &format!("\"{:032}\"", 31), &many(32)),
            stays("2.1 another", "\"a\"", "\"b\""),
            stays("2.1 case", "\"a\"", "\"A\""),
            stays("2.1 a part of it", "\"ab\"", "\"a\""),
            stays("2 a token is no string", "a", "\"a\""),
            stays("3 a token is no string", "\"a\"", "a"),
            stays("3 an unreadable list", "\"a\"", "\"a\", \"b"),
            stays("3 an inner list", "\"a\"", "(\"a\")"),
            stays("3 empty", "\"a\"", ""),
            stored("2 several lines", grouped("\"b\"").field("Cache-Groups", "\"a\""), invalidates("\"a\""))
                .then(write())
                .then(get().at("/x").forwarded()),
            stored(
                "3 several lines",
                grouped("\"a\""),
                invalidates("\"b\"").field("Cache-Group-Invalidation", "\"a\""),
            )
            .then(write())
            .then(get().at("/x").forwarded()),
            stored("3 any unsafe method", grouped("\"a\""), invalidates("\"a\""))
                .then(ask("M-SEARCH").forwarded())
                .then(get().at("/x").forwarded()),
            stored(
                "3 a redirect is no error",
                grouped("\"a\""),
                Reply::new(303, "").field("Cache-Group-Invalidation", "\"a\""),
            )
            .then(write())
            .then(get().at("/x").forwarded()),
            stored(
                "3 an error invalidates nothing",
                grouped("\"a\""),
                Reply::new(500, "").field("Cache-Group-Invalidation", "\"a\""),
            )
            .then(write())
            .then(get().at("/x").reused()),
            stored("2.2.1 it does not cascade", grouped("\"a\", \"b\""), invalidates("\"a\""))
                .beside("/y", grouped("\"b\""))
                .then(get().at("/y").forwarded())
                .then(write())
                .then(get().at("/x").forwarded())
                .then(get().at("/y").reused()),
            stored("3 the answer passes it on", grouped("\"a\""), invalidates("\"b\""))
                .then(write().has("Cache-Group-Invalidation", "\"b\""))
                .then(get().at("/x").reused().has("Cache-Groups", "\"a\"")),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9875_3_safe_methods_invalidate_nothing() {
    let asks = |method: &'static str| {
        stored(
            &format!("3 {method}"),
            grouped("\"a\""),
            Reply::ok("b").field("Cache-Group-Invalidation", "\"a\""),
        )
        .then(ask(method).forwarded())
        .then(get().at("/x").reused())
    };
    play("", ["GET", "HEAD", "OPTIONS", "QUERY"].map(asks)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9875_2_1_groups_are_of_one_origin() {
    let of = |host: &str, turn: Turn| turn.at("/x").field("Host", host);
    let name = "RFC 9875 2.1 the same group of another origin";
    play(
        "",
        [row(name)
            .source(invalidates("\"a\""))
            .beside("/x", grouped("\"a\""))
            .then(of("one.example", get().forwarded()))
            .then(of("two.example", get().forwarded()))
            .then(of("one.example:81", get().forwarded()))
            .then(write().field("Host", "ONE.example:80"))
            .then(of("two.example", get().reused()))
            .then(of("one.example:81", get().reused()))
            .then(of("one.example", get().forwarded()))],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_of_common_use_are_read_and_not_passed_on() {
    let tagged = || Reply::ok("a").cache_control("max-age=600");
    let gone = |name: &str, field: &'static str, value: &str, tag: &str| {
        stored(name, tagged().field(field, value), invalidates(&format!("\"{tag}\"")))
            .then(get().at("/x").reused().lacks(field))
            .then(write())
            .then(get().at("/x").forwarded().lacks(field))
    };
    play(
        "",
        [
            gone("Surrogate-Key", "Surrogate-Key", "b a", "a"),
            gone("Surrogate-Key with spaces", "Surrogate-Key", "  b   a ", "a"),
            gone("Cache-Tag", "Cache-Tag", "b, a", "a"),
            gone("Cache-Tag with a space", "Cache-Tag", "b,a c", "a c"),
            row("not passed on where nothing is stored")
                .source(Reply::ok("a").field("Surrogate-Key", "a").field("Cache-Tag", "a"))
                .then(get().forwarded().lacks("Surrogate-Key").lacks("Cache-Tag"))
                .then(write().lacks("Surrogate-Key").lacks("Cache-Tag")),
        ],
    )
    .await;
}

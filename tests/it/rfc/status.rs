//! RFC 9211 Cache-Status; RFC 9209 Proxy-Status.

use super::{Row, ask, get, play, row};
use crate::support::{Reply, Step};

const CACHE: &str = "Cache-Status";
const PROXY: &str = "Proxy-Status";

fn fresh() -> Reply {
    Reply::ok("a").cache_control("max-age=600")
}

fn stale() -> Reply {
    Reply::ok("a").cache_control("max-age=60, stale-if-error=600").field("Age", "90")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9211_2_one_member_on_every_answer() {
    let forwarded = |name: &str, reply: Reply, member: &str| {
        row(name)
            .source(reply)
            .then(get().forwarded().has(CACHE, member).has(PROXY, "tidegate; received-status=200"))
    };
    let unstored = |reason: &str, reply: Reply| {
        forwarded(reason, reply, &format!("tidegate; fwd=uri-miss; fwd-status=200; detail={reason}"))
    };
    let rows: Vec<Row> = vec![
        forwarded("2.2 uri-miss", fresh(), "tidegate; fwd=uri-miss; fwd-status=200; stored")
            .then(get().reused().says("hit").says("detail=memory").lacks(PROXY)),
        row("2.2 vary-miss")
            .filled(fresh().field("Vary", "X-A"))
            .then(get().field("X-A", "1").has(CACHE, "tidegate; fwd=vary-miss; fwd-status=200; stored")),
        row("2.2 method").source(Reply::ok("")).then(ask("PUT").body("x").says("fwd=method")),
        row("2.2 stale")
            .filled(stale())
            .source(fresh())
            .then(get().has(CACHE, "tidegate; fwd=stale; fwd-status=200; stored")),
        unstored("private", fresh().cache_control("private")),
        unstored("no-store", fresh().cache_control("no-store")),
        unstored("set-cookie", fresh().field("Set-Cookie", "a=b")),
        unstored("vary-star", fresh().field("Vary", "*")),
        unstored("no-freshness", Reply::ok("a")),
        row("authorization")
            .source(fresh())
            .then(get().field("Authorization", "Basic x").says("detail=authorization")),
        row("several caches in a row append")
            .source(fresh().field(CACHE, "origin; hit; ttl=9").field(PROXY, "inner; received-status=200"))
            .then(
                get()
                    .has(CACHE, "origin; hit; ttl=9, tidegate; fwd=uri-miss; fwd-status=200; stored")
                    .has(PROXY, "inner; received-status=200, tidegate; received-status=200"),
            )
            .then(get().reused().says("hit")),
        row("what is refused").source(fresh()).then(
            get()
                .at("/../b")
                .reused()
                .status(400)
                .has(CACHE, "tidegate")
                .has(PROXY, "tidegate; error=http_request_error"),
        ),
        row("no answer").source(Reply::none(Step::Cut)).then(
            get()
                .status(502)
                .has(CACHE, "tidegate; fwd=uri-miss")
                .has(PROXY, "tidegate; error=connection_terminated"),
        ),
    ];
    play("", rows).await;
    let bypass =
        row("2.2 bypass").source(fresh()).then(get().has(CACHE, "tidegate; fwd=bypass; fwd-status=200"));
    play("[route.cache]\nenabled = false\n", [bypass]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9209_2_what_a_stale_answer_stands_in_for() {
    play(
        "",
        [
            row("2.1.5 received-status").filled(stale()).source(Reply::new(503, "x")).then(
                get()
                    .status(200)
                    .says("fwd=stale")
                    .says("fwd-status=503")
                    .says("detail=stale-if-error")
                    .has(PROXY, "tidegate; received-status=503"),
            ),
            row("2.1.1 error").filled(stale()).source(Reply::none(Step::Cut)).then(
                get()
                    .status(200)
                    .says("fwd=stale")
                    .says("detail=stale-if-error")
                    .has(PROXY, "tidegate; error=connection_terminated"),
            ),
        ],
    )
    .await;
}

//! RFC 9111 5.2.1 requests' Cache-Control; 5.4 Pragma.

use super::{Row, get, play, row};
use crate::support::Reply;

const HONOUR: &str = "[route.cache]\nrequest_directives = \"honour\"\nstale_if_error = \"0s\"\n";

fn fresh() -> Reply {
    Reply::ok("old").cache_control("max-age=600").field("ETag", "\"old\"")
}

/// Ten minutes old, and ten minutes stale.
fn stale(control: &str) -> Reply {
    Reply::ok("old").cache_control(control).field("Age", "1200").field("ETag", "\"old\"")
}

fn new() -> Reply {
    Reply::ok("new").cache_control("max-age=600")
}

fn control(value: &str) -> super::Turn {
    get().field("Cache-Control", value)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_5_2_1_what_is_fresh() {
    let reused = |name: &str, value: &str| {
        row(name).filled(fresh().field("Age", "60")).then(control(value).reused().text("old").says("hit"))
    };
    let asked = |name: &str, value: &str| {
        let not_modified = Reply::new(304, "").field("ETag", "\"old\"").cache_control("max-age=600");
        row(name).filled(fresh().field("Age", "60")).source(not_modified).then(
            control(value).forwarded().text("old").sends("If-None-Match", "\"old\"").says("fwd=request"),
        )
    };
    play(
        HONOUR,
        [
            reused("5.2.1.1 max-age above the age", "max-age=100"),
            asked("5.2.1.1 max-age below the age", "max-age=30"),
            asked("5.2.1.1 max-age=0", "max-age=0"),
            reused("5.2.1.2 max-stale concerns what is stale", "max-stale=0"),
            reused("5.2.1.3 min-fresh, enough is left", "min-fresh=100"),
            asked("5.2.1.3 min-fresh, less is left", "min-fresh=590"),
            asked("5.2.1.4 no-cache", "no-cache"),
            asked("5.2.1.4 no-cache, in capitals", "foo, No-Cache"),
            reused("5.2.1.5 no-store may be answered from the store", "no-store"),
            reused("5.2.1.7 only-if-cached", "only-if-cached"),
            reused("5.2.3 unknown directives", "foo=\"no-cache\", bar"),
            row("5.4 Pragma where there is no Cache-Control")
                .filled(fresh())
                .then(get().field("Pragma", "no-cache").forwarded()),
            row("5.4 Pragma beside Cache-Control is ignored")
                .filled(fresh())
                .then(control("max-age=100").field("Pragma", "no-cache").reused()),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_5_2_1_what_is_stale() {
    let accepted = |name: &str, stored: &str, value: &str| {
        row(name).filled(stale(stored)).then(control(value).reused().text("old").says("detail=max-stale"))
    };
    let asked = |name: &str, stored: &str, value: &str| {
        row(name).filled(stale(stored)).source(new()).then(control(value).forwarded().text("new"))
    };
    play(
        HONOUR,
        [
            accepted("5.2.1.2 max-stale of any length", "max-age=600", "max-stale"),
            accepted("5.2.1.2 max-stale, long enough", "max-age=600", "max-stale=700"),
            asked("5.2.1.2 max-stale, too short", "max-age=600", "max-stale=500"),
            asked("5.2.1.2 max-stale, no number", "max-age=600", "max-stale=x"),
            accepted("5.2.1.1 max-age and max-stale", "max-age=600", "max-age=2000, max-stale"),
            asked("5.2.1.1 older than max-age allows", "max-age=600", "max-age=1000, max-stale"),
            asked("5.2.1.1 max-age alone tolerates no staleness", "max-age=600", "max-age=2000"),
            asked("5.2.2.2 must-revalidate", "max-age=600, must-revalidate", "max-stale"),
            asked("5.2.2.8 proxy-revalidate", "max-age=600, proxy-revalidate", "max-stale"),
            asked("5.2.2.10 s-maxage", "s-maxage=600", "max-stale"),
            asked("5.2.2.10 s-maxage with a window", "s-maxage=600, stale-if-error=60", "max-stale"),
            asked("5.2.2.4 no-cache", "no-cache", "max-stale"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_5_2_1_what_is_not_there() {
    let nothing =
        |turn: super::Turn| turn.reused().status(504).has("Content-Type", "application/problem+json");
    let rows: [Row; 5] = [
        row("5.2.1.7 only-if-cached").source(new()).then(nothing(control("only-if-cached"))),
        row("5.2.1.7 only-if-cached, stale")
            .filled(stale("max-age=600"))
            .then(nothing(control("only-if-cached"))),
        row("5.2.1.7 only-if-cached, tolerating stale")
            .filled(stale("max-age=600"))
            .then(control("only-if-cached, max-stale").reused().text("old")),
        row("5.2.1.5 no-store")
            .source(new())
            .then(control("no-store").forwarded().text("new"))
            .then(get().forwarded())
            .then(get().reused()),
        row("5.2.1.5 no-store leaves what is stored")
            .filled(stale("max-age=600"))
            .source(Reply::ok("another").cache_control("max-age=600"))
            .then(control("no-store").forwarded().withholds("If-None-Match"))
            .then(get().forwarded().sends("If-None-Match", "\"old\"")),
    ];
    play(HONOUR, rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_5_2_1_failures_and_no_cache() {
    play(
        "[route.cache]\nrequest_directives = \"honour\"\n",
        [
            row("5.2.1.4 no-cache is not answered with what is stored, though the source fails")
                .filled(fresh())
                .source(Reply::new(503, "trouble"))
                .then(control("no-cache").forwarded().status(503)),
            row("5.2.1.1 max-age is, within stale-if-error")
                .filled(fresh().field("Age", "60"))
                .source(Reply::new(503, "trouble"))
                .then(control("max-age=30").forwarded().status(200).text("old")),
        ],
    )
    .await;
}

/// The default.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_5_2_1_a_route_that_ignores_them() {
    let reused = |value: &str| row(value).filled(fresh()).then(control(value).reused().text("old"));
    let never = ["no-cache", "max-age=0", "no-store", "min-fresh=10000"].map(reused);
    play("", never).await;
    let asked = row("only-if-cached").source(new()).then(control("only-if-cached").forwarded().status(200));
    play("", [asked]).await;
}

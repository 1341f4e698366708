//! RFC 9111 3 storing.

use super::{Row, get, play, row};
use crate::support::{Ask, Reply, ScriptedSource, Step, gateway_for, is_broken};

fn answered(status: u16, control: &str) -> Reply {
    Reply::new(status, "a").cache_control(control)
}

fn stored(name: &str, status: u16, control: &str) -> Row {
    row(format!("{name}: {status}, {control}"))
        .filled(answered(status, control))
        .then(get().reused().status(status))
}

fn not_stored(name: &str, status: u16, control: &str) -> Row {
    row(format!("{name}: {status}, {control}"))
        .filled(answered(status, control))
        .then(get().forwarded().status(status))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_3_which_responses_are_stored() {
    let statuses = [
        200, 201, 202, 203, 204, 205, 226, 299, 300, 301, 302, 303, 307, 308, 399, 400, 401, 403, 404, 405,
        409, 410, 412, 414, 416, 418, 422, 451, 499, 500, 501, 502, 503, 504, 599,
    ];
    let explicit = statuses.map(|status| stored("3 any final status", status, "max-age=60"));
    let never =
        [206, 304, 428, 429, 431, 511].map(|status| not_stored("3, 6585", status, "public, max-age=60"));
    let understood = [200, 204, 301, 404, 412, 500].map(|status| {
        [
            stored("5.2.2.3", status, "must-understand, max-age=60"),
            stored("5.2.2.3", status, "no-store, must-understand, max-age=60"),
            not_stored("5.2.2.3 malformed", status, "no-store, must-understand=1, max-age=60"),
        ]
    });
    let unknown = [299, 399, 499, 599].map(|status| {
        [
            not_stored("5.2.2.3", status, "must-understand, max-age=60"),
            not_stored("5.2.2.3", status, "no-store, must-understand, max-age=60"),
        ]
    });
    let directives = [
        not_stored("5.2.2.5", 200, "no-store, max-age=60"),
        not_stored("5.2.2.5 any case", 200, "No-StORe, max-age=60"),
        not_stored("5.2.2.5 with an argument", 200, "no-store=\"a\", max-age=60"),
        not_stored("5.2.2.7", 200, "private, max-age=60"),
        not_stored("5.2.2.7 s-maxage does not help", 200, "private, s-maxage=60"),
        not_stored("5.2.2.7 field names", 200, "private=\"x-a\", max-age=60"),
        not_stored("5.2.2.7 nonsense", 200, "private=, max-age=60"),
        stored("5.2.2.7 another directive", 200, "x-private, no-stored, max-age=60"),
    ];
    let rows = explicit.into_iter().chain(never).chain(understood.into_iter().flatten());
    let rows: Vec<Row> = rows.chain(unknown.into_iter().flatten()).chain(directives).collect();
    play("", rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_5_2_2_4_no_cache_is_stored_and_validated() {
    let not_modified = Reply::new(304, "").field("ETag", "\"a\"").cache_control("no-cache");
    let rows =
        ["no-cache", "no-cache, max-age=60", "no-cache=\"x-a, x-b\", max-age=60", "no-cache=, max-age=60"]
            .map(|control| {
                row(format!("5.2.2.4: {control}"))
                    .filled(answered(200, control).field("ETag", "\"a\"").field("X-A", "1"))
                    .source(not_modified.clone())
                    .then(
                        get()
                            .forwarded()
                            .sends("If-None-Match", "\"a\"")
                            .status(200)
                            .text("a")
                            .has("X-A", "1"),
                    )
                    .then(get().forwarded().sends("If-None-Match", "\"a\"").status(200).text("a"))
            });
    play("", rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_3_5_authorization() {
    let authorized = || get().field("Authorization", "Basic eDp5");
    let shared =
        ["public, max-age=60", "s-maxage=60", "must-revalidate, max-age=60", "s-maxage=60, max-age=0"];
    let shared = shared.map(|control| {
        row(format!("3.5: {control}"))
            .source(answered(200, control))
            .then(authorized().forwarded())
            .then(authorized().reused())
            .then(get().reused())
            .then(get().field("Authorization", "Basic YTpi").reused())
    });
    let own = [
        "max-age=60",
        "proxy-revalidate, max-age=60",
        "public=x, max-age=60",
        "s-maxage=x, max-age=60",
        "private, public, max-age=60",
    ];
    let own = own.map(|control| {
        row(format!("3.5: {control}"))
            .source(answered(200, control))
            .then(authorized().forwarded())
            .then(authorized().forwarded())
            .then(get().forwarded())
    });
    let targeted = [
        row("9213 2.2 allows")
            .source(answered(200, "max-age=60").field("CDN-Cache-Control", "public, max-age=60"))
            .then(authorized().forwarded())
            .then(get().reused()),
        row("9213 2.2 does not allow")
            .source(answered(200, "public, max-age=60").field("CDN-Cache-Control", "max-age=60"))
            .then(authorized().forwarded())
            .then(get().forwarded()),
        row("3.5 what others stored is used").filled(answered(200, "max-age=60")).then(authorized().reused()),
    ];
    play("", shared.into_iter().chain(own).chain(targeted)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_3_1_which_fields_are_stored() {
    let plain = || answered(200, "max-age=60");
    let kept = [
        ("X-Unknown", "a  b;\t\"c"),
        ("Clear-Site-Data", "\"cookies\""),
        ("Content-Language", "de, en"),
        ("Content-Type", "text/plain; charset=x"),
        ("Content-Encoding", "x-own"),
        ("Content-Location", "/other"),
        ("Content-Disposition", "inline"),
        ("Content-Security-Policy", "default-src 'self'"),
        ("Expires", "0"),
        ("ETag", "W/\"a,b\""),
        ("Last-Modified", "Sunday, 06-Nov-94 08:49:37 GMT"),
        ("Link", "</a>; rel=preload"),
        ("Pragma", "no-cache"),
        ("Retry-After", "7"),
        ("Strict-Transport-Security", "max-age=1"),
        ("WWW-Authenticate", "Basic realm=\"a\""),
    ];
    let kept = kept.map(|(name, value)| {
        row(format!("3.1 {name}"))
            .source(plain().field(name, value))
            .then(get().forwarded().has(name, value))
            .then(get().reused().has(name, value))
    });
    let dropped = [
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Proxy-Authentication-Info",
        "Proxy-Connection",
        "TE",
        "Upgrade",
    ];
    let dropped = dropped.map(|name| {
        row(format!("3.1 {name}"))
            .source(plain().field(name, "a"))
            .then(get().forwarded().lacks(name))
            .then(get().reused().lacks(name))
    });
    play("", kept.into_iter().chain(dropped)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_3_1_lines_and_what_connection_names() {
    let plain = || answered(200, "max-age=60");
    let rows = [
        row("3.1 Connection")
            .source(
                plain()
                    .field("Connection", "X-Hop,, x-other")
                    .field("Connection", "keep-alive")
                    .field("X-Hop", "1")
                    .field("X-Hop", "2")
                    .field("X-Other", "1")
                    .field("X-Third", "1"),
            )
            .then(get().forwarded().lacks("X-Hop").lacks("X-Other").has("X-Third", "1"))
            .then(get().reused().lacks("X-Hop").lacks("X-Other").lacks("Connection").has("X-Third", "1")),
        row("3.1 several lines in their order")
            .source(
                plain()
                    .field("X-Line", "b")
                    .field("X-Other", "1")
                    .field("x-line", "")
                    .field("X-LINE", "a, c"),
            )
            .then(get().forwarded().has("X-Line", "b, , a, c"))
            .then(get().reused().has("X-Line", "b, , a, c")),
        row("5.5 Warning is not ours")
            .source(plain())
            .then(get().forwarded().lacks("Warning"))
            .then(get().reused().lacks("Warning")),
    ];
    play("", rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_7_3_a_cookie_by_the_routes_word() {
    let cookies = || answered(200, "max-age=60").field("Set-Cookie", "a=b").field("Set-Cookie", "c=d");
    play(
        "",
        [row("7.3 not stored")
            .source(cookies())
            .then(get().forwarded().has("Set-Cookie", "a=b, c=d"))
            .then(get().forwarded().has("Set-Cookie", "a=b, c=d"))],
    )
    .await;
    play(
        "[route.cache]\nstore_set_cookie = true\n",
        [
            row("7.3 stored")
                .source(cookies())
                .then(get().forwarded())
                .then(get().reused().has("Set-Cookie", "a=b, c=d")),
            row("5.2.2.4 still counts")
                .source(cookies().cache_control("no-cache=\"set-cookie\""))
                .then(get().forwarded())
                .then(get().forwarded()),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_3_3_incomplete_responses_are_never_stored() {
    let source = ScriptedSource::start().await;
    let gateway = gateway_for(&source, "").await;
    let part = || Step::Bytes(b"half".to_vec());
    for (name, path, incomplete) in [
        ("Content-Length not reached", "/a", Reply::promising(8, [part(), Step::Cut])),
        ("nothing of it", "/b", Reply::promising(8, [Step::Cut])),
        ("reset", "/c", Reply::promising(8, [part(), Step::Reset])),
        ("no last chunk", "/d", Reply::chunks([part(), Step::Cut])),
        ("no chunk", "/e", Reply::chunks([Step::Cut])),
    ] {
        let whole = Reply::ok("whole").cache_control("max-age=60");
        source.sequence(path, vec![incomplete.cache_control("max-age=60"), whole]);
        let first = Ask::get(path).send(gateway.public).await;
        assert!(is_broken(&first), "{name}: {first:?}");
        assert_eq!(source.count(path), 1, "{name}: what the source has begun to answer is not asked again");
        for _ in 0..2 {
            let next = gateway.get(path).await;
            assert_eq!((next.status, next.text().as_str()), (200, "whole"), "{name}");
        }
        assert_eq!(source.count(path), 2, "{name}: the whole is stored");
    }
}

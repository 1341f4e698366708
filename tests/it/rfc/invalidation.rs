//! RFC 9111 4.4.

use super::{Row, Turn, ask, get, play, row};
use crate::support::{Ask, EVERYTHING, Reply, ScriptedSource, Setup, Step};

fn fresh(text: &str) -> Reply {
    Reply::ok(text).cache_control("max-age=600")
}

/// A stored response, and a request that the source answers with this.
fn then_asked(name: String, turn: Turn, reply: Reply) -> Row {
    row(name).filled(fresh("a")).source(reply).source(fresh("b")).then(get().reused().text("a")).then(turn)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_4_a_write_that_succeeds_makes_its_target_old() {
    let mut rows = Vec::new();
    for method in ["PUT", "DELETE", "PATCH", "POST", "M-SEARCH", "query", "X_9!"] {
        for status in [200, 201, 204, 299, 300, 301, 302, 303, 307, 308] {
            let turn = ask(method).body("x").forwarded().status(status);
            rows.push(
                then_asked(format!("4.4 {method} {status}"), turn, Reply::new(status, ""))
                    .then(get().forwarded().text("b")),
            );
        }
        for status in [400, 404, 409, 412, 500, 503] {
            let turn = ask(method).body("x").forwarded().status(status);
            rows.push(
                then_asked(format!("4.4 {method} {status}"), turn, Reply::new(status, ""))
                    .then(get().reused().text("a")),
            );
        }
    }
    for method in ["OPTIONS", "QUERY"] {
        let turn = ask(method).forwarded().status(200);
        let reply = Reply::ok("x").field("Cache-Group-Invalidation", "\"g\"").field("Location", "{path}");
        rows.push(then_asked(format!("9.2.1 {method} is safe"), turn, reply).then(get().reused().text("a")));
    }
    let unanswered = ask("PUT").body("x").forwarded().status(502);
    rows.push(
        then_asked("4.4 no answer is no success".to_owned(), unanswered, Reply::none(Step::Cut))
            .then(get().reused().text("a")),
    );
    rows.push(
        row("9.2.1 HEAD is safe")
            .filled(fresh("a"))
            .then(ask("HEAD").reused().status(200))
            .then(get().reused().text("a")),
    );
    rows.push(
        row("9.2.1 TRACE is safe")
            .filled(fresh("a"))
            .then(ask("TRACE").status(405))
            .then(get().reused().text("a")),
    );
    play("", rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_4_every_variant_and_every_query_goes() {
    let varied = |text: &str| fresh(text).field("Vary", "X");
    play(
        "",
        [
            row("4.4 variants")
                .source(varied("1"))
                .source(varied("2"))
                .source(Reply::new(204, ""))
                .source(varied("3"))
                .then(get().field("X", "1").forwarded())
                .then(get().field("X", "2").forwarded())
                .then(get().field("X", "1").reused().text("1"))
                .then(ask("DELETE").field("X", "3").forwarded())
                .then(get().field("X", "1").forwarded().text("3"))
                .then(get().field("X", "2").forwarded().text("3")),
            row("4.4 queries")
                .source(fresh("1"))
                .source(fresh("2"))
                .source(Reply::new(204, ""))
                .source(fresh("3"))
                .then(get().at("?a").forwarded())
                .then(get().forwarded())
                .then(ask("PUT").at("?b").forwarded())
                .then(get().at("?a").forwarded())
                .then(get().forwarded()),
            row("4.4 what QUERY was answered")
                .source(fresh("1"))
                .source(Reply::new(204, ""))
                .source(fresh("2"))
                .then(ask("QUERY").body("q").forwarded())
                .then(ask("QUERY").body("q").reused())
                .then(ask("PUT").forwarded())
                .then(ask("QUERY").body("q").forwarded().text("2")),
            row("4.4 what is stale")
                .filled(Reply::ok("a").cache_control("max-age=60, stale-if-error=600").field("Age", "90"))
                .source(Reply::new(204, ""))
                .source(Reply::new(503, "down"))
                .then(ask("PUT").forwarded())
                .then(get().forwarded().status(503).text("down")),
            row("5861 4 what is fresh is not used on error either")
                .filled(Reply::ok("a").cache_control("max-age=60, stale-if-error=600").field("ETag", "\"a\""))
                .source(Reply::new(204, ""))
                .source(Reply::new(503, "down"))
                .then(ask("PUT").forwarded())
                .then(get().forwarded().withholds("If-None-Match").status(503)),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_4_what_the_answer_names_goes_if_it_is_of_the_same_origin() {
    let names = |field: &str, reference: &str, status: u16, named: Turn| {
        let host = |turn: Turn| turn.field("Host", "api.example");
        row(format!("4.4 {field}: {reference}, {status}"))
            .source(Reply::new(status, "").field(field, reference))
            .beside("/x", fresh("a"))
            .then(host(get().at("/x").forwarded()))
            .then(host(get().at("/x").reused()))
            .then(host(ask("POST").body("x").forwarded().status(status)))
            .then(host(named.at("/x")))
    };
    let mut rows = Vec::new();
    for field in ["Location", "Content-Location"] {
        for reference in [
            "{path}/x",
            "{path}/x?a=b",
            "{path}/x#f",
            "{path}/%78",
            "{path}/y/../x",
            "http://api.example{path}/x",
            "HTTP://API.EXAMPLE:80{path}/x",
            "//api.example{path}/x",
            ".{path}/x",
        ] {
            for status in [200, 201, 303] {
                rows.push(names(field, reference, status, get().forwarded()));
            }
            for status in [404, 500] {
                rows.push(names(field, reference, status, get().reused()));
            }
        }
        for reference in [
            "http://other.example{path}/x",
            "http://api.example:81{path}/x",
            "https://api.example{path}/x",
            "//other.example{path}/x",
            "http://api.example.evil{path}/x",
            "http://api.example@evil{path}/x",
            "{path}/xx",
            "http://[",
            "",
        ] {
            rows.push(names(field, reference, 201, get().reused()));
        }
    }
    play("", rows).await;
}

/// The origin is that of the target as the client asked for it, by the word of a trusted proxy too, or as
/// the source was asked; never the source's own where it was not sent that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_4_the_origin_is_that_of_the_target() {
    for (host, proto, reference, gone) in [
        ("client", "https", "https://api.example/x", true),
        ("client", "https", "https://api.example:443/x", true),
        ("client", "http", "https://api.example/x", false),
        ("client", "http", "{source}/x", false),
        ("source", "http", "{source}/x", true),
        ("source", "http", "http://api.example/x", true),
        ("sent.example", "http", "http://sent.example/x", true),
        ("sent.example", "http", "http://other.example/x", false),
    ] {
        let source = ScriptedSource::start().await;
        let table = format!("{}host = \"{host}\"\n", source.table());
        let url = table.split('"').find(|part| part.starts_with("http://")).unwrap_or_default();
        source.always("/x", fresh("a"));
        source.always("/", Reply::new(201, "").field("Location", &reference.replace("{source}", url)));
        let setup = Setup::new(format!("{table}{EVERYTHING}")).server("trusted_proxies = [\"127.0.0.1\"]");
        let gateway = setup.start().await;
        let asked =
            |ask: Ask| gateway.send(ask.field("Host", "api.example").field("X-Forwarded-Proto", proto));
        asked(Ask::get("/x")).await;
        assert!(asked(Ask::get("/x")).await.is_hit());
        assert_eq!(asked(Ask::post("/", "x")).await.status, 201);
        assert_eq!(asked(Ask::get("/x")).await.is_hit(), !gone, "{host} {proto} {reference}");
    }
}

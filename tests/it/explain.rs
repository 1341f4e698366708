//! `GET /v1/explain` against what the next request gets, and that it leaves no trace.

mod cases;
mod commands;

use crate::support::{
    Answer, Ask, EVERYTHING, Gateway, RedisServer, Reply, ScriptedSource, Setup, eventually, gateway_for,
};
use serde_json::{Value, json};
use std::collections::HashSet;

/// A query value, escaped as a form would.
fn escaped(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Asks why a request would be answered as it is.
async fn explained(gateway: &Gateway, method: &str, target: &str, fields: &[(String, String)]) -> Value {
    let url = format!("http://{}{target}", gateway.public);
    let mut query = format!("/v1/explain?url={}&method={method}", escaped(&url));
    for (name, value) in fields {
        query += &format!("&header={}", escaped(&format!("{name}: {value}")));
    }
    let answer = gateway.admin_get(&query).await;
    assert_eq!(answer.status, 200, "{method} {target}: {}", answer.text());
    answer.json()
}

async fn why(gateway: &Gateway, target: &str) -> Value {
    explained(gateway, "GET", target, &[]).await
}

/// Everything that is counted, without what the process itself and its connections move.
async fn counted(gateway: &Gateway) -> HashSet<String> {
    let text = gateway.admin_get("/metrics").await.text();
    let others = ["#", "process_", "tidegate_connections "];
    text.lines()
        .filter(|line| !others.iter().any(|other| line.starts_with(other)))
        .map(str::to_owned)
        .collect()
}

fn figure(told: &Value, name: &str) -> f64 {
    told["freshness"][name]["seconds"].as_f64().unwrap_or_else(|| panic!("{name} in {told}"))
}

fn from<'a>(told: &'a Value, name: &str) -> &'a str {
    told["freshness"][name]["from"].as_str().unwrap_or_else(|| panic!("{name} in {told}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_explanation_leaves_no_trace() {
    let source = ScriptedSource::start().await;
    source.on("*", |request| match request.path() {
        "/stale" => Reply::ok("x").field("Age", "60").cache_control("max-age=10, stale-while-revalidate=600"),
        "/private" => Reply::ok("x").cache_control("private"),
        _ => Reply::ok("x").cache_control("max-age=600"),
    });
    let quota = "[[route.limit]]\nname = \"edge\"\nrequests = 5\nper = \"1h\"\nkey = \"client\"\n\
                 [[route.limit]]\nname = \"on\"\nrequests = 4\nper = \"1h\"\nkey = \"client\"\nstage = \"source\"\n";
    let gateway = gateway_for(&source, quota).await;
    for path in ["/fresh", "/stale", "/private"] {
        gateway.get(path).await;
    }
    let before = counted(&gateway).await;
    for path in ["/fresh", "/stale", "/private", "/nothing", "/a/../b"] {
        for method in ["GET", "HEAD", "PUT", "QUERY", "OPTIONS"] {
            for _ in 0..5 {
                explained(&gateway, method, path, &[("Range".into(), "bytes=0-0".into())]).await;
            }
        }
    }
    let after = counted(&gateway).await;
    let moved: Vec<_> = after.symmetric_difference(&before).collect();
    assert!(moved.is_empty() && !before.is_empty(), "{moved:?}");
    assert_eq!(source.requests.all().len(), 3, "nobody was asked");
    let told = why(&gateway, "/nothing").await;
    let left: Vec<_> = told["quotas"].as_array().unwrap().iter().map(|quota| &quota["remaining"]).collect();
    assert_eq!(left, [&json!(2), &json!(1)], "three requests, each forwarded: {told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_arithmetic_names_the_source_of_each_figure() {
    let source = ScriptedSource::start().await;
    let reply = |cache_control: &str| Reply::ok("x").cache_control(cache_control);
    source.always("/s", reply("s-maxage=30, max-age=60").field("Age", "10"));
    source.always("/swr", reply("max-age=60, stale-while-revalidate=5, stale-if-error=7"));
    source.always("/expires", Reply::ok("x").field("Expires", &crate::support::http_date(100)));
    source.always("/guess", Reply::ok("x").field("Last-Modified", &crate::support::http_date(-1000)));
    source.always("/targeted", reply("no-store").field("CDN-Cache-Control", "max-age=20"));
    source.always("/missing", Reply::new(404, ""));
    source.always("/ttl", Reply::ok("x"));
    let more =
        "[route.cache]\nttl = \"50s\"\nnegative = { \"404\" = \"3s\" }\nstale_while_revalidate = \"9s\"\n";
    let gateway = gateway_for(&source, more).await;
    for (path, lifetime, part) in [
        ("/s", 30.0, "Cache-Control: s-maxage"),
        ("/swr", 60.0, "Cache-Control: max-age"),
        ("/expires", 100.0, "Expires"),
        ("/targeted", 20.0, "CDN-Cache-Control: max-age"),
        ("/missing", 3.0, "the route's negative"),
        ("/ttl", 50.0, "the route's ttl"),
    ] {
        gateway.get(path).await;
        let told = why(&gateway, path).await;
        let seconds = figure(&told, "lifetime");
        assert!((lifetime * 0.9 - 2.0..=lifetime).contains(&seconds), "{path}: {told}");
        assert!(from(&told, "lifetime").starts_with(part), "{path}: {told}");
        let age = figure(&told, "initial_age") + figure(&told, "resident_time");
        assert!((age - figure(&told, "current_age")).abs() < 0.01, "{told}");
        assert!((seconds - age - figure(&told, "ttl")).abs() < 0.01, "{told}");
        assert_eq!(
            (&told["decision"], &told["reason"], &told["tier"]),
            (&json!("fresh"), &json!("hit"), &json!("memory"))
        );
    }
    assert!(figure(&why(&gateway, "/s").await, "initial_age") >= 10.0);
    let told = why(&gateway, "/swr").await;
    assert_eq!((figure(&told, "stale_while_revalidate"), figure(&told, "stale_if_error")), (5.0, 7.0));
    assert!(from(&told, "stale_while_revalidate").starts_with("Cache-Control"), "{told}");
    let told = why(&gateway, "/ttl").await;
    assert_eq!(from(&told, "stale_while_revalidate"), "the route's stale_while_revalidate");
    assert!(gateway.admin_post("/v1/purge", &json!({"prefix": "/ttl", "mode": "soft"})).await.status == 202);
    let told = why(&gateway, "/ttl").await;
    assert_eq!(from(&told, "lifetime"), "ended by a soft purge", "{told}");
    assert_eq!(told["variants"][0]["purged_by"], json!(["prefix"]), "{told}");
    let guessed = Setup::new(format!("{}{EVERYTHING}", source.table())).start().await;
    guessed.get("/guess").await;
    let told = why(&guessed, "/guess").await;
    assert!(from(&told, "lifetime").starts_with("heuristic"), "{told}");
    assert!((88.0..=101.0).contains(&figure(&told, "lifetime")), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_learns_why_it_is_always_a_miss() {
    let source = ScriptedSource::start().await;
    source.always("/items/1", Reply::ok("x").cache_control("private, max-age=60"));
    source.always(
        "/items/2",
        Reply::ok("x").cache_control("max-age=60").field("Vary", "Accept-Language, X-Api-Key"),
    );
    let text = format!(
        "{}[[route]]\nname = \"posts\"\npath = \"/items/{{id}}\"\nmethods = [\"POST\"]\nsource = \"inventory\"\n\
         [[route]]\nname = \"other\"\nhost = \"other.example\"\npath = \"/{{*rest}}\"\nsource = \"inventory\"\n\
         [[route]]\nname = \"items\"\npath = \"/items/{{id}}\"\nsource = \"inventory\"\n\
         [route.cache]\nignore_query = [\"utm_*\"]\n",
        source.table()
    );
    let gateway = Setup::new(text).start().await;
    gateway.get("/items/1").await;
    let told = why(&gateway, "/items/1").await;
    assert_eq!(
        (&told["reason"], &told["marker"]["reason"]),
        (&json!("uri-miss"), &json!("private")),
        "{told}"
    );
    assert!(told["rule"]["says"].as_str().unwrap().contains("could not be stored: private"), "{told}");
    assert_eq!(told["route"]["place"], 3, "{told}");
    assert_eq!(
        (&told["route"]["path"], &told["route"]["names"]["id"]),
        (&json!("/items/{id}"), &json!("1")),
        "{told}"
    );
    let over: Vec<_> = told["passed_over"].as_array().unwrap().iter().map(|one| &one["because"]).collect();
    assert_eq!(over, [&json!("method"), &json!("host")], "{told}");

    let ask = Ask::get("/items/2").field("Accept-Language", "de").field("X-Api-Key", "CANARY");
    gateway.send(ask).await;
    let told = why(&gateway, "/items/2?utm_source=a").await;
    assert_eq!((&told["reason"], &told["rule"]["section"]), (&json!("vary-miss"), &json!("RFC 9111 4.1")));
    assert_eq!(told["key"], json!(format!("http://{}/items/2", gateway.public)), "{told}");
    assert_eq!(told["variants"][0]["variant"]["accept-language"], "de", "{told}");
    assert!(!told.to_string().contains("CANARY"), "I12: {told}");
    gateway.admin_post("/v1/purge", &json!({"all": true})).await;
    let told = why(&gateway, "/items/2").await;
    assert_eq!(
        (&told["variants"][0]["standing"], &told["reason"]),
        (&json!("gone"), &json!("uri-miss")),
        "{told}"
    );
    assert!(told["fence"].as_u64() > told["variants"][0]["fence"].as_u64(), "{told}");
    assert_eq!(told["source"]["breaker"], "closed", "{told}");
    assert_eq!(told["source"]["concurrency"], 256, "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_breaker_is_foreseen() {
    let source = ScriptedSource::start().await;
    let broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = std::sync::Arc::clone(&broken);
    source.on("*", move |request| {
        if flag.load(std::sync::atomic::Ordering::SeqCst) {
            return Reply::none(crate::support::Step::Reset);
        }
        let reuse = if request.path() == "/strict" { "must-revalidate" } else { "stale-if-error=600" };
        Reply::ok("x")
            .field("Age", "60")
            .field("ETag", "\"a\"")
            .cache_control(&format!("max-age=10, {reuse}"))
    });
    let gateway = gateway_for(&source, "").await;
    for path in ["/lenient", "/strict"] {
        gateway.get(path).await;
    }
    let told = why(&gateway, "/lenient").await;
    assert_eq!((&told["decision"], &told["reason"]), (&json!("validate"), &json!("stale")), "{told}");
    broken.store(true, std::sync::atomic::Ordering::SeqCst);
    for (path, decision) in [("/lenient", "stale"), ("/strict", "own"), ("/nothing", "own")] {
        eventually("an open breaker is seen before, and is open still after", async || {
            gateway.get("/knock").await;
            let told = why(&gateway, path).await;
            let real = gateway.get(path).await;
            let is_open = async || why(&gateway, path).await["source"]["breaker"] == "open";
            if told["source"]["breaker"] != "open" || !is_open().await {
                return false;
            }
            assert_eq!(told["decision"], decision, "{told}");
            assert_agrees(&told, &real, path);
            true
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_shared_tier_has_is_seen_and_not_promoted() {
    let (source, redis) = (ScriptedSource::start().await, RedisServer::start().await);
    source.always("*", Reply::ok("x").cache_control("max-age=600"));
    let setup = || Setup::new(format!("{}{}{EVERYTHING}", source.table(), redis.table()));
    let (one, other) = (setup().start().await, setup().start().await);
    one.uses_redis().await;
    other.uses_redis().await;
    let mut number = 0;
    eventually("a look into Redis is in time", async || {
        number += 1;
        let target = format!("http://api.example/items/{number}");
        one.get(&target).await;
        one.has_written().await;
        let query = format!("/v1/explain?url={}", escaped(&target));
        for _ in 0..3 {
            // On a machine that is busy with other things Redis may be late for an explanation.
            eventually("it is explained", async || {
                let told = other.admin_get(&query).await.json();
                told["tier"] == "shared"
                    && told["decision"] == "fresh"
                    && told["variants"][0]["tier"] == "shared"
            })
            .await;
        }
        let Some(real) = other.send_in_time(Ask::get(&target)).await else { return false };
        assert!(real.is_hit() && real.says("detail=shared"), "{real:?}");
        assert_eq!(other.admin_get(&query).await.json()["tier"], "memory");
        true
    })
    .await;
}

/// Asserts that an explanation and the answer that followed it say the same.
fn assert_agrees(told: &Value, real: &Answer, what: &str) {
    let status = real.cache_status();
    let forwarded = status.iter().find_map(|part| part.strip_prefix("fwd="));
    let reason = if real.is_hit() { Some("hit") } else { forwarded };
    assert_eq!(told["reason"].as_str(), reason, "{what}: {status:?} {} but {told}", real.status);
    let ttl = status.iter().find_map(|part| part.strip_prefix("ttl=")?.parse::<i64>().ok());
    let stale_by =
        status.iter().any(|part| part.contains("stale-while-revalidate") || part.contains("max-stale"));
    match told["decision"].as_str().unwrap_or_default() {
        "fresh" => assert!(real.is_hit() && !stale_by && ttl >= Some(0), "{what}: {status:?}"),
        "stale" => {
            let on_error = status.iter().any(|part| part == "detail=stale-if-error");
            assert!((real.is_hit() && stale_by) || on_error, "{what}: {status:?}");
        }
        "validate" | "forward" => assert!(forwarded.is_some(), "{what}: {status:?}"),
        "own" => {
            assert!(status.iter().all(|part| !part.starts_with("fwd-status")), "{what}: {status:?}");
            assert_eq!(told["answer"]["status"], json!(real.status), "{what}: {told}");
        }
        other => panic!("{other} is no decision: {told}"),
    }
}

//! The page of the admin listener: its files and what protects them, and the events that keep it live.

use crate::support::{
    Answer, Ask, EVERYTHING, Gateway, Opened, RecordingDestination, Reply, SYNC, ScriptedSource, Setup,
    eventually, within,
};
use serde_json::Value;

/// How many may watch at once.
const WATCHERS_MAX: usize = 32;

async fn gateway(admin: &str) -> (ScriptedSource, RecordingDestination, Gateway) {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    source.on("*", |request| match request.method.as_str() {
        "GET" => Reply::ok("x").cache_control("max-age=600"),
        _ => Reply::ok(""),
    });
    let text = format!("{}{}{EVERYTHING}{SYNC}", source.table(), destination.table("search"));
    let gateway = Setup::new(text).admin(admin).start().await;
    (source, destination, gateway)
}

fn files_of(page: &Answer) -> Vec<String> {
    let text = page.text();
    let quoted = text.split('"').filter(|part| part.starts_with("/page/"));
    quoted.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_and_its_files_need_no_token_and_allow_nothing_foreign() {
    let (_source, _destination, gateway) = gateway("token = \"right\"").await;
    let page = gateway.admin_get("/").await;
    assert_eq!((page.status, page.field("Content-Type")), (200, "text/html; charset=utf-8"));
    let files = files_of(&page);
    assert!(files.iter().any(|file| file == "/page/page.js"), "{files:?}");
    for (path, kind) in files.iter().map(|file| (file.as_str(), "")).chain([
        ("/", "text/html"),
        ("/page/page.js", "text/javascript"),
        ("/page/page.css", "text/css"),
        ("/page/icon.svg", "image/svg+xml"),
    ]) {
        let answer = gateway.admin_get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(
            answer.field("Content-Type").starts_with(kind) && !answer.body.is_empty(),
            "{path}: {answer:?}"
        );
        let policy = answer.field("Content-Security-Policy");
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.split(';').any(|own| own.trim() == part), "{path}: {part} in {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"), "{policy}");
        assert_eq!(answer.field("X-Content-Type-Options"), "nosniff", "{path}");
        assert_eq!(answer.field("Referrer-Policy"), "no-referrer", "{path}");
    }
    let head = gateway.operate(Ask::new("HEAD", "/")).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    gateway.operate(Ask::get("/").field("Host", "evil.example")).await.assert_problem(403);
    gateway.operate(Ask::new("DELETE", "/")).await.assert_problem(405);
    for path in ["/page", "/page/", "/page/none.js", "/page/..%2fmod.rs", "/index.html"] {
        gateway.admin_get(path).await.assert_problem(404);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_page_shows_needs_the_token() {
    let (_source, _destination, gateway) = gateway("token = \"right\"").await;
    for path in ["/v1/status", "/v1/events"] {
        for token in [None, Some("Bearer wrong")] {
            let ask = token.into_iter().fold(Ask::get(path), |ask, token| ask.field("Authorization", token));
            let answer = gateway.operate(ask).await;
            answer.assert_problem(401);
            assert_eq!(answer.field("WWW-Authenticate"), "Bearer", "{path}");
        }
    }
    let right = |path: &str| Ask::get(path).field("Authorization", "Bearer right");
    assert_eq!(gateway.operate(right("/v1/status")).await.status, 200);
    let mut events = Events::open(&gateway, right("/v1/events")).await;
    events.next("status").await;
}

/// A stream of events as it comes.
struct Events {
    opened: Opened,
    text: String,
}

impl Events {
    async fn open(gateway: &Gateway, ask: Ask) -> Self {
        let opened = ask.open(gateway.admin).await.expect("a stream of events");
        assert_eq!((opened.head.status, opened.head.field("Content-Type")), (200, "text/event-stream"));
        Self { opened, text: String::new() }
    }

    /// What the next event of that name says.
    async fn next(&mut self, name: &str) -> Value {
        within("an event", async {
            loop {
                if let Some((event, rest)) = self.text.split_once("\n\n") {
                    let (named, data) = event.split_once('\n').expect("an event has a name and data");
                    let (named, data) = (named.replace("event: ", ""), data.replace("data: ", ""));
                    let rest = rest.to_owned();
                    self.text = rest;
                    if named == name {
                        return serde_json::from_str(&data).expect("data is JSON");
                    }
                } else {
                    let part =
                        self.opened.next().await.expect("the stream goes on").expect("it has not ended");
                    self.text += &String::from_utf8(part).expect("events are text");
                }
            }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_tell_figures_that_move() {
    let (_source, destination, gateway) = gateway("").await;
    destination.answer(|delivery| {
        if delivery.request.body.starts_with(b"bad") { Reply::new(400, "no") } else { Reply::ok("") }
    });
    let mut events = Events::open(&gateway, Ask::get("/v1/events")).await;
    let before = events.next("status").await;
    assert_eq!(before["readiness"]["status"], "ready", "{before}");
    for _ in 0..4 {
        gateway.get("/items/1").await;
    }
    gateway.put("/items/2", "bad").await;
    let after = loop {
        let status = events.next("status").await;
        if status["destinations"][0]["dead_letters"] == 1 {
            break status;
        }
    };
    let route = &after["figures"]["routes"]["items"];
    assert_eq!((&route["requests"], &route["spared"]), (&5.0.into(), &3.0.into()), "{after}");
    assert_eq!(after["figures"]["sources"]["inventory"]["forwards"], 2.0, "{after}");
    assert_eq!(after["latency"]["hits"]["count"], 3.0, "{after}");
    assert!(after["latency"]["forwards"]["p50"].as_f64().is_some_and(|seconds| seconds > 0.0), "{after}");
    let asked = gateway.admin_get("/v1/status").await.json();
    assert_eq!(asked["figures"]["routes"], after["figures"]["routes"]);
    let curves = loop {
        let curves = events.next("curves").await;
        if curves["at"].as_array().is_some_and(|at| !at.is_empty()) {
            break curves;
        }
    };
    let points = curves["at"].as_array().map(Vec::len);
    for curve in
        [&curves["requests"], &curves["spared"], &curves["forward_p95"], &curves["lag_seconds"]["search"]]
    {
        assert_eq!(curve.as_array().map(Vec::len), points, "{curves}");
    }
}

/// I10
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_so_many_may_watch_and_a_place_is_free_again_once_one_leaves() {
    let (_source, _destination, gateway) = gateway("").await;
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS_MAX {
        watchers.push(Events::open(&gateway, Ask::get("/v1/events")).await);
    }
    let refused = gateway.admin_get("/v1/events").await;
    refused.assert_problem(503);
    assert!(refused.text().contains("32"), "{}", refused.text());
    watchers.pop();
    eventually("a place is free", async || {
        let opened = Ask::get("/v1/events").open(gateway.admin).await;
        opened.is_ok_and(|opened| opened.head.status == 200)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_the_stream_properly_and_does_not_wait_for_it() {
    let (_source, _destination, gateway) = gateway("").await;
    let mut events = Events::open(&gateway, Ask::get("/v1/events")).await;
    events.next("status").await;
    let (exit, rest) = tokio::join!(within("it stops", gateway.terminate()), events.opened.rest());
    assert!(exit.status.success(), "{}", exit.stderr);
    rest.expect("the stream has its end");
}

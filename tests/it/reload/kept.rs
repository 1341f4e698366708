//! What another configuration leaves as it is: connections, what is stored, what was counted and learned, and
//! requests that are under way.

use super::{reload, route, started, status};
use crate::support::{Answer, Ask, Gate, Reply, ScriptedSource, Setup, Step, eventually, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A GET on a connection that stays open; the head and body of the answer.
async fn on(connection: &mut TcpStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    connection.write_all(request.as_bytes()).await.expect("it is taken");
    let mut read = Vec::new();
    let reading = async {
        while !read.ends_with(b"\r\n\r\nx") {
            let mut part = [0; 1024];
            let count = connection.read(&mut part).await.expect("an answer");
            assert_ne!(count, 0, "closed: {}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&part[..count]);
        }
    };
    within("an answer", reading).await;
    String::from_utf8_lossy(&read).into_owned()
}

fn left(answer: &Answer) -> u32 {
    let text = answer.field("RateLimit");
    text.split(";r=").nth(1).and_then(|rest| rest.split(';').next()?.parse().ok()).expect("what is left")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_stored_responses_and_requests_under_way() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    source.always("/a/stored", Reply::ok("x").cache_control("max-age=600"));
    source.always("/a/private", Reply::ok("x").cache_control("private"));
    source.always("/b/1", Reply::ok("x"));
    let steps =
        vec![Step::Bytes(b"first".to_vec()), Step::Wait(gate.clone()), Step::Bytes(b" rest".to_vec())];
    source.always("/a/slow", Reply::chunks(steps));
    source.always("/a/late", Reply::ok("late").after(Step::Wait(gate.clone())));
    let (setup, gateway) = started(&source, &route("a", "/a", "")).await;
    let mut connection = TcpStream::connect(gateway.public).await.expect("a connection");
    on(&mut connection, "/a/stored").await;
    on(&mut connection, "/a/private").await;
    eventually("a marker", async || gateway.metric("tidegate_hit_for_miss_markers").await > 0).await;
    let mut slow = Ask::get("/a/slow").open(gateway.public).await.expect("a head");
    let late = tokio::spawn(Ask::get("/a/late").send(gateway.public));
    source.wait_for("/a/late", 1).await;
    let markers = gateway.metric("tidegate_hit_for_miss_markers").await;

    // The route that they came by goes, and its paths are another one's.
    let routes = route("other", "/a", "[route.cache]\nttl = \"5s\"") + &route("b", "/b", "");
    let setup = reload(&gateway, setup, format!("{}{routes}", source.table())).await;
    assert!(
        on(&mut connection, "/a/stored").await.contains("tidegate; hit"),
        "stored, by the same connection"
    );
    on(&mut connection, "/b/1").await;
    assert!(gateway.metric("tidegate_hit_for_miss_markers").await >= markers);
    // Gone altogether, with its source.
    let away = ScriptedSource::start().await;
    away.always("*", Reply::ok("x"));
    let gone = format!("{}{}", away.table().replace("inventory", "other"), route("c", "/c", ""))
        .replace("source = \"inventory\"", "source = \"other\"");
    reload(&gateway, setup, gone).await;
    assert_eq!((status(&gateway, "/a/stored").await, status(&gateway, "/c/1").await), (404, 200));
    on(&mut connection, "/c/1").await;
    gate.open();
    assert_eq!(within("the rest", slow.rest()).await.expect("the whole body"), b"first rest");
    let late = within("the late answer", late).await.expect("done").expect("an answer");
    assert_eq!((late.status, late.text().as_str()), (200, "late"), "it ends with what it began with");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_with_what_was_consumed_by_their_new_figures() {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::ok("x"));
    let limit = |name: &str, requests: u32| {
        route(
            "a",
            "/a",
            &format!(
                "[[route.limit]]\nname = \"{name}\"\nrequests = {requests}\nper = \"1h\"\nkey = \"route\""
            ),
        )
    };
    let rest = |name: &str, requests: u32| format!("{}{}", source.table(), limit(name, requests));
    let setup = Setup::new(rest("few", 10));
    let gateway = setup.start().await;
    for expected in [9, 8, 7, 6] {
        assert_eq!(left(&gateway.get("/a/1").await), expected);
    }
    let setup = reload(&gateway, setup, rest("few", 20)).await;
    assert_eq!(left(&gateway.get("/a/1").await), 15, "twenty, less the four and this one");
    let setup = reload(&gateway, setup, rest("few", 5)).await;
    assert_eq!(status(&gateway, "/a/1").await, 429, "five are consumed already");
    let setup = reload(&gateway, setup, rest("other", 5)).await;
    assert_eq!(left(&gateway.get("/a/1").await), 4, "another quota");
    reload(&gateway, setup, format!("{}{}", source.table(), route("a", "/a", ""))).await;
    let answer = gateway.get("/a/1").await;
    assert!(answer.status == 200 && !answer.fields.has("RateLimit"), "no quota");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_breaker_the_places_and_other_settings_of_a_source() {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::none(Step::Cut));
    let rest = |more: &str| format!("{}{more}\n{}", source.table(), route("a", "/a", ""));
    let setup = Setup::new(rest(""));
    let gateway = setup.start().await;
    let breaker =
        async || gateway.admin_get("/metrics").await.text().contains("breaker_state{source=\"inventory\"} 2");
    eventually("the breaker opens", async || {
        status(&gateway, "/a/1").await;
        breaker().await
    })
    .await;
    let setup = reload(&gateway, setup, rest("timeout = \"9s\"\nconcurrency = 1")).await;
    assert!(
        breaker().await
            || gateway.metric("tidegate_source_refused_total{source=\"inventory\",reason=\"breaker\"}").await
                > 0
    );
    let gate = Gate::closed();
    source.always("*", Reply::ok("x"));
    source.always("/a/slow", Reply::ok("x").after(Step::Wait(gate.clone())));
    eventually("it is probed and closes", async || status(&gateway, "/a/1").await == 200).await;
    // One place, taken by a request of the configuration before: the next one waits for it.
    let slow = tokio::spawn(Ask::get("/a/slow").send(gateway.public));
    source.wait_for("/a/slow", 1).await;
    let setup = reload(&gateway, setup, rest("timeout = \"300ms\"\nconcurrency = 1")).await;
    assert_eq!(gateway.metric("tidegate_source_in_flight{source=\"inventory\"}").await, 1);
    assert_eq!(status(&gateway, "/a/2").await, 503, "no place within its new timeout");
    let setup = reload(&gateway, setup, rest("concurrency = 2")).await;
    assert_eq!(status(&gateway, "/a/3").await, 200, "a place more, at once");
    gate.open();
    assert_eq!(within("the slow one", slow).await.unwrap().unwrap().status, 200);
    // Another address: the next request goes there.
    let other = ScriptedSource::start().await;
    other.always("*", Reply::ok("x"));
    reload(&gateway, setup, format!("{}{}", other.table(), route("a", "/a", ""))).await;
    assert_eq!(status(&gateway, "/a/4").await, 200);
    assert_eq!((other.count("/a/4"), source.count("/a/4")), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_token_and_hosts_are_those_in_force() {
    let source = ScriptedSource::start().await;
    let setup = Setup::new(format!("{}{}", source.table(), route("a", "/a", "")));
    let gateway = setup.start().await;
    let setup = setup.admin("token = \"canary-token\"\nhosts = [\"gate.example\"]");
    setup.write();
    let called =
        gateway.operate(Ask::post("/v1/reload", "{}").field("Content-Type", "application/json")).await;
    assert!(matches!(called.status, 200 | 401), "the watch may have been quicker: {}", called.text());
    let ask = |host: &str, token: &str| {
        gateway.operate(
            Ask::get("/v1/config").field("Host", host).field("Authorization", &format!("Bearer {token}")),
        )
    };
    assert_eq!(ask("gate.example", "canary-token").await.status, 200);
    assert_eq!(ask("localhost", "wrong").await.status, 401);
    assert_eq!(ask("other.example", "canary-token").await.status, 403);
    assert!(!gateway.log_text().contains("canary-token"), "I12");
}

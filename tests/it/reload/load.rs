//! Reloads under load, and many at once. `TIDEGATE_TORTURE=1` makes it a thousand.

use super::{route, started, status};
use crate::support::{Ask, Gateway, Reply, ScriptedSource, eventually};
use serde_json::json;
use std::fs::read_dir;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A quota that nobody can come to the end of while the test runs, and that gives nothing back meanwhile.
const COUNTED: &str =
    "[[route.limit]]\nname = \"all\"\nrequests = 10\nper = \"24h\"\nburst = 1000000\nkey = \"route\"\n";

const RELOADS: usize = 200;
const RELOADS_OF_TORTURE: usize = 1000;

/// From here on what is held must not grow.
const SETTLED: usize = 50;

/// What the allocator may keep more than it did; a thousandth of it for each reload would be seen.
const MEMORY_SLACK: usize = 16 << 20;

/// Descriptors and threads of what happens to be open at the moment.
const OPEN_SLACK: usize = 8;

/// How many descriptors and threads a process has.
fn open(gateway: &Gateway) -> [usize; 2] {
    ["fd", "task"]
        .map(|what| read_dir(format!("/proc/{}/{what}", gateway.process())).expect("a process").count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_fail_no_request_lose_nothing_that_was_counted_and_leave_nothing_behind() {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::ok("x").cache_control("no-store"));
    source.always("/a/hit", Reply::ok("x").cache_control("max-age=600"));
    let (mut setup, gateway) = started(&source, &route("a", "/a", COUNTED)).await;
    let is_torture = std::env::var_os("TIDEGATE_TORTURE").is_some();
    let reloads = if is_torture { RELOADS_OF_TORTURE } else { RELOADS };
    let (mut before, mut memory) = (open(&gateway), gateway.resident_bytes());
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (stop, sent, to) = (Arc::clone(&stop), Arc::clone(&sent), gateway.public);
            tokio::spawn(async move {
                let mut number = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    // One of ten is no hit.
                    let path = if number.is_multiple_of(10) {
                        format!("/a/{client}/{number}")
                    } else {
                        "/a/hit".to_owned()
                    };
                    let answer = Ask::get(&path).send(to).await.expect("an answer");
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    sent.fetch_add(1, Ordering::Relaxed);
                    number += 1;
                }
            })
        })
        .collect();
    for number in 0..reloads {
        if number == SETTLED {
            (before, memory) = (open(&gateway), gateway.resident_bytes());
        }
        let more = format!("timeout = \"{}s\"\n{COUNTED}", number % 7 + 5);
        let other = if number % 2 == 0 { route("b", "/b", "") } else { String::new() };
        let concurrency = format!("concurrency = {}\n", 100 + number % 5);
        setup = setup.rest(format!("{}{concurrency}{}{other}", source.table(), route("a", "/a", &more)));
        setup.write();
        let answer = gateway.admin_post("/v1/reload", &json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(status(&gateway, "/b/1").await == 200, number % 2 == 0, "reload {number} is in force");
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no request failed");
    }
    let answer = gateway.get("/a/hit").await;
    let left = answer
        .field("RateLimit")
        .split(";r=")
        .nth(1)
        .and_then(|rest| rest.split(';').next()?.parse::<u64>().ok());
    // Nothing refills meanwhile: one comes back in 144 minutes.
    let counted = 1_000_000 - left.expect("what is left");
    let sent = sent.load(Ordering::Relaxed) + 1;
    assert_eq!(counted, sent, "what was counted, and what was sent");
    assert_eq!(gateway.metric("tidegate_config_reloads_total{result=\"refused\"}").await, 0);
    let grown = gateway.resident_bytes().saturating_sub(memory);
    assert!(grown <= MEMORY_SLACK, "{grown} bytes more than after {SETTLED} reloads");
    eventually("what old configurations had open is closed", async || {
        open(&gateway).into_iter().zip(before).all(|(now, before)| now <= before + OPEN_SLACK)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_at_once_wait_for_one_another_and_beyond_the_bound_are_told() {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::ok("x"));
    let (mut setup, gateway) = started(&source, &route("a", "/a", "")).await;
    setup = setup.rest(format!("{}{}", source.table(), route("b", "/b", "")));
    setup.write();
    let ask = || {
        let ask = Ask::post("/v1/reload", "{}").field("Content-Type", "application/json");
        tokio::spawn(ask.send(gateway.admin))
    };
    let asked: Vec<_> = (0..60).map(|_| ask()).collect();
    let mut done = 0;
    for answer in asked {
        let answer = answer.await.unwrap().expect("an answer");
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
        done += usize::from(answer.status == 200);
    }
    assert!(done >= 1, "{done}");
    assert_eq!((status(&gateway, "/b/1").await, status(&gateway, "/a/1").await), (200, 404));
    // A caller that leaves ends nothing halfway, and a signal with it is one more.
    setup = setup.rest(format!("{}{}", source.table(), route("c", "/c", "")));
    setup.write();
    let leaving = ask();
    leaving.abort();
    gateway.signal("HUP");
    eventually("it is in force", async || status(&gateway, "/c/1").await == 200).await;
}

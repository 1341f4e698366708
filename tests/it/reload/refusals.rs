//! What is refused, where it stands, and that the configuration in force serves on.

use super::{config, digest, refused, reload, route, started, status};
use crate::support::{Reply, ScriptedSource, eventually};
use serde_json::{Value, json};

fn place(fault: &Value) -> (String, u64, u64) {
    let text = fault["key"].as_str().unwrap_or_default().to_owned();
    (text, fault["line"].as_u64().unwrap_or(0), fault["column"].as_u64().unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_is_refused_with_every_fault_and_the_old_one_serves_on() {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::ok("x"));
    let (setup, gateway) = started(&source, &route("a", "/a", "")).await;
    let good = setup.text();
    let two = good.replace("[[route]]", "[[rout]]").replace("threads = 2", "threads = 2\nbogus = 1");
    let faults = refused(&gateway, &setup, &two).await;
    let places: Vec<_> = faults.iter().map(place).collect();
    let line = |text: &str, part: &str| text.lines().position(|line| line.contains(part)).unwrap() as u64 + 1;
    assert!(places.contains(&("server.bogus".to_owned(), line(&two, "bogus"), 1)), "{faults:?}");
    assert!(
        places.iter().any(|(key, ..)| key == "rout") && places.iter().any(|(key, ..)| key == "route"),
        "{faults:?}"
    );
    for member in ["file", "message", "remedy"] {
        assert!(faults.iter().all(|fault| fault[member].is_string()), "{faults:?}");
    }
    for (what, text) in [
        ("empty", String::new()),
        ("half of it", good[..good.len() / 2].to_owned() + "= ["),
        ("too large", good.clone() + &"#".repeat(1 << 20)),
        ("an unknown source", good.replace("source = \"inventory\"", "source = \"none\"")),
    ] {
        assert!(!refused(&gateway, &setup, &text).await.is_empty(), "{what}");
        assert_eq!(status(&gateway, "/a/1").await, 200, "{what}");
    }
    std::fs::write(setup.file(), [0xff, 0xfe]).unwrap();
    gateway.admin_post("/v1/reload", &json!({})).await.assert_problem(422);
    std::fs::remove_file(setup.file()).unwrap();
    let answer = gateway.admin_post("/v1/reload", &json!({})).await;
    answer.assert_problem(422);
    assert!(answer.text().contains("cannot be read"), "{}", answer.text());
    let told = config(&gateway).await;
    assert_eq!((&told["digest"], &told["last_reload"]["result"]), (&json!(digest(&good)), &json!("refused")));
    let text = gateway.admin_get("/metrics").await.text();
    assert!(text.contains("\ntidegate_config_last_reload_successful 0"), "{text}");
    assert!(gateway.metric("tidegate_config_reloads_total{result=\"refused\"}").await >= 7);
    assert_eq!(gateway.admin_get("/v1/config").await.json()["route"][0]["name"], "a");
    // It goes on once the file is good again.
    reload(&gateway, setup, format!("{}{}", source.table(), route("b", "/b", ""))).await;
    assert_eq!(status(&gateway, "/b/1").await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_breaks_or_vanishes_by_itself_is_refused_and_said() {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::ok("x"));
    let (setup, gateway) = started(&source, &route("a", "/a", "")).await;
    let good = setup.text();
    let refusals = async || gateway.metric("tidegate_config_reloads_total{result=\"refused\"}").await;
    std::fs::write(setup.file(), &good[..good.len() - 9]).unwrap();
    eventually("half a file is refused", async || refusals().await == 1).await;
    eventually("it is told", async || gateway.log_text().contains("another configuration is refused")).await;
    std::fs::remove_file(setup.file()).unwrap();
    eventually("a file that is gone is refused", async || refusals().await == 2).await;
    assert_eq!(status(&gateway, "/a/1").await, 200);
    // The same file again is what is in force.
    std::fs::write(setup.file(), &good).unwrap();
    eventually("it is well again", async || config(&gateway).await["last_reload"]["result"] == "unchanged")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_restart_is_refused_at_its_place_and_nothing_else_is_applied() {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::ok("x"));
    let (setup, gateway) = started(&source, &route("a", "/a", "")).await;
    let good = setup.text();
    let more = route("b", "/b", "");
    for (key, from, to) in [
        (
            "server.listen",
            "[server]\nlisten = [\"127.0.0.1:0\"]",
            "[server]\nlisten = [\"127.0.0.1:0\", \"[::1]:0\"]",
        ),
        ("server.threads", "threads = 2", "threads = 3"),
        ("admin.listen", "[admin]\nlisten = \"127.0.0.1:0\"", "[admin]\nlisten = \"127.0.0.2:0\""),
        ("sync.data", "data = \"data\"", "data = \"other\""),
        ("cache.memory", "[sync]", "[cache]\nmemory = \"1MiB\"\nmemory_object = \"1KiB\"\n[sync]"),
        ("cache.shared", "[sync]", "[cache.shared]\nredis = \"redis://127.0.0.1:1\"\n[sync]"),
    ] {
        assert!(good.contains(from), "{key}");
        let faults = refused(&gateway, &setup, &(good.replacen(from, to, 1) + &more)).await;
        assert_eq!(faults.len(), 1, "{key}: {faults:?}");
        assert_eq!(faults[0]["key"], key, "{faults:?}");
        assert!(
            faults[0]["remedy"].as_str().is_some_and(|remedy| remedy.contains("needs a restart")),
            "{faults:?}"
        );
        assert!(faults[0]["line"].as_u64().is_some_and(|line| line > 0), "{faults:?}");
        assert_eq!(status(&gateway, "/b/1").await, 404, "{key}: nothing of it is applied");
    }
    let faults = refused(&gateway, &setup, &good.replace("threads = 2", "threads = 3")).await;
    assert_eq!(place(&faults[0]), ("server.threads".to_owned(), 3, 11));
}

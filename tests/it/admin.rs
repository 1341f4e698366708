//! What operators can ask and do on the second listener, and what it refuses.

use crate::support::{
    Ask, EVERYTHING, Gateway, RecordingDestination, Reply, ScriptedSource, Setup, eventually, gateway_for,
};
use serde_json::{Value, json};
use std::collections::HashSet;

async fn cached_source() -> ScriptedSource {
    let source = ScriptedSource::start().await;
    source.on("*", |request| match request.method.as_str() {
        "GET" => Reply::ok("x").cache_control("max-age=600"),
        _ => Reply::ok(""),
    });
    source
}

async fn synced_gateway(source: &ScriptedSource, destination: &RecordingDestination) -> Gateway {
    let text = format!(
        "{}{}{EVERYTHING}[route.sync]\ndestinations = [\"search\"]\n",
        source.table(),
        destination.table("search")
    );
    Setup::new(text).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_answer_and_say_what_is_ready() {
    let source = cached_source().await;
    let gateway = gateway_for(&source, "").await;
    assert_eq!(gateway.admin_get("/livez").await.status, 200);
    let ready = gateway.admin_get("/readyz").await;
    assert_eq!(ready.status, 200);
    assert!(ready.json().is_object(), "{}", ready.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_has_help_and_type_and_requests_are_counted_by_route_and_cache_status() {
    let (source, destination) = (cached_source().await, RecordingDestination::start().await);
    let gateway = synced_gateway(&source, &destination).await;
    gateway.get("/a").await;
    gateway.get("/a").await;
    gateway.put("/a", "x").await;
    destination.wait_for(1).await;
    let text = gateway.admin_get("/metrics").await.text();
    let described = |kind: &str| -> HashSet<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(&format!("# {kind} ")));
        lines.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    };
    let (help, types) = (described("HELP"), described("TYPE"));
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        assert!(name.starts_with("tidegate_") || name.starts_with("process_"), "{line}");
        let suffixes = ["_bucket", "_sum", "_count"];
        let family = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        let known = |names: &HashSet<String>| names.contains(name) || names.contains(family);
        assert!(known(&help) && known(&types), "no HELP or TYPE for {name}");
    }
    let count = |cache_status: &str| {
        text.lines().any(|line| {
            line.starts_with("tidegate_requests_total{")
                && line.contains("route=\"items\"")
                && line.contains(&format!("cache_status=\"{cache_status}\""))
        })
    };
    assert!(count("hit") && count("uri-miss"), "{text}");
    for name in [
        "tidegate_destination_pending{destination=\"search\"}",
        "tidegate_dead_letters{destination=\"search\"}",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
    assert!(
        text.contains("tidegate_destination_lag_seconds{")
            && text.contains("tidegate_source_requests_total{")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_takes_what_it_names_and_nothing_else() {
    let source = cached_source().await;
    let gateway = gateway_for(&source, "").await;
    let paths = ["/items/1", "/items/1?a=1", "/items/2", "/items2", "/other"];
    let fill = async || {
        for path in paths {
            gateway.get(path).await;
            assert!(gateway.get(path).await.is_hit(), "{path}");
        }
    };
    let mut last = 0;
    let url = format!("http://{}/items/1", gateway.public);
    for (what, body, gone) in [
        ("url", json!({"urls": [url]}), &["/items/1"][..]),
        ("prefix", json!({"prefix": "/items/"}), &["/items/1", "/items/1?a=1", "/items/2"]),
        ("all", json!({"all": true}), &paths),
    ] {
        fill().await;
        let answer = gateway.admin_post("/v1/purge", &body).await;
        assert_eq!(answer.status, 202, "{what}: {}", answer.text());
        assert_eq!(answer.json()["scope"], "local", "{what}");
        let seq = answer.json()["seq"].as_u64().unwrap_or(0);
        assert!(seq > last, "{what}: the number of a purge grows");
        last = seq;
        for path in paths {
            assert_eq!(gateway.get(path).await.is_hit(), !gone.contains(&path), "{what}: {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_is_purged_whichever_field_or_route_gave_it() {
    let source = ScriptedSource::start().await;
    for (path, name, value) in [
        ("/a", "Surrogate-Key", "one two"),
        ("/b", "Cache-Tag", "one,three"),
        ("/c", "Cache-Groups", "\"one\""),
    ] {
        source.always(path, Reply::ok("x").cache_control("max-age=600").field(name, value));
    }
    source.always("/d", Reply::ok("x").cache_control("max-age=600"));
    let gateway = gateway_for(&source, "").await;
    for path in ["/a", "/b", "/c", "/d"] {
        let answer = gateway.get(path).await;
        assert!(!answer.fields.has("Surrogate-Key") && !answer.fields.has("Cache-Tag"), "{answer:?}");
    }
    assert_eq!(gateway.admin_post("/v1/purge", &json!({"tags": ["one"]})).await.status, 202);
    for (path, kept) in [("/a", false), ("/b", false), ("/c", false), ("/d", true)] {
        assert_eq!(gateway.get(path).await.is_hit(), kept, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn destinations_and_changes_can_be_read() {
    let (source, destination) = (cached_source().await, RecordingDestination::start().await);
    let gateway = synced_gateway(&source, &destination).await;
    let id = gateway.put("/items/1", "x").await.field("Tidegate-Change").to_owned();
    destination.wait_for(1).await;
    eventually("it is settled", async || gateway.destination("search").await["pending"] == 0).await;
    let status = gateway.destination("search").await;
    assert_eq!((&status["state"], &status["breaker"]), (&json!("running"), &json!("closed")), "{status}");
    for key in [
        "pending",
        "in_flight",
        "lag_seconds",
        "concurrency",
        "parked_keys",
        "dead_letters",
        "last_error",
        "next_attempt_at",
    ] {
        assert!(status.get(key).is_some(), "{key} in {status}");
    }
    let change = gateway.admin_get(&format!("/v1/changes/{id}")).await;
    assert_eq!((change.status, &change.json()["key"]), (200, &json!("/items/1")));
    assert_eq!(change.json()["state"], "committed");
    let listed = gateway.admin_get("/v1/changes?key=/items/1&destination=search").await.json();
    assert_eq!(listed["changes"][0]["id"], json!(id), "{listed}");
    assert_eq!(gateway.admin_get("/v1/changes?key=/items/2").await.json()["changes"], json!([]));
    assert_eq!(gateway.admin_get("/v1/changes/unknown").await.status, 404);
}

/// I12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_shown() {
    let (source, destination) = (cached_source().await, RecordingDestination::start().await);
    let with_user = source.table().replace("http://", "http://user:CANARY-url@");
    let with_user_too = destination.table("other").replace("http://", "http://user:CANARY-destination-url@");
    let text = format!(
        "{with_user}headers = {{ authorization = \"Bearer CANARY-source\" }}\n\
         {}headers = {{ authorization = \"Bearer CANARY-destination\" }}\n{with_user_too}\
         {EVERYTHING}[route.sync]\ndestinations = [\"search\", \"other\"]\n",
        destination.table("search")
    );
    let setup = Setup::new(text).admin("token = \"CANARY-token\"");
    let gateway = setup.start().await;
    destination.answer(|_| Reply::new(401, "who are you"));
    gateway.put("/items/1", "x").await;
    let both = destination.wait_for(2).await;
    let sent = |value: &str| both.iter().any(|one| one.request.fields.get("Authorization") == Some(value));
    assert!(sent("Bearer CANARY-destination"), "{both:?}");
    for path in ["/v1/config", "/v1/destinations", "/v1/changes", "/metrics", "/readyz"] {
        let ask = Ask::get(path).field("Authorization", "Bearer CANARY-token");
        let answer = gateway.operate(ask).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.text().contains("CANARY"), "{path}: {}", answer.text());
        assert!(path != "/v1/config" || answer.text().contains("inventory"), "it is the configuration");
    }
    let log = gateway.terminate().await.stderr;
    assert!(!log.contains("CANARY"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_covers_what_is_not_a_probe() {
    let source = cached_source().await;
    let text = format!("{}{EVERYTHING}", source.table());
    let gateway = Setup::new(text).admin("token = \"right\"").start().await;
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(gateway.admin_get(path).await.status, 200, "{path}");
    }
    for token in [None, Some("Bearer wrong"), Some("Bearer "), Some("Basic right"), Some("Bearer rightx")] {
        for path in ["/v1/config", "/v1/destinations"] {
            let ask = token.into_iter().fold(Ask::get(path), |ask, token| ask.field("Authorization", token));
            let answer = gateway.operate(ask).await;
            assert_eq!(
                (answer.status, answer.field("WWW-Authenticate")),
                (401, "Bearer"),
                "{path} {token:?}"
            );
        }
    }
    let right = Ask::get("/v1/config").field("Authorization", "Bearer right");
    assert_eq!(gateway.operate(right).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_a_proper_call_is_refused() {
    let source = cached_source().await;
    let gateway = gateway_for(&source, "").await;
    gateway.get("/a").await;
    let json_type = ("Content-Type", "application/json");
    let post = |body: &str| Ask::post("/v1/purge", body).field(json_type.0, json_type.1);
    let all = r#"{"all":true}"#;
    for (what, ask, status) in [
        ("another method", Ask::get("/v1/purge"), 405),
        ("another method", Ask::post("/v1/destinations", "{}").field(json_type.0, json_type.1), 405),
        ("another content type", Ask::post("/v1/purge", all).field("Content-Type", "text/plain"), 415),
        ("no content type", Ask::post("/v1/purge", all), 415),
        ("no JSON", post("{"), 400),
        ("a purge of nothing", post("{}"), 422),
        ("a URL that is not absolute", post(r#"{"urls":["/a"]}"#), 422),
        ("a foreign origin", post(all).field("Origin", "http://evil.example"), 403),
        ("a foreign host", post(all).field("Host", "evil.example"), 403),
        ("a foreign host", Ask::get("/v1/config").field("Host", "evil.example"), 403),
        ("an unknown path", Ask::get("/v1/nothing"), 404),
    ] {
        let answer = gateway.operate(ask.clone()).await;
        assert_eq!(answer.status, status, "{what}: {ask:?}: {}", answer.text());
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = gateway.operate(Ask::get(path).field("Host", "evil.example")).await;
        assert_eq!(answer.status, 200, "{path} is for everybody");
    }
    let local = Ask::get("/v1/config").field("Host", &format!("localhost:{}", gateway.admin.port()));
    assert_eq!(gateway.operate(local).await.status, 200);
    assert!(gateway.get("/a").await.is_hit(), "none of it has purged anything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_listener_has_no_path_of_its_own() {
    let source = ScriptedSource::start().await;
    source.on("*", |request| Reply::ok(request.target.as_str()));
    let gateway = gateway_for(&source, "").await;
    for path in ["/livez", "/readyz", "/metrics", "/v1/config", "/v1/purge"] {
        assert_eq!(gateway.get(path).await.text(), path);
    }
    let config: Value = gateway.admin_get("/v1/config").await.json();
    assert!(config.is_object());
}

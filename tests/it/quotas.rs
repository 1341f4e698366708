//! Quotas: who asks too much is told so, and told when to come back.

use crate::support::{Answer, Ask, Gateway, Reply, ScriptedSource, Setup, eventually};

fn config(source: &ScriptedSource, limit: &str) -> String {
    format!(
        "{}[[route]]\nname = \"limited\"\npath = \"/limited/{{*rest}}\"\nsource = \"inventory\"\n\
         [[route.limit]]\nname = \"few\"\n{limit}\n\
         [[route]]\nname = \"free\"\npath = \"/free\"\nsource = \"inventory\"\n",
        source.table()
    )
}

async fn gateway_with(limit: &str) -> (ScriptedSource, Gateway) {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::ok("x").cache_control("max-age=600"));
    let gateway = Setup::new(config(&source, limit)).start().await;
    (source, gateway)
}

fn assert_denied(answer: &Answer) {
    answer.assert_problem(429);
    assert_eq!(answer.json()["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(answer.json()["violated-policies"][0], "few", "{}", answer.text());
    assert!(answer.field("Retry-After").parse::<u64>().is_ok_and(|seconds| seconds >= 1), "{answer:?}");
    assert!(
        !answer.cache_status().iter().any(|part| part.starts_with("fwd")),
        "it was not forwarded: {answer:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_too_many_is_429_until_retry_after_has_passed() {
    let (source, gateway) = gateway_with("requests = 3\nper = \"6s\"\nkey = \"route\"").await;
    for left in (0..3).rev() {
        let answer = gateway.get("/limited/a").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("RateLimit-Policy"), "\"few\";q=3;w=6");
        assert!(answer.field("RateLimit").starts_with(&format!("\"few\";r={left}")), "{answer:?}");
    }
    let denied = gateway.get("/limited/a").await;
    assert_denied(&denied);
    assert!(denied.field("RateLimit").starts_with("\"few\";r=0"), "{denied:?}");
    assert_eq!(source.count("/limited/a"), 1, "hits count too");
    for _ in 0..10 {
        assert_eq!(gateway.get("/free").await.status, 200, "another route is not affected");
    }
    assert!(!gateway.get("/free").await.fields.has("RateLimit"));
    eventually("it recovers", async || gateway.get("/limited/a").await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_by_field_counts_each_value_apart() {
    let (_source, gateway) =
        gateway_with("requests = 1\nper = \"1h\"\nburst = 2\nkey = \"header:X-Api-Key\"").await;
    let ask = |key: &str| gateway.send(Ask::get("/limited/a").field("X-Api-Key", key));
    for key in ["one", "two"] {
        assert_eq!(ask(key).await.status, 200);
        assert_eq!(ask(key).await.status, 200);
        assert_denied(&ask(key).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_by_client_is_not_evaded_by_a_forged_field() {
    let (_source, gateway) = gateway_with("requests = 2\nper = \"1h\"\nkey = \"client\"").await;
    let ask = |from: &str| gateway.send(Ask::get("/limited/a").field("X-Forwarded-For", from));
    assert_eq!(ask("203.0.113.1").await.status, 200);
    assert_eq!(ask("203.0.113.2").await.status, 200);
    assert_denied(&ask("203.0.113.3").await);
}

/// A denied write never reaches the source.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_write_is_not_forwarded_and_is_counted() {
    let (source, gateway) = gateway_with("requests = 1\nper = \"1h\"\nkey = \"route\"").await;
    assert_eq!(gateway.put("/limited/a", "x").await.status, 200);
    assert_denied(&gateway.put("/limited/a", "y").await);
    assert_eq!(source.count("/limited/a"), 1);
    let metrics = gateway.admin_get("/metrics").await.text();
    let counted = metrics.lines().find(|line| line.starts_with("tidegate_quota_denied_total{"));
    assert!(counted.is_some_and(|line| line.contains("limit=\"few\"") && line.contains("route=\"limited\"")));
}

/// `stage = "source"`: what is answered from the store costs nothing, however often it is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_of_forwards_counts_what_is_forwarded() {
    let (source, gateway) =
        gateway_with("requests = 1\nper = \"1h\"\nkey = \"route\"\nstage = \"source\"").await;
    let forwarded = gateway.get("/limited/a").await;
    assert_eq!((forwarded.status, forwarded.field("RateLimit-Policy")), (200, "\"few\";q=1;w=3600"));
    assert!(forwarded.field("RateLimit").starts_with("\"few\";r=0"), "{forwarded:?}");
    for _ in 0..5 {
        assert!(gateway.get("/limited/a").await.is_hit());
    }
    assert_denied(&gateway.get("/limited/b").await);
    assert_denied(&gateway.put("/limited/a", "x").await);
    assert_eq!((source.count("/limited/a"), source.count("/limited/b")), (1, 0));
}

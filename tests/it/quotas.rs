//! Quotas: who asks too much is told so, and told when to come back.

mod shared;

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
    let (source, gateway) = gateway_with("requests = 3\nper = \"15s\"\nkey = \"route\"").await;
    for left in (0..3).rev() {
        let answer = gateway.get("/limited/a").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("RateLimit-Policy"), "\"few\";q=3;w=15");
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

/// A walk through the addresses of one subscriber, and whatever else a client can write, is one client's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_by_client_holds_against_walks_and_forged_chains() {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::ok("x").cache_control("max-age=600"));
    let limit = "requests = 2\nper = \"1h\"\nkey = \"client\"";
    let gateway =
        Setup::new(config(&source, limit)).server("trusted_proxies = [\"127.0.0.1\"]").start().await;
    let ask = |chain: &str| gateway.send(Ask::get("/limited/a").field("X-Forwarded-For", chain));
    let mut passed = 0;
    for number in 0..200_u32 {
        let chain = format!("203.0.113.{}, 2001:db8:1:2:{number:x}::{number:x}", number % 250);
        passed += u32::from(ask(&chain).await.status == 200);
    }
    assert_eq!(passed, 2, "a /64 is one client, whatever it says of others");
    assert_eq!(ask("2001:db8:1:3::1").await.status, 200, "its neighbour is another");
    for (one, other) in [("192.0.2.1", "::ffff:192.0.2.1"), ("192.0.2.2", "192.0.2.2:4711")] {
        assert_eq!((ask(one).await.status, ask(other).await.status), (200, 200));
        assert_denied(&ask(one).await);
        assert_denied(&ask(other).await);
    }
}

/// Shadow: nobody is denied or told, and all that would have been is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_quota_only_counts() {
    let (_source, gateway) = gateway_with("requests = 1\nper = \"1h\"\nmode = \"shadow\"").await;
    for _ in 0..4 {
        let answer = gateway.get("/limited/a").await;
        assert_eq!(answer.status, 200);
        assert!(!answer.fields.has("RateLimit") && !answer.fields.has("RateLimit-Policy"), "{answer:?}");
    }
    assert_eq!(gateway.metric("tidegate_quota_denied_total{").await, 3);
}

/// What one quota denies is not charged to the others, over real sockets and at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_quotas_are_charged_together_or_not_at_all() {
    let limit = "requests = 40\nper = \"1h\"\nkey = \"route\"\n\
                 [[route.limit]]\nname = \"own\"\nrequests = 5\nper = \"1h\"\nkey = \"header:X-Api-Key\"";
    let (_source, gateway) = gateway_with(limit).await;
    let ask = |key: usize| Ask::get("/limited/a").field("X-Api-Key", &key.to_string()).send(gateway.public);
    let asked = futures_util::future::join_all((0..200).map(|number| ask(number % 4))).await;
    let passed = asked.into_iter().filter(|answer| answer.as_ref().unwrap().status == 200).count();
    assert_eq!(passed, 20, "five for each of four");
    for key in 4..8 {
        for _ in 0..5 {
            assert_eq!(ask(key).await.unwrap().status, 200, "the denied have taken nothing of what is left");
        }
    }
    assert_denied(&ask(9).await.unwrap());
}

//! Who asks: stored responses, forwards and idempotency keys that are split by it, and never cross.

mod canaries;

use crate::support::{
    Answer, Ask, EVERYTHING, Gate, Gateway, RecordingDestination, RedisServer, Reply, ScriptedSource, Setup,
    Step, eventually, gateway_for,
};
use std::net::SocketAddr;

/// Every client of the tests is a trusted proxy.
const TRUSTED: &str = "trusted_proxies = [\"127.0.0.0/8\"]";

/// A source that tells in its answer who the request says it is for, which everybody may store.
async fn telling_source(cache_control: &'static str) -> ScriptedSource {
    let source = ScriptedSource::start().await;
    source.on("*", move |request| {
        let who = ["X-User", "Authorization", "Cookie"].map(|name| request.fields.list(name));
        Reply::ok(who.join("|")).cache_control(cache_control).field("ETag", "\"same\"")
    });
    source
}

async fn split_by(identity: &str, source: &ScriptedSource) -> Gateway {
    let rest = format!("{}{EVERYTHING}[route.cache]\nidentity = \"{identity}\"\n", source.table());
    Setup::new(rest).server(TRUSTED).start().await
}

fn told(answer: &Answer) -> (String, bool) {
    assert_eq!(answer.status, 200, "{answer:?}");
    (answer.text(), answer.is_hit())
}

/// Rows: the identity, the field lines of two clients, whether they are one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_stored_responses_are_split_by_identity_and_authorization() {
    for (identity, one, other, same) in [
        ("header:X-User", &[("X-User", "a")][..], &[("X-User", "b")][..], false),
        ("header:X-User", &[("X-User", "a")], &[("X-User", "a")], true),
        ("header:X-User", &[("X-User", "a")], &[], false),
        ("header:X-User", &[("X-User", "a"), ("Authorization", "x 1")], &[("X-User", "a")], false),
        ("header:X-User", &[("Authorization", "x 1")], &[("Authorization", "x 2")], false),
        ("header:Authorization", &[("Authorization", "x 1")], &[("Authorization", "x 2")], false),
        ("header:Authorization", &[("Authorization", "x 1")], &[("Authorization", "x 1")], true),
        ("header:Authorization", &[("Authorization", "x 1")], &[], false),
        ("cookie:session", &[("Cookie", "session=1")], &[("Cookie", "session=2")], false),
        ("cookie:session", &[("Cookie", "a=1; session=1")], &[("Cookie", "session=1; b=2")], true),
        ("cookie:session", &[("Cookie", "session=1")], &[("Cookie", "b=2")], false),
        ("cookie:session", &[("Cookie", "a=1, session=1")], &[], false),
        (
            "cookie:session",
            &[("Cookie", "session=1"), ("Authorization", "x 1")],
            &[("Cookie", "session=1")],
            false,
        ),
    ] {
        let source = telling_source("max-age=600").await;
        let gateway = split_by(identity, &source).await;
        let ask = |lines: &[(&str, &str)]| {
            let ask = lines.iter().fold(Ask::get("/a"), |ask, (name, value)| ask.field(name, value));
            gateway.send(ask)
        };
        let first = told(&ask(one).await);
        assert!(!first.1);
        assert_eq!(told(&ask(one).await), (first.0.clone(), true), "{identity} {one:?}");
        let second = told(&ask(other).await);
        assert_eq!(second.1, same, "{identity} {one:?} {other:?}");
        assert_eq!(second.0 == first.0, same, "{identity} {one:?} {other:?}");
    }
}

/// What is `private` is for no shared cache, whoever it is kept for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_what_is_private_is_not_stored_for_an_identity_either() {
    let source = telling_source("private, max-age=600").await;
    let gateway = split_by("header:Authorization", &source).await;
    for forwards in 1..4 {
        assert!(!told(&gateway.send(Ask::get("/a").field("Authorization", "x 1")).await).1);
        assert_eq!(source.count("/a"), forwards);
    }
}

/// The name that a client gives itself reaches neither the key nor the source; that of a proxy does both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_identity_is_believed_from_trusted_proxies_only() {
    let source = telling_source("max-age=600").await;
    let route = "[route.cache]\nidentity = \"header:X-User\"\n";
    let rest = format!("{}{EVERYTHING}{route}", source.table());
    let gateway = Setup::new(rest).server("trusted_proxies = [\"127.0.0.1\"]").start().await;
    let alice = || Ask::get("/a").field("X-User", "alice").field("X_User", "alice");
    assert_eq!(told(&gateway.send(alice()).await), ("alice||".into(), false));
    let stranger: SocketAddr = "127.0.0.2:0".parse().unwrap();
    let stranger = |ask: Ask| ask.send_from(stranger, gateway.public);
    let own = stranger(alice()).await.unwrap();
    assert_eq!(told(&own), ("||".into(), false), "neither what is stored for alice nor her name");
    assert_eq!(
        told(&stranger(Ask::get("/a")).await.unwrap()),
        ("||".into(), true),
        "as anybody without a name"
    );
    assert_eq!(told(&gateway.send(alice()).await), ("alice||".into(), true));
    assert!(source.requests.all().iter().all(|request| !request.fields.has("X_User")));
    let write = || Ask::put("/t", "1").chunked().trailer("X-User", "alice").field("Trailer", "X-User");
    assert_eq!(stranger(write()).await.unwrap().status, 200);
    assert_eq!(gateway.send(write()).await.status, 200);
    let said: Vec<_> = source.received("/t").iter().map(|write| write.trailers.list("X-User")).collect();
    assert_eq!(said, ["", "alice"], "behind the content, too");

    let gateway = gateway_for(&source, "[route.cache]\nidentity = \"header:Authorization\"\n").await;
    for hit in [false, true] {
        assert_eq!(
            told(&gateway.send(Ask::get("/a").field("Authorization", "x 1")).await),
            ("|x 1|".into(), hit)
        );
    }
}

/// Nobody waits for a forward that is another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_collapsing_never_crosses_identities() {
    let source = ScriptedSource::start().await;
    let gate = Gate::closed();
    let held = gate.clone();
    source.on("/a", move |request| {
        let who = request.fields.list("Authorization");
        let reply = Reply::ok(who.clone()).cache_control("max-age=600");
        if who == "x slow" { reply.after(Step::Wait(held.clone())) } else { reply }
    });
    let gateway = split_by("header:Authorization", &source).await;
    let ask = |who: &str| Ask::get("/a").field("Authorization", who).send(gateway.public);
    let slow: Vec<_> = (0..4).map(|_| tokio::spawn(ask("x slow"))).collect();
    source.wait_for("/a", 1).await;
    assert_eq!(ask("x fast").await.unwrap().text(), "x fast", "while the other's is on its way");
    gate.open();
    for slow in slow {
        assert_eq!(slow.await.unwrap().unwrap().text(), "x slow");
    }
    assert_eq!(source.count("/a"), 2, "those of one identity share a forward");
}

/// A purge by URL, tag or prefix, and a write, are for every identity.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purges_cover_every_identity() {
    let source = telling_source("max-age=600").await;
    let rest = format!(
        "{}{EVERYTHING}[route.cache]\nidentity = \"header:Authorization\"\ntags = [\"t\"]\n",
        source.table()
    );
    let gateway = Setup::new(rest).start().await;
    let ask = async |who: u32| {
        told(&gateway.send(Ask::get("/a").field("Authorization", &format!("x {who}"))).await)
    };
    let url = format!("http://{}/a", gateway.public);
    for purge in [
        Some(serde_json::json!({"urls": [url]})),
        Some(serde_json::json!({"tags": ["t"]})),
        Some(serde_json::json!({"prefix": "/"})),
        Some(serde_json::json!({"urls": [url], "mode": "soft"})),
        None,
    ] {
        for who in 0..3 {
            ask(who).await;
            assert!(ask(who).await.1);
        }
        match &purge {
            Some(purge) => assert_eq!(gateway.admin_post("/v1/purge", purge).await.status, 202),
            None => assert_eq!(gateway.put("/a", "new").await.status, 200),
        }
        for who in 0..3 {
            assert!(!ask(who).await.1, "{who} {purge:?}");
        }
    }
}

/// The same key from another identity is another write; cookies that tell nobody apart do not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_an_idempotency_key_is_of_its_route_and_identity() {
    for (identity, one, other, same) in [
        ("header:X-User", ("X-User", "a"), ("X-User", "b"), false),
        ("header:X-User", ("X-User", "a"), ("X-User", "a"), true),
        ("header:X-User", ("X-User", "a"), ("X-Other", "a"), false),
        ("header:X-User", ("Cookie", "a=1"), ("Cookie", "a=2"), true),
        ("header:X-User", ("Authorization", "x 1"), ("Authorization", "x 2"), false),
        ("cookie:session", ("Cookie", "session=1; seen=1"), ("Cookie", "session=1; seen=2"), true),
        ("cookie:session", ("Cookie", "session=1"), ("Cookie", "session=2"), false),
        ("shared", ("Cookie", "a=1"), ("Cookie", "a=2"), false),
    ] {
        let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
        source.always("/items", Reply::new(201, "made").field("Location", "/items/7"));
        let rest = format!(
            "{}{}{EVERYTHING}[route.cache]\nidentity = \"{identity}\"\n[route.sync]\ndestinations = [\"search\"]\n",
            source.table(),
            destination.table("search")
        );
        let gateway = Setup::new(rest).server(TRUSTED).start().await;
        let post = |(name, value): (&str, &str)| {
            gateway.send(Ask::post("/items", "x").field("Idempotency-Key", "\"k\"").field(name, value))
        };
        let first = post(one).await;
        let second = post(other).await;
        assert_eq!((first.status, second.status), (201, 201));
        let again = first.field("Tidegate-Change") == second.field("Tidegate-Change");
        assert_eq!(again, same, "{identity} {one:?} {other:?}");
        assert_eq!(source.count("/items"), if same { 1 } else { 2 });
    }
}

/// Two gateways of a namespace know the same identities, with a secret and without; what Redis has, and what
/// is logged, tells nobody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i12_no_identity_can_be_read_in_redis_or_in_logs() {
    let source = ScriptedSource::start().await;
    source.on("*", |request| {
        let reply = Reply::ok("x").cache_control("public, max-age=600");
        if request.path() == "/vary" { reply.field("Vary", "Authorization, Cookie, X-User") } else { reply }
    });
    let redis = RedisServer::start().await;
    for identity in ["header:X-User", "header:Authorization", "cookie:session", "shared"] {
        let rest = format!(
            "{}{}{EVERYTHING}[route.cache]\nidentity = \"{identity}\"\n",
            redis.table(),
            source.table()
        );
        let mut setup = Setup::new(rest).server(TRUSTED);
        setup.environment("TIDEGATE_LOG", "debug,tidegate=trace");
        let gateways = [setup.start().await, setup.start().await];
        for gateway in &gateways {
            gateway.uses_redis().await;
        }
        for path in [format!("/plain-{identity}"), "/vary".to_owned()] {
            let ask = || {
                Ask::get(&path)
                    .field("X-User", "canary-user")
                    .field("Authorization", "Bearer canary-token")
                    .field("Cookie", "session=canary-session")
            };
            gateways[0].send(ask()).await;
            gateways[0].has_written().await;
            eventually("the other gateway finds it", async || gateways[1].send(ask()).await.is_hit()).await;
            assert!(
                !gateways[1].send(Ask::get(&path)).await.is_hit() || identity == "shared" && path != "/vary"
            );
        }
        let kept = redis.everything().await;
        assert!(kept.len() >= 2, "{} keys", kept.len());
        for (key, value) in kept {
            for text in [&key, &value] {
                let text = String::from_utf8_lossy(text);
                assert!(!text.contains("canary"), "{identity}: {key:?}: {text}");
            }
        }
        for gateway in gateways {
            let exit = gateway.terminate().await;
            assert!(!exit.stderr.contains("canary"), "{identity}: {}", exit.stderr);
        }
    }
}

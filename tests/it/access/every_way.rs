//! Nothing passes the door: hits, followers, writes, HEAD, OPTIONS, QUERY and upgrades ask for a credential.

use super::{assert_refused, door, guarded, telling_source, with_key};
use crate::support::{
    Ask, EVERYTHING, Gate, RecordingDestination, Reply, SYNC, ScriptedSource, Setup, Step, eventually,
};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_good_key_nothing_is_answered_and_the_source_is_never_asked() {
    let source = telling_source().await;
    let gateway = guarded(&source, &door(""), "upgrade = [\"websocket\"]\n").await;
    assert_eq!(gateway.send(with_key(Ask::get("/x"), "key-ada")).await.status, 200);
    let asked = source.requests.all().len();
    let upgrade = || Ask::get("/x").field("Connection", "Upgrade").field("Upgrade", "websocket");
    for (what, ask) in [
        ("a hit", Ask::get("/x")),
        ("a miss", Ask::get("/y")),
        ("HEAD", Ask::new("HEAD", "/x")),
        ("a range", Ask::get("/x").field("Range", "bytes=0-1")),
        ("a condition", Ask::get("/x").field("If-None-Match", "*")),
        ("only-if-cached", Ask::get("/x").field("Cache-Control", "only-if-cached")),
        ("PUT", Ask::put("/x", "1")),
        ("POST", Ask::post("/x", "1")),
        ("POST in chunks", Ask::post("/x", "1").chunked()),
        ("DELETE", Ask::new("DELETE", "/x")),
        ("QUERY", Ask::new("QUERY", "/x").body("1")),
        ("OPTIONS", Ask::new("OPTIONS", "/x")),
        ("OPTIONS that goes no further", Ask::new("OPTIONS", "/x").field("Max-Forwards", "0")),
        (
            "a preflight",
            Ask::new("OPTIONS", "/x")
                .field("Origin", "http://a")
                .field("Access-Control-Request-Method", "PUT"),
        ),
        ("an upgrade", upgrade()),
        ("an unknown method", Ask::new("REPORT", "/x")),
        ("a wrong key", with_key(Ask::get("/x"), "key-adb")),
        ("an empty key", with_key(Ask::get("/x"), "")),
        ("two keys", with_key(with_key(Ask::get("/x"), "key-ada"), "key-bob")),
        ("the digest of a key", with_key(Ask::get("/x"), &super::sha256("key-ada"))),
        ("a key elsewhere", Ask::get("/x").field("Authorization", "Bearer key-ada")),
        ("who one is", Ask::get("/x").field("Tidegate-Identity", "key:4:door:ada")),
        ("by another spelling", Ask::get("/x").field("X_Api_Key", "key-ada")),
    ] {
        let answer = gateway.send(ask).await;
        if what == "HEAD" {
            assert_eq!((answer.status, answer.field("Cache-Control")), (401, "no-store"));
        } else {
            assert_refused(&answer, 401);
        }
        assert_eq!(
            answer.field("WWW-Authenticate"),
            "ApiKey realm=\"tidegate\", field=\"x-api-key\"",
            "{what}"
        );
    }
    assert_eq!(source.requests.all().len(), asked);
    assert_eq!(gateway.metric("tidegate_access_denied_total{route=\"items\",reason=\"missing\"").await, 19);
    assert_eq!(
        gateway.metric("tidegate_access_denied_total{route=\"items\",reason=\"unknown-key\"").await,
        3
    );
    assert_eq!(gateway.metric("tidegate_access_denied_total{route=\"items\",reason=\"malformed\"").await, 1);
    // What was refused was stored nowhere: the next one with a key is answered from what was there.
    assert!(gateway.send(with_key(Ask::get("/x"), "key-bob")).await.is_hit());
    let explained = gateway.admin_get("/v1/explain?url=http://127.0.0.1/x").await.json();
    assert_eq!((&explained["decision"], &explained["answer"]["status"]), (&json!("own"), &json!(401)));
    let with = "/v1/explain?url=http://127.0.0.1/x&header=X-Api-Key:%20key-ada";
    let explained = gateway.admin_get(with).await.json();
    assert_eq!(explained["decision"], "forward", "its Host is another: nothing is stored there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_at_the_door_for_what_another_was_let_in_for() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let held = gate.clone();
    source.on("*", move |_| Reply::ok("x").cache_control("max-age=60").after(Step::Wait(held.clone())));
    let gateway = std::sync::Arc::new(guarded(&source, &door(""), "").await);
    let own = std::sync::Arc::clone(&gateway);
    let leads = tokio::spawn(async move { own.send(with_key(Ask::get("/x"), "key-ada")).await });
    source.wait_for("/x", 1).await;
    assert_refused(&gateway.get("/x").await, 401);
    gate.open();
    assert_eq!(leads.await.unwrap().status, 200);
    assert_eq!(source.count("/x"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preflights_pass_where_the_configuration_says_so() {
    let source = telling_source().await;
    let gateway = guarded(&source, &door("preflight = \"pass\""), "").await;
    let options = || Ask::new("OPTIONS", "/x").field("Origin", "http://a");
    let preflight = options().field("Access-Control-Request-Method", "PUT").field("X-Api-Key", "wrong");
    assert_eq!(gateway.send(preflight).await.status, 200);
    assert_eq!(
        source.received("/x")[0].fields.get("X-Api-Key"),
        None,
        "no key that was not verified goes on"
    );
    assert_refused(&gateway.send(options()).await, 401);
    assert_refused(&gateway.send(Ask::put("/x", "1").field("Origin", "http://a")).await, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i12_a_key_reaches_neither_source_nor_journal_nor_destination() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    source.always("*", Reply::ok("x"));
    let text = |credentials: &str| {
        format!(
            "{}{}{}{EVERYTHING}access = \"door\"\n{SYNC}",
            source.table(),
            destination.table("search"),
            door(&format!("credentials = \"{credentials}\"\nidentity_field = \"X-User\""))
        )
    };
    for (credentials, sent) in [("remove", None), ("forward", Some("key-ada"))] {
        let setup = Setup::new(text(credentials));
        let gateway = setup.start().await;
        let before = destination.deliveries.all().len();
        let path = format!("/{credentials}");
        let write = with_key(Ask::put(&path, "1"), "key-ada").field("X-User", "root").field("x_user", "root");
        let answer = gateway.send(write).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let got = &source.received(&path)[0].fields;
        assert_eq!((got.get("X-Api-Key"), got.list("X-User").as_str()), (sent, "ada"));
        assert_eq!(got.get("x_user"), None);
        assert_eq!(got.get("Tidegate-Identity"), None);
        let delivered = destination.wait_for(before + 1).await;
        let delivered = &delivered.last().unwrap().request.fields;
        assert_eq!((delivered.get("X-Api-Key"), delivered.get("X-User")), (None, None));
        drop(gateway.terminate().await);
        for file in std::fs::read_dir(setup.data()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(7).any(|part| part == b"key-ada"));
        }
    }
}

/// Guesses are counted by quotas: beyond them nobody learns whether a key is good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_are_bounded_by_the_quotas_of_the_route() {
    let source = telling_source().await;
    let limit = "[[route.limit]]\nname = \"per-client\"\nrequests = 5\nper = \"1h\"\n";
    let gateway = guarded(&source, &door(""), limit).await;
    for guess in 0..5 {
        assert_refused(&gateway.send(with_key(Ask::get("/x"), &guess.to_string())).await, 401);
    }
    for key in ["wrong", "key-ada"] {
        gateway.send(with_key(Ask::get("/x"), key)).await.assert_problem(429);
    }
    assert_eq!(source.requests.all().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_lets_others_in_and_keeps_what_is_stored() {
    let source = telling_source().await;
    let table = |names: &str| format!("{}{names}{EVERYTHING}access = \"door\"\n", source.table());
    let one = format!(
        "[[access]]\nname = \"door\"\n[[access.key]]\nname = \"ada\"\nsha256 = [\"{}\", \"{}\"]\n",
        super::sha256("key-ada"),
        super::sha256("next")
    );
    let mut setup = Setup::new(table(&door("")));
    let gateway = setup.start().await;
    for key in ["key-ada", "key-bob"] {
        assert_eq!(gateway.send(with_key(Ask::get("/x"), key)).await.status, 200);
    }
    setup = setup.rest(table(&one));
    setup.write();
    let answer = gateway.admin_post("/v1/reload", &json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["changes"][0]["what"], "access", "{}", answer.text());
    for key in ["key-ada", "next"] {
        assert!(gateway.send(with_key(Ask::get("/x"), key)).await.is_hit(), "{key}");
    }
    assert_refused(&gateway.send(with_key(Ask::get("/x"), "key-bob")).await, 401);
    std::fs::write(
        setup.file(),
        setup.text().replace("\"door\"\n[[access.key]]", "\"gate\"\n[[access.key]]"),
    )
    .unwrap();
    gateway.admin_post("/v1/reload", &json!({})).await.assert_problem(422);
    eventually("the one before is in force", async || {
        gateway.send(with_key(Ask::get("/x"), "next")).await.is_hit()
    })
    .await;
    let config = gateway.admin_get("/v1/config").await.text();
    assert!(!config.contains(&super::sha256("next")), "{config}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_are_seen_through_trusted_proxies_only() {
    let source = telling_source().await;
    let access = "[[access]]\nname = \"door\"\naddresses = [\"192.0.2.0/24\"]\n";
    let text = format!("{}{access}{EVERYTHING}access = \"door\"\n", source.table());
    let trusting = Setup::new(text.clone()).server("trusted_proxies = [\"127.0.0.1\"]").start().await;
    let strict = Setup::new(text).start().await;
    for (from, status) in [("192.0.2.7", 200), ("198.51.100.1", 403), ("192.0.2.7, 198.51.100.1", 403)] {
        let ask = || Ask::get("/x").field("X-Forwarded-For", from);
        assert_eq!(trusting.send(ask()).await.status, status, "{from}");
        assert_refused(&strict.send(ask()).await, 403);
    }
}

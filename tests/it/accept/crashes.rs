//! I2 for accepted changes: what a client has its 202 for is done, whenever the process dies.

use super::{accepted, accepting, becomes, texts};
use crate::support::{
    Ask, Gate, InventorySource, RecordingDestination, Reply, ScriptedSource, Setup, Step, eventually,
};
use std::collections::BTreeSet;
use std::path::Path;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_what_was_accepted_is_done_after_kill_9() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    let gate = Gate::closed();
    let hole = gate.clone();
    source.on("*", move |_| Reply::ok("").after(Step::Wait(hole.clone())));
    let setup = accepting(&source.table(), &destination, "");
    let gateway = setup.start().await;
    let mut ids = BTreeSet::new();
    for number in 0..40 {
        let path = format!("/items/{}", number % 20);
        ids.insert(accepted(&gateway.put(&path, &number.to_string()).await));
    }
    source.wait_for("/items/0", 1).await;
    gateway.kill().await;
    gate.open();
    let gateway = setup.start().await;
    eventually("all is done", async || {
        gateway.metric("tidegate_accepted_waiting{source=\"inventory\"}").await == 0
    })
    .await;
    let got =
        |all: &[crate::support::Delivery]| all.iter().map(|one| one.id.clone()).collect::<BTreeSet<_>>();
    let all = destination.deliveries.until("all is delivered", |all| got(all) == ids).await;
    for key in 0..20 {
        let key = format!("/items/{key}");
        let sent = texts(&source.received(&key));
        let numbers: Vec<u32> = sent.iter().map(|text| text.parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "I3 {key}: {numbers:?}");
        let of_key: Vec<_> = all.iter().filter(|delivery| delivery.key == key).collect();
        assert!(of_key.is_sorted_by_key(|delivery| delivery.sequence));
    }
}

/// Every point of an accepted change's way at which the process may die.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_a_death_at_any_point_loses_nothing_that_was_accepted() {
    let (source, destination) = (InventorySource::start().await, RecordingDestination::start().await);
    let mut setup = accepting(&source.table(), &destination, "");
    let mut ids = BTreeSet::new();
    for (round, point) in
        ["intent-after-commit:3", "source-answered:2", "outcome-before-commit:1", "outcome-after-commit:2"]
            .into_iter()
            .enumerate()
    {
        setup.environment("TIDEGATE_FAIL_POINT", point);
        let gateway = match setup.try_start().await {
            Ok(gateway) => gateway,
            // What an earlier death left to do led to the point.
            Err(exit) if exit.stderr.contains("fail point reached") => continue,
            Err(exit) => panic!("{point}: {}", exit.stderr),
        };
        for number in 0..10 {
            let ask = Ask::put(&format!("/items/{number}"), format!("{round}"));
            match ask.send(gateway.public).await {
                Ok(answer) if answer.status == 202 => drop(ids.insert(accepted(&answer))),
                Ok(answer) => panic!("{answer:?}"),
                Err(_) => break,
            }
        }
        let exit = gateway.ended().await;
        assert!(exit.stderr.contains("fail point reached"), "{point}: {}", exit.stderr);
    }
    setup.environment("TIDEGATE_FAIL_POINT", "");
    let gateway = setup.start().await;
    eventually("nothing waits", async || {
        gateway.metric("tidegate_accepted_waiting{source=\"inventory\"}").await == 0
            && gateway.destination("search").await["pending"] == 0
    })
    .await;
    for id in ids {
        becomes(&gateway, &id, "committed").await;
    }
    eventually("both states are equal", async || source.state() == destination.state()).await;
}

/// A POST that had left when the process died may have been done: it is in doubt, not sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_that_had_left_before_a_crash_is_in_doubt() {
    let (source, destination) = (InventorySource::start().await, RecordingDestination::start().await);
    let mut setup = accepting(&source.table(), &destination, "");
    setup.environment("TIDEGATE_FAIL_POINT", "source-answered");
    let gateway = setup.start().await;
    let id = accepted(&gateway.send(Ask::post("/items", "x")).await);
    gateway.ended().await;
    setup.environment("TIDEGATE_FAIL_POINT", "");
    let gateway = setup.start().await;
    becomes(&gateway, &id, "in-doubt").await;
    accepted(&gateway.send(Ask::post("/items", "y")).await);
    destination.wait_for_body("y").await;
    assert_eq!(texts(&source.applied.all()), ["x", "y"]);
}

/// I12: neither the client's credentials nor the source's are on the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i12_no_credential_is_stored() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    source.always("/items/1", Reply::new(503, ""));
    source.on("*", |request| Reply::new(400, request.fields.get("Authorization").unwrap_or_default()));
    let table = format!("{}headers = {{ authorization = \"Bearer canary-own\" }}\n", source.table());
    let setup = accepting(&table, &destination, "");
    let gateway = setup.start().await;
    let ask = Ask::put("/items/1", "canary-body")
        .field("Authorization", "Bearer canary-client")
        .field("Cookie", "session=canary-cookie")
        .field("Proxy-Authorization", "Basic canary-proxy");
    accepted(&gateway.send(ask).await);
    source.wait_for("/items/1", 2).await;
    let sent = source.received("/items/1");
    assert!(sent.iter().all(|one| one.fields.get("Authorization") == Some("Bearer canary-own")));
    let refused = accepted(&gateway.put("/items/2", "x").await);
    becomes(&gateway, &refused, "dead-letter").await;
    let letters = gateway.admin_get("/v1/dead-letters").await.json();
    assert_eq!(letters["dead_letters"][0]["answer"], "redacted", "{letters}");
    let shown = gateway.admin_get("/v1/config").await.text();
    assert!(!shown.contains("canary"), "{shown}");
    assert!(!gateway.log_text().contains("canary"));
    gateway.kill().await;
    assert!(holds(&setup, b"canary-body"), "what is looked for can be found");
    for secret in [&b"canary-own"[..], b"canary-client", b"canary-cookie", b"canary-proxy"] {
        assert!(!holds(&setup, secret), "{}", String::from_utf8_lossy(secret));
    }
}

/// Whether any file of the journal has these bytes.
fn holds(setup: &Setup, wanted: &[u8]) -> bool {
    let has = |path: &Path| {
        let bytes = std::fs::read(path).expect("a journal's file can be read");
        bytes.windows(wanted.len()).any(|window| window == wanted)
    };
    let files = std::fs::read_dir(setup.data()).expect("the journal has a folder");
    files.map(|file| file.expect("a file").path()).any(|path| has(&path))
}

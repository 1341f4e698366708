//! Keys whose answers may not be stored: after the first one nobody waits for anybody.

use crate::support::{
    Ask, EVERYTHING, Gate, Gateway, Reply, ScriptedSource, Setup, Step, gateway_for, is_broken,
};
use futures_util::future::join_all;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many clients ask at once.
const CLIENTS: usize = 200;

/// The first answer comes at once, the others when the gate opens.
fn held_after_the_first(source: &ScriptedSource, gate: &Gate, control: &'static str) {
    let (held, number) = (gate.clone(), AtomicUsize::new(0));
    source.on("/own", move |_| {
        let turn = number.fetch_add(1, Ordering::SeqCst);
        let reply = Reply::ok(format!("answer {turn}")).cache_control(control);
        if turn == 0 { reply } else { reply.after(Step::Wait(held.clone())) }
    });
}

async fn markers(gateway: &Gateway) -> u64 {
    gateway.metric("tidegate_hit_for_miss_markers").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_never_storable_does_not_serialise_its_clients() {
    for control in ["private, max-age=60", "no-store"] {
        let (source, gate) = (ScriptedSource::start().await, Gate::closed());
        held_after_the_first(&source, &gate, control);
        let gateway = gateway_for(&source, "").await;
        assert!(
            !gateway.get("/own").await.says("detail=hit-for-miss"),
            "{control}: the first leaves the marker"
        );
        assert_eq!(markers(&gateway).await, 1, "{control}");
        let asked = (0..CLIENTS).map(|_| gateway.get("/own"));
        let (answers, ()) = tokio::join!(join_all(asked), async {
            // All of them are at the source before any has its answer.
            source.wait_for("/own", 1 + CLIENTS).await;
            gate.open();
        });
        assert!(answers.iter().all(|answer| answer.says("detail=hit-for-miss")), "{control}");
        let mut texts: Vec<_> = answers.iter().map(crate::support::Answer::text).collect();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), CLIENTS, "{control}: each has an answer of its own");
        source.always("/own", Reply::ok("for all").cache_control("max-age=60"));
        assert!(gateway.get("/own").await.says("stored"), "{control}: what may be stored is");
        assert_eq!(markers(&gateway).await, 0, "{control}: and ends the marker");
        let next = gateway.get("/own").await;
        assert!(next.is_hit() && next.text() == "for all", "{control}: {next:?}");
    }
}

/// HEADs leave a marker for HEADs, and obey that of the key too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_of_a_key_that_is_never_storable_do_not_wait_for_each_other() {
    for first in ["HEAD", "GET"] {
        let (source, gate) = (ScriptedSource::start().await, Gate::closed());
        held_after_the_first(&source, &gate, "private, max-age=60");
        let gateway = gateway_for(&source, "").await;
        assert!(gateway.send(Ask::new(first, "/own")).await.says("detail=private"), "{first}");
        let asked = (0..CLIENTS).map(|_| gateway.send(Ask::new("HEAD", "/own")));
        let (answers, ()) = tokio::join!(join_all(asked), async {
            source.wait_for("/own", 1 + CLIENTS).await;
            gate.open();
        });
        assert!(answers.iter().all(|answer| answer.says("detail=hit-for-miss")), "{first}");
        assert!(gateway.get("/own").await.says("detail=private") == (first == "HEAD"), "{first}");
        source.always("/own", Reply::ok("for all").cache_control("max-age=60"));
        gateway.get("/own").await;
        assert!(gateway.send(Ask::new("HEAD", "/own")).await.is_hit(), "{first}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_marked_request_goes_with_its_own_conditions_and_ranges() {
    let source = ScriptedSource::start().await;
    source.on("/own", |request| {
        let reply = match request.fields.get("If-None-Match") {
            Some("\"mine\"") => Reply::new(304, ""),
            _ if request.fields.has("Range") => Reply::new(206, "ab").field("Content-Range", "bytes 0-1/9"),
            _ => Reply::ok("abcdefghi"),
        };
        reply.field("ETag", "\"mine\"").cache_control("private")
    });
    let gateway = gateway_for(&source, "").await;
    assert_eq!(gateway.get("/own").await.status, 200);
    for (name, value, status) in [("If-None-Match", "\"mine\"", 304), ("Range", "bytes=0-1", 206)] {
        let answer = gateway.send(Ask::get("/own").field(name, value)).await;
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        assert_eq!(source.received("/own").last().and_then(|last| last.fields.get(name)), Some(value));
    }
    assert!(gateway.get("/own").await.says("detail=hit-for-miss"), "the marker outlives both");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_marked_request_cannot_share_is_not_stored() {
    let source = ScriptedSource::start().await;
    source.always("/own", Reply::ok("mine").cache_control("private"));
    let gateway = gateway_for(&source, "").await;
    assert_eq!(gateway.get("/own").await.text(), "mine");
    // A precondition that failed for one client says nothing to others, whatever freshness it claims.
    source.always("/own", Reply::new(412, "failed").cache_control("max-age=60"));
    assert_eq!(gateway.send(Ask::get("/own").field("If-None-Match", "\"a\"")).await.status, 412);
    // What breaks off is not stored.
    let broken = Reply::promising(100, vec![Step::Bytes(b"part".to_vec()), Step::Cut]);
    source.always("/own", broken.cache_control("max-age=60"));
    assert!(is_broken(&Ask::get("/own").send(gateway.public).await), "the cut is visible");
    source.always("/own", Reply::ok("whole").cache_control("max-age=60"));
    let answer = gateway.get("/own").await;
    assert!(answer.text() == "whole" && answer.says("stored"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_and_size_leave_no_marker() {
    let source = ScriptedSource::start().await;
    source.always("/busy", Reply::new(503, "").cache_control("no-store"));
    source.always("/gone", Reply::none(Step::Cut));
    source.always("/large", Reply::ok(vec![b'x'; 2_000]).cache_control("max-age=60"));
    let text = format!("[cache]\nmemory_object = \"1KiB\"\n{}{EVERYTHING}", source.table());
    let gateway = Setup::new(text).start().await;
    for (path, status) in [("/busy", 503), ("/gone", 502), ("/large", 200)] {
        for _ in 0..2 {
            let answer = gateway.get(path).await;
            assert_eq!(answer.status, status, "{path}");
            assert!(!answer.says("detail=hit-for-miss"), "{path}: {answer:?}");
        }
    }
    assert_eq!(markers(&gateway).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_of_the_key_takes_the_marker_along() {
    let source = ScriptedSource::start().await;
    source.always("/own", Reply::ok("mine").cache_control("private"));
    let gateway = gateway_for(&source, "").await;
    gateway.get("/own").await;
    assert!(gateway.get("/own").await.says("detail=hit-for-miss"));
    let url = format!("http://{}/own", gateway.public);
    assert_eq!(gateway.admin_post("/v1/purge", &json!({ "urls": [url] })).await.status, 202);
    assert!(gateway.get("/own").await.says("detail=private"), "it is looked at anew");
    assert!(gateway.get("/own").await.says("detail=hit-for-miss"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_marked_request_may_be_answered_stale_where_the_source_fails() {
    let source = ScriptedSource::start().await;
    let kept = Reply::ok("kept").cache_control("max-age=0, public, stale-if-error=60");
    // A request with credentials whose answer is for nobody else marks the key, and leaves what is stored.
    let private = Reply::ok("mine").cache_control("max-age=60");
    source.sequence("/a", vec![kept, private, Reply::new(503, "busy")]);
    let gateway = gateway_for(&source, "").await;
    assert_eq!(gateway.get("/a").await.text(), "kept");
    let own = gateway.send(Ask::get("/a").field("Authorization", "Basic eDp5")).await;
    assert!(own.text() == "mine" && own.says("detail=authorization"), "{own:?}");
    let stale = gateway.get("/a").await;
    assert!(stale.text() == "kept" && stale.says("detail=stale-if-error"), "{stale:?}");
}

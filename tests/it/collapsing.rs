//! Many requests for one key: one forward, whose followers read along, and nobody is hurt by another.

mod leaders;
mod leaving;
mod ranges;
mod streams;

use crate::support::{
    Ask, EVERYTHING, Gate, Gateway, Opened, Reply, ScriptedSource, Setup, Step, eventually, gateway_for,
    within,
};
use futures_util::future::join_all;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A body whose first part is sent at once and whose rest waits for the gate.
fn gated(gate: &Gate, end: Step) -> Reply {
    Reply::chunks(vec![Step::Bytes(b"first".to_vec()), Step::Wait(gate.clone()), end])
        .cache_control("max-age=60")
}

/// The sum of a metric's whole values, of those lines that have `label`.
async fn metric(gateway: &Gateway, name: &str, label: &str) -> usize {
    let text = gateway.admin_get("/metrics").await.text();
    let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.split('.').next()?.parse::<usize>().ok()).sum()
}

/// Waits until so many clients wait for fills or read along.
async fn followers(gateway: &Gateway, clients: usize) {
    eventually("so many follow", async || metric(gateway, "tidegate_followers", "").await == clients).await;
}

/// Forwards that followers began besides, since the head of a first one was overdue, as it may be on a slow machine.
async fn extra_leaders(gateway: &Gateway) -> usize {
    metric(gateway, "tidegate_extra_leaders_total", "").await
}

/// Nothing leaks: no fill, follower, buffer or request to the source is left.
async fn nothing_is_left(gateway: &Gateway) {
    for name in
        ["tidegate_followers", "tidegate_fills", "tidegate_in_flight_bytes", "tidegate_source_in_flight"]
    {
        assert!(gateway.admin_get("/metrics").await.text().contains(&format!("\n{name}")), "no {name}");
        eventually(&format!("{name} is 0"), async || metric(gateway, name, "").await == 0).await;
    }
}

async fn open(gateway: &Gateway, target: &str) -> Opened {
    let ask = Ask::get(target);
    within("a head", ask.open(gateway.public)).await.expect("a head")
}

/// Reads until the first part of the body has come.
async fn first_bytes(opened: &mut Opened) {
    let mut seen = Vec::new();
    while seen.len() < b"first".len() {
        let part = within("first bytes before the source has finished", opened.next()).await;
        seen.extend(part.expect("a part").expect("the body has not ended"));
    }
    assert_eq!(seen, b"first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_make_one_forward_and_read_along() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    source.always("/slow", gated(&gate, Step::Bytes(b" rest".to_vec())));
    let gateway = gateway_for(&source, "").await;
    let mut opened = join_all((0..1000).map(|_| open(&gateway, "/slow"))).await;
    join_all(opened.iter_mut().map(first_bytes)).await;
    assert_eq!(source.count("/slow"), 1, "before the source has finished");
    gate.open();
    let rests = join_all(opened.iter_mut().map(Opened::rest)).await;
    for rest in rests {
        assert_eq!(rest.expect("the whole body"), b" rest");
    }
    assert_eq!(source.count("/slow"), 1);
    let status = |says: &str| opened.iter().filter(|one| one.head.says(says)).count();
    assert_eq!(status("collapsed") + status("hit"), 999, "everyone but the leader was spared a forward");
    assert!(gateway.get("/slow").await.is_hit());
    nothing_is_left(&gateway).await;
}

/// I7: what may not be shared is not; and nobody waits for anybody then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unshareable_head_releases_everyone_at_once() {
    for control in ["private, max-age=60", "no-store"] {
        let (source, gate) = (ScriptedSource::start().await, Gate::closed());
        let (held, number) = (gate.clone(), AtomicUsize::new(0));
        source.on("/own", move |_| {
            let turn = number.fetch_add(1, Ordering::SeqCst);
            let reply = Reply::ok(format!("answer {turn}")).cache_control(control);
            if turn == 0 { reply.after(Step::Wait(held.clone())) } else { reply }
        });
        let gateway = gateway_for(&source, "").await;
        let asked = (0..50).map(|_| gateway.get("/own"));
        let (answers, ()) = tokio::join!(join_all(asked), async {
            source.wait_for("/own", 1).await;
            gate.open();
        });
        let mut bodies = answers.iter().map(crate::support::Answer::text).collect::<Vec<_>>();
        bodies.sort();
        bodies.dedup();
        assert_eq!(bodies.len(), 50, "{control}: each has an answer of its own");
        assert!(answers.iter().all(|answer| answer.status == 200));
        assert_eq!(source.count("/own"), 50, "{control}");
        nothing_is_left(&gateway).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_body_is_a_visible_error_for_everyone_and_never_stored() {
    for (what, end) in [("reset", Step::Reset), ("closed", Step::Cut)] {
        let whole = Reply::ok("complete").cache_control("max-age=60");
        for chunked in [true, false] {
            let (source, gate) = (ScriptedSource::start().await, Gate::closed());
            let steps = vec![Step::Bytes(b"first".to_vec()), Step::Wait(gate.clone()), end.clone()];
            let broken = if chunked { Reply::chunks(steps) } else { Reply::promising(1000, steps) };
            source.sequence("/a", vec![broken.cache_control("max-age=60"), whole.clone()]);
            let gateway = gateway_for(&source, "").await;
            let mut opened = join_all((0..20).map(|_| open(&gateway, "/a"))).await;
            join_all(opened.iter_mut().map(first_bytes)).await;
            gate.open();
            for one in &mut opened {
                let rest = within("the cut reaches everyone", one.rest()).await;
                assert!(rest.is_err(), "{what}, chunked {chunked}: looked complete: {rest:?}");
            }
            assert_eq!(source.count("/a"), 1);
            let next = gateway.get("/a").await;
            assert_eq!((next.text().as_str(), next.is_hit()), ("complete", false), "{what}: {next:?}");
            nothing_is_left(&gateway).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_leaves_hurts_no_follower() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    source.always("/a", gated(&gate, Step::Bytes(b" rest".to_vec())));
    let gateway = gateway_for(&source, "").await;
    let mut leader = open(&gateway, "/a").await;
    first_bytes(&mut leader).await;
    let mut followers = join_all((0..5).map(|_| open(&gateway, "/a"))).await;
    join_all(followers.iter_mut().map(first_bytes)).await;
    drop(leader);
    gate.open();
    for follower in &mut followers {
        assert_eq!(within("the rest", follower.rest()).await.expect("the whole body"), b" rest");
    }
    assert_eq!(source.count("/a"), 1);
    nothing_is_left(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_leaves_before_the_head_hurts_no_follower() {
    let source = ScriptedSource::start().await;
    let (gateway, mut before) = (gateway_for(&source, "").await, 0);
    for method in ["GET", "HEAD"] {
        let (path, gate) = (format!("/{method}"), Gate::closed());
        source.always(&path, Reply::ok("whole").cache_control("max-age=60").after(Step::Wait(gate.clone())));
        let ask = Ask::new(method, &format!("/{method}"));
        let leader = tokio::spawn(ask.clone().send(gateway.public));
        source.wait_for(&format!("/{method}"), 1).await;
        let follower = tokio::spawn(ask.send(gateway.public));
        followers(&gateway, 2).await;
        leader.abort();
        assert!(leader.await.is_err_and(|ended| ended.is_cancelled()));
        followers(&gateway, 1).await;
        gate.open();
        let answer = follower.await.expect("a task").expect("an answer");
        assert_eq!((answer.status, answer.field("Content-Length")), (200, "5"), "{method}");
        let extra = std::mem::replace(&mut before, extra_leaders(&gateway).await);
        assert_eq!(source.count(&format!("/{method}")), 1 + before - extra, "{method}");
        nothing_is_left(&gateway).await;
    }
}

/// A forward that nobody waits for is let go before its head: its place and its key are free again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_that_everybody_has_left_ends_at_once() {
    for method in ["GET", "HEAD"] {
        let (source, never) = (ScriptedSource::start().await, Gate::closed());
        let (held, number) = (never.clone(), AtomicUsize::new(0));
        source.on("/a", move |_| {
            let reply = Reply::ok("whole").cache_control("max-age=60");
            match number.fetch_add(1, Ordering::SeqCst) {
                0 => reply.after(Step::Wait(held.clone())),
                _ => reply,
            }
        });
        let gateway = gateway_for(&source, "").await;
        let clients: Vec<_> =
            (0..3).map(|_| tokio::spawn(Ask::new(method, "/a").send(gateway.public))).collect();
        followers(&gateway, 3).await;
        source.wait_for("/a", 1).await;
        clients.iter().for_each(tokio::task::JoinHandle::abort);
        // The source never answers: long before its timeout all is as if nobody had come.
        nothing_is_left(&gateway).await;
        let answer = gateway.send(Ask::new(method, "/a")).await;
        assert_eq!((answer.status, source.count("/a")), (200, 2), "{method}: a forward of its own");
    }
}

/// I5: a fill that began before a write is neither stored nor served to who asks after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_that_a_write_overtook_is_not_stored() {
    for synced in [false, true] {
        let (source, gate) = (ScriptedSource::start().await, Gate::closed());
        let held = gate.clone();
        let reads = AtomicUsize::new(0);
        source.on("/items/1", move |request| {
            if request.method == "PUT" {
                return Reply::ok("");
            }
            match reads.fetch_add(1, Ordering::SeqCst) {
                0 => Reply::ok("old").cache_control("max-age=60").after(Step::Wait(held.clone())),
                _ => Reply::ok("new").cache_control("max-age=60"),
            }
        });
        let destination = crate::support::RecordingDestination::start().await;
        let sync = if synced { "[route.sync]\ndestinations = [\"search\"]\n" } else { "" };
        let text = format!("{}{}{EVERYTHING}{sync}", source.table(), destination.table("search"));
        let gateway = Setup::new(text).start().await;

        let before = tokio::spawn(Ask::get("/items/1").send(gateway.public));
        source.wait_for("/items/1", 1).await;
        assert_eq!(gateway.put("/items/1", "new").await.status, 200);
        let after = gateway.get("/items/1").await;
        assert_eq!(after.text(), "new", "synced {synced}: it joined a forward that began before the write");
        gate.open();
        let answer = before.await.expect("the first reader is done").expect("an answer");
        assert_eq!(answer.text(), "old", "who asked before the write may get what was there");
        for _ in 0..5 {
            assert_eq!(
                gateway.get("/items/1").await.text(),
                "new",
                "synced {synced}: the old fill was stored"
            );
        }
    }
}

//! Who leads, who follows, and how long: the extra leader, deadlines, clients that leave.

use super::{extra_leaders, followers, gated, nothing_is_left, open};
use crate::support::{
    Answer, Ask, EVERYTHING, Gate, Gateway, Reply, ScriptedSource, Setup, Step, gateway_for, within,
};
use futures_util::future::join_all;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Answers the n-th request as `reply` says, once the n-th gate is open; without a gate at once.
fn in_turn(source: &ScriptedSource, path: &str, gates: &[Gate], reply: fn(usize) -> Reply) {
    let (gates, number) = (gates.to_vec(), AtomicUsize::new(0));
    source.on(path, move |_| {
        let turn = number.fetch_add(1, Ordering::SeqCst);
        match gates.get(turn) {
            Some(gate) => reply(turn).after(Step::Wait(gate.clone())),
            None => reply(turn),
        }
    });
}

fn numbered(turn: usize) -> Reply {
    Reply::ok(format!("answer {turn}")).cache_control("max-age=60")
}

async fn asked(gateway: &Gateway, clients: usize) -> Vec<Answer> {
    join_all((0..clients).map(|_| gateway.get("/a"))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_head_comes_for_long_one_follower_leads_too_and_serves_everybody() {
    let (source, never) = (ScriptedSource::start().await, Gate::closed());
    in_turn(&source, "/a", &[never], numbered);
    // So long that it is not the source's deadline that ends the first forward.
    let text = format!("{}timeout = \"50s\"\n{EVERYTHING}", source.table());
    let gateway = Setup::new(text).start().await;
    let answers = asked(&gateway, 20).await;
    assert!(answers.iter().all(|answer| (answer.status, answer.text().as_str()) == (200, "answer 1")));
    assert_eq!(source.count("/a"), 2);
    let collapsed = answers.iter().filter(|answer| answer.says("collapsed")).count();
    assert_eq!(collapsed, 19, "the first leader follows the extra one");
    assert!(gateway.get("/a").await.is_hit());
    // The first forward was dropped: its source has never answered.
    nothing_is_left(&gateway).await;
}

/// As for GET; the first leader's own client is answered by the second's head too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_head_comes_for_a_head_one_follower_leads_too() {
    let (source, never) = (ScriptedSource::start().await, Gate::closed());
    in_turn(&source, "/a", &[never], numbered);
    let text = format!("{}timeout = \"50s\"\n{EVERYTHING}", source.table());
    let gateway = Setup::new(text).start().await;
    let answers = join_all((0..20).map(|_| gateway.send(Ask::new("HEAD", "/a")))).await;
    assert!(answers.iter().all(|answer| (answer.status, answer.field("Content-Length")) == (200, "8")));
    let methods: Vec<String> = source.received("/a").into_iter().map(|received| received.method).collect();
    assert_eq!(methods, ["HEAD", "HEAD"]);
    assert!(gateway.send(Ask::new("HEAD", "/a")).await.is_hit());
    nothing_is_left(&gateway).await;
}

/// What the second forward brings is another variant than the first one's client wants: the first goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extra_leader_of_another_variant_ends_nobodys_forward() {
    let (source, first) = (ScriptedSource::start().await, Gate::closed());
    let (held, number) = (first.clone(), AtomicUsize::new(0));
    source.on("/a", move |request| {
        let language = request.fields.get("Accept-Language").unwrap_or_default().to_owned();
        let reply = Reply::ok(language).field("Vary", "Accept-Language").cache_control("max-age=60");
        let is_first = number.fetch_add(1, Ordering::SeqCst) == 0;
        if is_first { reply.after(Step::Wait(held.clone())) } else { reply }
    });
    let gateway = gateway_for(&source, "").await;
    let by = |language: &str| Ask::get("/a").field("Accept-Language", language);
    let slow = tokio::spawn(by("de").send(gateway.public));
    source.wait_for("/a", 1).await;
    assert_eq!(within("the extra leader's answer", gateway.send(by("fr"))).await.text(), "fr");
    first.open();
    assert_eq!(slow.await.expect("a task").expect("an answer").text(), "de");
    assert_eq!(source.count("/a"), 2, "its own forward answered it");
    nothing_is_left(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_never_more_than_two_leaders_and_the_first_may_still_be_faster() {
    let (source, first, extra) = (ScriptedSource::start().await, Gate::closed(), Gate::closed());
    in_turn(&source, "/a", &[first.clone(), extra], numbered);
    let gateway = gateway_for(&source, "").await;
    let address = gateway.public;
    let (answers, late) = tokio::join!(asked(&gateway, 20), async {
        source.wait_for("/a", 2).await;
        // The head is overdue when it comes: a third leader would step in at once.
        let late = tokio::spawn(Ask::get("/a").send(address));
        followers(&gateway, 21).await;
        first.open();
        late.await
    });
    assert!(answers.iter().all(|answer| answer.text() == "answer 0"));
    assert_eq!(late.expect("it has ended").expect("an answer").text(), "answer 0");
    assert_eq!(source.count("/a"), 2);
    nothing_is_left(&gateway).await;
}

/// Of two answers that may not be shared each goes to the one whose forward brought it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_an_extra_leaders_own_answer_is_its_own() {
    let (source, first) = (ScriptedSource::start().await, Gate::closed());
    in_turn(&source, "/a", std::slice::from_ref(&first), |turn| {
        Reply::ok(format!("answer {turn}")).cache_control("private")
    });
    let gateway = gateway_for(&source, "").await;
    let (answers, ()) = tokio::join!(asked(&gateway, 3), async {
        // The extra leader's answer has released the third, which forwards for itself.
        source.wait_for("/a", 3).await;
        first.open();
    });
    let mut texts: Vec<String> = answers.iter().map(Answer::text).collect();
    texts.sort();
    assert_eq!(texts, ["answer 0", "answer 1", "answer 2"]);
    assert_eq!(source.count("/a"), 3, "the first leader has its own answer");
    nothing_is_left(&gateway).await;
}

async fn impatient(source: &ScriptedSource) -> Gateway {
    let text = format!("{}{EVERYTHING}", source.table());
    Setup::new(text).server("request_timeout = \"4s\"").start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_a_follower_waits_no_longer_than_its_own_deadline() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    in_turn(&source, "/a", &[gate.clone(), gate.clone()], numbered);
    let gateway = impatient(&source).await;
    let answers = asked(&gateway, 5).await;
    let led = answers.iter().filter(|answer| answer.status == 504).count();
    assert_eq!(led, 2, "the leader and the extra one");
    for answer in answers.iter().filter(|answer| answer.status != 504) {
        answer.assert_problem(503);
        assert_eq!(answer.field("Retry-After"), "1");
        assert_eq!(answer.cache_status(), ["detail=wait-timeout"]);
    }
    let refused = super::metric(&gateway, "tidegate_collapse_refused_total", "wait-timeout").await;
    assert_eq!(refused, 3);
    // Nobody waits any more: both forwards are dropped, though their source has not answered.
    nothing_is_left(&gateway).await;
    gate.open();
    assert_eq!(gateway.get("/a").await.status, 200);
}

/// Whoever waits for a flight has what comes of it by the deadline of its first forward: a second one that
/// began later ends with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_an_extra_leader_makes_nobody_wait_longer_than_the_first() {
    let (source, never) = (ScriptedSource::start().await, Gate::closed());
    let text = format!("{}timeout = \"5s\"\n{EVERYTHING}", source.table());
    let gateway = Setup::new(text).start().await;
    let mut times = Vec::new();
    // The second one has a second more, which a slow machine may take of its own; but not again and again.
    while times.last().is_none_or(|took| *took > 5.9) && times.len() < 3 {
        in_turn(&source, "/a", &[never.clone(), never.clone()], numbered);
        let (count, before) = (source.count("/a"), tokio::time::Instant::now());
        let answers = asked(&gateway, 5).await;
        times.push(before.elapsed().as_secs_f64());
        assert!(answers.iter().all(|answer| answer.status == 504));
        assert_eq!(source.count("/a"), count + 2, "after a second one of them stepped in");
        nothing_is_left(&gateway).await;
    }
    assert!(times.last().is_some_and(|took| (4.9..5.9).contains(took)), "{times:?} s");
}

/// Who may not forward leaves the turn to another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_quota_is_used_up_does_not_use_up_the_extra_leaders_turn() {
    let (source, never) = (ScriptedSource::start().await, Gate::closed());
    in_turn(&source, "/a", &[never], numbered);
    source.always("/other", Reply::ok("").cache_control("no-store"));
    let limit = "[[route.limit]]\nname = \"l\"\nrequests = 1\nper = \"1h\"\nkey = \"header:X-Who\"\nstage = \"source\"\n";
    let text = format!("{}timeout = \"50s\"\n{EVERYTHING}{limit}", source.table());
    let gateway = Setup::new(text).start().await;
    let by = |who: &str, target: &str| Ask::get(target).field("X-Who", who);
    assert_eq!(gateway.send(by("denied", "/other")).await.status, 200);
    let first = tokio::spawn(by("first", "/a").send(gateway.public));
    source.wait_for("/a", 1).await;
    let denied: Vec<_> = (0..20).map(|_| tokio::spawn(by("denied", "/a").send(gateway.public))).collect();
    followers(&gateway, 21).await;
    let admitted = gateway.send(by("admitted", "/a"));
    assert_eq!(within("the extra leader's answer", admitted).await.text(), "answer 1");
    for other in denied.into_iter().chain([first]) {
        assert_eq!(other.await.expect("a task").expect("an answer").text(), "answer 1");
    }
    nothing_is_left(&gateway).await;
}

/// Where no place was free when the head was overdue, one steps in when there is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_frees_later_lets_a_follower_step_in() {
    let (source, never, other) = (ScriptedSource::start().await, Gate::closed(), Gate::closed());
    in_turn(&source, "/a", std::slice::from_ref(&never), numbered);
    source.always("/other", Reply::ok("other").after(Step::Wait(other.clone())));
    let roomy = ScriptedSource::start().await;
    in_turn(&roomy, "/roomy", &[never], numbered);
    let text = format!(
        "{}timeout = \"50s\"\nconcurrency = 2\n{}[[route]]\nname = \"r\"\npath = \"/roomy\"\nsource = \"roomy\"\n{EVERYTHING}",
        source.table(),
        roomy.table().replace("inventory", "roomy"),
    );
    let gateway = Setup::new(text).start().await;
    let busy = tokio::spawn(Ask::get("/other").send(gateway.public));
    source.wait_for("/other", 1).await;
    let waiting = tokio::spawn(Ask::get("/a").send(gateway.public));
    source.wait_for("/a", 1).await;
    let late = tokio::spawn(Ask::get("/a").send(gateway.public));
    followers(&gateway, 3).await;
    // What began later is overdue by now: so is the head of the first, and both places are taken.
    let asked_later = join_all((0..2).map(|_| gateway.get("/roomy")));
    assert!(asked_later.await.iter().all(|answer| answer.text() == "answer 1"));
    assert_eq!(source.count("/a"), 1);
    other.open();
    for one in [waiting, late] {
        assert_eq!(one.await.expect("a task").expect("an answer").text(), "answer 1");
    }
    assert_eq!(busy.await.expect("a task").expect("an answer").text(), "other");
    nothing_is_left(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waited_too_long_gets_what_is_stale_if_that_may_be() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let (held, number) = (gate.clone(), AtomicUsize::new(0));
    source.on("/a", move |_| match number.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::ok("stale").cache_control("max-age=0, stale-if-error=600"),
        _ => Reply::ok("late").cache_control("max-age=60").after(Step::Wait(held.clone())),
    });
    let gateway = impatient(&source).await;
    assert_eq!(gateway.get("/a").await.text(), "stale");
    for answer in asked(&gateway, 5).await {
        assert_eq!((answer.status, answer.text().as_str()), (200, "stale"));
        assert!(answer.says("detail=stale-if-error"), "{answer:?}");
    }
    gate.open();
    nothing_is_left(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_leaves_frees_its_place_at_once() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    source.always("/a", Reply::ok("whole").cache_control("max-age=60").after(Step::Wait(gate.clone())));
    let gateway = gateway_for(&source, "").await;
    let clients: Vec<_> = (0..50).map(|_| tokio::spawn(Ask::get("/a").send(gateway.public))).collect();
    source.wait_for("/a", 1).await;
    followers(&gateway, 50).await;
    clients.iter().skip(10).for_each(tokio::task::JoinHandle::abort);
    followers(&gateway, 10).await;
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    followers(&gateway, 0).await;
    nothing_is_left(&gateway).await;
    let before = source.count("/a");
    assert_eq!(before, 1 + extra_leaders(&gateway).await, "one forward for all");
    gate.open();
    assert_eq!((gateway.get("/a").await.status, source.count("/a")), (200, before + 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_that_everybody_has_left_goes_on_where_little_is_missing() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let steps = [Step::Bytes(b"first".to_vec()), Step::Wait(gate.clone()), Step::Bytes(b" rest".to_vec())];
    source.always("/a", Reply::promising(10, steps).cache_control("max-age=60"));
    let gateway = gateway_for(&source, "").await;
    let readers = join_all((0..10).map(|_| open(&gateway, "/a"))).await;
    drop(readers);
    followers(&gateway, 0).await;
    gate.open();
    nothing_is_left(&gateway).await;
    assert!(gateway.get("/a").await.is_hit());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_that_everybody_has_left_is_dropped_where_much_is_missing() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let steps = || [Step::Bytes(b"first".to_vec()), Step::Wait(gate.clone())];
    source.always("/a", Reply::promising(4 * 1024 * 1024, steps()).cache_control("max-age=60"));
    let text = format!("{}{EVERYTHING}[cache]\nmemory_object = \"8MiB\"\n", source.table());
    let gateway = Setup::new(text).start().await;
    let readers = join_all((0..10).map(|_| open(&gateway, "/a"))).await;
    followers(&gateway, 10).await;
    drop(readers);
    // The source has not gone on: it is the fill that has let go.
    nothing_is_left(&gateway).await;
    assert_eq!(source.count("/a"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_validations_are_one() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let (held, number) = (gate.clone(), AtomicUsize::new(0));
    source.on("/a", move |_| match number.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::ok("content").field("ETag", "\"1\"").cache_control("max-age=0"),
        _ => Reply::new(304, "").field("ETag", "\"1\"").after(Step::Wait(held.clone())),
    });
    let gateway = gateway_for(&source, "").await;
    gateway.get("/a").await;
    let (answers, ()) = tokio::join!(asked(&gateway, 500), async {
        followers(&gateway, 500).await;
        gate.open();
    });
    assert!(answers.iter().all(|answer| (answer.status, answer.text().as_str()) == (200, "content")));
    // On a slow machine the head may have been overdue.
    let extra = extra_leaders(&gateway).await;
    assert!(source.count("/a") == 2 + extra && extra <= 1, "{extra} extra leaders");
    nothing_is_left(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_is_answered_by_a_get_under_way_and_heads_by_one_head() {
    let source = ScriptedSource::start().await;
    let (get, asked) = (Gate::closed(), Gate::closed());
    source.always("/get", gated(&get, Step::Bytes(b" rest".to_vec())));
    let held = asked.clone();
    source.on("/head", move |request| {
        let reply = Reply::ok("content").cache_control("max-age=60");
        if request.method == "HEAD" { reply.after(Step::Wait(held.clone())) } else { reply }
    });
    let gateway = gateway_for(&source, "").await;

    let reader = open(&gateway, "/get").await;
    let answer = gateway.send(Ask::new("HEAD", "/get")).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert!(answer.says("collapsed"), "{answer:?}");
    assert_eq!(source.count("/get"), 1);
    get.open();
    drop(reader);

    let heads = (0..50).map(|_| gateway.send(Ask::new("HEAD", "/head")));
    let (answers, ()) = tokio::join!(join_all(heads), async {
        followers(&gateway, 50).await;
        source.wait_for("/head", 1).await;
        assert_eq!(gateway.get("/head").await.text(), "content", "a GET waits for no HEAD");
        asked.open();
    });
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.field("Content-Length") == "7"));
    let asked: Vec<String> = source.received("/head").into_iter().map(|received| received.method).collect();
    let of = |method: &str| asked.iter().filter(|own| *own == method).count();
    assert_eq!((of("HEAD"), of("GET")), (1 + extra_leaders(&gateway).await, 1));
    nothing_is_left(&gateway).await;
}

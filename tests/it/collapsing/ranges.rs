//! Ranges where no whole is stored: cut from a fill that is under way, or brought by one forward for all who
//! send the same; never a wrong byte.

use super::{extra_leaders, followers, nothing_is_left, open};
use crate::support::{
    Answer, Ask, EVERYTHING, Gate, Gateway, Received, Reply, ScriptedSource, Setup, Step, gateway_for, within,
};
use futures_util::future::join_all;

/// How a body is framed.
type Framed = fn(Vec<Step>) -> Reply;

const CONTENT: &str = "first rest";

/// The whole, of which half waits for the gate.
fn halved(gate: &Gate, framed: Framed) -> Reply {
    let (first, rest) = CONTENT.split_at(5);
    let steps = vec![Step::Bytes(first.into()), Step::Wait(gate.clone()), Step::Bytes(rest.into())];
    framed(steps).cache_control("max-age=60").field("ETag", "\"1\"")
}

fn ranged(range: &str) -> Ask {
    Ask::get("/a").field("Range", range)
}

/// The part that a source which knows ranges would send.
fn part(request: &Received) -> Option<Reply> {
    let range = request.fields.get("Range")?.strip_prefix("bytes=")?.to_owned();
    let (first, last) = range.split_once('-')?;
    let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
    let reply = Reply::new(206, CONTENT.as_bytes().get(first..=last)?);
    Some(reply.field("Content-Range", &format!("bytes {first}-{last}/{}", CONTENT.len())))
}

fn assert_part(answer: &Answer, text: &str, content_range: &str) {
    assert_eq!((answer.status, answer.text().as_str()), (206, text), "{answer:?}");
    assert_eq!(answer.field("Content-Range"), content_range);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_beside_a_fill_is_cut_from_it_at_its_pace() {
    let framings: [(&str, Framed); 2] =
        [("10", |steps| Reply::promising(10, steps)), ("*", |steps| Reply::chunks(steps))];
    for (length, framed) in framings {
        let (source, gate) = (ScriptedSource::start().await, Gate::closed());
        source.always("/a", halved(&gate, framed));
        let gateway = gateway_for(&source, "").await;
        let mut reader = open(&gateway, "/a").await;
        // What has come is there at once.
        let answer =
            within("the first bytes", ranged("bytes=1-2").send(gateway.public)).await.expect("a part");
        assert_part(&answer, "ir", &format!("bytes 1-2/{length}"));
        assert!(answer.says("collapsed"), "{answer:?}");
        let same = ranged("bytes=0-4").field("If-Range", "\"1\"").send(gateway.public);
        assert_part(&same.await.expect("a part"), "first", &format!("bytes 0-4/{length}"));
        // What has not is waited for.
        let late = ["bytes=4-6", "bytes=6-9", "bytes=-4", "bytes=20-"];
        let waiting: Vec<_> =
            late.iter().map(|range| tokio::spawn(ranged(range).send(gateway.public))).collect();
        let other = tokio::spawn(ranged("bytes=0-4").field("If-Range", "\"2\"").send(gateway.public));
        let known = tokio::spawn(ranged("bytes=1-2").field("If-None-Match", "\"1\"").send(gateway.public));
        assert_eq!(known.await.expect("a task").expect("an answer").status, 304);
        followers(&gateway, if length == "*" { 6 } else { 5 }).await;
        gate.open();
        let mut answers = Vec::new();
        for answer in waiting {
            answers.push(answer.await.expect("a task").expect("an answer"));
        }
        assert_eq!(answers[0].text(), "t r", "{length}");
        assert_part(&answers[1], "rest", answers[1].field("Content-Range"));
        assert_part(&answers[2], "rest", "bytes 6-9/10");
        assert_eq!((answers[3].status, answers[3].field("Content-Range")), (416, "bytes */10"));
        let other = other.await.expect("a task").expect("an answer");
        assert_eq!((other.status, other.text().as_str()), (200, CONTENT), "it has another version");
        assert_eq!(within("the whole", reader.rest()).await.expect("the whole"), CONTENT.as_bytes());
        assert_eq!(source.count("/a"), 1, "{length}");
        nothing_is_left(&gateway).await;
        assert!(gateway.send(ranged("bytes=6-9")).await.is_hit());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_fill_that_breaks_off_is_visibly_broken() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let steps = [Step::Bytes(b"first".to_vec()), Step::Wait(gate.clone()), Step::Cut];
    source.always("/a", Reply::promising(10, steps).cache_control("max-age=60"));
    let gateway = gateway_for(&source, "").await;
    let _reader = open(&gateway, "/a").await;
    let mut part = within("a head", ranged("bytes=3-7").open(gateway.public)).await.expect("a head");
    assert_eq!(part.head.status, 206);
    gate.open();
    assert!(within("the cut", part.rest()).await.is_err());
    assert_eq!(source.count("/a"), 1);
}

async fn asked(gateway: &Gateway, range: &str, clients: usize) -> Vec<Answer> {
    join_all((0..clients).map(|_| gateway.send(ranged(range)))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_range_is_asked_for_once_and_another_goes_its_own_way() {
    for freshness in ["max-age=60", "max-age=0"] {
        let (source, gate) = (ScriptedSource::start().await, Gate::closed());
        let held = gate.clone();
        source.on("/a", move |request| {
            let reply = part(request).expect("a range").cache_control(freshness).field("ETag", "\"1\"");
            reply.after(Step::Wait(held.clone()))
        });
        let gateway = gateway_for(&source, "").await;
        let (first, other, ()) =
            tokio::join!(asked(&gateway, "bytes=1-2", 50), asked(&gateway, "bytes=6-9", 1), async {
                followers(&gateway, 51).await;
                gate.open();
            });
        for answer in &first {
            assert_part(answer, "ir", "bytes 1-2/10");
        }
        assert_part(&other[0], "rest", "bytes 6-9/10");
        assert_eq!(first.iter().filter(|answer| answer.says("collapsed")).count(), 49);
        let extra = extra_leaders(&gateway).await;
        assert_eq!(source.count("/a"), 2 + extra, "{freshness}: one forward for each range");
        nothing_is_left(&gateway).await;
        let again = gateway.send(ranged("bytes=1-1")).await;
        assert_part(&again, "i", "bytes 1-1/10");
        // The other one has taken its place, or was not stored: with a gap between them they cannot be joined.
        assert!(gateway.send(ranged("bytes=1-1")).await.is_hit() == (freshness == "max-age=60"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_ignores_ranges_is_asked_once_and_its_whole_stored_once() {
    let framings: [Framed; 2] = [|steps| Reply::promising(10, steps), |steps| Reply::chunks(steps)];
    for framed in framings {
        let (source, gate) = (ScriptedSource::start().await, Gate::closed());
        source.always("/a", halved(&gate, framed).after(Step::Wait(gate.clone())));
        let gateway = gateway_for(&source, "").await;
        let (answers, ()) = tokio::join!(asked(&gateway, "bytes=1-2", 50), async {
            followers(&gateway, 50).await;
            gate.open();
        });
        for answer in &answers {
            match answer.status {
                206 => assert_eq!(answer.text(), "ir"),
                // The one whose forward it was, where the length is not known: as the source answered it.
                _ => assert_eq!((answer.status, answer.text().as_str()), (200, CONTENT)),
            }
        }
        assert!(answers.iter().filter(|answer| answer.status == 206).count() >= 49);
        assert_eq!(source.count("/a"), 1);
        assert_eq!(gateway.metric("tidegate_stored_total").await, 1);
        nothing_is_left(&gateway).await;
        assert!(gateway.send(ranged("bytes=6-9")).await.is_hit());
        assert!(gateway.get("/a").await.is_hit());
        assert_eq!(source.count("/a"), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_part_that_may_not_be_shared_is_nobody_elses_and_nobody_waits_for_the_next() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let held = gate.clone();
    source.on("/a", move |request| {
        let reply = part(request).expect("a range").cache_control("private");
        reply.after(Step::Wait(held.clone()))
    });
    let gateway = gateway_for(&source, "").await;
    let (answers, ()) = tokio::join!(asked(&gateway, "bytes=1-2", 20), async {
        followers(&gateway, 20).await;
        gate.open();
    });
    for answer in &answers {
        assert_part(answer, "ir", "bytes 1-2/10");
    }
    assert_eq!(source.count("/a"), 20);
    let more = asked(&gateway, "bytes=1-2", 5).await;
    assert!(more.iter().all(|answer| !answer.says("collapsed")), "{more:?}");
    nothing_is_left(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_beside_a_range_keeps_it_alone() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let held = gate.clone();
    source.on("/a", move |request| {
        let reply = part(request).expect("a range").cache_control("max-age=60");
        reply.after(Step::Wait(held.clone()))
    });
    let gateway = gateway_for(&source, "").await;
    let ask = || gateway.send(ranged("bytes=1-2").field("If-Range", "\"1\""));
    let (answers, ()) = tokio::join!(join_all((0..3).map(|_| ask())), async {
        source.wait_for("/a", 3).await;
        gate.open();
    });
    for answer in &answers {
        assert_part(answer, "ir", "bytes 1-2/10");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_too_large_to_be_stored_streams_to_all_who_ask_for_it() {
    const PART: usize = 1024 * 1024;
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let reply = Reply::new(206, vec![b'x'; PART]).cache_control("max-age=60");
    let reply = reply.field("Content-Range", &format!("bytes 0-{}/{}", PART - 1, 2 * PART));
    source.always("/a", reply.after(Step::Wait(gate.clone())));
    let text = format!("{}{EVERYTHING}[cache]\nmemory_object = \"16KiB\"\n", source.table());
    let gateway = Setup::new(text).start().await;
    let range = format!("bytes=0-{}", PART - 1);
    let (answers, ()) = tokio::join!(asked(&gateway, &range, 20), async {
        followers(&gateway, 20).await;
        gate.open();
    });
    assert!(answers.iter().all(|answer| (answer.status, answer.body.len()) == (206, PART)));
    assert_eq!(source.count("/a"), 1);
    nothing_is_left(&gateway).await;
}

//! Clients that leave at any byte, or stay and take nothing: nothing is left of them.

use super::{metric, nothing_is_left, open};
use crate::support::wait::within_time;
use crate::support::{
    Ask, EVERYTHING, Gate, Opened, RedisServer, Reply, ScriptedSource, Setup, Step, eventually, gateway_for,
    within,
};
use futures_util::future::join_all;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MIB: usize = 1024 * 1024;

/// Sends a part of a request, takes so many bytes of the answer, and is gone.
async fn visit(gateway: std::net::SocketAddr, request: &str, sent: usize, taken: usize) {
    let mut stream = TcpStream::connect(gateway).await.expect("the gateway listens");
    stream.write_all(&request.as_bytes()[..sent]).await.expect("it is taken");
    let mut bytes = vec![0; taken];
    if taken > 0 {
        within("so much of the answer", stream.read_exact(&mut bytes)).await.expect("so much");
    }
    // Without a word: what the system still holds for it is of no use to anybody.
    stream.set_zero_linger().expect("an open socket has the option");
}

/// Also where another request of its own waits behind the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_pipelined_and_leaves_is_noticed_at_once() {
    let (source, never) = (ScriptedSource::start().await, Gate::closed());
    source.always("/a", Reply::ok("late").after(Step::Wait(never)));
    let text = format!("{}timeout = \"50s\"\n{EVERYTHING}", source.table());
    let gateway = Setup::new(text).start().await;
    for (turn, resets) in [(1, true), (2, false)] {
        let mut stream = TcpStream::connect(gateway.public).await.expect("the gateway listens");
        let requests = "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n";
        stream.write_all(requests.as_bytes()).await.expect("they are taken");
        source.wait_for("/a", turn).await;
        if resets {
            stream.set_zero_linger().expect("an open socket has the option");
        }
        drop(stream);
        nothing_is_left(&gateway).await;
    }
    assert_eq!(source.count("/b"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_at_any_byte_leaves_nothing() {
    const BODY: usize = 2 * MIB;
    for (what, control, chunked) in
        [("stored", "max-age=60", false), ("private", "private", true), ("stored", "max-age=60", true)]
    {
        let source = ScriptedSource::start().await;
        let half = || Step::Bytes(vec![b'x'; BODY / 2]);
        source.on("*", move |_| {
            let steps = [half(), half()];
            let reply = if chunked { Reply::chunks(steps) } else { Reply::promising(BODY as u64, steps) };
            reply.cache_control(control)
        });
        let text = format!("{}{EVERYTHING}[cache]\nmemory_object = \"4MiB\"\n", source.table());
        let gateway = Setup::new(text).start().await;
        let request = |path: String| format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        let length = request("/0-0".to_owned()).len();
        let sent = (1..length).step_by(5).map(|sent| (sent, 0));
        let taken = [0, 1, 12, 100, 5_000, 70_000, MIB / 2, MIB, BODY].map(|taken| (length, taken));
        for (number, (sent, taken)) in sent.chain(taken).enumerate() {
            // Two of the same path: one leads, one follows.
            let path = format!("/{}-{}", number / 10, number % 10);
            let (one, other) = (request(path.clone()), request(path));
            tokio::join!(
                visit(gateway.public, &one, sent, taken),
                visit(gateway.public, &other, sent, taken)
            );
        }
        nothing_is_left(&gateway).await;
        let whole = gateway.get("/whole").await;
        assert_eq!(whole.body.len(), BODY, "{what}");
        nothing_is_left(&gateway).await;
    }
}

/// The window is what the fill of a large body holds; one that takes nothing is cut when it has fallen out of
/// it, and those that take turns are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_take_turns_all_come_to_the_end_and_one_that_stands_still_does_not() {
    const BODY: usize = 40 * MIB;
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let reply = Reply::promising(BODY as u64, [Step::Bytes(vec![b'x'; BODY])]).cache_control("max-age=60");
    source.always("/a", reply.after(Step::Wait(gate.clone())));
    let text = format!("{}{EVERYTHING}[cache]\nmemory_object = \"16KiB\"\n", source.table());
    let gateway = Setup::new(text).start().await;
    let asked = (0..7).map(|_| open(&gateway, "/a"));
    let (mut opened, ()) = tokio::join!(join_all(asked), async {
        super::followers(&gateway, 7).await;
        gate.open();
    });
    let mut stalled = opened.pop().expect("seven");
    // One line for all of them, which gives each a little in its turn.
    let mut readers: Vec<(Opened, usize)> = opened.into_iter().map(|one| (one, 0)).collect();
    within("all of them", async {
        while readers.iter().any(|(_, seen)| *seen < BODY) {
            for (reader, seen) in readers.iter_mut().filter(|(_, seen)| *seen < BODY) {
                let part = reader.next().await.expect("a reader that comes on is not cut");
                *seen += part.expect("not its end yet").len();
            }
        }
    })
    .await;
    let rest = within("the cut", stalled.rest()).await;
    assert!(rest.is_err(), "it must not look complete: {:?}", rest.map(|bytes| bytes.len()));
    assert_eq!(source.count("/a"), 1);
    nothing_is_left(&gateway).await;
}

/// `server.limits.body_rate` holds for readers: whoever takes nothing holds a place toward the source for
/// two of its measures at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_readers_that_all_stand_still_give_the_sources_place_back() {
    const BODY: usize = 64 * MIB;
    let source = ScriptedSource::start().await;
    let steps = [Step::Bytes(vec![b'x'; BODY])];
    source.always("/a", Reply::promising(BODY as u64, steps).cache_control("max-age=60"));
    let gateway = gateway_for(&source, "").await;
    let opened = join_all((0..3).map(|_| open(&gateway, "/a"))).await;
    eventually("the fill waits for them", async || {
        metric(&gateway, "tidegate_in_flight_bytes", "").await > 8 * MIB
    })
    .await;
    let held = metric(&gateway, "tidegate_in_flight_bytes", "").await;
    assert!(held <= 9 * MIB, "{held} bytes for readers that take nothing");
    let freed = async {
        while metric(&gateway, "tidegate_source_in_flight", "").await > 0 {
            tokio::task::yield_now().await;
        }
    };
    within_time(Duration::from_mins(1), "the place is free", freed).await;
    nothing_is_left(&gateway).await;
    drop(opened);
}

/// A body larger than both tiers take streams to all who wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_larger_than_an_object_of_the_shared_tier_streams_to_everybody() {
    let (source, gate, redis) = (ScriptedSource::start().await, Gate::closed(), RedisServer::start().await);
    let reply = Reply::chunks([Step::Bytes(vec![b'x'; MIB])]).cache_control("max-age=60");
    source.always("/a", reply.after(Step::Wait(gate.clone())));
    let shared = format!("{}object = \"64KiB\"\n", redis.table());
    let text = format!("{}{EVERYTHING}[cache]\nmemory_object = \"16KiB\"\n{shared}", source.table());
    let gateway = Setup::new(text).start().await;
    let asked = (0..50).map(|_| Ask::get("/a").send(gateway.public));
    let (answers, ()) = tokio::join!(join_all(asked), async {
        super::followers(&gateway, 50).await;
        gate.open();
    });
    assert!(answers.into_iter().all(|answer| answer.is_ok_and(|answer| answer.body.len() == MIB)));
    assert_eq!(source.count("/a"), 1);
    nothing_is_left(&gateway).await;
}

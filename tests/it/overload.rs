//! Too much at once: background work is given up first, then copies for the store, then forwards; hits
//! are served always, and afterwards everything is as before.

use crate::support::{
    Answer, Ask, EVERYTHING, Gate, Gateway, Opened, RecordingDestination, Reply, SYNC, ScriptedSource, Setup,
    Step, eventually, within,
};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

const KIB: usize = 1024;

/// What may be in flight in these tests.
const BOUND: usize = 1024 * KIB;

/// What a forward counts for.
const FORWARD: usize = 64 * KIB;

/// The part of a slow body that comes at once.
const FIRST: usize = 352 * KIB;

/// A source, and a gateway in front of it that may have [`BOUND`] in flight.
async fn small(more: &str) -> (ScriptedSource, Gateway) {
    let source = ScriptedSource::start().await;
    let limits = "[server.limits]\nin_flight = \"1MiB\"\n";
    let text = format!("{}{EVERYTHING}{more}{limits}[cache]\nmemory_object = \"1MiB\"\n", source.table());
    let gateway = Setup::new(text).start().await;
    (source, gateway)
}

/// A body of which [`FIRST`] comes at once, and one byte more when the gate is open.
fn slow(gate: &Gate) -> Reply {
    let steps = [Step::Bytes(vec![b'x'; FIRST]), Step::Wait(gate.clone()), Step::Bytes(b"y".to_vec())];
    Reply::promising(FIRST as u64 + 1, steps).cache_control("max-age=60")
}

/// An answer whose head waits for the gate.
fn late(gate: &Gate) -> Reply {
    Reply::ok("late").cache_control("max-age=60").after(Step::Wait(gate.clone()))
}

async fn open(gateway: &Gateway, target: &str) -> Opened {
    within("a head", Ask::get(target).open(gateway.public)).await.expect("a head")
}

/// Asks in a task of its own.
fn asked(gateway: &Gateway, target: &str) -> JoinHandle<Answer> {
    let (ask, address) = (Ask::get(target), gateway.public);
    tokio::spawn(async move { ask.send(address).await.expect("an answer") })
}

async fn metric(gateway: &Gateway, name: &str) -> usize {
    let text = gateway.admin_get("/metrics").await.text();
    let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    values.filter_map(|value| value.split('.').next()?.parse::<usize>().ok()).sum()
}

async fn in_flight(gateway: &Gateway) -> usize {
    metric(gateway, "tidegate_in_flight_bytes").await
}

async fn holds(gateway: &Gateway, bytes: usize) {
    let what = format!("{bytes} bytes in flight");
    eventually(&what, async || in_flight(gateway).await == bytes).await;
}

async fn shed(gateway: &Gateway, work: &str) -> usize {
    metric(gateway, &format!("tidegate_shed_total{{work=\"{work}\"}}")).await
}

fn assert_refused(answer: &Answer) {
    answer.assert_problem(503);
    let problem = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";
    assert_eq!(answer.json()["type"], problem);
    assert_eq!(answer.field("Retry-After"), "1");
    assert_eq!(answer.field("Proxy-Status"), "tidegate; error=proxy_internal_response");
}

/// A client that asks for a target, and reads no more when an answer begins.
async fn stalled(gateway: &Gateway, target: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut stream = socket.connect(gateway.public).await.expect("the gateway listens");
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a request");
    within("an answer", stream.read_exact(&mut [0; 12])).await.expect("an answer");
    stream
}

/// What those hold who read slowly what was stored counts when memory has let it go: at the bound no more is
/// collected, then nothing forwarded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_what_slow_readers_hold_of_stored_bodies_is_bounded() {
    const OBJECT: usize = 8 * 1024 * KIB;
    const READERS: usize = 20;
    let source = ScriptedSource::start().await;
    source.on("*", |_| Reply::ok(vec![b'x'; OBJECT]).cache_control("max-age=600"));
    let limits = "[server.limits]\nin_flight = \"16MiB\"\n";
    let cache = "[cache]\nmemory = \"17MiB\"\nmemory_object = \"8MiB\"\n";
    let text = format!("{}{EVERYTHING}{limits}{cache}", source.table());
    let gateway = Setup::new(text).start().await;
    let resident = async || metric(&gateway, "process_resident_memory_bytes").await;
    let before = resident().await;
    let mut readers = Vec::new();
    for number in 0..READERS {
        readers.push(stalled(&gateway, &format!("/{number}")).await);
        let is_stored = async || metric(&gateway, "tidegate_fills").await == 0;
        eventually("stored, or no more is", async || is_stored().await || shed(&gateway, "copy").await > 0)
            .await;
    }
    assert!(in_flight(&gateway).await >= OBJECT, "what memory has let go counts");
    assert!(shed(&gateway, "copy").await > 0, "no more is collected");
    let held = in_flight(&gateway).await;
    assert!(held <= 2 * OBJECT + READERS * 3 * FORWARD, "{held} bytes in flight");
    let grown = resident().await.saturating_sub(before);
    assert!(grown < READERS * OBJECT / 2, "{grown} bytes more are resident");
    drop(readers);
    holds(&gateway, 0).await;
    assert_eq!(gateway.get("/more").await.body.len(), OBJECT);
}

/// `cache.memory` bounds what stored responses really take only where it counts all of that: of small ones most is
/// beside their content.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_what_is_counted_of_small_stored_responses_is_what_they_take() {
    const BEFORE: usize = 1_000;
    const STORED: usize = 10_000;
    const CLIENTS: usize = 8;
    let source = ScriptedSource::start().await;
    source.on("*", |_| Reply::ok("x").cache_control("max-age=600"));
    let gateway = Setup::new(format!("{}{EVERYTHING}", source.table())).start().await;
    let store = async |numbers: std::ops::Range<usize>| {
        let ask = async |client: usize| {
            for number in numbers.clone().skip(client).step_by(CLIENTS) {
                assert_eq!(gateway.get(&format!("/{number}")).await.status, 200);
            }
        };
        join_all((0..CLIENTS).map(ask)).await;
    };
    store(0..BEFORE).await;
    let (resident, counted) = (gateway.resident_bytes(), metric(&gateway, "tidegate_memory_bytes").await);
    store(BEFORE..BEFORE + STORED).await;
    let counted = metric(&gateway, "tidegate_memory_bytes").await - counted;
    let grown = gateway.resident_bytes().saturating_sub(resident);
    eprintln!("{} bytes each, counted as {}", grown / STORED, counted / STORED);
    assert!(grown <= counted + counted / 10, "{grown} bytes grown, {counted} counted");
    assert!(counted <= 2 * grown, "{grown} bytes grown, {counted} counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_background_goes_first_then_copies_then_forwards_and_hits_are_served_always() {
    let (source, gateway) = small("").await;
    source.always("/hit", Reply::ok("stored").cache_control("max-age=60"));
    source.always("/stale", Reply::ok("old").cache_control("max-age=0, stale-while-revalidate=60"));
    assert_eq!(gateway.get("/hit").await.text(), "stored");
    assert_eq!(gateway.get("/stale").await.text(), "old");
    holds(&gateway, 0).await;

    // 832 KiB are more than 80 % of the bound, with a large copy they are more than 90 %, and they leave
    // room for three forwards.
    let gate = Gate::closed();
    let each = FIRST + FORWARD;
    let mut opened = Vec::new();
    for number in 1..=2 {
        let path = format!("/slow/{number}");
        source.always(&path, slow(&gate));
        opened.push(open(&gateway, &path).await);
        holds(&gateway, number * each).await;
    }
    assert!(opened.iter().all(|one| one.head.says("stored")), "there was room for them");

    // Background: the stale response is served, and nobody is asked about it.
    let stale = gateway.get("/stale").await;
    assert!(stale.is_hit() && stale.says("detail=stale-while-revalidate"), "{stale:?}");
    assert_eq!((source.count("/stale"), shed(&gateway, "background").await), (1, 1));

    // Copies: a large one streams through, a small one is stored all the same.
    source.always("/large", Reply::ok(vec![b'x'; 2 * FORWARD]).cache_control("max-age=60"));
    source.always("/small", Reply::ok("small").cache_control("max-age=60"));
    for turn in 1..=2 {
        let large = gateway.get("/large").await;
        assert_eq!((large.status, large.body.len()), (200, 2 * FORWARD));
        assert!(large.says("detail=overload") && !large.says("stored"), "{:?}", large.cache_status());
        holds(&gateway, 2 * each).await;
        assert_eq!((source.count("/large"), shed(&gateway, "copy").await), (turn, turn));
    }
    assert!(gateway.get("/small").await.says("stored"));
    assert!(gateway.get("/small").await.is_hit());
    holds(&gateway, 2 * each).await;
    assert_eq!(shed(&gateway, "forward").await, 0);

    // Forwards: the bound is reached, and everything that needs the source is refused before it is asked.
    source.always("/late", late(&gate));
    let waiting: Vec<_> = (0..3).map(|number| asked(&gateway, &format!("/late?{number}"))).collect();
    holds(&gateway, BOUND).await;
    for ask in
        [Ask::get("/new"), Ask::new("HEAD", "/new"), Ask::post("/new", "x"), Ask::new("OPTIONS", "/new")]
    {
        let is_head = format!("{ask:?}").contains("HEAD");
        let answer = gateway.send(ask).await;
        if is_head {
            assert_eq!(answer.status, 503);
        } else {
            assert_refused(&answer);
        }
        assert!(!answer.cache_status().iter().any(|own| own.starts_with("fwd")), "{answer:?}");
    }
    assert_eq!((source.count("/new"), shed(&gateway, "forward").await), (0, 4));

    // Hits: always.
    for _ in 0..10 {
        assert!(gateway.get("/hit").await.is_hit());
        assert!(gateway.get("/stale").await.is_hit());
    }
    assert_eq!(in_flight(&gateway).await, BOUND, "they hold nothing");

    // Afterwards all is good again.
    gate.open();
    for one in &mut opened {
        assert_eq!(within("the rest", one.rest()).await.expect("the whole").len(), FIRST + 1);
    }
    for answer in waiting {
        assert_eq!(answer.await.expect("a task").text(), "late");
    }
    holds(&gateway, 0).await;
    assert!(gateway.get("/slow/1").await.is_hit(), "it was stored");
    assert!(gateway.get("/large").await.says("stored"));
    source.always("/new", Reply::ok("new"));
    assert_eq!(gateway.get("/new").await.text(), "new");
    gateway.get("/stale").await;
    source.wait_for("/stale", 2).await;
    holds(&gateway, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_many_large_slow_bodies_at_once_stay_within_the_bound_and_all_come_whole() {
    const CLIENTS: usize = 12;
    const BODY: usize = 8 * FIRST;
    let (source, gateway) = small("").await;
    source.always("/hit", Reply::ok("stored").cache_control("max-age=60"));
    gateway.get("/hit").await;
    let gate = Gate::closed();
    // They do not say their length: each grows until there is no room.
    let steps = [Step::Wait(gate.clone()), Step::Bytes(vec![b'x'; BODY])];
    source.always("*", Reply::chunks(steps).cache_control("max-age=60"));
    let paths: Vec<String> = (0..CLIENTS).map(|number| format!("/large/{number}")).collect();
    let mut opened = join_all(paths.iter().map(|path| open(&gateway, path))).await;
    gate.open();
    eventually("the bound is reached", async || shed(&gateway, "copy").await > 0).await;
    // Above the bound: at most the part that each is handed at once.
    let most = BOUND + CLIENTS * 512 * KIB;
    let held = in_flight(&gateway).await;
    assert!(held <= most, "{held} bytes are held");
    assert!(gateway.get("/hit").await.is_hit());
    let rests = within("all of them", join_all(opened.iter_mut().map(Opened::rest))).await;
    for rest in rests {
        assert_eq!(rest.expect("the whole body").len(), BODY, "nobody waits for another's bytes");
    }
    holds(&gateway, 0).await;
    assert!(gateway.get("/hit").await.is_hit());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_gives_back_what_was_held_for_them() {
    let (source, gateway) = small("").await;
    let gate = Gate::closed();
    source.always("/slow", slow(&gate));
    source.always(
        "/broken",
        Reply::promising(
            FIRST as u64 + 1,
            [Step::Bytes(vec![b'x'; FIRST]), Step::Wait(gate.clone()), Step::Reset],
        )
        .cache_control("max-age=60"),
    );
    // It answers a range with the whole, which is kept beside the client's body.
    let beside = Ask::get("/beside").field("Range", "bytes=0-9");
    let steps = [Step::Bytes(vec![b'x'; FIRST]), Step::Wait(gate.clone())];
    source.always("/beside", Reply::chunks(steps).cache_control("max-age=60"));
    let broken = open(&gateway, "/broken").await;
    let beside = within("a head", beside.open(gateway.public)).await.expect("a head");
    assert!(beside.head.says("stored"), "{:?}", beside.head.cache_status());
    holds(&gateway, 2 * (FIRST + FORWARD)).await;
    drop(beside);
    holds(&gateway, FIRST + FORWARD).await;
    gate.open();
    let mut broken = broken;
    assert!(within("the end", broken.rest()).await.is_err());
    holds(&gateway, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_response_stands_in_for_a_refused_forward() {
    let (source, gateway) = small("").await;
    source.always("/a", Reply::ok("old").cache_control("max-age=0, stale-if-error=60"));
    gateway.get("/a").await;
    holds(&gateway, 0).await;
    let gate = Gate::closed();
    source.always("/late", late(&gate));
    let paths = (0..BOUND / FORWARD).map(|number| format!("/late?{number}"));
    let waiting: Vec<_> = paths.map(|path| asked(&gateway, &path)).collect();
    holds(&gateway, BOUND).await;
    let stale = gateway.get("/a").await;
    assert_eq!((stale.status, stale.text().as_str()), (200, "old"));
    assert!(stale.says("fwd=stale") && stale.says("detail=stale-if-error"), "{stale:?}");
    assert_eq!(source.count("/a"), 1);
    gate.open();
    for answer in waiting {
        assert_eq!(answer.await.expect("a task").text(), "late");
    }
    holds(&gateway, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synced_write_without_room_is_refused_before_disk_and_source() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    source.always("*", Reply::ok(""));
    let limits = "[server.limits]\nin_flight = \"1MiB\"\n";
    let text = format!(
        "{}{}{EVERYTHING}{SYNC}body = \"4MiB\"\n{limits}",
        source.table(),
        destination.table("search")
    );
    let gateway = Setup::new(text).start().await;
    let answer = gateway.send(Ask::put("/a", vec![b'x'; BOUND + 1])).await;
    assert_refused(&answer);
    assert_eq!(answer.field("Tidegate-Change"), "", "nothing was recorded");
    assert_eq!((source.requests.all().len(), shed(&gateway, "forward").await), (0, 1));
    holds(&gateway, 0).await;
    assert_eq!(gateway.send(Ask::put("/a", vec![b'x'; BOUND / 2])).await.status, 200);
    holds(&gateway, 0).await;
}

//! Answers that are broken: 502 or a visibly broken transfer, never stored, the connection not used again.

use super::{becomes, gateway_of, metric, nothing_is_left};
use crate::support::{Answer, Ask, Gate, Gateway, Reply, ScriptedSource, Step, within};

/// Bytes as the source sends them, and then nothing, the connection left open.
fn raw(bytes: &str) -> Reply {
    Reply::none(Step::Bytes(bytes.into())).after(Step::Wait(Gate::closed()))
}

/// Bytes as the source sends them, then it closes.
fn cut(bytes: &str) -> Reply {
    Reply::none(Step::Bytes(bytes.into())).after(Step::Cut)
}

fn good() -> Reply {
    Reply::ok("good").cache_control("max-age=60")
}

/// What must come of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// An answer of the gateway's own with this status.
    Status(u16),
    /// An answer that is visibly cut.
    Broken,
}

async fn outcome(gateway: &Gateway, path: &str) -> Result<Outcome, String> {
    // A head may be lost with the body that broke behind it.
    let head = within("a head", Ask::get(path).open(gateway.public)).await;
    let Ok(mut opened) = head else { return Ok(Outcome::Broken) };
    let body = within("an end", opened.rest()).await;
    match body {
        Err(_) => Ok(Outcome::Broken),
        Ok(body) if opened.head.field("Content-Type") == "application/problem+json" => {
            Answer { body, ..opened.head.clone() }.assert_problem(opened.head.status);
            Ok(Outcome::Status(opened.head.status))
        }
        Ok(body) => Err(format!("{} {:?}", opened.head.status, String::from_utf8_lossy(&body))),
    }
}

/// Plays each answer, thrice where it may be asked for again, and then a good one.
async fn play(rows: Vec<(&str, Reply, Outcome)>) {
    let source = ScriptedSource::start().await;
    let keys = "timeout = \"1s\"\nbody_idle = \"300ms\"";
    let gateway = gateway_of(&[&source.url()], keys, "").await;
    let mut faults = Vec::new();
    for (number, (what, lie, expected)) in rows.into_iter().enumerate() {
        let path = format!("/{number}");
        source.always(&path, lie);
        let lied = outcome(&gateway, &path).await;
        if lied != Ok(expected) {
            faults.push(format!("{what}: wanted {expected:?}, got {lied:?}"));
        }
        source.always(&path, good());
        let connections = source.connections();
        let next = gateway.get(&path).await;
        if (next.status, next.text().as_str(), next.is_hit()) != (200, "good", false) {
            faults.push(format!("{what}: then {next:?}"));
        }
        if source.connections() == connections {
            faults.push(format!("{what}: its connection was used again"));
        }
        if !gateway.get(&path).await.is_hit() {
            faults.push(format!("{what}: the good answer was not stored"));
        }
        nothing_is_left(&gateway).await;
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    let panics = metric(&gateway, "tidegate_panics_total", &[]).await;
    assert!(panics < 0.5, "{panics} panics");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_not_strict_is_502() {
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 5\r\n\r\nhello", "a".repeat(70_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 5\r\n\r\nhello", "X: y\r\n".repeat(300));
    let flood = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(1500);
    let framed = |framing: &str| {
        raw(&format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{framing}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ))
    };
    let status = |status: &str| raw(&format!("HTTP/1.1 {status} OK\r\nContent-Length: 5\r\n\r\nhello"));
    let rows = vec![
        ("two lengths that differ", framed("Content-Length: 5\r\nContent-Length: 7")),
        ("two equal lengths", framed("Content-Length: 5\r\nContent-Length: 5")),
        ("a list of lengths", framed("Content-Length: 5, 5")),
        ("a length with a sign", framed("Content-Length: +5")),
        ("a length that is no number", framed("Content-Length: five")),
        ("a length beyond all numbers", framed("Content-Length: 99999999999999999999999")),
        ("a length and chunks", framed("Content-Length: 5\r\nTransfer-Encoding: chunked")),
        ("another coding before chunked", framed("Transfer-Encoding: gzip, chunked")),
        ("chunked twice", framed("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
        (
            "chunks in HTTP/1.0",
            raw("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ),
        ("a status of two digits", status("20")),
        ("a status of four digits", status("2000")),
        ("a status that is no number", status("2xx")),
        ("a status below 100", status("099")),
        ("another protocol", raw("RTSP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")),
        ("no HTTP at all", raw("hello there\r\n\r\n")),
        ("a NUL in a value", raw("HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 5\r\n\r\nhello")),
        ("a bare CR in a value", raw("HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 5\r\n\r\nhello")),
        ("a folded line", raw("HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 5\r\n\r\nhello")),
        ("a space before the colon", raw("HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 5\r\n\r\nhello")),
        ("a field without a name", raw("HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 5\r\n\r\nhello")),
        ("a head over 64 KiB", raw(&long)),
        ("300 fields", raw(&many)),
        ("a flood of interim responses", raw(&flood)),
        (
            "a switch that nobody asked for",
            raw("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
        ),
        ("closed within the status line", cut("HTTP/1.1 20")),
        ("closed within the fields", cut("HTTP/1.1 200 OK\r\nCache-Con")),
        ("closed before the empty line", cut("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n")),
        ("closed after an interim response", cut("HTTP/1.1 103 Early Hints\r\n\r\n")),
        ("reset within the head", Reply::none(Step::Bytes(b"HTTP/1.1 200".to_vec())).after(Step::Reset)),
        ("closed before the head", Reply::none(Step::Cut)),
        ("reset before the head", Reply::none(Step::Reset)),
        ("half-closed before the head", Reply::none(Step::HalfClose).after(Step::Wait(Gate::closed()))),
    ];
    play(rows.into_iter().map(|(what, lie)| (what, lie, Outcome::Status(502))).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_is_visibly_broken() {
    let first = || Step::Bytes(b"first".to_vec());
    let never = || Step::Wait(Gate::closed());
    let chunks = |body: &str| {
        let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n";
        Reply::none(Step::Bytes(format!("{head}{body}").into())).after(never())
    };
    let stored = |reply: Reply| reply.cache_control("max-age=60");
    let rows = vec![
        ("shorter than its length", stored(Reply::promising(1000, vec![first(), Step::Cut]))),
        ("reset before its length", stored(Reply::promising(1000, vec![first(), Step::Reset]))),
        (
            "half-closed before its length",
            stored(Reply::promising(1000, vec![first(), Step::HalfClose, never()])),
        ),
        ("the head alone", stored(Reply::promising(1000, vec![Step::Cut]))),
        ("no last chunk", stored(Reply::chunks(vec![first(), Step::Cut]))),
        ("reset before the last chunk", stored(Reply::chunks(vec![first(), Step::Reset]))),
        ("half-closed before the last chunk", stored(Reply::chunks(vec![first(), Step::HalfClose, never()]))),
        ("closed within the last chunk", cut(&format!("{CHUNKED}5\r\nfirst\r\n0\r\n"))),
        ("closed within a chunk", cut(&format!("{CHUNKED}500\r\nfirst"))),
        ("a chunk size that is none", chunks("5\r\nfirst\r\nxyz\r\n")),
        ("a chunk size with a sign", chunks("5\r\nfirst\r\n-5\r\n")),
        ("a chunk size beyond all numbers", chunks("5\r\nfirst\r\nfffffffffffffffff\r\n")),
        ("a chunk longer than it says", chunks("5\r\nfirst\r\n3\r\nlonger\r\n0\r\n\r\n")),
        ("standing still within its length", stored(Reply::promising(1000, vec![first(), never()]))),
        ("standing still between chunks", stored(Reply::chunks(vec![first(), never()]))),
    ];
    play(rows.into_iter().map(|(what, lie)| (what, lie, Outcome::Broken)).collect()).await;
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_trickles_or_says_nothing_is_504_at_the_deadline() {
    let rows = vec![
        ("nothing", raw("")),
        ("a part of a head", raw("HTTP/1.1 200 OK\r\nContent-")),
        ("an interim response alone", raw("HTTP/1.1 103 Early Hints\r\n\r\n")),
    ];
    play(rows.into_iter().map(|(what, lie)| (what, lie, Outcome::Status(504))).collect()).await;
}

/// What follows an answer's end belongs to no answer (RFC 9112 6.3).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_beyond_the_length_answer_nobody() {
    let smuggled = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nevil";
    let source = ScriptedSource::start().await;
    source.always("*", good());
    source.always("/a", raw(&format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello{smuggled}")));
    let gateway = gateway_of(&[&source.url()], "timeout = \"1s\"", "").await;
    for turn in 0..20 {
        assert_eq!(gateway.get("/a").await.text(), "hello");
        assert_eq!(gateway.get(&format!("/{turn}")).await.text(), "good");
    }
    nothing_is_left(&gateway).await;
}

/// A client that leaves at any point leaves nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_leaves_nothing() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let first = Step::Bytes(vec![b'a'; 1000]);
    source.always("/head", good().after(Step::Wait(gate.clone())));
    source.always("/own", Reply::ok("own").cache_control("no-store").after(Step::Wait(gate.clone())));
    source.always("/body", Reply::promising(4 << 20, vec![first, Step::Wait(gate.clone()), Step::Cut]));
    let gateway = gateway_of(&[&source.url()], "concurrency = 3", "").await;
    let leaving = |path: &'static str| tokio::spawn(Ask::get(path).open(gateway.public));
    let before_the_head = [leaving("/head"), leaving("/own")];
    for path in ["/head", "/own"] {
        source.wait_for(path, 1).await;
    }
    let within_the_body =
        within("a head", leaving("/body")).await.expect("a task that ends").expect("a head");
    let for_a_place = leaving("/waits");
    becomes(&gateway, "tidegate_source_in_flight", &[], 3.0).await;
    becomes(&gateway, "tidegate_source_waiting", &[], 1.0).await;
    before_the_head.iter().for_each(tokio::task::JoinHandle::abort);
    for_a_place.abort();
    drop(within_the_body);
    gate.open();
    nothing_is_left(&gateway).await;
    assert_eq!(gateway.get("/well").await.status, 404, "there are places");
}

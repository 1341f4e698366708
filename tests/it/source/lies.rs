//! Answers that are broken: 502 or a visibly broken transfer, never stored, the connection not used again.

use super::{becomes, gateway_of, metric, nothing_is_left};
use crate::support::{Answer, Ask, Gate, Gateway, Reply, ScriptedSource, Step, within};
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Nothing is wrong with it.
const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: max-age=60\r\n\r\nok";

/// Bytes as the source sends them, and then nothing, the connection left open.
fn raw(bytes: impl Into<Vec<u8>>) -> Reply {
    Reply::none(Step::Bytes(bytes.into())).after(Step::Wait(Gate::closed()))
}

/// Bytes that come one part after the other, and then nothing.
fn raw_parts(parts: [&str; 3]) -> Reply {
    raw_steps(parts.map(|part| Step::Bytes(part.as_bytes().to_vec())))
}

/// Steps as the source takes them, and then nothing.
fn raw_steps(steps: [Step; 3]) -> Reply {
    steps.into_iter().fold(Reply::ok(""), Reply::after).after(Step::Wait(Gate::closed()))
}

/// Bytes as the source sends them, then it closes.
fn cut(bytes: impl Into<Vec<u8>>) -> Reply {
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

/// Where the fault may be known before anything has gone out, or a moment later. Never is there no answer at all.
const NO_WHOLE: [Outcome; 2] = [Outcome::Status(502), Outcome::Broken];

/// What comes of a request; the gate is opened when its head has come.
async fn outcome(gateway: &Gateway, path: &str, gate: &Gate) -> Result<Outcome, String> {
    let head = within("a head", Ask::get(path).open(gateway.public)).await;
    let mut opened = head.map_err(|error| format!("no head: {error}"))?;
    gate.open();
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
async fn play(rows: Vec<(&str, Reply)>, expected: &[Outcome]) -> Gateway {
    play_gated(rows.into_iter().map(|(what, lie)| (what, (Gate::closed(), lie))).collect(), expected).await
}

/// The same, where what is behind each one's gate comes when the client has the head.
async fn play_gated(rows: Vec<(&str, (Gate, Reply))>, expected: &[Outcome]) -> Gateway {
    let source = ScriptedSource::start().await;
    let keys = "timeout = \"2s\"\nbody_idle = \"600ms\"";
    let gateway = gateway_of(&[&source.url()], keys, "").await;
    let mut faults = Vec::new();
    for (number, (what, (gate, lie))) in rows.into_iter().enumerate() {
        let path = format!("/{number}");
        source.always(&path, lie);
        let lied = outcome(&gateway, &path, &gate).await;
        if !lied.as_ref().is_ok_and(|lied| expected.contains(lied)) {
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
    gateway
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_not_strict_is_502() {
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 5\r\n\r\nhello", "a".repeat(70_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 5\r\n\r\nhello", "X: y\r\n".repeat(300));
    let flood = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(1500);
    let framed = |framing: &str| {
        raw(format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n{framing}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ))
    };
    let status = |status: &str| raw(format!("HTTP/1.1 {status} OK\r\nContent-Length: 5\r\n\r\nhello"));
    let rows = vec![
        ("two lengths that differ", framed("Content-Length: 5\r\nContent-Length: 7")),
        ("two equal lengths", framed("Content-Length: 5\r\nContent-Length: 5")),
        ("a list of lengths", framed("Content-Length: 5, 5")),
        ("a length with a sign", framed("Content-Length: +5")),
        ("a length with a zero in front", framed("Content-Length: 05")),
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
        ("a NUL in a name", raw("HTTP/1.1 200 OK\r\nX\0: a\r\nContent-Length: 5\r\n\r\nhello")),
        ("a NUL in the status line", raw("HTTP/1.1 200 O\0K\r\nContent-Length: 5\r\n\r\nhello")),
        ("a NUL alone", raw("\0")),
        ("two status lines", raw("HTTP/1.1 200 OK\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")),
        ("a body alone, as in HTTP/0.9", cut("<html>hello</html>\r\n")),
        ("a body alone that goes on", raw("<html>hello</html>\r\n")),
        ("TLS where none is spoken", raw([0x15, 3, 3, 0, 2, 2, 70])),
        ("binary bytes", raw((128..=255).cycle().take(2000).collect::<Vec<u8>>())),
        ("HTTP/2 frames", raw(b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64".as_slice())),
        ("a head over 64 KiB", raw(long)),
        ("an empty line before it", raw(format!("\r\n{WHOLE}"))),
        ("an empty line behind an interim response", raw(format!("HTTP/1.1 103 A\r\n\r\n\r\n{WHOLE}"))),
        ("a line without end", raw(format!("HTTP/1.1 200 OK\r\nX-Long: {}", "a".repeat(70_000)))),
        ("a head without end", raw(format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(20_000)))),
        ("300 fields", raw(many)),
        ("a flood of interim responses", raw(flood)),
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
    play(rows, &[Outcome::Status(502)]).await;
}

/// Bodies that break, each with what follows `begun`.
fn breaking(begun: &[Step]) -> Vec<(&'static str, Reply)> {
    let then = |last: &[Step]| [begun, last].concat();
    let length = |last: &[Step]| Reply::promising(1000, then(last)).cache_control("max-age=60");
    let chunks = |last: &[Step]| Reply::chunks(then(last)).cache_control("max-age=60");
    let never = || Step::Wait(Gate::closed());
    let raw = |last: &str| [Step::Bytes(last.into()), Step::Cut];
    vec![
        ("shorter than its length", length(&[Step::Cut])),
        ("reset before its length", length(&[Step::Reset])),
        ("half-closed before its length", length(&[Step::HalfClose, never()])),
        ("no last chunk", chunks(&[Step::Cut])),
        ("reset before the last chunk", chunks(&[Step::Reset])),
        ("half-closed before the last chunk", chunks(&[Step::HalfClose, never()])),
        ("closed within the last chunk", raw_chunks(&then(&raw("0\r\n")))),
        ("closed within a chunk", raw_chunks(&then(&raw("500\r\nfirst")))),
        ("too large a trailer section", raw_chunks(&then(&raw(&large_trailers())))),
    ]
}

/// A last chunk with more trailers than are taken.
fn large_trailers() -> String {
    format!("0\r\nX-Large: {}\r\n\r\n", "x".repeat(20 * 1024))
}

/// A head that says chunks, and the rest as it is.
fn raw_chunks(steps: &[Step]) -> Reply {
    let head = Step::Bytes(CHUNKED.into());
    let raw = |step: &Step| match step {
        Step::Bytes(bytes) if bytes == b"first" => Step::Bytes(b"5\r\nfirst\r\n".to_vec()),
        step => step.clone(),
    };
    steps.iter().map(raw).fold(Reply::none(head), Reply::after)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_is_visibly_broken() {
    let first = || Step::Bytes(b"first".to_vec());
    let gated = |row: usize| {
        let gate = Gate::closed();
        let (what, reply) = breaking(&[first(), Step::Wait(gate.clone())]).swap_remove(row);
        (what, (gate, reply))
    };
    let rows = (0..breaking(&[]).len()).map(gated).collect();
    play_gated(rows, &[Outcome::Broken]).await;
    let never = || Step::Wait(Gate::closed());
    let rows = vec![
        ("standing still within its length", Reply::promising(1000, vec![first(), never()])),
        ("standing still between chunks", Reply::chunks(vec![first(), never()])),
    ];
    let rows = rows.into_iter().map(|(what, reply)| (what, reply.cache_control("max-age=60"))).collect();
    let gateway = play(rows, &[Outcome::Broken]).await;
    assert!(metric(&gateway, "tidegate_source_bodies_broken_total", &["reason=\"idle\""]).await > 1.5);
}

/// RFC 9112 8: a client of HTTP/1.0, which knows no chunks, takes the connection's end for the answer's: only a reset
/// tells it otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9112_8_to_http_1_0_what_breaks_off_has_no_orderly_end() {
    let source = ScriptedSource::start().await;
    let gateway = gateway_of(&[&source.url()], "", "").await;
    for (method, control) in [("GET", "max-age=60"), ("GET", "no-store"), ("DELETE", "no-store")] {
        for (last, step) in [("", Step::Cut), ("ZZ\r\n", Step::Wait(Gate::closed()))] {
            let gate = Gate::closed();
            let head = CHUNKED.replace("max-age=60", control);
            let reply = Reply::none(Step::Bytes(format!("{head}5\r\nfirst\r\n").into()))
                .after(Step::Wait(gate.clone()))
                .after(Step::Bytes(last.into()))
                .after(step);
            source.always("/broken", reply);
            let mut stream = TcpStream::connect(gateway.public).await.unwrap();
            stream
                .write_all(format!("{method} /broken HTTP/1.0\r\nHost: a\r\n\r\n").as_bytes())
                .await
                .unwrap();
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"first") {
                assert_ne!(
                    within("content", stream.read_buf(&mut bytes)).await.unwrap(),
                    0,
                    "{method} {control}"
                );
            }
            gate.open();
            let end = within("an end", stream.read_to_end(&mut bytes)).await;
            assert_eq!(
                end.unwrap_err().kind(),
                std::io::ErrorKind::ConnectionReset,
                "{method} {control} {last:?}"
            );
        }
    }
}

/// Of what breaks before anything of it has gone out, nobody is told half: it is no answer, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_at_once_is_502_or_visibly_broken() {
    for begun in [&[Step::Bytes(b"first".to_vec())][..], &[]] {
        let rows = breaking(begun);
        let count = f64::from(u32::try_from(rows.len()).expect("a few"));
        let gateway = play(rows, &NO_WHOLE).await;
        let broken = metric(&gateway, "tidegate_source_bodies_broken_total", &["reason=\"broken\""]).await;
        assert!(broken > count - 0.5, "{broken}");
    }
}

/// All of it has come with the head: the client has the problem, whichever way the answer would have taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9112_7_1_2_too_large_a_trailer_section_that_comes_with_its_head_is_502() {
    let source = ScriptedSource::start().await;
    for control in ["max-age=60", "no-store"] {
        let head = CHUNKED.replace("max-age=60", control);
        let whole = format!("{head}5\r\nfirst\r\n{}", large_trailers());
        source.always(&format!("/{control}"), raw(whole));
    }
    let gateway = gateway_of(&[&source.url()], "", "").await;
    for (method, control) in [("GET", "max-age=60"), ("GET", "no-store"), ("POST", "no-store")] {
        let answer = gateway.send(Ask::new(method, &format!("/{control}"))).await;
        answer.assert_problem(502);
        let status = answer.field("Proxy-Status");
        assert_eq!(status, "tidegate; error=http_protocol_error", "{method} {control}");
        assert!(answer.field("Cache-Status").starts_with("tidegate; fwd="), "{answer:?}");
        assert!(!answer.says("stored"), "{answer:?}");
    }
    nothing_is_left(&gateway).await;
}

/// More of it has come than is looked at before the head goes out: the client has that, and sees it break.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_further_on_has_a_head_that_the_client_sees() {
    let source = ScriptedSource::start().await;
    let content = "x".repeat(100_000);
    let whole = format!("{CHUNKED}{:x}\r\n{content}\r\n{}", content.len(), large_trailers());
    source.always("/a", raw(whole));
    let gateway = gateway_of(&[&source.url()], "", "").await;
    for _ in 0..10 {
        let mut opened = within("a head", Ask::post("/a", "").open(gateway.public)).await.expect("a head");
        assert_eq!(opened.head.status, 200);
        assert!(within("an end", opened.rest()).await.is_err());
    }
    nothing_is_left(&gateway).await;
}

/// Over HTTP/2 the same: a problem, or a stream that is reset behind its head (RFC 9113 8.1).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9113_8_1_over_http2_what_breaks_is_502_or_resets_its_stream() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let begin = format!("{CHUNKED}5\r\nfirst\r\n");
    source.always("/at-once", raw(format!("{begin}{}", large_trailers())));
    let later = [Step::Bytes(begin.into()), Step::Wait(gate.clone()), Step::Bytes(large_trailers().into())];
    source.always("/later", raw_steps(later));
    let gateway = gateway_of(&[&source.url()], "", "").await;
    let stream = TcpStream::connect(gateway.public).await.expect("a connection");
    let (executor, io) = (hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(stream));
    let handshake = hyper::client::conn::http2::handshake(executor, io);
    let (mut sender, connection) = within("the preface", handshake).await.expect("HTTP/2");
    tokio::spawn(connection);
    let mut get = async |path: &str| {
        let request = http::Request::get(format!("http://{}{path}", gateway.public));
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).expect("a request");
        within("an answer", sender.send_request(request)).await.expect("an answer")
    };
    let at_once = get("/at-once").await;
    assert_eq!(at_once.status(), 502);
    assert_eq!(at_once.headers()["content-type"], "application/problem+json");
    within("content", at_once.into_body().collect()).await.expect("all of it");
    let later = get("/later").await;
    assert_eq!(later.status(), 200);
    gate.open();
    assert!(within("an end", later.into_body().collect()).await.is_err());
    drop(sender);
    nothing_is_left(&gateway).await;
}

/// An answer in chunks has an end that its connection lives on behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_has_carried_chunks_carries_the_next_answer() {
    let source = ScriptedSource::start().await;
    let chunks = || Reply::chunks([Step::Bytes(b"first".to_vec()), Step::Bytes(b"second".to_vec())]);
    source.always("/a", chunks().cache_control("no-store"));
    source.always("/trailers", chunks().cache_control("no-store").trailer("X-Sum", "1"));
    let gateway = gateway_of(&[&source.url()], "", "").await;
    for _ in 0..5 {
        for path in ["/a", "/trailers"] {
            assert_eq!(gateway.get(path).await.text(), "firstsecond");
        }
    }
    assert_eq!(source.connections(), 1);
}

/// RFC 9112 2.2 lets a recipient take LF for the end of a line: who comes behind may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_of_a_head_that_ends_by_lf_is_502() {
    let rows = vec![
        ("a bare LF in the head", raw("HTTP/1.1 200 OK\r\nX: a\nContent-Length: 5\r\n\r\nhello")),
        ("a bare LF behind the status", raw("HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello")),
        ("an empty line of a bare LF", raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello")),
        (
            "a bare LF in a head that comes in parts",
            raw_parts(["HTTP/1.1 200 OK\r\nX: a", "\nContent-Length: 2\r\n\r\n", "ok"]),
        ),
        ("a bare LF in a head without content", raw("HTTP/1.1 204 No Content\nX: a\r\n\r\n")),
    ];
    play(rows, &[Outcome::Status(502)]).await;
}

/// Nothing of it has gone out, and the whole fault is known: it is no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_come_wrong_with_their_head_are_502() {
    let rows = vec![
        ("a first chunk size that is none", chunks_at_once("xyz\r\n")),
        ("a chunk size that is none", chunks_at_once("5\r\nfirst\r\nxyz\r\n")),
        ("a chunk size with a space behind it", chunks_at_once("5 \r\nfirst\r\n0\r\n\r\n")),
        ("a chunk size with a sign", chunks_at_once("5\r\nfirst\r\n-5\r\n")),
        ("a chunk size beyond all numbers", chunks_at_once("5\r\nfirst\r\nfffffffffffffffff\r\n")),
        ("a chunk longer than it says", chunks_at_once("5\r\nfirst\r\n3\r\nlonger\r\n0\r\n\r\n")),
        ("a chunk without its end", chunks_at_once("5\r\nfirst5\r\nfirst\r\n0\r\n\r\n")),
    ];
    play(rows, &[Outcome::Status(502)]).await;
}

/// The fault is known only when the head and a part of the body have gone out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_become_wrong_are_a_visibly_broken_body() {
    let then = |fault: &str| {
        let (gate, begin) = (Gate::closed(), Step::Bytes(format!("{CHUNKED}5\r\nfirst\r\n").into()));
        let steps = [Step::Wait(gate.clone()), Step::Bytes(fault.into()), Step::Wait(Gate::closed())];
        (gate, steps.into_iter().fold(Reply::none(begin), Reply::after))
    };
    let rows = vec![
        ("a chunk size that is none", then("xyz\r\n")),
        ("a chunk size with a sign", then("-5\r\n")),
        ("a chunk size with a space behind it", then("5 \r\nfirst\r\n0\r\n\r\n")),
        ("a chunk size that ends by LF", then("5\nfirst\r\n0\r\n\r\n")),
        ("a trailer that ends by LF", then("0\r\nX: y\n\r\n")),
        ("an end by LF", then("0\r\n\n")),
        ("a chunk size beyond all numbers", then("fffffffffffffffff\r\n")),
        ("a chunk longer than it says", then("3\r\nlonger\r\n0\r\n\r\n")),
        ("a chunk without its end", then("5\r\nfirst5\r\nfirst\r\n0\r\n\r\n")),
        ("binary bytes", then("\0\x01\x02")),
    ];
    play_gated(rows, &[Outcome::Broken]).await;
}

/// Chunks that come with their head.
fn chunks_at_once(body: &str) -> Reply {
    raw(format!("{CHUNKED}{body}"))
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_trickles_or_says_nothing_is_504_at_the_deadline() {
    let rows = vec![
        ("nothing", raw("")),
        ("a part of a head", raw("HTTP/1.1 200 OK\r\nContent-")),
        ("an interim response alone", raw("HTTP/1.1 103 Early Hints\r\n\r\n")),
    ];
    play(rows, &[Outcome::Status(504)]).await;
}

/// A source that says a little now and then, and never comes to an end of its head: the deadline is for all
/// of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_trickles_without_end_is_504_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port 0 can be bound");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    for part in ["X: y\r\n", "a", "\0x"] {
        let gateway = gateway_of(&[&url], "timeout = \"400ms\"", "").await;
        let trickling = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            assert!(stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0), "a request");
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nA: ").await);
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            while stream.write_all(part.as_bytes()).await.is_ok() {
                tick.tick().await;
            }
        };
        let began = Instant::now();
        let answering = async {
            let answer = gateway.get("/a").await;
            (answer.status, began.elapsed())
        };
        // It ends when its connection is closed: it is not read any more.
        let ((status, took), ()) = tokio::join!(answering, within("it is closed", trickling));
        assert_eq!(status, if part == "\0x" { 502 } else { 504 }, "{part:?}");
        assert!(took < Duration::from_secs(5), "{part:?}: {took:?}");
        nothing_is_left(&gateway).await;
    }
}

/// More than the length that was said, with the head or with the last of the body: which of it is the answer is
/// not known, so none is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_was_said_is_no_answer_or_a_visibly_broken_one() {
    let head = |length: usize| {
        format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {length}\r\n\r\n")
    };
    let rows = vec![
        ("a byte", raw(head(5) + "hello!")),
        ("another answer", raw(head(2) + "ok" + &head(4) + "evil")),
        ("something where there is nothing", raw(head(0) + "x")),
        (
            "behind an interim response",
            raw("HTTP/1.1 103 Early Hints\r\n\r\n".to_owned() + &head(5) + "hello!"),
        ),
    ];
    play(rows, &[Outcome::Status(502)]).await;
    let later = |rest: &str| {
        let (gate, rest) = (Gate::closed(), Step::Bytes(rest.as_bytes().to_vec()));
        let first =
            raw_steps([Step::Bytes((head(10) + "hello").into_bytes()), Step::Wait(gate.clone()), rest]);
        (gate, first)
    };
    let rows =
        vec![("a byte more", later("later!")), ("another answer", later("laterHTTP/1.1 200 OK\r\n\r\n"))];
    play_gated(rows, &[Outcome::Broken]).await;
}

/// What follows an answer's end belongs to no answer (RFC 9112 6.3).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_beyond_an_answer_answer_nobody() {
    let smuggled = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nevil";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let with_head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    for first in [with_head, chunked, "HTTP/1.1 204 No Content\r\n\r\n"] {
        for (beyond, method) in [(smuggled, "GET"), ("5\r\nxyz\r\n", "GET"), (smuggled, "HEAD")] {
            if first == with_head && method == "GET" {
                continue;
            }
            let source = ScriptedSource::start().await;
            source.always("*", good());
            source.always("/a", raw(format!("{first}{beyond}")));
            let gateway = gateway_of(&[&source.url()], "timeout = \"3s\"", "").await;
            for turn in 0..5 {
                let answer = gateway.send(Ask::new(method, "/a")).await;
                let hello = if method == "HEAD" || answer.status == 204 { "" } else { "hello" };
                assert_eq!(answer.text(), hello, "{method} {first:?} {answer:?}");
                assert!(answer.status < 300, "{method} {first:?} {answer:?}");
                assert_eq!(gateway.get(&format!("/{turn}")).await.text(), "good");
            }
            nothing_is_left(&gateway).await;
        }
    }
}

/// What is sent to a source looks like a request to it, in the middle of content.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_looks_like_a_request_changes_nothing_of_its_answer() {
    let source = ScriptedSource::start().await;
    source.on("*", |request| Reply::ok(request.body.clone()));
    let gateway = gateway_of(&[&source.url()], "", "").await;
    for times in [1, 100, 10_000] {
        let content = "HEAD / HTTP/1.1\r\n".repeat(times);
        for ask in [Ask::post("/a", content.clone()), Ask::post("/a", content.clone()).chunked()] {
            assert_eq!(gateway.send(ask).await.text(), content);
        }
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

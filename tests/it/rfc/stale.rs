//! RFC 9111 4.2.4 serving stale; RFC 5861.

use super::{Row, get, play, row};
use crate::support::source::table;
use crate::support::{Ask, EVERYTHING, Gate, RedisServer, Reply, ScriptedSource, Setup, Step, eventually};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A source in trouble: a status, or (0) a connection that closes without an answer.
fn failure(status: u16) -> Reply {
    if status == 0 { Reply::none(Step::Cut) } else { Reply::new(status, "error") }
}

fn begun(name: &str, control: &str, status: u16) -> Row {
    let kept = Reply::ok("kept").cache_control(control).field("ETag", "\"a\"");
    row(format!("{name}: {control}, then {status}")).filled(kept).source(failure(status))
}

/// What is stored answers although it is stale.
fn covered(name: &str, control: &str, status: u16) -> Row {
    let stale = get().status(200).text("kept").says("fwd=stale").says("detail=stale-if-error");
    begun(name, control, status).then(stale.lacks("Warning"))
}

/// The client sees the failure.
fn exposed(name: &str, control: &str, status: u16) -> Row {
    let seen = match status {
        // RFC 9111 5.2.2.2: what must be validated cannot be.
        0 if control.contains("revalidate,") || control.ends_with("revalidate") => 504,
        0 if control.ends_with("revalidate=x") => 504,
        // RFC 9110 15.6.3: no valid answer from the source.
        0 => 502,
        status => status,
    };
    begun(name, control, status).then(get().status(seen).lacks("Warning"))
}

const FAILURES: [u16; 5] = [500, 502, 503, 504, 0];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc5861_4_the_response_states_the_window() {
    let rows = FAILURES.into_iter().flat_map(|status| {
        [
            covered("5861 4", "max-age=0, stale-if-error=60", status),
            covered("5861 4 any case, quoted", "max-age=0, Stale-If-Error=\"60\"", status),
            covered("5861 4 s-maxage and a window", "s-maxage=0, stale-if-error=60", status),
            exposed("5861 4 no window", "max-age=0", status),
            exposed("5861 4 zero", "max-age=0, stale-if-error=0", status),
            exposed("5861 4 malformed", "max-age=0, stale-if-error=x", status),
            exposed("5.2.2.2", "max-age=0, stale-if-error=60, must-revalidate", status),
            exposed("5.2.2.8", "max-age=0, stale-if-error=60, proxy-revalidate", status),
            exposed("5.2.2.4", "max-age=60, stale-if-error=60, no-cache", status),
            exposed("5.2.2.4", "max-age=60, stale-if-error=60, no-cache=\"a\"", status),
        ]
    });
    let other = [400, 404, 501, 505, 599]
        .map(|status| exposed("5861 4 no such error", "max-age=0, stale-if-error=60", status));
    let old = row("5861 4 after the window")
        .filled(Reply::ok("kept").cache_control("max-age=10, stale-if-error=60").field("Age", "70"))
        .source(failure(503))
        .then(get().status(503));
    let within = row("5861 4 within the window")
        .filled(Reply::ok("kept").cache_control("max-age=10, stale-if-error=3600").field("Age", "70"))
        .source(failure(503))
        .then(get().status(200).text("kept").aged(70));
    let targeted = row("9213 2.2")
        .filled(answered("max-age=0, stale-if-error=60").field("CDN-Cache-Control", "max-age=0"))
        .source(failure(503))
        .then(get().status(503));
    let rows = rows.chain(other).chain([old, within, targeted]);
    play("[route.cache]\nstale_if_error = \"0s\"\n", rows).await;
}

fn answered(control: &str) -> Reply {
    Reply::ok("kept").cache_control(control)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_2_4_the_route_gives_the_window() {
    let rows = FAILURES.into_iter().flat_map(|status| {
        [
            covered("route", "max-age=0", status),
            covered("5861 4 the response wins", "max-age=0, stale-if-error=60", status),
            exposed("5861 4 the response wins", "max-age=0, stale-if-error=0", status),
            exposed("5.2.2.2", "max-age=0, must-revalidate", status),
            exposed("5.2.2.8", "max-age=0, proxy-revalidate", status),
            exposed("5.2.2.10", "s-maxage=0", status),
            exposed("5.2.2.10 malformed", "max-age=0, s-maxage=x", status),
            exposed("5.2.2.4", "max-age=60, no-cache", status),
            exposed("4.2.4 malformed forbids", "max-age=0, must-revalidate=x", status),
        ]
    });
    play("[route.cache]\nstale_if_error = \"5m\"\n", rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9111_4_2_4_disconnected() {
    let rows = [
        covered("4.2.4 disconnected", "max-age=0", 0),
        covered("4.2.4 disconnected", "max-age=0, stale-if-error=0", 0),
        covered("4.2.4 a window for s-maxage", "s-maxage=0, stale-if-error=60", 0),
        exposed("5.2.2.2", "max-age=0, must-revalidate", 0),
        exposed("5.2.2.8", "max-age=0, proxy-revalidate", 0),
        exposed("5.2.2.10", "s-maxage=0", 0),
        exposed("5.2.2.4", "max-age=60, no-cache", 0),
        exposed("4.2.4 an answer is no disconnection", "max-age=0", 503),
    ];
    play("[route.cache]\nstale_if_error = \"0s\"\nstale_on_disconnect = true\n", rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc5861_3_served_while_it_is_validated() {
    // Nothing is counted here: the validations come when they come.
    let served = |name: &str, control: &str| {
        let hit = get().status(200).text("kept").says("hit").says("detail=stale-while-revalidate");
        row(format!("{name}: {control}")).source(answered(control)).then(get()).then(hit.lacks("Warning"))
    };
    let asked = |name: &str, control: &str| {
        let forwarded = get().status(200).text("new").says("fwd=stale");
        row(format!("{name}: {control}"))
            .source(answered(control))
            .source(Reply::ok("new"))
            .then(get())
            .then(forwarded)
    };
    play(
        "[route.cache]\nstale_while_revalidate = \"1m\"\n",
        [
            served("route", "max-age=0"),
            served("5861 3", "max-age=0, stale-while-revalidate=60"),
            served("5861 3 s-maxage and a window", "s-maxage=0, stale-while-revalidate=60"),
            asked("5861 3 the response wins", "max-age=0, stale-while-revalidate=0"),
            asked("5861 3 malformed", "max-age=0, stale-while-revalidate=-1"),
            asked("5.2.2.2", "max-age=0, stale-while-revalidate=60, must-revalidate"),
            asked("5.2.2.8", "max-age=0, stale-while-revalidate=60, proxy-revalidate"),
            asked("5.2.2.10", "s-maxage=0"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc5861_3_the_window_begins_where_freshness_ends() {
    let aged = |control: &str, age: &str| {
        row(format!("5861 3: {control}, {age} s old"))
            .source(answered(control).field("Age", age))
            .source(Reply::ok("new"))
            .then(get())
    };
    let hit = || get().status(200).text("kept").says("detail=stale-while-revalidate");
    let window = "max-age=10, stale-while-revalidate=3600";
    play(
        "",
        [
            aged(window, "10").then(hit()),
            aged(window, "3000").then(hit()),
            aged(window, "3610").then(get().status(200).text("new").says("fwd=stale")),
            aged("max-age=100, stale-while-revalidate=60", "160").then(get().text("new").says("fwd=stale")),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc5861_4_a_source_that_cannot_be_reached() {
    let (source, redis) = (ScriptedSource::start().await, RedisServer::start().await);
    source.always("/a", answered("max-age=0, stale-if-error=60"));
    source.on("*", |_| Reply::ok("warm").cache_control("max-age=60"));
    let ask = || Ask::get("/a").field("Host", "shared.test");
    let one = Setup::new(format!("{}{}{EVERYTHING}", redis.table(), source.table())).start().await;
    one.uses_redis().await;
    assert_eq!(one.send(ask()).await.text(), "kept");
    one.has_written().await;
    let no_tls = no_tls().await;
    let nobody = crate::support::redis::free_port().await;
    for (error, url) in [
        ("connection_refused", format!("http://127.0.0.1:{nobody}")),
        ("tls_protocol_error", format!("https://{no_tls}")),
        ("dns_error", "http://nobody.invalid".to_owned()),
    ] {
        let text = format!("{}{}{EVERYTHING}", redis.table(), table(&url));
        let gateway = Setup::new(text).start().await;
        eventually(&format!("{error}: found in Redis"), async || gateway.send(ask()).await.status == 200)
            .await;
        let answer = gateway.send(ask()).await;
        assert!(answer.text() == "kept" && answer.says("detail=stale-if-error"), "{error}: {answer:?}");
        let proxy_status = answer.field("Proxy-Status");
        assert_eq!(proxy_status, format!("tidegate; error={error}"));
    }
}

/// A server that answers whatever begins with what is no TLS.
async fn no_tls() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port 0 can be bound");
    let address = listener.local_addr().expect("a bound listener has an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // Who has closed already has its failure too.
            drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
            drop(stream.read_to_end(&mut Vec::new()).await);
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc5861_4_a_source_that_is_late_or_resets() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    for (path, trouble, status) in [
        ("/late", Reply::none(Step::Wait(gate.clone())), 504),
        ("/reset", Reply::none(Step::Reset), 502),
        ("/cut-head", Reply::none(Step::Bytes(b"HTTP/1.1 200 O".to_vec())).after(Step::Cut), 502),
        ("/no-http", Reply::none(Step::Bytes(b"nonsense\r\n\r\n".to_vec())).after(Step::Cut), 502),
    ] {
        source.sequence(path, vec![answered("max-age=0, stale-if-error=60"), trouble.clone()]);
        source.sequence(&format!("{path}/exposed"), vec![answered("max-age=0"), trouble]);
        let text = format!("{}timeout = \"1s\"\n{EVERYTHING}", source.table());
        let gateway = Setup::new(format!("{text}[route.cache]\nstale_if_error = \"0s\"\n")).start().await;
        assert_eq!(gateway.get(path).await.text(), "kept");
        let stale = gateway.get(path).await;
        assert!(stale.text() == "kept" && stale.says("detail=stale-if-error"), "{path}: {stale:?}");
        let exposed = format!("{path}/exposed");
        assert_eq!(gateway.get(&exposed).await.text(), "kept");
        assert_eq!(gateway.get(&exposed).await.status, status, "{path}");
    }
    gate.open();
}

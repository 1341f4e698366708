//! Bodies that many read while they come: large ones, slow readers, variants, what is read as it goes on.

use super::{extra_leaders, first_bytes, followers, gated, nothing_is_left, open};
use crate::support::{
    Ask, EVERYTHING, Gate, Gateway, Opened, Reply, ScriptedSource, Setup, Step, eventually, gateway_for,
    within,
};
use futures_util::future::join_all;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpStream;

/// A gateway whose tiers take 16 KiB.
async fn small_tiers(source: &ScriptedSource) -> Gateway {
    let text = format!("{}{EVERYTHING}[cache]\nmemory_object = \"16KiB\"\n", source.table());
    Setup::new(text).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_too_large_to_be_stored_streams_to_everybody() {
    const REST: usize = 1024 * 1024;
    for chunked in [true, false] {
        let (source, gate) = (ScriptedSource::start().await, Gate::closed());
        let steps = [Step::Bytes(b"first".to_vec()), Step::Wait(gate.clone()), Step::Bytes(vec![b'x'; REST])];
        let length = (b"first".len() + REST) as u64;
        let reply = if chunked { Reply::chunks(steps) } else { Reply::promising(length, steps) };
        source.always("/a", reply.cache_control("max-age=60").after(Step::Wait(gate.clone())));
        let gateway = small_tiers(&source).await;
        let asked = (0..100).map(|_| open(&gateway, "/a"));
        let (mut opened, ()) = tokio::join!(join_all(asked), async {
            super::followers(&gateway, 100).await;
            gate.open();
        });
        let rests = join_all(opened.iter_mut().map(Opened::rest)).await;
        assert!(rests.into_iter().all(|rest| rest.is_ok_and(|rest| rest.len() as u64 == length)));
        assert_eq!(source.count("/a"), 1 + extra_leaders(&gateway).await, "chunked {chunked}");
        nothing_is_left(&gateway).await;
        assert!(!open(&gateway, "/a").await.head.is_hit(), "chunked {chunked}: it is not stored");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_a_reader_that_stalls_is_cut_and_holds_nobody_up() {
    // Far more than the window and what lies in the buffers of the sockets.
    const BODY: usize = 64 * 1024 * 1024;
    let source = ScriptedSource::start().await;
    let gate = Gate::closed();
    let steps = [Step::Bytes(b"first".to_vec()), Step::Wait(gate.clone()), Step::Bytes(vec![b'x'; BODY])];
    let reply = Reply::promising((BODY + 5) as u64, steps).cache_control("max-age=60");
    source.always("/a", reply.after(Step::Wait(gate.clone())));
    let gateway = small_tiers(&source).await;
    let asked = [open(&gateway, "/a"), open(&gateway, "/a")];
    let (opened, ()) = tokio::join!(join_all(asked), async {
        super::followers(&gateway, 2).await;
        gate.open();
    });
    let [mut fast, mut stalled] = <[Opened; 2]>::try_from(opened).expect("two");
    assert_eq!(within("the whole", fast.rest()).await.expect("the whole").len(), BODY + 5);
    let held = super::metric(&gateway, "tidegate_in_flight_bytes", "").await;
    assert!(held <= 9 * 1024 * 1024, "{held} bytes are held for one that stalls");
    let rest = within("the cut", stalled.rest()).await;
    assert!(rest.is_err(), "it must not look complete: {:?}", rest.map(|bytes| bytes.len()));
    assert_eq!(super::metric(&gateway, "tidegate_readers_cut_total", "window").await, 1);
    assert_eq!(source.count("/a"), 1 + extra_leaders(&gateway).await);
    nothing_is_left(&gateway).await;
}

/// A body that is not fresh any more while it still comes is for those who read it; newcomers share the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_come_when_it_is_not_fresh_any_more_make_one_forward() {
    let (source, old, next) = (ScriptedSource::start().await, Gate::closed(), Gate::closed());
    let (held, awaited, number) = (old.clone(), next.clone(), AtomicUsize::new(0));
    source.on("/a", move |_| match number.fetch_add(1, Ordering::SeqCst) {
        0 => {
            let steps = [Step::Bytes(b"first".to_vec()), Step::Wait(held.clone())];
            Reply::chunks(steps).cache_control("max-age=1")
        }
        _ => Reply::ok("next").cache_control("max-age=60").after(Step::Wait(awaited.clone())),
    });
    let gateway = gateway_for(&source, "").await;
    let mut reader = open(&gateway, "/a").await;
    first_bytes(&mut reader).await;
    let mut newcomers = Vec::new();
    eventually("one of those who come is too late", async || {
        newcomers.push(tokio::spawn(Ask::get("/a").open(gateway.public)));
        source.count("/a") == 2
    })
    .await;
    let asked = join_all((0..40).map(|_| gateway.get("/a")));
    let (answers, ()) = tokio::join!(asked, async {
        // All of them, but those who read the old one, wait for the next.
        followers(&gateway, newcomers.len() + 1 + 40).await;
        next.open();
    });
    assert!(answers.iter().all(|answer| answer.text() == "next"));
    assert_eq!(source.count("/a"), 2, "one forward for all who came too late");
    old.open();
    assert_eq!(within("the old one's rest", reader.rest()).await.expect("the rest"), b"");
    drop(newcomers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_variant_has_a_flight_of_its_own_and_is_stored() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    let held = gate.clone();
    source.on("/a", move |request| {
        let language = request.fields.get("Accept-Language").unwrap_or_default().to_owned();
        gated(&held, Step::Bytes(language.into_bytes())).field("Vary", "Accept-Language")
    });
    let gateway = gateway_for(&source, "").await;
    let asking = ["de", "fr", "it"].into_iter().flat_map(|language| {
        (0..20).map(move |_| (language, Ask::get("/a").field("Accept-Language", language)))
    });
    let mut opened = join_all(asking.map(async |(language, ask)| {
        let mut opened = within("a head", ask.open(gateway.public)).await.expect("a head");
        first_bytes(&mut opened).await;
        (language, opened)
    }))
    .await;
    assert_eq!(source.count("/a"), 3, "one forward for each variant");
    gate.open();
    for (language, one) in &mut opened {
        assert_eq!(within("the rest", one.rest()).await.expect("the rest"), language.as_bytes());
    }
    for language in ["de", "fr", "it"] {
        assert!(gateway.send(Ask::get("/a").field("Accept-Language", language)).await.is_hit(), "{language}");
    }
    nothing_is_left(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_as_it_goes_on_is_never_collapsed() {
    for (what, field, value) in [
        ("the request says so", "Cache-Control", "max-age=60"),
        ("the response says so", "Incremental", "?1"),
        ("an event stream", "Content-Type", "text/event-stream"),
    ] {
        let (source, gate) = (ScriptedSource::start().await, Gate::closed());
        let steps = [Step::Bytes(b"first".to_vec()), Step::Wait(gate.clone())];
        source.always("/a", Reply::chunks(steps).cache_control("max-age=60").field(field, value));
        let gateway = gateway_for(&source, "").await;
        let incremental = if field == "Cache-Control" { "?1" } else { "?0" };
        let mut opened = join_all((0..5).map(async |_| {
            let ask = Ask::get("/a").field("Incremental", incremental);
            within("a head", ask.open(gateway.public)).await.expect("a head")
        }))
        .await;
        join_all(opened.iter_mut().map(first_bytes)).await;
        assert_eq!(source.count("/a"), 5, "{what}");
        drop(opened);
        // None of them ends by itself: their clients have left.
        nothing_is_left(&gateway).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_body_resets_the_streams_of_http2() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    source.always("/a", gated(&gate, Step::Cut));
    let gateway = gateway_for(&source, "").await;
    let io = TokioIo::new(TcpStream::connect(gateway.public).await.expect("the gateway listens"));
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (client, connection) = handshake.await.expect("HTTP/2 by prior knowledge");
    let connection = tokio::spawn(connection);
    let mut bodies = join_all((0..2).map(async |_| {
        let request = http::Request::get(format!("http://{}/a", gateway.public));
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).expect("a request");
        let response = client.clone().send_request(request).await.expect("a head");
        assert_eq!(response.status(), 200);
        response.into_body()
    }))
    .await;
    gate.open();
    for body in &mut bodies {
        let broken = async { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} };
        within("the end of the stream", broken).await;
        assert!(!http_body::Body::is_end_stream(body), "it looks complete");
    }
    let alive = client.is_ready() && !connection.is_finished();
    assert!(alive, "the connection goes on");
    assert_eq!(source.count("/a"), 1);
    drop(client);
    nothing_is_left(&gateway).await;
}

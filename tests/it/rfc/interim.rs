//! RFC 9110 15.2 interim responses; RFC 8297. Spoken on raw connections, so that nothing skips them.

use crate::support::wire::{Body, Fields, Framing, Wire};
use crate::support::{
    Answer, Ask, Gate, Gateway, RecordingDestination, Reply, ScriptedSource, Step, eventually, gateway_for,
    synced, within,
};
use tokio::net::TcpStream;

/// A connection to the gateway.
struct Line(Wire);

impl Line {
    async fn to(gateway: &Gateway) -> Self {
        Self(Wire::new(TcpStream::connect(gateway.public).await.expect("a connection")))
    }

    async fn says(&mut self, text: &str) {
        self.0.write(text.as_bytes()).await.expect("the gateway reads");
    }

    /// GET over HTTP/1.1.
    async fn gets(&mut self, path: &str) {
        self.says(&format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n")).await;
    }

    /// The next head, an interim one too.
    async fn head(&mut self) -> (u16, Fields) {
        let head = within("a head", self.0.head()).await.expect("a well-formed head");
        let (start, fields) = head.expect("a head before the end");
        assert!(start.starts_with("HTTP/1.1 ") || start.starts_with("HTTP/1.0 "), "{start}");
        (start[9..12].parse().expect("a status"), fields)
    }

    /// The next head and, where it is no interim one, its content.
    async fn answer(&mut self) -> Answer {
        let (status, fields) = self.head().await;
        let framing = if (100..200).contains(&status) {
            Framing::Length(0)
        } else {
            Framing::of(&fields, Framing::UntilClose)
        };
        let mut content = Body::new(framing);
        let body = within("content", content.all(&mut self.0)).await.expect("whole content");
        Answer { status, fields, body, trailers: content.trailers }
    }

    /// What comes until a final response: the statuses before it.
    async fn statuses(&mut self) -> (Vec<u16>, Answer) {
        let mut interim = Vec::new();
        loop {
            let answer = self.answer().await;
            if answer.status >= 200 {
                return (interim, answer);
            }
            interim.push(answer.status);
        }
    }
}

const LINK: &str = "Link: </style.css>; rel=preload\r\n";

fn hinted(body: &str) -> Reply {
    Reply::ok(body).cache_control("max-age=60").interim(103, LINK)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8297_2_early_hints_come_before_the_source_has_answered_and_the_answer_is_stored() {
    let source = ScriptedSource::start().await;
    let held = Gate::closed();
    source.always("/a", hinted("page").after(Step::Wait(held.clone())));
    let gateway = gateway_for(&source, "").await;
    let mut line = Line::to(&gateway).await;
    line.gets("/a").await;
    let hint = line.answer().await;
    assert_eq!((hint.status, hint.field("link")), (103, "</style.css>; rel=preload"));
    held.open();
    let (interim, answer) = line.statuses().await;
    assert_eq!((interim, answer.status, answer.text().as_str()), (vec![], 200, "page"));
    assert!(!answer.is_hit() && !answer.fields.has("link"), "{answer:?}");
    line.gets("/a").await;
    let (interim, answer) = line.statuses().await;
    assert_eq!((interim, answer.status, answer.text().as_str()), (vec![], 200, "page"));
    assert!(answer.is_hit(), "{answer:?}");
    assert_eq!(source.count("/a"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_15_2_all_but_100_and_101_pass_in_order_for_every_method() {
    let source = ScriptedSource::start().await;
    let several = |body: &str| {
        let reply = Reply::ok(body).interim(100, "").interim(102, "").interim(103, "X: 1\r\n");
        reply.interim(103, "X: 2\r\n").interim(199, "")
    };
    source.always("/a", several(""));
    let gateway = gateway_for(&source, "").await;
    let mut line = Line::to(&gateway).await;
    for request in [
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n\r\n",
        "HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        line.says(request).await;
        let (interim, answer) = line.statuses().await;
        assert_eq!(interim, [102, 103, 103, 199], "{request}");
        assert_eq!(answer.status, 200, "{request}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_15_2_a_recorded_write_gets_them_too() {
    let source = ScriptedSource::start().await;
    let destination = RecordingDestination::start().await;
    let held = Gate::closed();
    source.always("/a", Reply::new(201, "").interim(102, "").after(Step::Wait(held.clone())));
    let gateway = synced(&source, &destination).await;
    let mut line = Line::to(&gateway).await;
    line.says("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").await;
    assert_eq!(line.answer().await.status, 102);
    held.open();
    let (interim, answer) = line.statuses().await;
    assert_eq!((interim, answer.status), (vec![], 201));
    assert!(answer.fields.has("tidegate-change"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_7_6_1_an_interim_response_has_end_to_end_fields_only() {
    let source = ScriptedSource::start().await;
    let lines = "Link: </a>\r\nConnection: x-hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=1\r\n\
                 Via: 1.1 inner\r\nSurrogate-Key: a\r\nTransfer-Encoding: chunked\r\n";
    source.always("/a", Reply::ok("x").interim(103, lines));
    let gateway = gateway_for(&source, "").await;
    let mut line = Line::to(&gateway).await;
    line.gets("/a").await;
    let hint = line.answer().await;
    let mut names: Vec<&str> = hint.fields.0.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!((hint.status, names), (103, vec!["link", "via"]));
    assert_eq!(hint.field("via"), "1.1 inner, 1.1 tidegate");
    assert_eq!(line.answer().await.text(), "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_15_2_never_to_a_client_of_http_1_0() {
    let source = ScriptedSource::start().await;
    source.always("/a", hinted("page"));
    let gateway = gateway_for(&source, "").await;
    let mut line = Line::to(&gateway).await;
    line.says("GET /a HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let (interim, answer) = line.statuses().await;
    assert_eq!((interim, answer.status, answer.text().as_str()), (vec![], 200, "page"));
}

/// hyper's server gives HTTP/2 no way for them: the final response comes and is stored all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_15_2_over_http2_the_final_response_alone() {
    let source = ScriptedSource::start().await;
    source.always("/a", hinted("page"));
    let gateway = gateway_for(&source, "").await;
    let stream = TcpStream::connect(gateway.public).await.expect("a connection");
    let (executor, io) = (hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(stream));
    let handshake = hyper::client::conn::http2::handshake(executor, io);
    let (mut sender, connection) = within("the preface", handshake).await.expect("HTTP/2");
    tokio::spawn(connection);
    for hit in [false, true] {
        let request = http::Request::get(format!("http://{}/a", gateway.public))
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .expect("a request");
        let answer = within("an answer", sender.send_request(request)).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let status = answer.headers()["cache-status"].to_str().expect("text").to_owned();
        assert_eq!(status.contains("; hit"), hit, "{status}");
        // Only what has ended is a hit for sure.
        let content = http_body_util::BodyExt::collect(answer.into_body());
        within("the content", content).await.expect("the content");
    }
    assert_eq!(source.count("/a"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9112_9_3_2_pipelined_requests_keep_their_order() {
    let source = ScriptedSource::start().await;
    let held = Gate::closed();
    source.always("/a", Reply::ok("first").interim(103, "X: a\r\n").after(Step::Wait(held.clone())));
    source.always("/b", Reply::ok("second").interim(103, "X: b\r\n"));
    let gateway = gateway_for(&source, "").await;
    let mut line = Line::to(&gateway).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    line.says(&[get("/a"), get("/b"), get("/a"), get("/b")].concat()).await;
    let first = line.answer().await;
    assert_eq!((first.status, first.field("x")), (103, "a"));
    held.open();
    let mut seen = Vec::new();
    while seen.len() < 7 {
        let answer = line.answer().await;
        seen.push((answer.status, answer.field("x").to_owned() + &answer.text()));
    }
    let expected = [
        (200, "first"),
        (103, "b"),
        (200, "second"),
        (103, "a"),
        (200, "first"),
        (103, "b"),
        (200, "second"),
    ];
    assert_eq!(seen, expected.map(|(status, text)| (status, text.to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_10_1_1_continue_and_interim_responses_are_messages_of_their_own() {
    let source = ScriptedSource::start().await;
    source.always("/a", Reply::ok("done").interim(102, ""));
    let gateway = gateway_for(&source, "").await;
    let mut line = Line::to(&gateway).await;
    line.says("PUT /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    assert_eq!(line.answer().await.status, 100);
    line.says("abc").await;
    let (interim, answer) = line.statuses().await;
    assert_eq!((interim, answer.status, answer.text().as_str()), (vec![102], 200, "done"));
    let received = source.received("/a");
    assert_eq!(received[0].text(), "abc");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_collapse_the_one_whose_forward_it_is_gets_them() {
    let source = ScriptedSource::start().await;
    let (hint, held) = (Gate::closed(), Gate::closed());
    let reply = Reply::ok("page").cache_control("max-age=60").after(Step::Wait(hint.clone()));
    source.always("/a", reply.interim(103, LINK).after(Step::Wait(held.clone())));
    let gateway = gateway_for(&source, "").await;
    let mut leader = Line::to(&gateway).await;
    leader.gets("/a").await;
    source.wait_for("/a", 1).await;
    let mut follower = Line::to(&gateway).await;
    follower.gets("/a").await;
    hint.open();
    assert_eq!(leader.answer().await.status, 103);
    held.open();
    for line in [&mut leader, &mut follower] {
        let (interim, answer) = line.statuses().await;
        assert_eq!((interim, answer.status, answer.text().as_str()), (vec![], 200, "page"));
    }
    assert_eq!(source.count("/a"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_validation_in_the_background_tells_nobody() {
    let source = ScriptedSource::start().await;
    let stale = || Reply::ok("old").cache_control("max-age=0, stale-while-revalidate=600");
    source.sequence("/a", [stale(), hinted("new")]);
    let gateway = gateway_for(&source, "").await;
    let mut line = Line::to(&gateway).await;
    for text in ["old", "old"] {
        line.gets("/a").await;
        let (interim, answer) = line.statuses().await;
        assert_eq!((interim, answer.text().as_str()), (vec![], text));
    }
    source.wait_for("/a", 2).await;
    eventually("the new one is stored", async || {
        line.gets("/a").await;
        let (interim, answer) = line.statuses().await;
        assert_eq!(interim, [0u16; 0]);
        answer.text() == "new"
    })
    .await;
}

/// Only what a connection from the pool loses is sent again, and a connection is back there some time after
/// its answer: so it is asked until one was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_sent_once_more_gets_them() {
    let source = ScriptedSource::start().await;
    source.always("/other", Reply::ok("").cache_control("no-store"));
    let gateway = gateway_for(&source, "").await;
    let mut line = Line::to(&gateway).await;
    eventually("a connection from the pool is lost", async || {
        source.sequence("/again", [Reply::none(Step::Cut), hinted("page")]);
        line.gets("/other").await;
        assert_eq!(line.answer().await.status, 200);
        line.gets("/again").await;
        let (interim, answer) = line.statuses().await;
        if answer.status == 502 {
            return false;
        }
        assert_eq!((interim, answer.text().as_str()), (vec![103], "page"), "{answer:?}");
        true
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_is_answered_stale_in_the_end_gets_them() {
    let source = ScriptedSource::start().await;
    let stale = Reply::ok("old").cache_control("max-age=0, stale-if-error=600");
    source.sequence("/a", [stale, Reply::new(503, "").interim(103, LINK)]);
    let gateway = gateway_for(&source, "").await;
    let mut line = Line::to(&gateway).await;
    for expected in [vec![], vec![103]] {
        line.gets("/a").await;
        let (interim, answer) = line.statuses().await;
        assert_eq!((interim, answer.text().as_str()), (expected, "old"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc9110_15_2_2_a_switch_of_protocols_that_nobody_asked_for_is_a_502() {
    let source = ScriptedSource::start().await;
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n";
    let never = Gate::closed();
    source.always("/a", Reply::none(Step::Bytes(switch.into())).after(Step::Wait(never)));
    let gateway = gateway_for(&source, "").await;
    for ask in [Ask::get("/a"), Ask::put("/a", "x")] {
        let answer = gateway.send(ask).await;
        answer.assert_problem(502);
        assert!(answer.field("proxy-status").contains("http_protocol_error"), "{answer:?}");
    }
}

/// More than any bound, to a client that does not read: the answer comes whole, behind as many as fit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_a_flood_of_interim_responses_is_bounded() {
    let source = ScriptedSource::start().await;
    let flood = (0..400).fold(Reply::ok("page"), |reply, number| {
        reply.interim(103, &format!("Number: {number}\r\nFill: {}\r\n", "x".repeat(20_000)))
    });
    let held = Gate::closed();
    source.always("/a", flood.after(Step::Wait(held.clone())));
    let gateway = gateway_for(&source, "").await;
    let mut line = Line::to(&gateway).await;
    line.gets("/a").await;
    eventually("the flood has passed", async || {
        let metrics = gateway.admin_get("/metrics").await.text();
        let dropped = metrics.lines().find_map(|line| line.strip_prefix("tidegate_interim_dropped_total "));
        dropped.and_then(|count| count.parse().ok()).is_some_and(|count: u64| count >= 300)
    })
    .await;
    held.open();
    let mut last = None;
    let mut told = 0;
    loop {
        let answer = line.answer().await;
        if answer.status == 200 {
            assert_eq!(answer.text(), "page");
            break;
        }
        let number: u32 = answer.field("number").parse().expect("a number");
        assert!(last < Some(number), "{number} after {last:?}");
        assert_eq!(answer.field("fill").len(), 20_000);
        (last, told) = (Some(number), told + 1);
    }
    assert!((1..=100).contains(&told), "{told}");
    line.gets("/b").await;
    assert_eq!(line.answer().await.status, 404);
}

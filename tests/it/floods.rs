//! HTTP/2 frame by frame: floods, stalls and bounds that only raw frames can reach (RFC 9113 5.1.2, 10.5).

use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GET, GOAWAY, HEADERS, PING, PRIORITY,
    REFUSED_STREAM, RST_STREAM, SETTINGS, WINDOW_UPDATE, field, frame, get, next, open, until,
};
use crate::support::wait::{Gate, within_time};
use crate::support::{EVERYTHING, Gateway, Reply, ScriptedSource, Setup, Step, eventually, within};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;

/// A slow reader is cut after twice ten seconds, and some more on a slow machine.
const CUT_WITHIN: Duration = Duration::from_mins(2);

async fn gateway(source: &ScriptedSource, limits: &str) -> Gateway {
    Setup::new(format!("{}{EVERYTHING}[server.limits]\n{limits}", source.table())).start().await
}

/// RFC 9113 5.1.2: what is beyond the bound was not looked at, and may be sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_the_stream_beyond_the_bound_is_refused_and_the_others_are_answered() {
    let (source, gate) = (ScriptedSource::start().await, Gate::closed());
    source.always("/", Reply::ok("").cache_control("no-store").after(Step::Wait(gate.clone())));
    let gateway = gateway(&source, "").await;
    let (mut from, mut to) = open(&gateway, &[]).await;
    until(&mut from, "the gateway's own settings", |frame| frame.kind == SETTINGS).await;
    to.write_all(&frame(SETTINGS, 1, 0, &[])).await.unwrap();
    let streams: Vec<u32> = (0..101).map(|number| 2 * number + 1).collect();
    to.write_all(&streams.iter().flat_map(|stream| get(*stream)).collect::<Vec<_>>()).await.unwrap();
    let refused = until(&mut from, "a refusal", |frame| frame.kind == RST_STREAM).await;
    assert_eq!((refused.stream, refused.code()), (201, REFUSED_STREAM));
    gate.open();
    let mut answered = 0;
    while answered < 100 {
        until(&mut from, "an answer", |frame| frame.kind == HEADERS).await;
        answered += 1;
    }
}

/// CVE-2023-44487.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_rapid_resets_end_the_connection() {
    let source = ScriptedSource::start().await;
    source.always("/", Reply::ok("").cache_control("no-store"));
    let gateway = gateway(&source, "").await;
    let (mut from, mut to) = open(&gateway, &[]).await;
    let cancel = 8_u32.to_be_bytes();
    let flood: Vec<u8> = (0..5000)
        .flat_map(|number| {
            let stream = 2 * number + 1;
            [get(stream), frame(RST_STREAM, 0, stream, &cancel)].concat()
        })
        .collect();
    // It is cut on its way.
    drop(to.write_all(&flood).await);
    let end = until(&mut from, "the end", |frame| frame.kind == GOAWAY).await;
    assert_eq!(end.code(), ENHANCE_YOUR_CALM);
    assert!(source.requests.all().len() < 1000, "{}", source.requests.all().len());
    assert_served(&gateway).await;
}

/// A head that never ends is not gathered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_a_flood_of_continuations_ends_the_connection() {
    let source = ScriptedSource::start().await;
    source.always("/", Reply::ok("").cache_control("no-store"));
    let gateway = gateway(&source, "").await;
    for piece in [vec![], field(b"x", &[b'y'; 1000])] {
        let (mut from, mut to) = open(&gateway, &[]).await;
        to.write_all(&frame(HEADERS, 0, 1, GET)).await.unwrap();
        let flood = frame(CONTINUATION, 0, 1, &piece).repeat(100);
        let (mut sent, mut ended) = (0, None);
        while ended.is_none() && sent < 64 << 20 {
            sent += flood.len();
            if to.write_all(&flood).await.is_err() {
                ended = Some(sent);
            }
        }
        let ended = ended.expect("the connection ends");
        let mut last = None;
        while let Some(frame) = within("the end", next(&mut from)).await {
            last = Some(frame).filter(|frame| frame.kind == GOAWAY).or(last);
        }
        // A reset may swallow what was said last.
        assert!(last.is_none_or(|last| last.code() == ENHANCE_YOUR_CALM), "after {ended} bytes");
    }
    assert_eq!(source.requests.all().len(), 0);
    assert_served(&gateway).await;
}

/// RFC 9113 10.5.1: 431, and the connection goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_over_the_bound_is_431_and_the_next_request_is_served() {
    let source = ScriptedSource::start().await;
    source.always("/", Reply::ok("").cache_control("no-store"));
    let gateway = gateway(&source, "head = \"4KiB\"\n").await;
    let (mut from, mut to) = open(&gateway, &[]).await;
    // `:status: 431` is a literal behind an index, or the whole is; 200 has one of its own (0x88).
    for (stream, bytes, is_good) in [(1, 5_000, false), (3, 1000, true), (5, 12_000, false), (7, 10, true)] {
        let head = [GET, &field(b"x", &b"y".repeat(bytes))].concat();
        to.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &head)).await.unwrap();
        let answer = until(&mut from, "an answer", |frame| frame.kind == HEADERS).await;
        assert_eq!((answer.stream, answer.payload[0] == 0x88), (stream, is_good), "{bytes}");
    }
    assert_eq!(source.requests.all().len(), 2);
}

/// Frames that ask for nothing keep no connection open, and answers to them are not heaped up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_frames_without_requests_keep_no_connection() {
    let source = ScriptedSource::start().await;
    source.always("/", Reply::ok("").cache_control("no-store"));
    let gateway = gateway(&source, "header_timeout = \"1s\"\nidle_timeout = \"1s\"\n").await;
    let before = gateway.resident_bytes();
    let floods = [
        frame(PING, 0, 0, &[0; 8]),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]),
        frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
    ];
    let flood = async |flood: &Vec<u8>, reads: Reads| {
        let (mut from, to) = open(&gateway, &[]).await;
        let reading = async { while reads == Reads::All && next(&mut from).await.is_some() {} };
        tokio::join!(send_without_end(to, flood.repeat(100)), reading);
    };
    for frames in &floods {
        within("who reads what comes back is idle", flood(frames, Reads::All)).await;
    }
    // Who does not is a slow reader.
    let unread = floods.iter().take(2).map(|frames| flood(frames, Reads::Nothing));
    within_time(CUT_WITHIN, "the cut", futures_util::future::join_all(unread)).await;
    eventually("all are gone", async || gateway.metric("tidegate_connections").await == 0).await;
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more than before");
    assert_served(&gateway).await;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    All,
    Nothing,
}

/// Until the other side has had enough.
async fn send_without_end(mut to: OwnedWriteHalf, flood: Vec<u8>) {
    while to.write_all(&flood).await.is_ok() {}
}

/// A reader that takes a little now and then is under the least rate all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_under_the_least_rate_is_cut() {
    let source = ScriptedSource::start().await;
    source.always("/", Reply::ok(vec![b'x'; 4 << 20]).cache_control("max-age=60"));
    let gateway = gateway(&source, "body_rate = \"100KiB\"\n").await;
    // A window of 1000 bytes for each stream.
    let (mut from, mut to) = open(&gateway, &[0, 4, 0, 0, 3, 232]).await;
    to.write_all(&get(1)).await.unwrap();
    let taken = async {
        let (mut taken, grant) = (0, frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]));
        while let Some(frame) = next(&mut from).await {
            if frame.kind == DATA {
                taken += frame.payload.len();
                // One byte more for each that came.
                drop(to.write_all(&grant).await);
            }
        }
        taken
    };
    let taken = within_time(CUT_WITHIN, "the cut", taken).await;
    assert!((1000..4 << 20).contains(&taken), "{taken}");
}

async fn assert_served(gateway: &Gateway) {
    assert_eq!(gateway.get("/").await.status, 200);
}

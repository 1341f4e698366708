//! What clients do to the content of their own requests tells nothing of the source.

use super::{becomes, gateway_of, metric, nothing_is_left};
use crate::support::wire::Wire;
use crate::support::{Gateway, Reply, ScriptedSource, within};
use tokio::net::TcpStream;

/// More than enough to open a breaker.
const MANY: usize = 8;

/// How a request's content ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Its client leaves, once the source is being sent it.
    Left,
    /// It is refused with this status.
    Refused(u16),
}

async fn begun(gateway: &Gateway, head: &str, content: &str) -> Wire {
    let mut wire = Wire::new(TcpStream::connect(gateway.public).await.expect("a connection"));
    let text = format!("{head}\r\nHost: a\r\n{content}");
    wire.write(text.as_bytes()).await.expect("it is taken");
    wire
}

async fn status(wire: &mut Wire) -> u16 {
    let head = within("an answer", wire.head()).await.expect("a connection");
    let (start, _) = head.expect("a head");
    start.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status")
}

/// The source is not blamed, and still asked.
async fn is_well(gateway: &Gateway, what: &str) {
    for name in ["tidegate_source_failures_total", "tidegate_source_breaker_state"] {
        assert!(metric(gateway, name, &[]).await < 0.5, "{what}: {name}");
    }
    assert_eq!(gateway.get("/well").await.status, 200, "{what}");
    nothing_is_left(gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_breaks_off_opens_no_breaker() {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::ok("good"));
    let half = format!("Content-Length: 1000\r\n\r\n{}", "x".repeat(500));
    let chunks = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let foul = format!("{chunks}zz\r\n");
    let large = format!("Transfer-Encoding: chunked\r\n\r\n800\r\n{}\r\n", "x".repeat(2048));
    for (what, head, content, end, reason) in [
        ("half a POST", "POST /a HTTP/1.1", half.as_str(), End::Left, ""),
        ("half a GET", "GET /a HTTP/1.1", &half, End::Left, ""),
        ("some chunks", "PUT /a HTTP/1.1", chunks, End::Left, ""),
        ("no chunk", "PUT /a HTTP/1.1", &foul, End::Refused(400), "broken"),
        ("too much", "PUT /a HTTP/1.1", &large, End::Refused(413), "too-large"),
    ] {
        let gateway = gateway_of(&[&source.url()], "", "body = \"1KiB\"\n").await;
        for _ in 0..MANY {
            let mut wire = begun(&gateway, head, content).await;
            match end {
                End::Left => {
                    becomes(&gateway, "tidegate_source_in_flight", &[], 1.0).await;
                    wire.reset();
                }
                End::Refused(expected) => assert_eq!(status(&mut wire).await, expected, "{what}"),
            }
            becomes(&gateway, "tidegate_source_in_flight", &[], 0.0).await;
        }
        is_well(&gateway, what).await;
        if let End::Refused(_) = end {
            let refused = metric(&gateway, "tidegate_content_refused_total", &[reason]).await;
            assert!((refused - 8.0).abs() < 0.5, "{what}: {refused}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stands_still_makes_no_source_silent() {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::ok("good"));
    let gateway = gateway_of(&[&source.url()], "timeout = \"1s\"", "").await;
    for head in ["POST /a HTTP/1.1", "GET /a HTTP/1.1"] {
        let mut standing = Vec::new();
        for _ in 0..MANY {
            standing.push(begun(&gateway, head, "Content-Length: 10\r\n\r\nhello").await);
        }
        for wire in &mut standing {
            assert_eq!(status(wire).await, 504, "{head}");
        }
        drop(standing);
        is_well(&gateway, head).await;
    }
}

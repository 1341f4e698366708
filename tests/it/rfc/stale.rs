//! RFC 9111 4.2.4 serving stale; RFC 5861.

use super::{Row, get, play, row};
use crate::support::{Reply, Step};

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

//! W3C Trace Context through a gateway: one trace shows the client's write and its deliveries.

use crate::support::{
    Ask, Delivery, EVERYTHING, Received, RecordingDestination, Reply, SYNC, ScriptedSource, Setup,
    eventually, gateway_for, obliging_source, synced,
};
use std::collections::BTreeSet;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn traced(ask: Ask) -> Ask {
    ask.field("traceparent", &format!("00-{TRACE}-{SPAN}-01")).field("tracestate", "vendor=1")
}

/// The span of a request that belongs to the trace.
#[track_caller]
fn span(request: &Received) -> String {
    let parent = request.fields.get("traceparent").expect("a traceparent");
    let parts: Vec<&str> = parent.split('-').collect();
    assert_eq!((parts[0], parts[1], parts[3]), ("00", TRACE, "01"), "{parent}");
    assert_eq!(request.fields.get("tracestate"), Some("vendor=1"));
    parts[2].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_goes_on_to_the_source() {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::ok("x").field("Cache-Control", "max-age=60"));
    let gateway = gateway_for(&source, "").await;
    gateway.send(traced(Ask::get("/read"))).await;
    gateway.send(traced(Ask::put("/written", "x"))).await;
    gateway.get("/untraced").await;
    gateway.send(Ask::get("/odd").field("traceparent", "nonsense").field("tracestate", "a=1")).await;
    let received = source.requests.all();
    let spans: BTreeSet<String> = received[..2].iter().map(span).chain([SPAN.to_owned()]).collect();
    assert_eq!(spans.len(), 3, "each forward is a span of its own");
    for request in &received[2..] {
        assert_eq!(request.fields.get("traceparent"), None, "none is made, and none is guessed");
        assert_eq!(request.fields.get("tracestate"), None);
    }
    // A hit asks nobody, and the field splits nothing.
    gateway.send(Ask::get("/read")).await;
    assert_eq!(source.count("/read"), 1);
}

/// A retry, and a delivery after the gateway was killed, are of the trace as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_keeps_its_trace_over_retries_and_restarts() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    destination.answer(|delivery: &Delivery| Reply::new(if delivery.attempt < 3 { 503 } else { 200 }, ""));
    let setup = Setup::new(format!("{}{}{EVERYTHING}{SYNC}", source.table(), destination.table("search")));
    let gateway = setup.start().await;
    gateway.send(traced(Ask::put("/items/1", "new"))).await;
    destination.wait_for(1).await;
    gateway.kill().await;
    let gateway = setup.start().await;
    let all = destination.wait_for_body("new").await;
    assert!(all.len() >= 3, "{}", all.len());
    let own = span(&source.received("/items/1")[0]);
    let spans: BTreeSet<String> = all.iter().map(|one| span(&one.request)).chain([own]).collect();
    assert_eq!(spans.len(), all.len() + 1, "each attempt is a span of its own");
    gateway.put("/items/2", "untraced").await;
    let untraced = destination.wait_for_body("untraced").await.pop().expect("one");
    assert_eq!(untraced.request.fields.get("traceparent"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_format_and_accepted_writes_carry_the_trace() {
    for format in ["state", "cloudevents"] {
        let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
        let table = format!("{}format = \"{format}\"\n", destination.table("search"));
        let mode = "[route.sync]\ndestinations = [\"search\"]\nmode = \"accept\"\n";
        let gateway = Setup::new(format!("{}{table}{EVERYTHING}{mode}", source.table())).start().await;
        let accepted = gateway.send(traced(Ask::put("/items/1", "new"))).await;
        assert_eq!(accepted.status, 202);
        let delivered = destination.wait_for(1).await;
        span(&delivered[0].request);
        eventually("the source has it", async || source.count("/items/1") > 0).await;
        span(source.received("/items/1").iter().find(|request| request.method == "PUT").expect("the write"));
    }
}

/// What a destination's configuration says of the fields wins, and a source's answer has no say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_source_answers_is_no_trace() {
    let (source, destination) = (ScriptedSource::start().await, RecordingDestination::start().await);
    source.always("*", Reply::ok("x").field("traceparent", &format!("00-{TRACE}-{SPAN}-01")));
    let gateway = synced(&source, &destination).await;
    gateway.put("/items/1", "new").await;
    let delivered = destination.wait_for(1).await;
    assert_eq!(delivered[0].request.fields.get("traceparent"), None);
}

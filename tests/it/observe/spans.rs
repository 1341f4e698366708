//! Spans at a small collector: one trace shows the client's write, the forward, and later its deliveries.

use crate::support::tls::{Authority, terminating, write};
use crate::support::{
    Ask, Delivery, EVERYTHING, RecordingDestination, Reply, SYNC, ScriptedSource, Setup, eventually,
    obliging_source,
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// A span as the collector got it.
#[derive(Clone, Debug)]
struct Got {
    service: String,
    trace: String,
    id: String,
    parent: String,
    name: String,
    kind: i32,
    is_error: bool,
    attributes: Vec<(String, String)>,
    from: u64,
    to: u64,
}

impl Got {
    fn attribute(&self, name: &str) -> &str {
        self.attributes.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn texts(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let text = |value: &KeyValue| match value.value.clone().expect("a value").value.expect("a value") {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|one| (one.key.clone(), text(one))).collect()
}

/// Everything that the collector has got.
fn spans(collector: &ScriptedSource) -> Vec<Got> {
    let mut got = Vec::new();
    for request in collector.received("/v1/traces") {
        assert_eq!(request.method, "POST");
        assert_eq!(request.fields.get("content-type"), Some("application/x-protobuf"));
        let sent = ExportTraceServiceRequest::decode(request.body.as_slice()).expect("protobuf");
        for of_resource in sent.resource_spans {
            let resource = texts(&of_resource.resource.expect("a resource").attributes);
            let service =
                resource.iter().find(|(key, _)| key == "service.name").expect("a service").1.clone();
            for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                got.push(Got {
                    service: service.clone(),
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    name: span.name,
                    kind: span.kind,
                    is_error: span.status.is_some_and(|status| status.code == i32::from(StatusCode::Error)),
                    attributes: texts(&span.attributes),
                    from: span.start_time_unix_nano,
                    to: span.end_time_unix_nano,
                });
            }
        }
    }
    got
}

async fn so_many(collector: &ScriptedSource, count: usize) -> Vec<Got> {
    eventually("the collector has the spans", async || spans(collector).len() >= count).await;
    let got = spans(collector);
    assert_eq!(got.len(), count, "{got:#?}");
    got
}

async fn collector() -> ScriptedSource {
    let collector = ScriptedSource::start().await;
    collector.on("*", |_| Reply::ok(""));
    collector
}

fn telemetry(collector: &ScriptedSource, more: &str) -> String {
    format!("[telemetry]\notlp = \"{}\"\n{more}", collector.url())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_shows_the_write_and_its_deliveries_also_after_a_restart() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let collector = collector().await;
    destination.answer(|delivery: &Delivery| Reply::new(if delivery.attempt < 2 { 503 } else { 200 }, ""));
    let more = "service = \"edge\"\nheaders = { authorization = \"Bearer canary\" }\none_in = 0\n";
    let tables = format!("{}{}{EVERYTHING}{SYNC}", source.table(), destination.table("search"));
    let setup = Setup::new(format!("{tables}{}", telemetry(&collector, more)));
    let gateway = setup.start().await;
    let write = Ask::put("/items/1?secret=canary", "new").field("authorization", "canary");
    let write = write.field("traceparent", &format!("00-{TRACE}-{SPAN}-01"));
    let written = gateway.send(write).await;
    let change = written.field("tidegate-change").to_owned();
    destination.wait_for(1).await;
    // What waits is sent before it stops; the rest of the deliveries is the next process's.
    gateway.terminate().await;
    let gateway = setup.start().await;
    destination.wait_for(2).await;
    let got = so_many(&collector, 4).await;

    let of = |name: &str| got.iter().filter(|span| span.name == name).cloned().collect::<Vec<_>>();
    let [server] = &of("PUT items")[..] else { panic!("{got:#?}") };
    let [forward] = &of("PUT inventory")[..] else { panic!("{got:#?}") };
    let deliveries = of("deliver search");
    assert_eq!(deliveries.len(), 2, "{got:#?}");
    for span in &got {
        assert_eq!((span.trace.as_str(), span.service.as_str()), (TRACE, "edge"));
        assert!(span.from > 1_600_000_000_000_000_000 && span.to >= span.from, "{span:?}");
        assert!(!format!("{span:?}").contains("canary"), "nothing that may be a secret: {span:?}");
    }
    assert_eq!((server.parent.as_str(), server.kind), (SPAN, SpanKind::Server.into()));
    assert_eq!(
        (server.attribute("tidegate.change"), server.attribute("tidegate.route")),
        (&*change, "items")
    );
    for span in deliveries.iter().chain([forward]) {
        assert_eq!((&span.parent, span.kind), (&server.id, SpanKind::Client.into()), "{span:?}");
    }
    let told = |delivery: &Got| {
        let of = |name: &str| delivery.attribute(name).to_owned();
        (of("tidegate.attempt"), of("http.response.status_code"), of("tidegate.outcome"), delivery.is_error)
    };
    assert_eq!(told(&deliveries[0]), ("1".to_owned(), "503".to_owned(), "retry".to_owned(), true));
    assert_eq!(told(&deliveries[1]), ("2".to_owned(), "200".to_owned(), "delivered".to_owned(), false));
    assert!(deliveries.iter().all(|delivery| delivery.attribute("tidegate.change") == change));
    // What others were sent names these spans.
    let sent = |request: &crate::support::Received| request.fields.get("traceparent").map(str::to_owned);
    let parent = |span: &Got| Some(format!("00-{TRACE}-{}-01", span.id));
    assert_eq!(sent(&source.received("/items/1")[0]), parent(forward));
    assert_eq!(sent(&destination.wait_for(2).await[1].request), parent(&deliveries[1]));
    let asked = &collector.received("/v1/traces")[0];
    assert_eq!(asked.fields.get("authorization"), Some("Bearer canary"), "the operator's fields are sent");
    assert!(!gateway.admin_get("/v1/config").await.text().contains("canary"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_begins_here_by_the_rule_and_what_is_not_sampled_is_left_alone() {
    let (source, collector) = (ScriptedSource::start().await, collector().await);
    source.always("*", Reply::ok("x").field("Cache-Control", "max-age=60"));
    let text = |one_in| {
        let more = format!("one_in = {one_in}\n");
        format!("{}{EVERYTHING}{}", source.table(), telemetry(&collector, &more))
    };
    let setup = Setup::new(text(0));
    let gateway = setup.start().await;
    let unsampled = format!("00-{TRACE}-{SPAN}-00");
    gateway.send(Ask::get("/unsampled").field("traceparent", &unsampled)).await;
    gateway.get("/untraced").await;
    // A reload changes the rule.
    let setup = setup.rest(text(1));
    setup.write();
    let reloaded = gateway.admin_post("/v1/reload", &serde_json::json!({})).await;
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    gateway.send(Ask::get("/still-unsampled").field("traceparent", &unsampled)).await;
    gateway.get("/begun").await;
    gateway.get("/begun").await;
    let got = so_many(&collector, 3).await;
    let roots: Vec<&Got> = got.iter().filter(|span| span.parent.is_empty()).collect();
    assert_eq!(roots.len(), 2, "{got:#?}");
    let caches: Vec<&str> = roots.iter().map(|span| span.attribute("tidegate.cache_status")).collect();
    assert_eq!(caches, ["uri-miss", "hit"]);
    let forward = got.iter().find(|span| span.name == "GET inventory").expect("a forward");
    assert_eq!((&forward.trace, &forward.parent), (&roots[0].trace, &roots[0].id));
    let sent = |path: &str| source.received(path)[0].fields.get("traceparent").map(str::to_owned);
    assert_eq!(sent("/untraced"), None, "a decision not to record is nobody else's");
    for path in ["/unsampled", "/still-unsampled"] {
        assert!(sent(path).expect("goes on").ends_with("-00"), "{path}");
    }
    assert_eq!(sent("/begun"), Some(format!("00-{}-{}-01", forward.trace, forward.id)));
}

/// A collector behind TLS is known by the operator's own authority, or sent nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_is_verified_by_its_own_authority() {
    let (source, collector, authority) =
        (obliging_source().await, collector().await, Authority::new("collectors"));
    let shown = authority.issue(&["localhost"]).server(None);
    let relay =
        terminating(shown, collector.url().trim_start_matches("http://").parse().expect("an address")).await;
    let table = format!(
        "[telemetry]\notlp = \"https://localhost:{}\"\nca = \"ca.pem\"\none_in = 1\n",
        relay.address.port()
    );
    let setup = Setup::new(format!("{}{EVERYTHING}{table}", source.table()));
    write(setup.folder(), "ca.pem", &Authority::new("others").pem());
    let gateway = setup.start().await;
    gateway.get("/items/1").await;
    eventually("it is not trusted", async || gateway.log_text().contains("spans cannot be sent")).await;
    assert!(collector.requests.all().is_empty(), "it was sent nothing");
    gateway.terminate().await;
    write(setup.folder(), "ca.pem", &authority.pem());
    let gateway = setup.start().await;
    gateway.get("/items/1").await;
    so_many(&collector, 2).await;
}

/// A collector that takes nothing costs spans and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_collector_the_gateway_serves_on() {
    let source = obliging_source().await;
    let nobody = ScriptedSource::start().await;
    let table = telemetry(&nobody, "one_in = 1\n");
    nobody.on("*", |_| Reply::new(400, ""));
    let gateway = Setup::new(format!("{}{EVERYTHING}{table}", source.table())).start().await;
    for number in 0..20 {
        assert_eq!(gateway.get(&format!("/items/{number}")).await.status, 200);
    }
    let refused = "tidegate_spans_dropped_total{reason=\"refused\"}";
    eventually("they are counted", async || gateway.metric(refused).await == 40).await;
    let told = async || gateway.log_text().matches("spans cannot be sent").count();
    eventually("it is told", async || told().await > 0).await;
    assert_eq!(told().await, 1, "once");
}

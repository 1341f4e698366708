use super::*;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::net::TcpListener;

fn settings(endpoint: &str) -> Settings {
    Settings {
        endpoint: endpoint.parse().unwrap(),
        tls: None,
        headers: Vec::new(),
        one_in: 3,
        service: "tidegate".to_owned(),
    }
}

fn place() -> Place {
    Place { trace: 7, span: 8, parent: None }
}

/// A collector that answers with these statuses, the last one for ever, and tells what it got.
async fn collector(statuses: &'static [u16]) -> (String, mpsc::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (told, got) = mpsc::channel(64);
    tokio::spawn(async move {
        let answered = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (told, answered) = (told.clone(), Arc::clone(&answered));
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (told, answered) = (told.clone(), Arc::clone(&answered));
                async move {
                    let content = request.into_body().collect().await?.to_bytes();
                    let sent = ExportTraceServiceRequest::decode(content).unwrap();
                    told.send(sent.resource_spans[0].scope_spans[0].spans.len()).await.unwrap();
                    let at = answered.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let mut response = http::Response::new(Full::new(bytes::Bytes::new()));
                    let status = statuses[at.min(statuses.len() - 1)];
                    *response.status_mut() = StatusCode::from_u16(status).unwrap();
                    Ok::<_, hyper::Error>(response)
                }
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    (endpoint, got)
}

#[tokio::test]
async fn one_in_so_many_begins_a_trace() {
    for (one_in, drawn, begins) in [(0, 0, false), (1, 7, true), (3, 6, true), (3, 7, false)] {
        let settings = Settings { one_in, ..settings("http://127.0.0.1:9/v1/traces") };
        let recorder = Recorder::start(&settings, Clock::system());
        assert_eq!(recorder.begins(drawn), begins, "{one_in} {drawn}");
    }
}

/// A full queue drops spans and counts them; nothing waits.
#[tokio::test]
async fn i10_beyond_the_queue_spans_are_dropped_and_counted() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let spans = ::metrics::with_local_recorder(&recorder, || {
        Recorder::start(&settings("http://127.0.0.1:9/v1/traces"), Clock::system())
    });
    // What sends has not had its turn yet.
    for _ in 0..QUEUE_SPANS + 3 {
        drop(Recorder::open(&spans, place(), Side::Client, "GET inventory".to_owned()));
    }
    let text = recorder.handle().render();
    assert!(text.contains("tidegate_spans_dropped_total{reason=\"queue-full\"} 3"), "{text}");
}

/// Passing trouble is waited out within a bound, lasting trouble is not sent again; both are counted.
#[tokio::test]
async fn i10_trouble_with_the_collector_is_bounded_and_counted() {
    let cases = [
        (&[200][..], 1, 2, 0, 0),
        (&[503, 429, 200], 3, 2, 0, 0),
        (&[503], 3, 0, 0, 2),
        (&[400], 1, 0, 2, 0),
    ];
    let cases = cases.map(async |(statuses, requests, sent, refused, unreachable)| {
        let (endpoint, mut got) = collector(statuses).await;
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let (spans, exporter) = ::metrics::with_local_recorder(&recorder, || {
            let settings = settings(&endpoint);
            (Recorder::start(&settings, Clock::system()), otlp::Exporter::new(&settings))
        });
        let (queue, waiting) = mpsc::channel(2);
        for _ in 0..2 {
            let mut span = Recorder::open(&spans, place(), Side::Client, "GET inventory".to_owned());
            span.answered(200);
            queue.send(span.0.ended.take().unwrap()).await.unwrap();
        }
        drop(queue);
        exporter.run(waiting, CancellationToken::new()).await;
        let mut received = Vec::new();
        while let Ok(count) = got.try_recv() {
            received.push(count);
        }
        assert_eq!(received, vec![2; requests], "{statuses:?}");
        let text = recorder.handle().render();
        for (name, count) in [
            ("tidegate_spans_sent_total", sent),
            ("tidegate_spans_dropped_total{reason=\"refused\"}", refused),
            ("tidegate_spans_dropped_total{reason=\"unreachable\"}", unreachable),
        ] {
            assert!(text.contains(&format!("{name} {count}\n")), "{statuses:?} {name}\n{text}");
        }
    });
    futures_util::future::join_all(cases).await;
}

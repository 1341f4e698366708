use super::*;
use crate::secret::Endpoint;
use std::time::Duration;
use tokio::net::TcpListener;

/// A source that takes one request at a time, and gives an answer ten seconds.
fn source(url: &str) -> Arc<Source> {
    let settings = Settings {
        name: "s".into(),
        urls: vec![Endpoint::new(url::Url::parse(url).unwrap())],
        connect_timeout: Duration::from_secs(1),
        timeout: Duration::from_secs(10),
        body_idle: Duration::from_mins(1),
        concurrency: 1,
        concurrency_mode: ConcurrencyMode::Fixed,
        idle_timeout: Duration::from_secs(4),
        host: HostSent::Client,
        headers: Vec::new(),
        tls: crate::tls::ClientTls::default(),
        health: None,
    };
    Source::new(settings, Clock::system())
}

fn request(source: &Source, path: &str) -> Request<RequestBody> {
    let mut request = Request::new(empty());
    *request.uri_mut() = source.uri(path).unwrap();
    request
}

/// The queue and the answer share one deadline; whatever ends a request, its place is free again.
#[tokio::test(start_paused = true)]
async fn one_deadline_covers_the_wait_for_a_place_and_for_the_head() {
    // Connections stand, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = source(&format!("http://{}", silent.local_addr().unwrap()));
    let began = Instant::now();
    let first = async {
        let outcome = source.send(request(&source, "/first"), None).await;
        (outcome.err(), began.elapsed().as_secs())
    };
    let second = async {
        tokio::time::sleep_until(began + Duration::from_secs(4)).await;
        let outcome = source.send(request(&source, "/second"), None).await;
        (outcome.err(), began.elapsed().as_secs())
    };
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(first, (Some(SourceError::Timeout), 10)), "{first:?}");
    assert!(matches!(second, (Some(SourceError::Timeout), 14)), "four seconds were left: {second:?}");
    assert_eq!(source.places.active(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_leaves_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source = source(&format!("http://{}", silent.local_addr().unwrap()));
    for _ in 0..3 {
        let sent = source.send(request(&source, "/a"), None);
        assert!(tokio::time::timeout(Duration::from_secs(1), sent).await.is_err());
        assert_eq!(source.places.active(), 0);
        assert!(source.addresses.list().iter().all(|address| address.in_flight() == 0));
    }
}

/// Whether anybody waits to the end is no matter: a source is silent when it has had half of its time, unless
/// others have had answers meanwhile. That clients have less patience opens no breaker.
#[tokio::test(start_paused = true)]
async fn a_source_that_nobody_waits_for_to_the_end_is_silent_all_the_same() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (waits, answers, refused) in
        [(1001, 0, false), (4999, 0, false), (5001, 0, true), (5001, 1, false), (9999, 0, true)]
    {
        let source = source(&format!("http://{}", silent.local_addr().unwrap()));
        for _ in 0..5 {
            let request = request(&source, "/a");
            let sent = source.send(request, None);
            tokio::pin!(sent);
            assert!(futures_util::poll!(&mut sent).is_pending());
            (0..answers).for_each(|_| source.addresses.list()[0].has_answered());
            assert!(tokio::time::timeout(Duration::from_millis(waits), sent).await.is_err());
        }
        let refusal = source.addresses.refusal();
        assert_eq!(refusal, refused.then_some(Outage::Silent), "{waits} ms, {answers} answers");
    }
}

/// Who leaves in the middle of what they send has never waited for the source.
#[tokio::test(start_paused = true)]
async fn who_stands_still_while_sending_says_nothing_of_the_source() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (what, then, refused) in [
        ("all is sent", Upload::report as fn(&Upload), true),
        ("more is awaited", Upload::waits, false),
        ("no more comes", Upload::breaks, false),
    ] {
        for waits in [Duration::from_secs(6), Duration::from_secs(30)] {
            let source = source(&format!("http://{}", silent.local_addr().unwrap()));
            for _ in 0..5 {
                let upload = Upload::default();
                upload.report();
                then(&upload);
                let sent = source.send(request(&source, "/a"), Some(&upload));
                drop(tokio::time::timeout(waits, sent).await);
            }
            assert_eq!(source.addresses.refusal().is_some(), refused, "{what}, {waits:?}");
        }
    }
}

#[test]
fn what_the_source_names_is_without_the_base_path_that_fits_best() {
    let settings = Settings {
        urls: ["http://a/v1", "https://b/v1/x/", "http://c"]
            .map(|url| Endpoint::new(url::Url::parse(url).unwrap()))
            .into(),
        ..source("http://unused").settings().clone()
    };
    let source = Source::new(settings, Clock::system());
    for (named, path) in [
        ("/v1/items", "/items"),
        ("/v1/x/items", "/items"),
        ("/v1/xy", "/xy"),
        ("/v2/items", "/v2/items"),
        ("/v1", "/"),
    ] {
        let target = Target::parse_absolute(&format!("http://h{named}")).unwrap();
        assert_eq!(source.without_base(target).path(), path, "{named}");
    }
    let authorities: Vec<_> = source.authorities().collect();
    assert_eq!(authorities[1], (Scheme::Https, "b".into()));
}

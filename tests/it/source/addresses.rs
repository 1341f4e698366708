//! Several addresses of one source.

use super::{NOBODY, asked, becomes, gateway_of, metric, nothing_is_left};
use crate::support::{Ask, Gate, Reply, ScriptedSource, Step};
use futures_util::future::join_all;

async fn obliging() -> ScriptedSource {
    let source = ScriptedSource::start().await;
    source.on("*", |request| Reply::ok(format!("{} {}", request.target, request.text())));
    source
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_address_is_asked_and_its_base_path_is_kept_in_front() {
    let sources = [obliging().await, obliging().await, obliging().await];
    let urls = [sources[0].url(), format!("{}/v2", sources[1].url()), format!("{}/v3/", sources[2].url())];
    let gateway = gateway_of(&[&urls[0], &urls[1], &urls[2]], "host = \"source\"", "").await;
    for number in 0..60 {
        let path = format!("/items/{number}?a=b%2Fc");
        let text = gateway.get(&path).await.text();
        let bases = ["", "/v2", "/v3"];
        assert!(bases.iter().any(|base| text == format!("{base}{path} ")), "{text}");
    }
    for (source, base) in sources.iter().zip(["/items/", "/v2/items/", "/v3/items/"]) {
        let all = source.requests.all();
        assert!(all.len() > 3, "{base} was asked {} times of 60", all.len());
        for request in all {
            assert!(request.target.starts_with(base), "{request:?}");
            let host = request.fields.get("Host").expect("a Host");
            assert_eq!(format!("http://{host}"), source.url(), "the Host is that of the address");
        }
    }
    nothing_is_left(&gateway).await;
}

/// Of two addresses the one with fewer requests under way is asked; the body of an answer counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_less_busy_address_is_asked() {
    let (slow, quick, gate) = (ScriptedSource::start().await, obliging().await, Gate::closed());
    let body = vec![Step::Bytes(b"slow".to_vec()), Step::Wait(gate.clone())];
    slow.always("*", Reply::chunks(body).cache_control("no-store"));
    let gateway = gateway_of(&[&slow.url(), &quick.url()], "", "").await;
    let mut held = Vec::new();
    while slow.requests.all().is_empty() {
        let opened = Ask::get(&format!("/{}", held.len())).open(gateway.public).await.expect("a head");
        held.push(opened);
    }
    for number in 0..30 {
        assert_eq!(gateway.get(&format!("/more/{number}")).await.status, 200);
    }
    assert_eq!(asked(&[&slow]), [1], "the other one has nothing to do");
    gate.open();
    drop(held);
    nothing_is_left(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_address_costs_nobody_an_answer_and_is_ejected() {
    let source = obliging().await;
    let gateway = gateway_of(&[NOBODY, &source.url()], "", "").await;
    for number in 0..60 {
        // Content that nobody has read of goes with it, whatever the method.
        let answer = match number % 3 {
            0 => gateway.get(&format!("/{number}")).await,
            1 => gateway.send(Ask::post(&format!("/{number}"), "content")).await,
            _ => gateway.send(Ask::post(&format!("/{number}"), "content").chunked()).await,
        };
        let content = if number % 3 == 0 { "" } else { "content" };
        assert_eq!((answer.status, answer.text()), (200, format!("/{number} {content}")));
    }
    assert_eq!(asked(&[&source]), [60]);
    let dead = format!("address=\"{NOBODY}\"");
    becomes(&gateway, "tidegate_source_ejected", &[&dead], 1.0).await;
    becomes(&gateway, "tidegate_source_failures_total", &[&dead], 5.0).await;
    becomes(&gateway, "tidegate_source_ejected", &[], 1.0).await;
    becomes(&gateway, "tidegate_source_breaker_state", &[], 0.0).await;
    nothing_is_left(&gateway).await;
}

/// The head of each that it got is overdue after a second, long before its time is over: a second forward goes
/// to the other one, and in place of the failure there is a request that nobody waits for any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_silent_is_ejected_though_others_answer_in_its_place() {
    let (silent, good) = (ScriptedSource::start().await, ScriptedSource::start().await);
    silent.always("*", Reply::none(Step::Wait(Gate::closed())));
    good.on("*", |_| Reply::ok("good").cache_control("max-age=60"));
    let gateway = gateway_of(&[&silent.url(), &good.url()], "timeout = \"50s\"", "").await;
    let asks = (0..80).map(|turn| Ask::get(&format!("/{}", turn / 2)));
    let answers = join_all(asks.map(|ask| gateway.send(ask))).await;
    assert!(answers.iter().all(|answer| answer.text() == "good"));
    let silents = asked(&[&silent])[0];
    assert!(silents >= 5, "{silents} of 40 were sent to the silent one");
    let second = asked(&[&good])[0] + silents - 40;
    assert_eq!(second, silents, "each of those once more, to the other one");
    let address = format!("address=\"{}\"", silent.url());
    becomes(&gateway, "tidegate_source_ejected", &[&address], 1.0).await;
    for number in 100..120 {
        assert_eq!(gateway.get(&format!("/{number}")).await.text(), "good");
    }
    assert_eq!(asked(&[&silent])[0], silents, "nobody asks what is out");
    nothing_is_left(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_answers_that_it_cannot_is_ejected_but_the_last_one_is_not() {
    let no_http = || Reply::none(Step::Bytes(b"no HTTP\r\n\r\n".to_vec())).after(Step::Cut);
    for (answer, alone) in [(Reply::new(503, "bad"), 503), (no_http(), 502)] {
        let (bad, good) = (ScriptedSource::start().await, obliging().await);
        bad.always("*", answer);
        let gateway = gateway_of(&[&bad.url(), &good.url()], "", "").await;
        let mut failed = 0;
        for number in 0..60 {
            failed += usize::from(gateway.get(&format!("/{number}")).await.status != 200);
        }
        assert_eq!((failed, bad.requests.all().len()), (5, 5), "then it is out");
        drop(good);
        let gateway = gateway_of(&[&bad.url()], "", "").await;
        for number in 0..20 {
            assert_eq!(gateway.get(&format!("/{number}")).await.status, alone, "the last one stays");
        }
        assert!(metric(&gateway, "tidegate_source_ejected", &[]).await < 0.5);
        nothing_is_left(&gateway).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_an_address_may_have_acted_on_is_sent_nowhere_else() {
    let (bad, good) = (ScriptedSource::start().await, obliging().await);
    bad.always("*", Reply::none(Step::Reset));
    let gateway = gateway_of(&[&bad.url(), &good.url()], "", "").await;
    for number in 0..40 {
        let path = format!("/{number}");
        let answer = gateway.put(&path, "content").await;
        let times = bad.count(&path) + good.count(&path);
        assert_eq!(times, 1, "{answer:?}");
        assert_eq!(answer.status == 502, bad.count(&path) == 1, "{answer:?}");
    }
    assert_eq!(asked(&[&bad]), [5], "and then it is out");
    nothing_is_left(&gateway).await;
}

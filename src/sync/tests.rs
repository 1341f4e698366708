//! The engine against real files, real destinations and a scripted source.

mod accept;
mod crash;
mod damage;
mod keys;

use super::journal::record::{Record, Verdict};
use super::journal::sqlite::Forgetting;
use super::*;
use crate::clock::Clock;
use crate::secret::{Endpoint, Secret};
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// Nothing in these tests takes longer.
const DEADLINE: Duration = Duration::from_mins(1);

/// Done before it is answered.
const WAITED: Pacing = Pacing { rate: None, answer: Answer::AtEnd };

#[derive(Clone, Debug)]
struct Got {
    method: Method,
    target: String,
    fields: HeaderMap,
    body: Bytes,
}

impl Got {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn sequence(&self) -> u64 {
        self.field("tidegate-sequence").parse().unwrap()
    }
}

type Script = dyn Fn(&Got, usize) -> Response + Send + Sync;

/// A destination that records what it gets and answers by a script.
#[derive(Clone)]
struct Destination {
    got: Arc<Mutex<Vec<Got>>>,
    count: watch::Sender<usize>,
    script: Arc<Script>,
    url: String,
}

impl Destination {
    async fn start(script: impl Fn(&Got, usize) -> Response + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let this = Self { got: Arc::default(), count: watch::Sender::new(0), script: Arc::new(script), url };
        let router = Router::new().fallback(Self::answer).with_state(this.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        this
    }

    async fn good() -> Self {
        Self::start(|_, _| StatusCode::NO_CONTENT.into_response()).await
    }

    async fn answer(State(this): State<Self>, request: Request<axum::body::Body>) -> Response {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let got = Got { method: parts.method, target: parts.uri.to_string(), fields: parts.headers, body };
        let number = {
            let mut all = this.got.lock().unwrap();
            all.push(got.clone());
            all.len()
        };
        let response = (this.script)(&got, number);
        this.count.send_replace(number);
        response
    }

    async fn wait_for(&self, count: usize) -> Vec<Got> {
        let mut changed = self.count.subscribe();
        let reached = tokio::time::timeout(DEADLINE, changed.wait_for(|number| *number >= count)).await;
        reached.unwrap_or_else(|_| panic!("{count} wanted, got {:?}", self.targets())).unwrap();
        self.got.lock().unwrap().clone()
    }

    fn targets(&self) -> Vec<String> {
        self.got.lock().unwrap().iter().map(|got| got.target.clone()).collect()
    }
}

fn destination(name: &str, url: &str) -> DestinationSettings {
    DestinationSettings {
        name: name.to_owned(),
        url: Endpoint::new(url::Url::parse(url).unwrap()),
        concurrency: 8,
        timeout: Duration::from_secs(5),
        on_failure: OnFailure::ParkKey,
        retry: RetrySettings {
            base: Duration::from_millis(100),
            cap: Duration::from_millis(200),
            give_up: Duration::from_hours(72),
            after_cap: Duration::from_hours(1),
            attempts: None,
        },
        breaker: BreakerSettings {
            failures: 10,
            open: Duration::from_millis(200),
            open_cap: Duration::from_millis(400),
        },
        backlog_bytes: None,
        start: Start::Now,
        format: Format::Replay,
        rate: None,
        secrets: Vec::new(),
        allow: Allow::Any,
        tls: crate::tls::ClientTls::default(),
        outcome: std::collections::BTreeMap::new(),
        headers: vec![(http::header::AUTHORIZATION, Secret::new("Bearer own".into()))],
    }
}

fn settings(data: &Path, destinations: Vec<DestinationSettings>) -> Settings {
    Settings {
        data: data.to_owned(),
        retention: Duration::from_hours(1),
        max_size_bytes: 1 << 30,
        destinations,
        removed: Removed::Drain,
        sources: Vec::new(),
        source_timeouts: vec![("source".into(), Duration::from_millis(100))],
    }
}

/// A source that answers reads from a list, and by its last entry from then on.
fn ports(states: Vec<SourceState>) -> (Ports, Arc<Mutex<Vec<String>>>) {
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let states = Arc::new(Mutex::new(VecDeque::from(states)));
    let (reads, fences) = (Arc::clone(&log), Arc::clone(&log));
    let ports = Ports {
        read_source: Box::new(move |request| {
            reads.lock().unwrap().push(format!("read {}", request.path_and_query));
            let mut states = states.lock().unwrap();
            let state = if states.len() > 1 { states.pop_front() } else { states.front().cloned() };
            Box::pin(async move { state.unwrap_or(SourceState::UNANSWERED) })
        }),
        write_source: Box::new(|_| Box::pin(async { SourceWritten::Held })),
        fence: Box::new(move |fenced| {
            fences.lock().unwrap().push(format!("fence {}", fenced.path_and_query));
            Box::pin(async { Hold::default() })
        }),
    };
    (ports, log)
}

async fn engine(data: &Path, destinations: Vec<DestinationSettings>) -> Arc<Engine> {
    Engine::start(settings(data, destinations), Clock::system(), ports(vec![]).0).await.unwrap()
}

fn draft(method: Method, target: &str, names: &[&str]) -> Draft {
    let mut fields = HeaderMap::new();
    for (name, value) in
        [("content-type", "text/plain"), ("authorization", "Bearer client"), ("cookie", "c=1")]
    {
        fields.insert(name, value.parse().unwrap());
    }
    Draft {
        route: "route".into(),
        source: "source".into(),
        key: DraftKey::Known(target.to_owned()),
        method,
        authority: "example.com".into(),
        client_path_and_query: format!("/api{target}"),
        path_and_query: target.to_owned(),
        fields,
        body: Bytes::from_static(b"hello"),
        destinations: names.iter().map(|name| (*name).to_owned()).collect(),
        claim: None,
    }
}

/// The entity tag that is known before a write.
fn etag() -> std::future::Ready<Option<String>> {
    std::future::ready(Some("\"1\"".into()))
}

async fn put(engine: &Arc<Engine>, target: &str, names: &[&str]) -> ChangeId {
    let intent = engine.begin(draft(Method::PUT, target, names), etag()).await.unwrap();
    let id = intent.id();
    intent.commit(None, None).await.unwrap();
    id
}

/// Waits until the engine's state satisfies a condition; the engine has no event for outsiders.
async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    let wait = async {
        while !condition().await {
            tick.tick().await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, wait).await.is_ok(), "{what}");
}

async fn until_settled(engine: &Arc<Engine>) {
    until("everything is settled", || async {
        let intents = ChangeFilter { state: Some(ChangeState::Intent), ..ChangeFilter::default() };
        if !engine.changes(intents).await.unwrap().is_empty() {
            return false;
        }
        let all = engine.destinations().await.unwrap();
        all.iter().all(|status| status.pending == 0 && status.in_flight == 0)
    })
    .await;
}

#[tokio::test]
async fn a_change_arrives_as_it_was_written() {
    let data = tempfile::tempdir().unwrap();
    let to = Destination::good().await;
    let engine = engine(data.path(), vec![destination("d", &format!("{}/base", to.url))]).await;
    let target = "/items/a%2Fb//c;d={x}?q=%zz&p='1'";
    let id = put(&engine, target, &["d"]).await;
    let got = to.wait_for(1).await.remove(0);
    assert_eq!((got.method.as_str(), got.target.as_str()), ("PUT", format!("/base{target}").as_str()));
    assert_eq!(got.body.as_ref(), b"hello");
    for (name, value) in [
        ("content-type", "text/plain"),
        ("authorization", "Bearer own"),
        ("cookie", ""),
        ("tidegate-change", &id.to_string()),
        ("idempotency-key", &format!("\"{id}\"")),
        ("tidegate-key", target),
        ("tidegate-attempt", "1"),
        ("tidegate-source", "source"),
    ] {
        assert_eq!(got.field(name), value, "{name}");
    }
    until_settled(&engine).await;
    let view = engine.change(id).await.unwrap().unwrap();
    assert_eq!((view.state.as_str(), view.deliveries[0].state.as_str()), ("committed", "delivered"));
    assert_eq!(view.sequence, Some(got.sequence()));
    assert_eq!(view.target, "/items/a%2Fb//c;d={x}", "I12: its query is not shown");
    engine.stop(DEADLINE).await;
    assert!(!data.path().join("journal.sqlite-wal").exists(), "a checkpointed journal has no log");
}

#[tokio::test]
async fn i3_order_per_key_under_failures() {
    let data = tempfile::tempdir().unwrap();
    // Every third request fails.
    let to = Destination::start(|_, number| {
        if number % 3 == 0 { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }.into_response()
    })
    .await;
    let engine = engine(data.path(), vec![destination("d", &to.url)]).await;
    for round in 0..20 {
        for key in 0..4 {
            let mut draft = draft(Method::PUT, &format!("/k{key}"), &["d"]);
            draft.body = format!("{round}").into();
            engine.begin(draft, etag()).await.unwrap().commit(None, None).await.unwrap();
        }
    }
    until_settled(&engine).await;
    let got = to.got.lock().unwrap().clone();
    for key in 0..4 {
        let of_key: Vec<_> = got.iter().filter(|got| got.target == format!("/k{key}")).collect();
        assert!(of_key.is_sorted_by_key(|got| got.sequence()), "{key}");
        let mut bodies: Vec<_> = of_key.iter().map(|got| got.body.clone()).collect();
        bodies.dedup();
        let wanted: Vec<_> = (0..20).map(|round| Bytes::from(format!("{round}"))).collect();
        assert_eq!(bodies, wanted);
    }
    engine.stop(DEADLINE).await;
}

#[tokio::test]
async fn i2_deliveries_go_on_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let dead = destination("d", "http://127.0.0.1:1");
    let first = engine(data.path(), vec![dead]).await;
    for number in 0..50 {
        put(&first, &format!("/k{}", number % 10), &["d"]).await;
    }
    until("an attempt failed", || async { first.destinations().await.unwrap()[0].last_error.is_some() })
        .await;
    first.stop(DEADLINE).await;
    drop(first);
    let to = Destination::good().await;
    let second = engine(data.path(), vec![destination("d", &to.url)]).await;
    until_settled(&second).await;
    let got = to.wait_for(50).await;
    assert_eq!(got.len(), 50);
    for key in 0..10 {
        let of_key: Vec<_> = got.iter().filter(|got| got.target == format!("/k{key}")).collect();
        assert!(of_key.len() == 5 && of_key.is_sorted_by_key(|got| got.sequence()));
    }
    let later = put(&second, "/k0", &["d"]).await;
    let last = to.wait_for(51).await.pop().unwrap();
    assert_eq!(last.field("tidegate-change"), later.to_string());
    assert!(got.iter().all(|got| got.sequence() < last.sequence()), "never reused over restarts");
    second.stop(DEADLINE).await;
}

#[tokio::test]
async fn i3_a_long_queue_of_one_key_keeps_its_order_over_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let to = Destination::good().await;
    let first = engine(data.path(), vec![destination("d", &to.url)]).await;
    first.pause("d").await.unwrap();
    for _ in 0..60 {
        put(&first, "/hot", &["d"]).await;
    }
    until("all are read", || async { first.destinations().await.unwrap()[0].pending == 60 }).await;
    first.stop(DEADLINE).await;
    drop(first);
    let second = engine(data.path(), vec![destination("d", &to.url)]).await;
    second.resume("d").await.unwrap();
    let got = to.wait_for(60).await;
    assert!(got.len() == 60 && got.is_sorted_by_key(Got::sequence));
    second.stop(DEADLINE).await;
}

#[tokio::test]
async fn park_key_parks_and_redrive_keeps_the_order() {
    let data = tempfile::tempdir().unwrap();
    let refuse = Arc::new(Mutex::new(true));
    let refusing = Arc::clone(&refuse);
    let to = Destination::start(move |got, _| {
        let bad = got.target == "/bad" && *refusing.lock().unwrap();
        if bad { (StatusCode::BAD_REQUEST, "no").into_response() } else { StatusCode::OK.into_response() }
    })
    .await;
    let first = engine(data.path(), vec![destination("d", &to.url)]).await;
    for _ in 0..40 {
        put(&first, "/bad", &["d"]).await;
    }
    put(&first, "/good", &["d"]).await;
    until("the key is parked", || async {
        let status = first.destinations().await.unwrap().remove(0);
        status.parked_keys == 1 && status.pending == 0 && status.in_flight == 0 && status.dead_letters == 1
    })
    .await;
    assert_eq!(to.targets().iter().filter(|target| *target == "/bad").count(), 1);
    assert!(to.targets().contains(&"/good".to_owned()));
    assert!(first.destinations().await.unwrap()[0].lag_seconds < f64::EPSILON, "parked ones do not count");
    let letter = first
        .dead_letters(DeadLetterFilter::default(), LetterPage::FIRST)
        .await
        .unwrap()
        .dead_letters
        .remove(0);
    assert_eq!((letter.class.as_str(), letter.code.as_str()), ("permanent", "http_status"));
    assert_eq!((letter.status, letter.attempts, letter.answer.as_str()), (Some(400), 1, "no"));
    first.stop(DEADLINE).await;
    drop(first);
    let second = engine(data.path(), vec![destination("d", &to.url)]).await;
    put(&second, "/bad", &["d"]).await;
    *refuse.lock().unwrap() = false;
    assert_eq!(second.redrive(DeadLetterFilter::default(), Run::Dry, WAITED).await.unwrap().count, 1);
    assert_eq!(second.redrive(DeadLetterFilter::default(), Run::Real, WAITED).await.unwrap().count, 1);
    let got = to.wait_for(1 + 1 + 41).await;
    let bad: Vec<_> = got.iter().filter(|got| got.target == "/bad").skip(1).collect();
    assert!(bad.len() == 41 && bad.is_sorted_by_key(|got| got.sequence()));
    assert_eq!(bad[0].field("tidegate-change"), letter.change);
    until_settled(&second).await;
    assert!(
        second
            .dead_letters(DeadLetterFilter::default(), LetterPage::FIRST)
            .await
            .unwrap()
            .dead_letters
            .is_empty()
    );
    second.stop(DEADLINE).await;
}

#[tokio::test]
async fn discard_and_skip() {
    let data = tempfile::tempdir().unwrap();
    let to = Destination::start(|got, _| {
        if got.body == "bad" { StatusCode::BAD_REQUEST } else { StatusCode::OK }.into_response()
    })
    .await;
    let skipping = DestinationSettings { on_failure: OnFailure::Skip, ..destination("skip", &to.url) };
    let engine = engine(data.path(), vec![destination("park", &to.url), skipping]).await;
    for body in ["bad", "fine"] {
        let mut draft = draft(Method::PUT, "/k", &["park", "skip"]);
        draft.body = body.into();
        engine.begin(draft, etag()).await.unwrap().commit(None, None).await.unwrap();
    }
    until("one is parked, one is skipped", || async {
        let all = engine.destinations().await.unwrap();
        all.iter().all(|it| it.dead_letters == 1 && it.pending == 0)
            && all[0].parked_keys == 1
            && to.targets().len() == 3
    })
    .await;
    let of = |name: &str| DeadLetterFilter { destination: Some(name.into()), ..DeadLetterFilter::default() };
    assert_eq!(
        engine.redrive(of("skip"), Run::Real, WAITED).await.unwrap().count,
        0,
        "I3: its key has a newer change"
    );
    assert_eq!(engine.discard(of("park"), Run::Real, WAITED).await.unwrap().count, 1);
    to.wait_for(4).await;
    until_settled(&engine).await;
    assert!(matches!(
        engine.redrive(of("nobody"), Run::Dry, WAITED).await,
        Err(CommandError::UnknownDestination)
    ));
    engine.stop(DEADLINE).await;
}

/// Refuses the body "bad", and everything while `down`.
async fn choosy(down: &Arc<Mutex<bool>>) -> Destination {
    let down = Arc::clone(down);
    Destination::start(move |got, _| match (got.body.as_ref(), *down.lock().unwrap()) {
        (b"bad", _) => StatusCode::BAD_REQUEST.into_response(),
        (_, true) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        (_, false) => StatusCode::OK.into_response(),
    })
    .await
}

async fn put_body(engine: &Arc<Engine>, body: &'static str) {
    let mut draft = draft(Method::PUT, "/k", &["d"]);
    draft.body = body.into();
    engine.begin(draft, etag()).await.unwrap().commit(None, None).await.unwrap();
}

fn accepted(to: &Destination) -> Vec<Bytes> {
    to.got.lock().unwrap().iter().map(|got| got.body.clone()).filter(|body| body != "bad").collect()
}

#[tokio::test]
async fn i3_what_was_parked_goes_on_in_order_where_on_failure_is_no_longer_park_key() {
    for on_failure in [OnFailure::Skip, OnFailure::Block] {
        let data = tempfile::tempdir().unwrap();
        let to = choosy(&Arc::default()).await;
        let first = engine(data.path(), vec![destination("d", &to.url)]).await;
        for body in ["bad", "1", "2"] {
            put_body(&first, body).await;
        }
        until("the key is parked", || async {
            let status = first.destinations().await.unwrap().remove(0);
            status.parked_keys == 1 && status.pending == 0 && status.in_flight == 0
        })
        .await;
        first.stop(DEADLINE).await;
        drop(first);
        let second =
            engine(data.path(), vec![DestinationSettings { on_failure, ..destination("d", &to.url) }]).await;
        put_body(&second, "3").await;
        to.wait_for(4).await;
        until_settled(&second).await;
        assert_eq!(accepted(&to), ["1", "2", "3"], "{on_failure:?}");
        let again = second.redrive(DeadLetterFilter::default(), Run::Real, WAITED).await.unwrap().count;
        assert_eq!(again, 0, "its key has got newer changes");
        second.stop(DEADLINE).await;
    }
}

#[tokio::test]
async fn i3_park_key_parks_behind_dead_letters_that_skip_left_unless_they_are_overtaken() {
    for overtaken in [false, true] {
        let (data, down) = (tempfile::tempdir().unwrap(), Arc::new(Mutex::new(!overtaken)));
        let to = choosy(&down).await;
        let skipping = DestinationSettings { on_failure: OnFailure::Skip, ..destination("d", &to.url) };
        let first = engine(data.path(), vec![skipping]).await;
        put_body(&first, "bad").await;
        put_body(&first, "1").await;
        to.wait_for(2).await;
        until("it is settled or has failed", || async {
            let status = first.destinations().await.unwrap().remove(0);
            status.in_flight == 0 && status.dead_letters == 1 && (status.pending == 0) == overtaken
        })
        .await;
        first.stop(DEADLINE).await;
        drop(first);
        *down.lock().unwrap() = false;
        let sent = to.targets().len();
        let second = engine(data.path(), vec![destination("d", &to.url)]).await;
        put_body(&second, "2").await;
        if overtaken {
            to.wait_for(sent + 1).await;
            until_settled(&second).await;
        } else {
            until("the key is parked", || async {
                let status = second.destinations().await.unwrap().remove(0);
                status.parked_keys == 1 && status.pending == 0 && status.in_flight == 0
            })
            .await;
            assert_eq!(to.targets().len(), sent, "nothing passes the dead letter");
            assert_eq!(
                second.discard(DeadLetterFilter::default(), Run::Real, WAITED).await.unwrap().count,
                1
            );
            to.wait_for(sent + 2).await;
            let got = accepted(&to);
            assert_eq!(got[got.len() - 2..], ["1", "2"]);
        }
        second.stop(DEADLINE).await;
    }
}

/// Two dead letters of a key that `skip` has left, and one change that waits, adopted by `park-key`.
async fn two_dead_letters_of_a_key(data: &Path, to: &Destination, mended: &Mutex<bool>) -> Arc<Engine> {
    let skipping = DestinationSettings { on_failure: OnFailure::Skip, ..destination("d", &to.url) };
    let first = engine(data, vec![skipping]).await;
    for number in 1..=2 {
        put_body(&first, if number == 1 { "bad 1" } else { "bad 2" }).await;
        until("it is dead", || async { first.destinations().await.unwrap()[0].dead_letters == number }).await;
    }
    put_body(&first, "3").await;
    until("it waits", || async { first.destinations().await.unwrap()[0].next_attempt_at.is_some() }).await;
    first.stop(DEADLINE).await;
    *mended.lock().unwrap() = true;
    let second = engine(data, vec![destination("d", &to.url)]).await;
    put_body(&second, "4").await;
    second
}

#[tokio::test]
async fn i3_redriving_some_dead_letters_of_a_key_lets_nothing_pass_the_others() {
    for oldest_first in [true, false] {
        let (data, mended) = (tempfile::tempdir().unwrap(), Arc::new(Mutex::new(false)));
        let is_mended = Arc::clone(&mended);
        let to = Destination::start(move |got, _| match *is_mended.lock().unwrap() {
            true => StatusCode::OK.into_response(),
            false if got.body.starts_with(b"bad") => StatusCode::BAD_REQUEST.into_response(),
            false => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        })
        .await;
        let engine = two_dead_letters_of_a_key(data.path(), &to, &mended).await;
        let before = to.targets().len();
        let second_died =
            engine.dead_letters(DeadLetterFilter::default(), LetterPage::FIRST).await.unwrap().dead_letters
                [1]
            .last_at;
        let older = DeadLetterFilter { until: Some(second_died), ..DeadLetterFilter::default() };
        let newer = DeadLetterFilter { since: Some(second_died), ..DeadLetterFilter::default() };
        let (now, later) = if oldest_first { (older, newer) } else { (newer, older) };
        assert_eq!(engine.redrive(now, Run::Real, WAITED).await.unwrap().count, 1);
        until("what may go has gone", || async {
            let status = engine.destinations().await.unwrap().remove(0);
            status.pending == 0 && status.in_flight == 0 && status.parked_keys == 1
        })
        .await;
        let sent = to.targets().len() - before;
        assert_eq!(sent, usize::from(oldest_first), "the newer one waits for the older one, as do 3 and 4");
        assert_eq!(engine.redrive(later, Run::Real, WAITED).await.unwrap().count, 1);
        let got = to.wait_for(before + 4).await;
        let bodies: Vec<_> = got[before..].iter().map(|got| got.body.clone()).collect();
        assert_eq!(bodies, ["bad 1", "bad 2", "3", "4"]);
        until_settled(&engine).await;
        engine.stop(DEADLINE).await;
    }
}

/// A fault in a worker must not stop its destination, nor lose or reorder anything.
#[tokio::test]
async fn i3_a_worker_that_panics_begins_anew() {
    let data = tempfile::tempdir().unwrap();
    let to = Destination::good().await;
    let engine = engine(data.path(), vec![destination("d", &to.url)]).await;
    engine.pause("d").await.unwrap();
    for _ in 0..30 {
        put(&engine, "/a", &["d"]).await;
    }
    engine.worker("d").await.unwrap().commands.send(delivery::Command::Panic).await.unwrap();
    put(&engine, "/a", &["d"]).await;
    engine.resume("d").await.unwrap();
    let got = to.wait_for(31).await;
    assert!(got.len() == 31 && got.is_sorted_by_key(Got::sequence));
    until_settled(&engine).await;
    engine.stop(DEADLINE).await;
}

/// A wait that an operator has ended is over after a restart, too.
#[tokio::test]
async fn resume_ends_waits_for_good() {
    let data = tempfile::tempdir().unwrap();
    let to = Destination::start(|_, number| {
        let fails = number == 1;
        if fails { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }.into_response()
    })
    .await;
    let retry = RetrySettings {
        base: Duration::from_hours(1000),
        cap: Duration::from_hours(1000),
        give_up: Duration::MAX,
        ..destination("d", &to.url).retry
    };
    let slow = DestinationSettings { retry, ..destination("d", &to.url) };
    let first = engine(data.path(), vec![slow.clone()]).await;
    put(&first, "/a", &["d"]).await;
    until("it waits", || async { first.destinations().await.unwrap()[0].next_attempt_at.is_some() }).await;
    first.pause("d").await.unwrap();
    first.stop(DEADLINE).await;
    drop(first);
    let second = engine(data.path(), vec![slow.clone()]).await;
    assert_eq!(second.destinations().await.unwrap()[0].pending, 1);
    assert_eq!(to.targets().len(), 1, "the wait is kept over a restart");
    let id = second.inner.journal.readers().read(journal::sqlite::destinations).await.unwrap()[0].id;
    // As if the process had died between the record and the worker.
    second.inner.journal.write(Record::Pause { destination: id, paused: false }).await.unwrap();
    second.inner.journal.write(Record::Wake { destination: id, after: 0 }).await.unwrap();
    second.stop(DEADLINE).await;
    drop(second);
    let third = engine(data.path(), vec![slow]).await;
    to.wait_for(2).await;
    until_settled(&third).await;
    third.stop(DEADLINE).await;
}

#[tokio::test]
async fn i4_a_black_hole_harms_nobody_else() {
    let data = tempfile::tempdir().unwrap();
    // Accepts connections and never answers.
    let hole = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let black = destination("black", &format!("http://{}", hole.local_addr().unwrap()));
    let to = Destination::good().await;
    let engine = engine(data.path(), vec![black, destination("good", &to.url)]).await;
    for number in 0..200 {
        put(&engine, &format!("/k{number}"), &["black", "good"]).await;
    }
    to.wait_for(200).await;
    until("only the black hole lags", || async {
        let all = engine.destinations().await.unwrap();
        all[0].pending + all[0].in_flight == 200 && all[1].pending == 0 && all[1].lag_seconds < f64::EPSILON
    })
    .await;
    engine.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn retry_after_makes_the_whole_destination_wait() {
    let data = tempfile::tempdir().unwrap();
    let to = Destination::start(|_, number| {
        let wait = (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "3600")]);
        if number == 1 { wait.into_response() } else { StatusCode::OK.into_response() }
    })
    .await;
    let first = engine(data.path(), vec![destination("d", &to.url)]).await;
    put(&first, "/a", &["d"]).await;
    to.wait_for(1).await;
    until("it waits", || async { first.destinations().await.unwrap()[0].next_attempt_at.is_some() }).await;
    put(&first, "/b", &["d"]).await;
    until("the other key waits too", || async { first.destinations().await.unwrap()[0].pending == 2 }).await;
    first.stop(DEADLINE).await;
    drop(first);
    // The wait is kept over the restart, and `resume` ends it.
    let second = engine(data.path(), vec![destination("d", &to.url)]).await;
    assert_eq!(second.destinations().await.unwrap()[0].pending, 2);
    assert_eq!(to.targets().len(), 1);
    second.resume("d").await.unwrap();
    until_settled(&second).await;
    assert_eq!(to.targets().len(), 3);
    second.stop(DEADLINE).await;
}

#[tokio::test]
async fn a_held_destination_loses_nothing() {
    let data = tempfile::tempdir().unwrap();
    let allowed = Arc::new(Mutex::new(false));
    let open = Arc::clone(&allowed);
    let to = Destination::start(move |got, _| {
        let fine = *open.lock().unwrap() && got.target != "/own-fault";
        if fine { StatusCode::OK } else { StatusCode::FORBIDDEN }.into_response()
    })
    .await;
    let engine = engine(data.path(), vec![destination("d", &to.url)]).await;
    put(&engine, "/own-fault", &["d"]).await;
    to.wait_for(1).await;
    put(&engine, "/other", &["d"]).await;
    until("it is held", || async {
        let status = engine.destinations().await.unwrap().remove(0);
        status.state == status::DestinationState::Held && status.dead_letters == 0 && status.pending == 2
    })
    .await;
    *allowed.lock().unwrap() = true;
    until("the refused one is a dead letter, the other is delivered", || async {
        let status = engine.destinations().await.unwrap().remove(0);
        status.dead_letters == 1 && status.pending == 0 && status.state == status::DestinationState::Running
    })
    .await;
    engine.stop(DEADLINE).await;
}

/// `block` makes the refused change wait by itself, not everybody with it.
#[tokio::test]
async fn i4_under_block_a_change_refused_for_its_own_fault_holds_nobody() {
    let data = tempfile::tempdir().unwrap();
    let allowed = Arc::new(Mutex::new(false));
    let open = Arc::clone(&allowed);
    let to = Destination::start(move |got, _| {
        let fine = *open.lock().unwrap() && got.target != "/own-fault";
        if fine { StatusCode::OK } else { StatusCode::FORBIDDEN }.into_response()
    })
    .await;
    let blocking = DestinationSettings { on_failure: OnFailure::Block, ..destination("d", &to.url) };
    let engine = engine(data.path(), vec![blocking]).await;
    put(&engine, "/own-fault", &["d"]).await;
    put(&engine, "/other", &["d"]).await;
    to.wait_for(2).await;
    *allowed.lock().unwrap() = true;
    let refused = || to.targets().iter().rev().take_while(|target| *target == "/own-fault").count();
    until("it is refused again and again, and the destination runs", || async {
        let status = engine.destinations().await.unwrap().remove(0);
        refused() > 2 && status.pending == 1 && status.state == status::DestinationState::Running
    })
    .await;
    engine.stop(DEADLINE).await;
}

/// A destination that has answered 2xx has the change, whatever becomes of the answer's content.
#[tokio::test]
async fn i2_an_answer_whose_content_stalls_counts_as_its_status() {
    let data = tempfile::tempdir().unwrap();
    let to = Destination::start(|_, _| {
        let never = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        axum::body::Body::from_stream(never).into_response()
    })
    .await;
    let short = DestinationSettings { timeout: Duration::from_millis(300), ..destination("d", &to.url) };
    let engine = engine(data.path(), vec![short]).await;
    let id = put(&engine, "/a", &["d"]).await;
    to.wait_for(1).await;
    until_settled(&engine).await;
    assert_eq!(engine.change(id).await.unwrap().unwrap().deliveries[0].state, "delivered");
    assert_eq!(to.targets().len(), 1);
    engine.stop(DEADLINE).await;
}

#[tokio::test]
async fn pause_survives_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let to = Destination::good().await;
    let first = engine(data.path(), vec![destination("d", &to.url)]).await;
    first.pause("d").await.unwrap();
    put(&first, "/a", &["d"]).await;
    first.stop(DEADLINE).await;
    drop(first);
    let second = engine(data.path(), vec![destination("d", &to.url)]).await;
    until("it is pending", || async { second.destinations().await.unwrap()[0].pending == 1 }).await;
    assert_eq!(second.destinations().await.unwrap()[0].state, status::DestinationState::Paused);
    assert!(to.targets().is_empty());
    second.resume("d").await.unwrap();
    to.wait_for(1).await;
    second.stop(DEADLINE).await;
}

/// An idle destination must not keep the journal from forgetting what others got.
#[tokio::test]
async fn retention_does_not_wait_for_a_destination_without_traffic() {
    let data = tempfile::tempdir().unwrap();
    let to = Destination::good().await;
    let both = vec![destination("busy", &to.url), destination("idle", &to.url)];
    let set = Settings { retention: Duration::ZERO, ..settings(data.path(), both) };
    let engine = Engine::start(set, Clock::system(), ports(vec![]).0).await.unwrap();
    for number in 0..20 {
        put(&engine, &format!("/k{number}"), &["busy"]).await;
    }
    to.wait_for(20).await;
    until("everything is forgotten", || async {
        engine.changes(ChangeFilter::default()).await.unwrap().is_empty()
    })
    .await;
    engine.stop(DEADLINE).await;
}

fn present(etag: &str, body: &'static str) -> SourceState {
    SourceState::Present { etag: Some(etag.parse().unwrap()), fields: HeaderMap::new(), body: body.into() }
}

#[tokio::test]
async fn i2_an_intent_without_outcome_is_resolved_by_reading() {
    for (states, decided, delivered) in [
        (vec![present("\"1\"", "old")], "aborted", None),
        (vec![SourceState::UNANSWERED, present("\"2\"", "new")], "reconciled", Some((Method::PUT, "new"))),
        (vec![SourceState::Absent], "reconciled", Some((Method::DELETE, ""))),
    ] {
        let data = tempfile::tempdir().unwrap();
        let to = Destination::good().await;
        let first = engine(data.path(), vec![destination("d", &to.url)]).await;
        let intent = first.begin(draft(Method::PUT, "/k", &["d"]), etag()).await.unwrap();
        let id = intent.id();
        // As if the process had died: nothing of the intent runs any more.
        first.stop(DEADLINE).await;
        std::mem::forget(intent);
        drop(first);
        let (ports, log) = ports(states);
        let set = settings(data.path(), vec![destination("d", &to.url)]);
        let second = Engine::start(set, Clock::system(), ports).await.unwrap();
        // A write of the same key waits for the resolution.
        let next = second.begin(draft(Method::PUT, "/k", &["d"]), etag()).await.unwrap();
        let view = second.change(id).await.unwrap().unwrap();
        assert_eq!(view.state, decided);
        next.commit(None, None).await.unwrap();
        until_settled(&second).await;
        let got = to.got.lock().unwrap().clone();
        match delivered {
            None => assert_eq!(got.len(), 1),
            Some((method, body)) => {
                assert_eq!((&got[0].method, got[0].body.as_ref()), (&method, body.as_bytes()));
                assert_eq!(got[0].field("tidegate-change"), id.to_string());
                assert_eq!(got.len(), 2);
            }
        }
        let log = log.lock().unwrap().clone();
        assert_eq!(log.first().map(String::as_str), Some("fence /api/k"));
        assert_eq!(log.last().map(String::as_str), Some("fence /api/k"));
        second.stop(DEADLINE).await;
    }
}

#[tokio::test]
async fn a_post_in_doubt_waits_for_an_operator() {
    let data = tempfile::tempdir().unwrap();
    let to = Destination::good().await;
    let engine = engine(data.path(), vec![destination("d", &to.url)]).await;
    let mut intent = engine.begin(draft(Method::POST, "/items", &["d"]), etag()).await.unwrap();
    let id = intent.id();
    intent.sent();
    drop(intent);
    until("it is in doubt", || async { engine.change(id).await.unwrap().unwrap().state == "in-doubt" }).await;
    put(&engine, "/items", &["d"]).await;
    to.wait_for(1).await;
    engine.resolve(id, Resolution::Committed).await.unwrap();
    let again = engine.resolve(id, Resolution::Aborted).await;
    assert!(matches!(again, Err(CommandError::NotInDoubt)), "it is decided");
    let nobody = ChangeId(uuid::Uuid::nil());
    let unknown = engine.resolve(nobody, Resolution::Aborted).await;
    assert!(matches!(unknown, Err(CommandError::UnknownChange)));
    assert_eq!(to.wait_for(2).await[1].field("tidegate-change"), id.to_string());
    engine.stop(DEADLINE).await;
}

#[tokio::test]
async fn i3_an_operator_ends_a_doubt_that_the_source_never_decides() {
    let data = tempfile::tempdir().unwrap();
    let to = Destination::good().await;
    let (ports, log) = ports(vec![SourceState::UNANSWERED]);
    let set = settings(data.path(), vec![destination("d", &to.url)]);
    let engine = Engine::start(set, Clock::system(), ports).await.unwrap();
    let mut intent = engine.begin(draft(Method::PUT, "/k", &["d"]), etag()).await.unwrap();
    let id = intent.id();
    intent.sent();
    intent.doubt().await;
    assert_eq!(*log.lock().unwrap(), ["fence /api/k"], "fenced before the client hears of it");
    until("it is in doubt", || async { engine.change(id).await.unwrap().unwrap().state == "in-doubt" }).await;
    let waiting = {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move { put(&engine, "/k", &["d"]).await })
    };
    engine.resolve(id, Resolution::Committed).await.unwrap();
    let next = tokio::time::timeout(DEADLINE, waiting).await.unwrap().unwrap();
    let got = to.wait_for(2).await;
    let order: Vec<_> = got.iter().map(|got| got.field("tidegate-change").to_owned()).collect();
    assert_eq!(order, [id.to_string(), next.to_string()]);
    // A read that had begun may be told of after the second fence.
    let fences = log.lock().unwrap().iter().filter(|line| *line == "fence /api/k").count();
    assert_eq!(fences, 2, "at the start and at the end of the doubt");
    engine.stop(DEADLINE).await;
}

/// What the source said between an operator's look and word stands, and the operator is told so.
#[tokio::test]
async fn an_operators_word_that_comes_too_late_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let engine = engine(data.path(), vec![]).await;
    for (first, second, taken) in [
        (Verdict::Aborted, Resolution::Committed, false),
        (Verdict::Committed { key: None }, Resolution::Aborted, false),
        (Verdict::Committed { key: None }, Resolution::Committed, true),
        (Verdict::InDoubt, Resolution::Aborted, true),
    ] {
        let intent = engine.begin(draft(Method::POST, "/items", &[]), etag()).await.unwrap();
        let id = intent.id();
        let told = format!("{first:?} {second:?}");
        engine.inner.journal.write(Record::outcome(id, first)).await.unwrap();
        let decided = engine.decide(id, second).await;
        match decided {
            Ok(()) => assert!(taken, "{told}"),
            Err(error) => assert!(!taken && matches!(error, CommandError::NotInDoubt), "{told}: {error}"),
        }
    }
    engine.stop(DEADLINE).await;
}

/// A client that leaves while its POST is being recorded leaves nothing for an operator.
#[tokio::test]
async fn an_intent_that_was_never_sent_is_aborted() {
    let data = tempfile::tempdir().unwrap();
    let engine = engine(data.path(), vec![]).await;
    let intent = engine.begin(draft(Method::POST, "/items", &[]), etag()).await.unwrap();
    let id = intent.id();
    drop(intent);
    until("it is aborted", || async { engine.change(id).await.unwrap().unwrap().state == "aborted" }).await;
    engine.stop(DEADLINE).await;
}

/// What is known before a write is what the write before it of the same key left.
#[tokio::test]
async fn i2_the_known_etag_is_learned_within_the_turn() {
    let data = tempfile::tempdir().unwrap();
    let engine = engine(data.path(), vec![]).await;
    let first = engine.begin(draft(Method::PUT, "/k", &[]), etag()).await.unwrap();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (asked, others) = (Arc::clone(&done), Arc::clone(&engine));
    let second = tokio::spawn(async move {
        let known = async move {
            assert!(asked.load(std::sync::atomic::Ordering::SeqCst), "the first still has its turn");
            None
        };
        drop(others.begin(draft(Method::PUT, "/k", &[]), known).await.unwrap());
    });
    // Everything that is ready has run: the second waits for its turn.
    until("the second waits", || async { engine.inner.turns.users("/k") == 2 }).await;
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    first.commit(None, None).await.unwrap();
    second.await.unwrap();
    engine.stop(DEADLINE).await;
}

#[tokio::test]
async fn location_is_the_key_of_what_a_post_made() {
    let data = tempfile::tempdir().unwrap();
    let to = Destination::good().await;
    let engine = engine(data.path(), vec![destination("d", &to.url)]).await;
    let draft = || {
        let key = DraftKey::FromLocation { otherwise: "/items".into() };
        Draft { key, ..draft(Method::POST, "/items", &["d"]) }
    };
    let first = engine.begin(draft(), etag()).await.unwrap();
    let second = engine.begin(draft(), etag()).await.unwrap();
    let id = second.id();
    second.commit(Some("/items/7".into()), None).await.unwrap();
    assert_eq!(engine.change(id).await.unwrap().unwrap().key, "/items/7", "durable before the answer");
    first.commit(None, None).await.unwrap();
    let mut keys: Vec<_> =
        to.wait_for(2).await.iter().map(|got| got.field("tidegate-key").to_owned()).collect();
    keys.sort();
    assert_eq!(keys, ["/items", "/items/7"]);
    engine.stop(DEADLINE).await;
}

#[tokio::test]
async fn aborted_changes_are_not_delivered() {
    let data = tempfile::tempdir().unwrap();
    let to = Destination::good().await;
    let engine = engine(data.path(), vec![destination("d", &to.url)]).await;
    let intent = engine.begin(draft(Method::PUT, "/k", &["d"]), etag()).await.unwrap();
    let id = intent.id();
    intent.refused(None).await.unwrap();
    put(&engine, "/k", &["d"]).await;
    until_settled(&engine).await;
    assert_eq!(to.targets().len(), 1);
    assert_eq!(engine.change(id).await.unwrap().unwrap().state, "aborted");
    let listed =
        engine.changes(ChangeFilter { state: Some(ChangeState::Aborted), ..ChangeFilter::default() }).await;
    assert_eq!(listed.unwrap().len(), 1);
    engine.stop(DEADLINE).await;
}

#[tokio::test]
async fn damage_is_quarantined_and_never_delivered() {
    let data = tempfile::tempdir().unwrap();
    let to = Destination::good().await;
    let first = engine(data.path(), vec![destination("d", &to.url)]).await;
    first.pause("d").await.unwrap();
    put(&first, "/a", &["d"]).await;
    put(&first, "/b", &["d"]).await;
    first.stop(DEADLINE).await;
    drop(first);
    journal::sqlite::damage_first(data.path(), "body");
    let second = engine(data.path(), vec![destination("d", &to.url)]).await;
    second.resume("d").await.unwrap();
    until_settled(&second).await;
    assert_eq!(to.targets(), ["/b"]);
    let letters =
        second.dead_letters(DeadLetterFilter::default(), LetterPage::FIRST).await.unwrap().dead_letters;
    assert_eq!((letters.len(), letters[0].code.as_str(), letters[0].key.as_str()), (1, "damaged", "/a"));
    second.stop(DEADLINE).await;
}

#[tokio::test]
async fn a_folder_has_one_process() {
    let data = tempfile::tempdir().unwrap();
    let first = engine(data.path(), vec![]).await;
    let again = Engine::start(settings(data.path(), vec![]), Clock::system(), ports(vec![]).0).await;
    assert!(matches!(again, Err(OpenError::Locked { folder }) if folder == data.path()));
    first.stop(DEADLINE).await;
    let file = data.path().join("file");
    std::fs::write(&file, "").unwrap();
    let unusable =
        Engine::start(settings(&file, vec![]), Clock::system(), ports(vec![]).0).await.unwrap_err();
    assert!(unusable.to_string().contains(file.to_str().unwrap()), "{unusable}");
}

//! The active check of a source's addresses.

use super::{becomes, gateway_of, nothing_is_left};
use crate::support::{Ask, Gate, Gateway, Reply, ScriptedSource, Step};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

const CHECKED: &str =
    "health = { path = \"/healthz\", every = \"100ms\" }\nheaders = { x-token = \"own\" }\nconcurrency = 1";

/// A source whose check answers what it is told to.
struct Checked {
    source: ScriptedSource,
    status: Arc<AtomicU16>,
}

impl Checked {
    async fn start(status: u16) -> Self {
        let source = ScriptedSource::start().await;
        let status = Arc::new(AtomicU16::new(status));
        let told = Arc::clone(&status);
        source.on("/healthz", move |_| Reply::new(told.load(Ordering::SeqCst), ""));
        source.on("*", |_| Reply::ok("good"));
        Self { source, status }
    }

    fn tell(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Requests that were no checks.
    fn asked(&self) -> usize {
        self.source.requests.all().len() - self.source.count("/healthz")
    }

    async fn is_ejected(&self, gateway: &Gateway, ejected: f64) {
        let address = format!("address=\"{}\"", self.source.url());
        becomes(gateway, "tidegate_source_ejected", &[&address], ejected).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_checks_eject_an_address_and_a_good_one_takes_it_back() {
    let (one, other) = (Checked::start(200).await, Checked::start(503).await);
    let gateway = gateway_of(&[&one.source.url(), &other.source.url()], CHECKED, "").await;
    other.is_ejected(&gateway, 1.0).await;
    let before = other.asked();
    for number in 0..20 {
        assert_eq!(gateway.get(&format!("/{number}")).await.status, 200);
    }
    assert_eq!((other.asked(), one.asked()), (before, 20 - before), "nobody asks what is out");
    other.tell(204);
    other.is_ejected(&gateway, 0.0).await;
    for number in 0..40 {
        assert_eq!(gateway.get(&format!("/more/{number}")).await.status, 200);
    }
    assert!(other.asked() > before, "it is asked again");

    let check = other.source.received("/healthz").remove(0);
    assert_eq!((check.method.as_str(), check.fields.get("X-Token")), ("GET", Some("own")));
    assert_eq!(format!("http://{}", check.fields.get("Host").expect("a Host")), other.source.url());
    nothing_is_left(&gateway).await;
}

/// A check that is good says nothing of requests that fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_checks_take_nothing_back_that_fails_requests() {
    let (bad, good) = (Checked::start(200).await, Checked::start(200).await);
    bad.source.on("*", |_| Reply::none(Step::Reset));
    let keys = CHECKED.replace("concurrency = 1", "");
    let gateway = gateway_of(&[&bad.source.url(), &good.source.url()], &keys, "").await;
    for number in 0..60 {
        assert_eq!(gateway.get(&format!("/{number}")).await.status, 200);
    }
    bad.is_ejected(&gateway, 1.0).await;
    let (asked, checks) = (bad.asked(), bad.source.count("/healthz"));
    bad.source.wait_for("/healthz", checks + 5).await;
    for number in 100..140 {
        assert_eq!(gateway.get(&format!("/{number}")).await.status, 200);
    }
    assert_eq!(bad.asked(), asked, "its time is not over");
    nothing_is_left(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_checks_never_eject_the_last_address() {
    let only = Checked::start(500).await;
    let gateway = gateway_of(&[&only.source.url()], CHECKED, "").await;
    only.source.wait_for("/healthz", 6).await;
    assert_eq!(gateway.get("/a").await.status, 200);
    only.is_ejected(&gateway, 0.0).await;
    nothing_is_left(&gateway).await;
}

/// Checks need no place, and end with the gateway.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_go_on_beside_the_requests_and_stop_with_the_gateway() {
    let (only, gate) = (Checked::start(200).await, Gate::closed());
    only.source.always("/held", Reply::ok("held").after(Step::Wait(gate.clone())));
    let gateway = gateway_of(&[&only.source.url()], CHECKED, "").await;
    let held = tokio::spawn(Ask::get("/held").send(gateway.public));
    only.source.wait_for("/held", 1).await;
    let before = only.source.count("/healthz");
    only.source.wait_for("/healthz", before + 3).await;
    gate.open();
    assert_eq!(held.await.expect("a task that ends").expect("an answer").text(), "held");
    nothing_is_left(&gateway).await;
    let exit = gateway.terminate().await;
    assert!(exit.status.success(), "{}", exit.stderr);
}

/// Each check has a time of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_stands_still_is_a_failed_one() {
    let (stuck, other) = (Checked::start(200).await, Checked::start(200).await);
    stuck.source.always("/healthz", Reply::none(Step::Wait(Gate::closed())));
    let gateway = gateway_of(&[&stuck.source.url(), &other.source.url()], CHECKED, "").await;
    stuck.is_ejected(&gateway, 1.0).await;
    other.is_ejected(&gateway, 0.0).await;
    becomes(&gateway, "tidegate_source_in_flight", &[], 0.0).await;
}

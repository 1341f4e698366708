//! Which addresses a destination may have: what is resolved is checked, whatever it is spelled as.

use crate::support::{
    EVERYTHING, Gateway, RecordingDestination, ScriptedSource, Setup, eventually, obliging_source,
};

fn setup(source: &ScriptedSource, url: &str, more: &str) -> Setup {
    Setup::new(format!(
        "{}[[destination]]\nname = \"search\"\nurl = \"{url}\"\n{more}\n{EVERYTHING}[route.sync]\n\
         destinations = [\"search\"]\n",
        source.table()
    ))
}

fn port(destination: &RecordingDestination) -> String {
    destination.url().rsplit(':').next().unwrap().to_owned()
}

async fn is_denied(gateway: &Gateway) {
    gateway.put("/items/1", "x").await;
    eventually("it is held", async || gateway.destination("search").await["state"] == "held").await;
    let status = gateway.destination("search").await;
    assert_eq!(status["last_error"], "address_denied", "{status}");
    assert_eq!(status["dead_letters"], 0, "nothing dies of the configuration: {status}");
}

/// Names and literals of every form, none of which the whole Internet can reach.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn public_connects_to_nothing_else() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    for host in [
        "127.0.0.1",
        "localhost",
        "0x7f.1",
        "2130706433",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "[::]",
    ] {
        let url = format!("http://{host}:{}", port(&destination));
        let gateway = setup(&source, &url, "allow = \"public\"").start().await;
        is_denied(&gateway).await;
    }
    assert_eq!(destination.connections(), 0, "no connection was even begun");
}

/// Of a name's addresses only those within the networks are tried, and a mapped one is what it maps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn networks_let_their_own_through() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    for (count, host) in [(1, "127.0.0.1"), (2, "localhost"), (3, "[::ffff:127.0.0.1]")] {
        let url = format!("http://{host}:{}", port(&destination));
        let gateway = setup(&source, &url, "allow = [\"127.0.0.0/8\", \"10.0.0.0/8\"]").start().await;
        gateway.put("/items/1", host).await;
        destination.wait_for(count).await;
        destination.wait_for_body(host).await;
    }
    let connections = destination.connections();
    let gateway = setup(&source, &destination.url(), "allow = [\"10.0.0.0/8\", \"::/0\"]").start().await;
    is_denied(&gateway).await;
    assert_eq!(destination.connections(), connections);
}

/// An address is denied before a proxy could be asked, and none ever is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_variables_are_not_used() {
    let (source, destination) = (obliging_source().await, RecordingDestination::start().await);
    let proxy = RecordingDestination::start().await;
    let mut setup = setup(&source, &destination.url(), "");
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"] {
        setup.environment(name, &proxy.url());
    }
    let gateway = setup.start().await;
    gateway.put("/items/1", "x").await;
    destination.wait_for_body("x").await;
    assert_eq!(proxy.connections(), 0);
}

/// What cannot be resolved, or refuses to connect, may pass: it waits and is no dead letter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_reached_is_tried_again() {
    let source = obliging_source().await;
    let gone = RecordingDestination::start().await;
    let url = gone.url();
    drop(gone);
    for (url, code) in [("http://no-such-host.invalid", "dns"), (url.as_str(), "connect")] {
        let gateway = setup(&source, url, "allow = \"any\"\nretry = { base = \"100ms\" }").start().await;
        gateway.put("/items/1", "x").await;
        eventually("it says why", async || gateway.destination("search").await["last_error"] == code).await;
        eventually("it is tried again", async || {
            gateway.metric("tidegate_attempts_total{destination=\"search\",outcome=\"retry\"}").await > 1
        })
        .await;
        assert_eq!(gateway.destination("search").await["dead_letters"], 0);
    }
}

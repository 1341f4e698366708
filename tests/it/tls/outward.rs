//! TLS toward sources and destinations.

use super::{certificates, source};
use crate::support::tls::{Authority, Issued, Validity, terminating, write};
use crate::support::{EVERYTHING, Gateway, RecordingDestination, SYNC, ScriptedSource, Setup, eventually};
use std::net::SocketAddr;

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().unwrap()
}

fn setup(host: &str, port: u16, more: &str) -> Setup {
    let table = format!("[[source]]\nname = \"inventory\"\nurls = [\"https://{host}:{port}\"]\n{more}");
    Setup::new(format!("{table}{EVERYTHING}"))
}

/// A gateway whose source shows this, and is verified by that authority.
async fn toward(source: &ScriptedSource, shown: &Issued, by: &Authority) -> (Gateway, impl Drop) {
    let relay = terminating(shown.server(None), address(&source.url())).await;
    let setup = setup("localhost", relay.address.port(), "ca = \"ca.pem\"\n");
    write(setup.folder(), "ca.pem", &by.pem());
    (setup.start().await, relay)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_is_verified_by_its_own_authority_and_by_the_name_in_its_url() {
    let (source, authority) = (source().await, Authority::new("sources"));
    for (shown, reason, status) in [
        (authority.issue(&["localhost"]), "", 200),
        (authority.issue(&["other.example"]), "its certificate is for another name", 502),
        (authority.issue_as("", &["localhost"], Validity::Expired), "its certificate has expired", 502),
        (Authority::new("sources").issue(&["localhost"]), "its certificate", 502),
    ] {
        let (gateway, _relay) = toward(&source, &shown, &authority).await;
        let answer = gateway.get("/x").await;
        assert_eq!(answer.status, status, "{reason}: {answer:?}");
        if status == 502 {
            assert!(answer.field("Proxy-Status").contains("error=tls_certificate_error"), "{answer:?}");
            assert!(answer.text().contains(reason), "{}", answer.text());
        }
    }
    assert_eq!(source.requests.all().len(), 1);
}

/// The authorities of the system are those that `SSL_CERT_FILE` names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_own_authority_those_of_the_system_count() {
    let (source, authority) = (source().await, Authority::new("system"));
    let relay = terminating(authority.issue(&["localhost"]).server(None), address(&source.url())).await;
    for (trusted, status) in [(&authority, 200), (&Authority::new("elsewhere"), 502)] {
        let mut setup = setup("localhost", relay.address.port(), "");
        let roots = write(setup.folder(), "roots.pem", &trusted.pem());
        setup.environment("SSL_CERT_FILE", roots.to_str().unwrap());
        assert_eq!(setup.start().await.get("/x").await.status, status);
    }
    // Without any it is told before anything listens, and who needs none is not bothered.
    let mut bare = setup("localhost", relay.address.port(), "");
    let nothing = write(bare.folder(), "none.pem", "");
    for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        bare.environment(variable, nothing.to_str().unwrap());
    }
    let exit = bare.try_start().await.expect_err("nobody can be verified");
    assert!(
        exit.stderr.contains("source[0].urls[0]: ") && exit.stderr.contains("name a file in ca"),
        "{}",
        exit.stderr
    );
    let plain = bare.rest(format!("{}{EVERYTHING}", source.table()));
    assert_eq!(plain.start().await.get("/x").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_wants_a_certificate_is_shown_one() {
    let (source, (authority, _)) = (source().await, certificates());
    let gateways = Authority::new("gateways");
    let shown = authority.issue(&["localhost"]).server(Some(&gateways));
    let relay = terminating(shown, address(&source.url())).await;
    let own = "ca = \"ca.pem\"\ncert = \"own.pem\"\nkey = \"own.key\"\n";
    for (keys, issuer, status) in
        [(own, &gateways, 200), (own, &authority, 502), ("ca = \"ca.pem\"\n", &gateways, 502)]
    {
        let setup = setup("localhost", relay.address.port(), keys);
        write(setup.folder(), "ca.pem", &authority.pem());
        issuer.client("tidegate").write(setup.folder(), "own");
        let answer = setup.start().await.get("/x").await;
        assert_eq!(answer.status, status, "{keys} {answer:?}");
        if status == 502 {
            assert!(answer.field("Proxy-Status").contains("error=tls_alert_received"), "{answer:?}");
        }
    }
}

/// Held until it can be verified, with the reason; then everything arrives in order, by mutual TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_cannot_be_verified_is_held_and_gets_everything_afterwards() {
    let (source, destination) = (source().await, RecordingDestination::start().await);
    let (authority, gateways) = (Authority::new("destinations"), Authority::new("gateways"));
    let to = address(&destination.url());
    let wrong = terminating(authority.issue(&["other.example"]).server(Some(&gateways)), to).await;
    let right = terminating(authority.issue(&["localhost"]).server(Some(&gateways)), to).await;
    let text = |port: u16| {
        format!(
            "{}{EVERYTHING}{SYNC}[[destination]]\nname = \"search\"\nurl = \"https://localhost:{port}\"\n\
             ca = \"ca.pem\"\ncert = \"own.pem\"\nkey = \"own.key\"\n",
            source.table()
        )
    };
    let setup = Setup::new(text(wrong.address.port()));
    write(setup.folder(), "ca.pem", &authority.pem());
    gateways.client("tidegate").write(setup.folder(), "own");
    let gateway = setup.start().await;
    for number in 0..3 {
        assert_eq!(gateway.put("/items/1", &number.to_string()).await.status, 200);
    }
    eventually("it is held", async || gateway.destination("search").await["state"] == "held").await;
    let status = gateway.destination("search").await;
    assert_eq!(status["last_error"], "tls: its certificate is for another name", "{status}");
    assert_eq!(status["dead_letters"], 0, "{status}");
    gateway.terminate().await;
    let _gateway = setup.rest(text(right.address.port())).start().await;
    let deliveries = destination.wait_for(3).await;
    let bodies: Vec<String> = deliveries.iter().map(|delivery| delivery.request.text()).collect();
    assert_eq!(bodies, ["0", "1", "2"]);
}

//! Clients with certificates: who comes in, and what the source is told.

use super::assert_refused;
use crate::support::tls::{Authority, securing, write};
use crate::support::{Ask, EVERYTHING, Reply, ScriptedSource, Setup};

const TLS: &str = "tls = { cert = \"server.pem\", key = \"server.key\", client_ca = \"clients.pem\"";

fn secured(source: &ScriptedSource, tls: &str, rest: &str) -> (Authority, Setup) {
    let authority = Authority::new("test authority");
    let setup = Setup::new(format!("{}{rest}", source.table())).server(&format!("{TLS}{tls} }}"));
    authority.issue(&["127.0.0.1", "a.example"]).write(setup.folder(), "server");
    write(setup.folder(), "clients.pem", &authority.pem());
    (authority, setup)
}

async fn source() -> ScriptedSource {
    let source = ScriptedSource::start().await;
    source.on("*", |request| {
        let name = request.fields.list("X-Client-Name");
        Reply::ok(name).cache_control("max-age=60")
    });
    source
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_names_in_certificates_let_in() {
    let source = source().await;
    let access = "[[access]]\nname = \"door\"\ncertificates = [\"billing\"]\n";
    let (authority, setup) = secured(&source, "", &format!("{access}{EVERYTHING}access = \"door\"\n"));
    let gateway = setup.start().await;
    for (name, status) in [("billing", 200), ("shipping", 403)] {
        let config = authority.trusting(Some(&authority.client(name)), &[]);
        let way = securing(config, "a.example", gateway.public).await;
        let answer = Ask::get("/x").field("Host", "a.example").send(way.address).await.unwrap();
        if status == 200 {
            assert_eq!(answer.status, 200);
        } else {
            assert_refused(&answer, status);
        }
    }
    assert_eq!(
        gateway.metric("tidegate_access_denied_total{route=\"items\",reason=\"certificate\"").await,
        1
    );
}

/// What a source was told of one client is given to no other, and no client can say who it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_a_source_is_told_the_name_that_was_verified_and_no_other() {
    let source = source().await;
    let (authority, setup) = secured(&source, ", client_name_field = \"X-Client-Name\"", EVERYTHING);
    let gateway = setup.start().await;
    for name in ["ada", "bob", "ada"] {
        let config = authority.trusting(Some(&authority.client(name)), &[]);
        let way = securing(config, "a.example", gateway.public).await;
        let ask = Ask::get("/x").field("Host", "a.example");
        let ask = ask.field("X-Client-Name", "root").field("x_client_name", "root");
        let answer = ask.send(way.address).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str(), answer.is_hit()), (200, name, false));
    }
    for received in source.received("/x") {
        assert_eq!(received.fields.get("x_client_name"), None);
        assert_eq!(received.fields.get("Tidegate-Identity"), None);
    }
}

//! The files: chosen by name, faults of `check`, and changes while the gateway runs.

use super::{TLS, certificates, secured, source};
use crate::support::gateway::run;
use crate::support::tls::{Authority, Issued, connect, write};
use crate::support::{EVERYTHING, Gateway, Setup, eventually, within};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn is_shown(gateway: &Gateway, config: &ClientConfig, host: &str, expected: &Issued) -> bool {
    let Ok(stream) = connect(config, host, gateway.public).await else { return false };
    stream.get_ref().1.peer_certificates().is_some_and(|chain| chain[0] == expected.der())
}

/// RFC 6066 3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_name_gets_its_certificate_and_any_other_the_first() {
    let (source, authority) = (source().await, Authority::new("test authority"));
    let first = authority.issue(&["127.0.0.1", "first.example", "unlisted.example"]);
    let [exact, any] = [&["b.example"], &["*.c.example"]].map(|names| authority.issue(names));
    let more = "[[server.tls.certificate]]\ncert = \"b.pem\"\nkey = \"b.key\"\n\
                [[server.tls.certificate]]\ncert = \"c.pem\"\nkey = \"c.key\"\n";
    let setup = secured(&source, &first, TLS_TABLE, more);
    exact.write(setup.folder(), "b");
    any.write(setup.folder(), "c");
    let gateway = setup.start().await;
    let config = authority.trusting(None, &[]);
    for (host, expected) in [
        ("first.example", &first),
        ("B.example", &exact),
        ("x.c.example", &any),
        ("unlisted.example", &first),
        ("127.0.0.1", &first),
    ] {
        assert!(is_shown(&gateway, &config, host, expected).await, "{host}");
    }
}

/// `[server]` ends here: what follows in the file are tables below `server.tls`.
const TLS_TABLE: &str = "tls.cert = \"server.pem\"\ntls.key = \"server.key\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_files_are_shown_to_new_connections_and_old_ones_go_on() {
    let (source, (authority, shown)) = (source().await, certificates());
    let setup = secured(&source, &shown, TLS, "");
    let gateway = setup.start().await;
    let config = authority.trusting(None, &[]);
    let mut before = connect(&config, "a.example", gateway.public).await.unwrap();
    // A key that does not fit is told, and changes nothing.
    let renewed = authority.issue(&["127.0.0.1", "a.example"]);
    write(setup.folder(), "server.pem", &renewed.cert);
    eventually("it is told", async || gateway.log_text().contains("is not the key of the certificate")).await;
    assert!(is_shown(&gateway, &config, "a.example", &shown).await);
    write(setup.folder(), "server.key", &renewed.key);
    eventually("it is shown", async || is_shown(&gateway, &config, "a.example", &renewed).await).await;
    // So is a file that is gone.
    std::fs::remove_file(setup.folder().join("server.key")).unwrap();
    eventually("it is told", async || gateway.log_text().contains("cannot be read: No such file")).await;
    assert!(is_shown(&gateway, &config, "a.example", &renewed).await);
    before.write_all(b"GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within("the answer", before.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Other files, named by another configuration, are shown from then on and followed; that a listener speaks
/// TLS at all needs a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_takes_other_files_and_refuses_to_begin_or_end_tls() {
    let (source, (authority, shown)) = (source().await, certificates());
    let mut setup = secured(&source, &shown, TLS, "");
    let gateway = setup.start().await;
    let config = authority.trusting(None, &[]);
    let [other, renewed] = [(); 2].map(|()| authority.issue(&["127.0.0.1", "a.example"]));
    other.write(setup.folder(), "other");
    let reloaded = async |setup: &Setup| {
        setup.write();
        gateway.admin_post("/v1/reload", &serde_json::json!({})).await
    };
    setup = setup.server("tls = { cert = \"other.pem\", key = \"other.key\" }");
    let answer = reloaded(&setup).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(is_shown(&gateway, &config, "a.example", &other).await);
    renewed.write(setup.folder(), "other");
    eventually("the new files are followed", async || {
        is_shown(&gateway, &config, "a.example", &renewed).await
    })
    .await;
    setup = setup.server("");
    let answer = reloaded(&setup).await;
    answer.assert_problem(422);
    assert_eq!(answer.json()["faults"][0]["key"], "server.tls", "{}", answer.text());
    assert!(is_shown(&gateway, &config, "a.example", &renewed).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_tells_each_file_that_cannot_be_used_with_its_place() {
    let (source, (authority, shown)) = (source().await, certificates());
    let folder = tempfile::tempdir().unwrap();
    shown.write(folder.path(), "sound");
    authority.issue(&["b.example"]).write(folder.path(), "other");
    write(folder.path(), "empty.pem", "");
    let https = source.table().replace("http://", "https://");
    let text = format!(
        "[server.tls]\ncert = \"sound.pem\"\nkey = \"other.key\"\nclient_ca = \"empty.pem\"\n\
         [[server.tls.certificate]]\ncert = \"missing.pem\"\nkey = \"sound.key\"\n\
         {https}ca = \"sound.key\"\ncert = \"sound.pem\"\n{EVERYTHING}\
         [[route.limit]]\nname = \"l\"\nkey = \"certificate\"\n\
         [[destination]]\nname = \"d\"\nurl = \"http://127.0.0.1:9\"\nca = \"sound.pem\"\n\
         [[source]]\nname = \"t\"\nurls = [\"{}\"]\ncert = \"sound.pem\"\nkey = \"other.key\"\n",
        source.url().replace("http://", "https://"),
    );
    let file = write(folder.path(), "tidegate.toml", &text);
    let path = file.to_str().unwrap();
    let output = run(&["check", "--config", path], folder.path()).await;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    for expected in [
        ":3:7: server.tls.key: is not the key of the certificate; ",
        ":4:13: server.tls.client_ca: cannot be read: there is no certificate in it; ",
        ":6:8: server.tls.certificate[0].cert: cannot be read: No such file",
        ":12:8: source[0].cert: a certificate and its key go together",
        ":23:6: destination[0].ca: has no effect: no URL begins with https://",
        ":28:7: source[1].key: is not the key of the certificate; ",
    ] {
        assert!(told.contains(expected), "{expected} in\n{told}");
    }
    let without = Setup::new(format!(
        "{}{EVERYTHING}[[route.limit]]\nname = \"l\"\nkey = \"certificate\"\n",
        source.table()
    ));
    let exit = without.try_start().await.expect_err("nobody shows a certificate");
    assert!(exit.stderr.contains("route[0].limit[0].key: clients show no certificate"), "{}", exit.stderr);
}

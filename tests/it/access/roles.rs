//! Who may call the admin listener: tokens with a name and a role, and a Unix socket for the owner alone.

use crate::support::{Ask, EVERYTHING, Reply, ScriptedSource, Setup, within};
use serde_json::json;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

fn operators() -> String {
    [("reader", "read"), ("ci", "purge"), ("root", "all")]
        .map(|(name, role)| {
            format!("[[admin.operator]]\nname = \"{name}\"\ntoken = \"token-{name}\"\nrole = \"{role}\"\n")
        })
        .concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_may_do_what_it_says_and_the_audit_log_tells_who_did() {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::ok("x"));
    let setup =
        Setup::new(format!("{}{}{EVERYTHING}", operators(), source.table())).admin("token = \"token-only\"");
    let gateway = setup.start().await;
    let purge = json!({ "all": true }).to_string();
    let calls =
        [("GET", "/v1/config"), ("POST", "/v1/purge"), ("POST", "/v1/reload"), ("POST", "/v1/replay")];
    for (token, statuses) in [
        ("reader", [200, 403, 403, 403]),
        ("ci", [200, 202, 403, 403]),
        ("root", [200, 202, 200, 400]),
        ("only", [200, 202, 200, 400]),
        ("nobody", [401, 401, 401, 401]),
    ] {
        for ((method, path), status) in calls.into_iter().zip(statuses) {
            let ask = Ask::new(method, path).field("Authorization", &format!("Bearer token-{token}"));
            let ask = if path == "/v1/purge" { ask.body(purge.clone()) } else { ask };
            let ask = if method == "POST" { ask.field("Content-Type", "application/json") } else { ask };
            let answer = gateway.operate(ask).await;
            let is = if status == 400 {
                answer.status >= 400 && answer.status != 403
            } else {
                answer.status == status
            };
            assert!(is, "{token} {method} {path}: {answer:?}");
            assert_eq!(answer.field("WWW-Authenticate"), if status == 401 { "Bearer" } else { "" });
        }
    }
    let log = gateway.terminate().await.stderr;
    let audited = |who: &str, status: u16| {
        log.lines().any(|line| {
            line.contains("tidegate::audit")
                && line.contains(&format!("\"who\":\"{who}\""))
                && line.contains(&format!("\"status\":{status}"))
        })
    };
    for (who, status) in [("reader", 403), ("ci", 202), ("root", 202), ("token", 202), ("none", 401)] {
        assert!(audited(who, status), "{who} {status}\n{log}");
    }
    assert!(!log.contains("token-"), "{log}");
}

/// One call over the socket: the answer, head and body.
async fn call(socket: &std::path::Path, head: &str) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unix_socket_is_for_its_owner_alone_and_a_stale_one_is_replaced() {
    let source = ScriptedSource::start().await;
    let setup = Setup::new(format!("{}{EVERYTHING}", source.table())).admin("listen = \"unix:admin.sock\"");
    let socket = setup.folder().join("admin.sock");
    // One that nobody listens on any more.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let gateway = setup.start().await;
    let found = std::fs::symlink_metadata(&socket).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    for (head, status) in [
        ("GET /livez HTTP/1.1\r\nHost: x\r\n", "200"),
        ("GET /v1/config HTTP/1.1\r\nHost: localhost\r\n", "200"),
        ("GET /v1/config HTTP/1.1\r\nHost: evil.example\r\n", "403"),
        ("GET /v1/explain?url=http://a/ HTTP/1.1\r\nHost: localhost\r\n", "200"),
    ] {
        let answer = call(&socket, head).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
    }
    let admin = format!("unix:{}", socket.display());
    let command = crate::support::gateway::run(&["purge", "--all", "--admin", &admin], setup.folder()).await;
    assert!(command.status.success(), "{command:?}");
    // Another process does not take it away.
    let other = Setup::new(format!("{}{EVERYTHING}", source.table())).admin(&format!("listen = \"{admin}\""));
    let exit = other.try_start().await.expect_err("the socket is in use");
    assert!(exit.stderr.contains("cannot listen on unix:"), "{}", exit.stderr);
    assert_eq!(call(&socket, "GET /livez HTTP/1.1\r\nHost: x\r\n").await.get(9..12), Some("200"));
    gateway.terminate().await;
    assert!(!socket.exists(), "it goes with its process");
    // What is no socket is left alone.
    std::fs::write(&socket, "precious").unwrap();
    assert!(setup.try_start().await.is_err());
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
}

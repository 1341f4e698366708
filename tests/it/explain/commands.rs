//! `tidegate explain`, `purge` and `completions`.

use crate::support::gateway::run;
use crate::support::{Reply, ScriptedSource, gateway_for};
use serde_json::{Value, json};
use std::process::Output;
use tempfile::TempDir;

async fn command(arguments: &[&str]) -> Output {
    let folder = TempDir::with_prefix("tidegate-it-").expect("a temporary folder can be made");
    run(arguments, folder.path()).await
}

async fn told(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = command(arguments).await;
    assert_eq!(status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_asks_why_and_purges_by_command() {
    let source = ScriptedSource::start().await;
    let reply =
        Reply::ok("x").cache_control("max-age=600").field("Vary", "Accept-Language").field("Cache-Tag", "t");
    source.always("*", reply);
    let gateway = gateway_for(&source, "").await;
    let (url, admin) = (format!("http://{}/items/1", gateway.public), format!("http://{}", gateway.admin));
    let fill = async || {
        gateway.get("/items/1").await;
        assert!(gateway.get("/items/1").await.is_hit());
    };
    fill().await;
    let text = told(&["explain", &url, "--admin", &admin]).await;
    for part in [
        "decision  fresh (hit)",
        "RFC 9111 4.2",
        "Cache-Control: max-age",
        "route     items",
        "breaker closed",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let german = ["explain", &url, "--header", "Accept-Language: de", "--json", "--admin", &admin];
    let json: Value = serde_json::from_str(&told(&german).await).expect("JSON");
    assert_eq!(json["reason"], "vary-miss", "{json}");
    let text = told(&["explain", &url, "--method", "PUT", "--admin", &admin]).await;
    assert!(text.contains("forward (method)"), "{text}");

    let mut last = 0;
    for what in [&["--url", &url, "--url", &url][..], &["--tag", "t"], &["--prefix", "/items"], &["--all"]] {
        for soft in [&[][..], &["--soft"]] {
            fill().await;
            let asked = source.count("/items/1");
            let arguments = [&["purge", "--admin", &admin, "--json"], what, soft].concat();
            let json: Value = serde_json::from_str(&told(&arguments).await).expect("JSON");
            assert_eq!(json["scope"], json!("local"), "{what:?}");
            assert!(json["seq"].as_u64() > Some(last), "{what:?}: {json}");
            last = json["seq"].as_u64().unwrap_or_default();
            // What a soft purge made stale may have been validated before somebody asks.
            gateway.get("/items/1").await;
            assert!(source.count("/items/1") > asked, "{arguments:?}");
        }
    }
    let text = told(&["purge", "--all", "--admin", &admin]).await;
    assert!(text.contains(&format!("number {}", last + 1)) && text.contains("scope local"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_says_what_to_do() {
    let source = ScriptedSource::start().await;
    let gateway = gateway_for(&source, "").await;
    let admin = format!("http://{}", gateway.admin);
    for (arguments, code, said) in [
        (&["purge", "--admin", &admin][..], 2, "--url"),
        (&["purge", "--all", "--tag", "t", "--admin", &admin], 2, "cannot be used with"),
        (&["purge", "--url", "/a", "--admin", &admin], 1, "not an absolute http URL"),
        (&["explain", "/a", "--admin", &admin], 1, "url is not an absolute http URL like"),
        (&["explain", "http://h/", "--header", "x", "--admin", &admin], 1, "`Name: value`"),
        (&["explain", "http://h/", "--admin", "http://127.0.0.1:1"], 1, "is the gateway running"),
        (&["completions", "tcsh"], 2, "bash"),
    ] {
        let Output { status, stderr, .. } = command(arguments).await;
        let stderr = String::from_utf8_lossy(&stderr);
        assert!(status.code() == Some(code) && stderr.contains(said), "{arguments:?}: {status} {stderr}");
    }
    for command in
        ["serve", "check", "demo", "journal", "changes", "explain", "purge", "schema", "completions"]
    {
        let help = told(&[command, "--help"]).await;
        assert!(help.contains(&format!("Example:\n  tidegate {command}")), "{help}");
    }
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = told(&["completions", shell]).await;
        assert!(script.contains("explain") && script.contains("redrive"), "{shell}");
    }
}

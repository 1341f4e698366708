//! What asks for a reload, and what tells of it.

use super::{config, digest, reload, route, started, status};
use crate::support::{Reply, ScriptedSource, Setup, eventually};
use serde_json::json;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Waits until a path is a route's, and this text is said to be in force.
async fn in_force(gateway: &crate::support::Gateway, setup: &Setup, path: &str) {
    eventually("the other configuration is in force", async || {
        status(gateway, path).await == 200
            && config(gateway).await["digest"] == digest(&std::fs::read_to_string(setup.file()).unwrap())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_a_signal_and_every_way_to_change_the_file_reload() {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::ok("x"));
    let (mut setup, gateway) = started(&source, &route("a", "/a", "")).await;
    let rest = |routes: &str| format!("{}{routes}", source.table());
    assert_eq!((status(&gateway, "/a/1").await, status(&gateway, "/b/1").await), (200, 404));

    setup = reload(&gateway, setup, rest(&route("b", "/b", ""))).await;
    assert_eq!((status(&gateway, "/a/1").await, status(&gateway, "/b/1").await), (404, 200), "a call");

    setup = setup.rest(rest(&route("c", "/c", "")));
    setup.write();
    gateway.signal("HUP");
    in_force(&gateway, &setup, "/c/1").await;

    // Written in place.
    setup = setup.rest(rest(&route("d", "/d", "")));
    setup.write();
    in_force(&gateway, &setup, "/d/1").await;

    // As editors save: the old one is moved away, the new one moved there.
    setup = setup.rest(rest(&route("e", "/e", "")));
    let folder = setup.file().parent().unwrap().to_owned();
    std::fs::write(folder.join("new"), setup.text()).unwrap();
    std::fs::rename(setup.file(), folder.join("tidegate.toml~")).unwrap();
    std::fs::rename(folder.join("new"), setup.file()).unwrap();
    in_force(&gateway, &setup, "/e/1").await;

    // As Kubernetes mounts it: the file is a link into a folder that is a link, and that one is swapped.
    let version = |name: &str, text: &str| {
        std::fs::create_dir(folder.join(name)).unwrap();
        std::fs::write(folder.join(name).join("tidegate.toml"), text).unwrap();
    };
    setup = setup.rest(rest(&route("f", "/f", "")));
    version("..1", &setup.text());
    symlink("..1", folder.join("..data")).unwrap();
    symlink(Path::new("..data/tidegate.toml"), folder.join("link")).unwrap();
    std::fs::rename(folder.join("link"), setup.file()).unwrap();
    in_force(&gateway, &setup, "/f/1").await;
    setup = setup.rest(rest(&route("g", "/g", "")));
    version("..2", &setup.text());
    symlink("..2", folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    std::fs::remove_dir_all(folder.join("..1")).unwrap();
    in_force(&gateway, &setup, "/g/1").await;
    assert_eq!(gateway.metric("tidegate_config_reloads_total{result=\"refused\"}").await, 0);
    let shown = gateway.admin_get("/v1/config").await.json();
    assert_eq!(shown["route"][0]["name"], "g", "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_readyz_and_the_metrics_tell_what_is_in_force_and_what_came_last() {
    let source = ScriptedSource::start().await;
    source.always("*", Reply::ok("x"));
    let (mut setup, gateway) = started(&source, &route("a", "/a", "")).await;
    let first = config(&gateway).await;
    assert_eq!((&first["digest"], &first["last_reload"]), (&json!(digest(&setup.text())), &json!(null)));
    // The watch may be quicker than the call; then the call has nothing to change.
    let mut told = json!(null);
    for number in 0..20 {
        let routes = route("a", "/a", &format!("timeout = \"{}s\"", number + 1)) + &route("b", "/b", "");
        setup = setup.rest(format!(
            "{}{}",
            source.table(),
            if number % 2 == 0 { routes } else { route("a", "/a", "") }
        ));
        setup.write();
        told = gateway.admin_post("/v1/reload", &json!({})).await.json();
        if told["result"] == "applied" && number % 2 == 0 {
            break;
        }
    }
    let changes = json!([
        { "what": "route", "name": "a", "change": "changed", "keys": ["timeout"] },
        { "what": "route", "name": "b", "change": "added" },
    ]);
    let digest_now = digest(&setup.text());
    assert_eq!(told, json!({ "result": "applied", "digest": digest_now, "changes": changes }));
    let again = gateway.admin_post("/v1/reload", &json!({})).await.json();
    assert_eq!(again, json!({ "result": "unchanged", "digest": digest_now, "changes": [] }));
    let now = config(&gateway).await;
    assert_eq!((&now["digest"], &now["last_reload"]["result"]), (&json!(digest_now), &json!("unchanged")));
    assert!(now["loaded_at"].as_u64() > first["loaded_at"].as_u64(), "{now}");
    let text = gateway.admin_get("/metrics").await.text();
    let info: Vec<&str> = text.lines().filter(|line| line.starts_with("tidegate_config_info")).collect();
    assert_eq!(
        info,
        [format!("tidegate_config_info{{digest=\"{digest_now}\"}} 1")],
        "one series, the one in force"
    );
    assert!(text.contains("\ntidegate_config_last_reload_successful 1"), "{text}");
    assert!(gateway.metric("tidegate_config_reloads_total{result=\"applied\"}").await >= 1);
    // A comment is no change, and yet another text.
    std::fs::write(setup.file(), format!("# new\n{}", setup.text())).unwrap();
    let told = gateway.admin_post("/v1/reload", &json!({})).await.json();
    assert_eq!(told["digest"], digest(&format!("# new\n{}", setup.text())));
    assert_eq!(config(&gateway).await["digest"], told["digest"]);
}

//! What lies in `deploy/` and `config/` works with the binary of today: `tidegate check` accepts
//! every configuration, and what manifests say about ports, probes and times agrees with them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may panic, and says where"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What the environments of `deploy/` set; a configuration that needs another variable is refused.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("TIDEGATE_ADMIN_TOKEN", "4b9d7c1e5a2f48d69c03e7b1a5f2d8c6"),
    ("SOURCE_URL", "http://127.0.0.1:9001"),
    ("DESTINATION_URL", "http://127.0.0.1:9002"),
];

/// The pause of the `preStop` hooks.
const DRAIN_PAUSE: Duration = Duration::from_secs(5);

/// A manifest and the configuration that it runs with.
const DEPLOYMENTS: &[(&str, &str)] = &[
    ("deploy/compose/compose.yaml", "deploy/compose/tidegate.toml"),
    ("deploy/kubernetes/statefulset.yaml", "deploy/kubernetes/statefulset.toml"),
    ("deploy/kubernetes/sidecar.yaml", "deploy/kubernetes/sidecar.toml"),
    ("deploy/systemd/tidegate.service", "deploy/systemd/tidegate.toml"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|fault| panic!("{path}: {fault}"))
}

/// Files below `folder` with one of `extensions`, as paths from the root.
fn files(folder: &str, extensions: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut waiting: Vec<PathBuf> = vec![root().join(folder)];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|child| child.unwrap().path()));
        } else if path.extension().is_some_and(|own| extensions.iter().any(|wanted| own == *wanted)) {
            found.insert(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
        }
    }
    found
}

/// The values of `key:` in YAML, or `key=` in a unit, wherever they stand.
fn values(text: &str, key: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let found = lines.flat_map(|line| line.split([',', '{', '}'])).filter_map(|part| {
        let rest = part.trim().trim_start_matches("- ").strip_prefix(key)?;
        Some(rest.strip_prefix([':', '='])?.trim().trim_matches('"').to_owned())
    });
    found.filter(|value| !value.is_empty()).collect()
}

fn setting(configuration: &str, table: &str, key: &str) -> toml::Value {
    let parsed: toml::Table =
        toml::from_str(&read(configuration)).unwrap_or_else(|fault| panic!("{configuration}: {fault}"));
    parsed[table][key].clone()
}

#[test]
fn check_accepts_every_configuration() {
    let mut configurations = files("deploy", &["toml"]);
    configurations.extend(files("config", &["toml"]));
    let mut refused = Vec::new();
    for configuration in configurations {
        let mut check = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        check.args(["check", "--config"]).arg(root().join(&configuration));
        let output = check.envs(ENVIRONMENT.iter().copied()).output().unwrap();
        if !output.status.success() {
            refused.push(format!(
                "{configuration}: {}\n{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    assert!(refused.is_empty(), "refused by `tidegate check`:\n{}", refused.join("\n"));
}

/// The test above can fail.
#[test]
fn check_refuses_a_configuration_with_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tidegate.toml");
    fs::write(&path, "[server]\nlisten = [\"127.0.0.1:8080\"]\nno_such_key = 1\n").unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_tidegate")).args(["check", "--config"]).arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no_such_key"), "{output:?}");
}

#[test]
fn every_configuration_belongs_to_a_manifest() {
    let known: BTreeSet<_> =
        DEPLOYMENTS.iter().map(|(_, configuration)| (*configuration).to_owned()).collect();
    assert_eq!(files("deploy", &["toml"]), known);
}

/// A stop that is cut short by the supervisor would cut requests that `shutdown_grace` promises to finish.
#[test]
fn supervisors_wait_longer_than_shutdown_grace() {
    for (manifest, configuration) in DEPLOYMENTS {
        let grace = setting(configuration, "server", "shutdown_grace");
        let grace = humantime::parse_duration(grace.as_str().unwrap()).unwrap();
        let text = read(manifest);
        let keys = ["terminationGracePeriodSeconds", "stop_grace_period", "TimeoutStopSec"];
        let waits: Vec<_> = keys.iter().flat_map(|key| values(&text, key)).collect();
        assert_eq!(waits.len(), 1, "{manifest}: one waiting time");
        let seconds: u64 = waits[0].trim_end_matches('s').parse().unwrap();
        assert!(
            Duration::from_secs(seconds) > grace + DRAIN_PAUSE,
            "{manifest}: {seconds} s against {grace:?}"
        );
    }
}

#[test]
fn kubernetes_probes_the_admin_listener_which_asks_for_a_token() {
    for (manifest, configuration) in
        DEPLOYMENTS.iter().filter(|(manifest, _)| manifest.contains("kubernetes"))
    {
        let text = read(manifest);
        let admin = setting(configuration, "admin", "listen");
        let (address, port) = admin.as_str().unwrap().rsplit_once(':').unwrap();
        assert_eq!(address, "0.0.0.0", "{configuration}: the node's probes cannot reach a loopback");
        assert!(setting(configuration, "admin", "token").as_str().unwrap().contains("TIDEGATE_ADMIN_TOKEN"));
        assert!(
            text.contains(&format!("name: admin, containerPort: {port}")),
            "{manifest}: admin port {port}"
        );
        let public = setting(configuration, "server", "listen")[0].clone();
        let (_, port) = public.as_str().unwrap().rsplit_once(':').unwrap();
        assert!(
            text.contains(&format!("name: http, containerPort: {port}")),
            "{manifest}: public port {port}"
        );
        let paths: BTreeSet<_> = values(&text, "path").into_iter().collect();
        assert_eq!(paths, ["/livez", "/readyz"].map(str::to_owned).into(), "{manifest}");
        for probe in [
            "livenessProbe:",
            "readinessProbe:",
            "preStop:",
            "readOnlyRootFilesystem: true",
            "runAsNonRoot: true",
        ] {
            assert!(text.contains(probe), "{manifest}: no `{probe}`");
        }
        assert_eq!(
            values(&text, "seconds"),
            [DRAIN_PAUSE.as_secs().to_string()],
            "{manifest}: preStop pause"
        );
    }
}

#[test]
fn kustomize_and_compose_name_files_that_exist() {
    let kustomization = read("deploy/kubernetes/kustomization.yaml");
    let listed = kustomization.lines().filter_map(|line| line.trim().strip_prefix("- "));
    let is_file = |item: &&str| Path::new(item).extension().is_some_and(|own| own == "yaml" || own == "toml");
    let named: BTreeSet<_> = listed.filter(is_file).collect();
    assert_eq!(named.len(), 4, "{named:?}");
    for name in named {
        let file = name.split_once('=').map_or(name, |(_, file)| file);
        assert!(root().join("deploy/kubernetes").join(file).is_file(), "kustomization.yaml names {file}");
    }
    let compose = read("deploy/compose/compose.yaml");
    assert!(compose.contains("./tidegate.toml:/etc/tidegate/tidegate.toml:ro"));
    assert!(root().join("deploy/compose").join(&values(&compose, "context")[0]).join("Cargo.toml").is_file());
}

/// The alert rules are sound, and each fires when it should and not before (`tidegate.rules.test.yaml`).
/// That the metrics which they name exist is tested in tests/it/observe.
#[test]
fn prometheus_accepts_the_alert_rules_and_their_tests_pass() {
    let rules = read("deploy/prometheus/tidegate.rules.yaml");
    let tests = read("deploy/prometheus/tidegate.rules.test.yaml");
    let alerts = values(&rules, "alert");
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in alerts {
        assert!(
            tests.matches(&format!("alertname: {alert}")).count() >= 2,
            "{alert} is not tested both ways"
        );
    }
    for arguments in
        [["check", "rules", "tidegate.rules.yaml"], ["test", "rules", "tidegate.rules.test.yaml"]]
    {
        let mut promtool = Command::new("promtool");
        let output = match promtool.args(arguments).current_dir(root().join("deploy/prometheus")).output() {
            Ok(output) => output,
            Err(cause) => {
                assert!(std::env::var_os("CI").is_none(), "promtool cannot be run: {cause}");
                eprintln!("NOT TESTED: promtool is missing (Debian: apt-get install prometheus)");
                return;
            }
        };
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "promtool {arguments:?}:\n{}", String::from_utf8_lossy(&said));
    }
}

/// Container and unit run without rights, and write to the journal's folder only.
#[test]
fn nothing_runs_as_root() {
    let dockerfile = read("deploy/Dockerfile");
    let user = dockerfile.lines().rfind(|line| line.starts_with("USER ")).unwrap();
    assert!(!user.contains("root") && !user.starts_with("USER 0"), "{user}");
    let unit = read("deploy/systemd/tidegate.service");
    for (key, value) in [("DynamicUser", "yes"), ("ProtectSystem", "strict"), ("NoNewPrivileges", "yes")] {
        assert_eq!(values(&unit, key), [value], "{key}");
    }
    let state = format!("/var/lib/{}", values(&unit, "StateDirectory")[0]);
    assert_eq!(setting("deploy/systemd/tidegate.toml", "sync", "data").as_str(), Some(state.as_str()));
    for configuration in ["deploy/compose/tidegate.toml", "deploy/kubernetes/statefulset.toml"] {
        let data = setting(configuration, "sync", "data");
        assert!(
            dockerfile.contains(&format!("VOLUME {}", data.as_str().unwrap())),
            "{configuration}: {data}"
        );
    }
}

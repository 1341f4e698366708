//! The binary and its configuration: what `check`, `schema` and `serve` print, and how they exit.

#![expect(clippy::unwrap_used, reason = "a test may panic; clippy.toml knows only functions that are tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SOUND: &str = r#"
[[source]]
name = "s"
urls = ["http://127.0.0.1:9001"]
[[destination]]
name = "d"
url = "http://127.0.0.1:9002"
[[route]]
name = "r"
path = "/items/{id}"
source = "s"
"#;

fn tidegate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(arguments)
        .env_remove("TIDEGATE_ADMIN_TOKEN")
        .env_remove("TIDEGATE_CACHE_SECRET")
        .env("SECRET_OF_TEST", "canary")
        .output()
        .unwrap()
}

struct File {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl File {
    fn with(text: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tidegate.toml");
        std::fs::write(&path, text).unwrap();
        Self { path, _folder: folder }
    }

    fn run(&self, command: &str, more: &[&str]) -> Output {
        let mut arguments = vec![command, "--config", self.path.to_str().unwrap()];
        arguments.extend_from_slice(more);
        tidegate(&arguments)
    }

    /// The lines of standard error, without the name of the file.
    fn faults(&self, command: &str) -> Vec<String> {
        let output = self.run(command, &[]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty());
        let name = format!("{}:", self.path.display());
        text(&output.stderr).lines().map(|line| line.strip_prefix(&name).unwrap().to_owned()).collect()
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_sound_file_is_ok() {
    let file = File::with(SOUND);
    let output = file.run("check", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("OK"));
    let output = file.run("check", &["--json"]);
    assert_eq!((output.status.code(), text(&output.stdout).trim()), (Some(0), "[]"));
}

#[test]
fn ready_files_are_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let files = files_below(&folder);
    assert!(files.len() >= 3, "{files:?}");
    for path in files {
        let output = tidegate(&["check", "--config", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect()
}

#[test]
fn check_and_serve_tell_the_same_faults_and_exit_2() {
    let file = File::with(SOUND.replace("source = \"s\"", "source = \"t\"\nmethod = [\"GET\"]"));
    let faults = file.faults("check");
    assert_eq!(faults, file.faults("serve"));
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].starts_with("11:10: route[0].source: unknown source \"t\"; "), "{faults:?}");
    assert_eq!(faults[1], "12:1: route[0].method: unknown key; did you mean methods?");
}

#[test]
fn json_faults_are_objects() {
    let file = File::with("[server]\nlisten = []\n");
    let output = file.run("check", &["--json"]);
    assert_eq!(output.status.code(), Some(2));
    let faults: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys: Vec<&str> =
        faults.as_array().unwrap().iter().map(|fault| fault["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["route", "source", "server.listen"]);
    let listen = &faults[2];
    assert_eq!((&listen["line"], &listen["column"]), (&2.into(), &10.into()));
    for field in ["file", "message", "remedy"] {
        assert!(!listen[field].as_str().unwrap().is_empty());
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let missing = tidegate(&["serve", "--config", "/nowhere/at-all.toml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).starts_with("/nowhere/at-all.toml:1:1: (file): cannot be read: "));
    let none = tidegate(&["serve"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(text(&none.stderr).contains("--config"));
    for (content, message) in [
        (Vec::new(), "is empty"),
        (vec![0xFF, 0xFE], "is not UTF-8"),
        (vec![b'#'; (1 << 20) + 1], "is larger than 1 MiB"),
    ] {
        let faults = File::with(content).faults("check");
        assert!(faults[0].contains(message), "{faults:?}");
    }
}

/// A file is untrusted: depth costs no stack, and length no patience.
#[test]
fn hostile_files_are_refused_like_others() {
    const DEPTH: usize = 100_000;
    for content in [
        format!("a = {}", "[".repeat(DEPTH)),
        format!("a = {}", "{a = ".repeat(DEPTH)),
        format!("{}a = 1", "a.".repeat(DEPTH)),
        format!("[{}a]", "a.".repeat(DEPTH)),
        "[[route]]\n".repeat(5_000),
        format!("x = '{}'", "y".repeat(1_000_000)),
    ] {
        let faults = File::with(&content).faults("check");
        assert!(faults.len() <= 501, "{} faults", faults.len());
    }
}

#[test]
fn certificates_are_read() {
    let file = File::with(format!("[server.tls]\ncert = \"no.pem\"\nkey = \"tidegate.toml\"\n{SOUND}"));
    let faults = file.faults("check");
    let cert = faults.iter().find(|fault| fault.contains("server.tls.cert: cannot be read")).unwrap();
    assert!(cert.starts_with("2:8: "), "{cert}");
    assert!(faults.iter().any(|fault| fault.contains("server.tls.key: cannot be read")), "{faults:?}");
}

#[test]
fn faults_of_synced_routes() {
    for (lines, key, message) in [
        ("", "route[0].sync.destinations", "missing"),
        ("destinations = []", "route[0].sync.destinations", "no destination"),
        ("destinations = [\"x\"]", "route[0].sync.destinations[0]", "unknown destination \"x\""),
        ("destinations = [\"d\", \"d\"]", "route[0].sync.destinations[1]", "named twice"),
        ("destinations = [\"d\"]\nkey = \"{nobody}\"", "route[0].sync.key", "unknown part {nobody}"),
        ("destinations = [\"d\"]\nkey = \"{id\"", "route[0].sync.key", "brace"),
        ("destinations = [\"d\"]\nkey = \"same\"", "route[0].sync.key", "no part"),
        ("destinations = [\"d\"]\non_refusal = \"park-key\"", "route[0].sync.on_refusal", "parks nothing"),
        ("destinations = [\"d\"]\nbody = \"0B\"", "route[0].sync.body", "larger than zero"),
    ] {
        let faults = File::with(format!("{SOUND}[route.sync]\n{lines}\n")).faults("check");
        let found =
            faults.iter().any(|fault| fault.contains(&format!(" {key}: ")) && fault.contains(message));
        assert!(found, "{lines}: {faults:?}");
    }
    for lines in ["mode = \"accept\"", "mode = \"accept\"\non_refusal = \"park-key\""] {
        let file = File::with(format!("{SOUND}[route.sync]\ndestinations = [\"d\"]\n{lines}\n"));
        let output = file.run("check", &[]);
        assert_eq!(output.status.code(), Some(0), "{lines}: {}", text(&output.stderr));
    }
    for key in ["{location}", "{path}", "{id}", "t-{header:X-Tenant}-{json:/id}"] {
        let file = File::with(format!("{SOUND}[route.sync]\ndestinations = [\"d\"]\nkey = \"{key}\"\n"));
        let output = file.run("check", &[]);
        assert_eq!(output.status.code(), Some(0), "{key}: {}", text(&output.stderr));
    }
}

#[test]
fn i12_faults_tell_no_secret() {
    let url = "urls = [\"htp://user:${SECRET_OF_TEST}@h\"]\nheaders = { a = \"${SECRET_OF_TEST}\\n\" }";
    let file = File::with(SOUND.replace("urls = [\"http://127.0.0.1:9001\"]", url));
    let faults = file.faults("check");
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(!faults.concat().contains("canary"), "{faults:?}");
}

#[test]
fn variables_come_from_the_environment() {
    let file = File::with(SOUND.replace("127.0.0.1:9001", "${SECRET_OF_TEST}.example:${NO_SUCH_PORT:-81}"));
    assert_eq!(file.run("check", &[]).status.code(), Some(0));
    let file = File::with(SOUND.replace("127.0.0.1:9001", "${NO_SUCH_HOST}"));
    let faults = file.faults("check");
    assert!(
        faults[0].starts_with("4:9: source[0].urls[0]: the environment variable NO_SUCH_HOST is not set; ")
    );
}

#[test]
fn the_schema_is_printed() {
    let output = tidegate(&["schema"]);
    assert_eq!(output.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["type"], "object");
    let route = &schema["properties"]["route"]["items"]["properties"];
    assert!(route["path"]["description"].is_string());
    assert!(text(&tidegate(&["--version"]).stdout).starts_with("tidegate "));
}

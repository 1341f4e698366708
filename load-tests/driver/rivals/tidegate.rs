//! Tidegate itself: two threads, metrics on, log at its default (info), nothing synced but where it is said.

use super::server::Place;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// What its listener speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spoken {
    /// HTTP/1.1, and HTTP/2 by prior knowledge.
    Plain,
    Tls,
}

/// As many as the peers have.
const THREADS: u16 = 2;

/// Its configuration, and what runs it.
pub(crate) fn command(place: &Place, spoken: Spoken) -> anyhow::Result<Command> {
    let path = configure(place, spoken, THREADS)?;
    let mut command = Command::new(&place.setting.binary);
    command.args(["serve", "--config"]).arg(&path).env_remove("RUST_LOG");
    Ok(command)
}

/// Writes its configuration: where it is.
pub(crate) fn configure(place: &Place, spoken: Spoken, threads: u16) -> anyhow::Result<PathBuf> {
    let path = place.folder.join("tidegate.toml");
    fs::write(&path, configuration(place, spoken, threads))?;
    Ok(path)
}

fn configuration(place: &Place, spoken: Spoken, threads: u16) -> String {
    let Place { setting, port, second_port, .. } = place;
    let (source, cert, key) = (setting.source, setting.cert.display(), setting.key.display());
    let tls = match spoken {
        Spoken::Plain => String::new(),
        Spoken::Tls => format!("[server.tls]\ncert = \"{cert}\"\nkey = \"{key}\"\n"),
    };
    format!(
        r#"[server]
listen = ["127.0.0.1:{port}"]
threads = {threads}
[server.limits]
idle_timeout = "10m"
{tls}[admin]
listen = "127.0.0.1:{second_port}"
[cache]
memory = "8GiB"
[[source]]
name = "source"
urls = ["http://{source}"]
[[destination]]
name = "absent"
url = "http://127.0.0.1:9"
[destination.retry]
base = "1h"
cap = "1h"
[[route]]
name = "quota"
path = "/quota/{{key}}"
source = "source"
[[route.limit]]
name = "per-client"
requests = 4294967295
per = "1s"
[[route]]
name = "synced"
path = "/items/{{key}}"
source = "source"
[route.sync]
destinations = ["absent"]
[[route]]
name = "all"
path = "/{{*rest}}"
source = "source"
"#
    )
}

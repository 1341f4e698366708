//! haproxy: two threads and its cache for small objects, which is preallocated.

use super::server::Place;
use std::fs;
use std::process::Command;

/// Its configuration, and what runs it.
pub(crate) fn command(place: &Place) -> anyhow::Result<Command> {
    let path = place.folder.join("haproxy.cfg");
    fs::write(&path, configuration(place))?;
    let mut command = Command::new("haproxy");
    command.args(["-db", "-q", "-f"]).arg(&path);
    Ok(command)
}

fn configuration(place: &Place) -> String {
    let Place { setting, port, .. } = place;
    let source = setting.source;
    format!(
        "global
    nbthread 2
    maxconn 8000
    tune.h2.max-concurrent-streams 128
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    timeout http-keep-alive 600s
    option http-keep-alive
cache stored
    total-max-size 512
    max-object-size 1000000
    max-age 3600
frontend clients
    bind 127.0.0.1:{port} backlog 8192
    http-request cache-use stored
    http-response cache-store stored
    default_backend source
backend source
    http-reuse always
    server source {source} pool-max-conn 512 pool-purge-delay 600s
"
    )
}

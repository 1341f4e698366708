//! Varnish: stored responses in memory, two pools of threads.

use super::server::Place;
use std::fs;
use std::process::Command;

/// Its configuration, and what runs it.
pub(crate) fn command(place: &Place) -> anyhow::Result<Command> {
    let path = place.folder.join("varnish.vcl");
    let (host, port) = (place.setting.source.ip(), place.setting.source.port());
    fs::write(&path, format!("vcl 4.1;\nbackend source {{ .host = \"{host}\"; .port = \"{port}\"; }}\n"))?;
    let mut command = Command::new("varnishd");
    command.args(["-F", "-j", "none", "-s", "malloc,4g", "-T", "none"]);
    command.arg("-a").arg(format!("127.0.0.1:{}", place.port)).arg("-f").arg(&path);
    command.arg("-n").arg(place.folder.join("work"));
    for parameter in [
        "thread_pools=2",
        "thread_pool_min=100",
        "thread_pool_max=1000",
        "timeout_idle=600",
        "backend_idle_timeout=600",
        "listen_depth=8192",
    ] {
        command.args(["-p", parameter]);
    }
    Ok(command)
}

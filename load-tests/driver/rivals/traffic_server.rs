//! Traffic Server: two threads for events, its memory cache in front of a store that lies in memory too.

use super::server::Place;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Where Debian keeps its error pages and its modules, which it must find.
const BODY_FACTORY: &str = "/etc/trafficserver/body_factory";
const MODULES: &str = "/usr/lib/trafficserver/modules";

/// Its configuration, and what runs it.
pub(crate) fn command(place: &Place) -> anyhow::Result<Command> {
    let root = &place.folder;
    let config = root.join("config");
    for folder in ["config", "run", "log", "store"] {
        fs::create_dir_all(root.join(folder))?;
    }
    if Path::new(BODY_FACTORY).exists() {
        symlink(BODY_FACTORY, config.join("body_factory"))?;
    }
    let source = place.setting.source;
    fs::write(config.join("records.config"), records(place))?;
    fs::write(config.join("remap.config"), format!("map / http://{source}/\n"))?;
    fs::write(config.join("storage.config"), format!("{} 1G\n", root.join("store").display()))?;
    fs::write(config.join("ip_allow.yaml"), IP_ALLOW)?;
    for empty in EMPTY_FILES {
        fs::write(config.join(empty), "")?;
    }
    let layout = root.join("runroot.yaml");
    fs::write(&layout, run_root(root))?;
    let mut command = Command::new("traffic_server");
    command.arg(format!("--run-root={}", layout.display()));
    Ok(command)
}

/// Clients of the loopback may read.
const IP_ALLOW: &str =
    "ip_allow:\n  - apply: in\n    ip_addrs: 127.0.0.1\n    action: allow\n    methods: ALL\n";
/// Files that it complains about where they are missing.
const EMPTY_FILES: [&str; 8] = [
    "plugin.config",
    "cache.config",
    "hosting.config",
    "volume.config",
    "parent.config",
    "splitdns.config",
    "ssl_multicert.config",
    "logging.yaml",
];

fn run_root(root: &Path) -> String {
    let at = |name: &str| root.join(name).display().to_string();
    format!(
        "prefix: {}\nexec_prefix: /usr\nbindir: /usr/bin\nsbindir: /usr/sbin\nsysconfdir: {}\ndatadir: {}\n\
         includedir: /usr/include\nlibdir: /usr/lib/trafficserver\nlibexecdir: {MODULES}\nlocalstatedir: {}\n\
         runtimedir: {}\nlogdir: {}\nmandir: /usr/share/man\ninfodir: /usr/share/info\ncachedir: {}\n",
        root.display(),
        at("config"),
        at("config"),
        at("run"),
        at("run"),
        at("log"),
        at("store"),
    )
}

fn records(place: &Place) -> String {
    let port = place.port;
    format!(
        "CONFIG proxy.config.http.server_ports STRING {port}:ip-in=127.0.0.1
CONFIG proxy.config.exec_thread.autoconfig.enabled INT 0
CONFIG proxy.config.exec_thread.limit INT 2
CONFIG proxy.config.accept_threads INT 0
CONFIG proxy.config.task_threads INT 1
CONFIG proxy.config.cache.threads_per_disk INT 2
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.crash_log_helper STRING NULL
CONFIG proxy.config.log.logging_enabled INT 0
CONFIG proxy.config.diags.output.status STRING E
CONFIG proxy.config.diags.output.warning STRING E
CONFIG proxy.config.cache.ram_cache.size INT 2147483648
CONFIG proxy.config.cache.ram_cache.use_seen_filter INT 0
CONFIG proxy.config.cache.enable_read_while_writer INT 1
CONFIG proxy.config.http.cache.required_headers INT 2
CONFIG proxy.config.http.keep_alive_enabled_out INT 1
CONFIG proxy.config.http.keep_alive_no_activity_timeout_in INT 600
CONFIG proxy.config.http.keep_alive_no_activity_timeout_out INT 600
CONFIG proxy.config.http.server_session_sharing.pool STRING thread
CONFIG proxy.config.net.connections_throttle INT 18000
CONFIG proxy.config.net.max_connections_in INT 15000
CONFIG proxy.config.http.insert_response_via_str INT 0
CONFIG proxy.config.http.insert_request_via_str INT 0
CONFIG proxy.config.url_remap.remap_required INT 1
CONFIG proxy.config.url_remap.pristine_host_hdr INT 0
"
    )
}

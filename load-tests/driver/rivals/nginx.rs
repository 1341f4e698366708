//! nginx: two workers, stored responses in a file system in memory, logs off, one fill at a time.

use super::server::Place;
use std::fs;
use std::process::Command;

/// Its configuration, and what runs it.
pub(crate) fn command(place: &Place) -> anyhow::Result<Command> {
    let path = place.folder.join("nginx.conf");
    fs::write(&path, configuration(place))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&place.folder).arg("-c").arg(&path).args(["-e", "stderr"]);
    Ok(command)
}

fn configuration(place: &Place) -> String {
    let Place { setting, folder, port, second_port, third_port } = place;
    let (folder, source) = (folder.display(), setting.source);
    let (cert, key) = (setting.cert.display(), setting.key.display());
    format!(
        "user root root;
daemon off;
worker_processes 2;
worker_rlimit_nofile 19000;
pid {folder}/pid;
error_log stderr crit;
events {{ worker_connections 9000; multi_accept on; }}
http {{
    access_log off;
    # With tcp_nopush, a client of the loopback waits for the last part of a long answer.
    tcp_nopush off;
    tcp_nodelay on;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    open_file_cache max=15000 inactive=600s;
    open_file_cache_valid 600s;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/temporary;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_cache_path {folder}/cache levels=1:2 keys_zone=stored:256m inactive=2h use_temp_path=off;
    upstream source {{
        server {source};
        keepalive 256;
        keepalive_requests 1000000000;
        keepalive_timeout 600s;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=8192;
        listen 127.0.0.1:{second_port} ssl http2 backlog=8192;
        listen 127.0.0.1:{third_port} http2 backlog=8192;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        proxy_http_version 1.1;
        proxy_set_header Connection \"\";
        proxy_set_header Host $host;
        proxy_cache stored;
        proxy_cache_lock on;
        proxy_buffers 32 8k;
        # Each as it costs least here.
        location / {{ sendfile off; proxy_pass http://source; }}
        location /big/ {{ sendfile on; proxy_pass http://source; }}
    }}
}}
"
    )
}

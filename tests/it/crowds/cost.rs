//! What a connection costs in memory.

use super::{connect, is_served, source};
use crate::support::{EVERYTHING, Setup};

const CONNECTIONS: usize = 1000;

/// What an idle one takes at most; slow ones that are at work: `slow.rs`.
const IDLE_BYTES: usize = 64 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_an_idle_connection_takes_at_most_64_kib() {
    let source = source().await;
    let gateway = Setup::new(format!("{}{EVERYTHING}", source.table())).start().await;
    for stream in &mut connect(&gateway, 50).await {
        assert!(is_served(stream).await);
    }
    let before = gateway.resident_bytes();
    let mut idle = connect(&gateway, CONNECTIONS).await;
    for stream in &mut idle {
        assert!(is_served(stream).await);
    }
    let each = gateway.resident_bytes().saturating_sub(before) / CONNECTIONS;
    eprintln!("{each} bytes each");
    assert!(each <= IDLE_BYTES, "{each} bytes each");
}

//! A rolling upgrade: replicas of the version before, of this one and of the next share one Redis.

use super::trust::{name_of, put, read_by_a_newcomer, value};
use super::{asking, purged, setup, storable};
use crate::support::{Gateway, RedisServer, Reply, ScriptedSource};
use rapidhash::v3::rapidhash_v3;

/// Magic and version in front of flags and two lengths.
const VERSION_AT: usize = 4;
const LENGTHS_AT: usize = 6;
const KEY_AT: usize = 14;
const CHECKSUM_BYTES: usize = 8;
/// How this version says that a short body is neither compressed nor in pieces.
const PACKING_BYTES: usize = 3;

fn sealed(mut content: Vec<u8>) -> Vec<u8> {
    let checksum = rapidhash_v3(&content);
    content.extend(checksum.to_be_bytes());
    content
}

/// A value of this version as version 3 lays it out: its key has no namespace, its meta data no packing.
fn as_version_3(now: &[u8]) -> Vec<u8> {
    let length = |at: usize| u32::from_be_bytes(now[at..at + 4].try_into().unwrap()) as usize;
    let (key_length, meta_length) = (length(LENGTHS_AT), length(LENGTHS_AT + 4));
    let (key, rest) = now[KEY_AT..now.len() - CHECKSUM_BYTES].split_at(key_length);
    let (meta, body) = rest.split_at(meta_length);
    let key = key.strip_prefix(b"tidegate\0").expect("the namespace");
    let meta = &meta[..meta_length - PACKING_BYTES];
    let mut before = [&now[..VERSION_AT], &[3, 0]].concat();
    for part in [key, meta] {
        before.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
    }
    sealed([&before, key, meta, body].concat())
}

async fn newcomer(source: &ScriptedSource, shared: &str) -> Gateway {
    let gateway = setup(source, shared).start().await;
    gateway.uses_redis().await;
    gateway
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_before_is_read_and_the_next_one_is_a_miss() {
    let (source, redis) = (storable().await, RedisServer::start().await);
    source.always("/a", Reply::ok("body of a").cache_control("max-age=600"));
    let writer = newcomer(&source, &redis.table()).await;
    writer.send(asking("/a")).await;
    writer.has_written().await;
    let name = name_of(&redis, "tidegate", "body of a").await;
    let now = value(&redis, &name).await;
    let mut next = now[..now.len() - CHECKSUM_BYTES].to_vec();
    next[VERSION_AT] += 1;
    for (what, bytes, is_read) in [("before", as_version_3(&now), true), ("next", sealed(next), false)] {
        let put = async || put(&redis, &name, &bytes).await;
        let (reader, answer) = read_by_a_newcomer(&source, &redis.table(), "/a", put).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "body of a"), "{what}");
        assert_eq!(answer.is_hit(), is_read, "{what}: {answer:?}");
        let unreadable = reader.metric("tidegate_tier_unreadable_total{reason=\"version\"}").await;
        assert_eq!(unreadable, u64::from(!is_read), "{what}");
        reader.has_written().await;
    }
    // A purge reaches what the version before has stored.
    put(&redis, &name, &as_version_3(&now)).await;
    purged(&writer, &serde_json::json!({ "all": true })).await;
    assert!(!newcomer(&source, &redis.table()).await.send(asking("/a")).await.is_hit());
}

//! Redis behind TLS, with users, on a Unix socket, watched by Sentinels, and as a cluster.

use super::{asking, assert_shares, setup, storable};
use crate::support::redis::{ask, free_port, table};
use crate::support::{EVERYTHING, Gateway, RedisServer, Relay, Setup, eventually};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use redis::{IntoConnectionInfo, RedisResult, cmd};
use std::path::Path;
use tempfile::TempDir;

/// Writes an authority, and a certificate by it for this machine.
fn certificates(folder: &Path) {
    let authority = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(folder.join("ca.pem"), parameters.self_signed(&authority).unwrap().pem()).unwrap();
    let (issuer, key) = (Issuer::new(parameters, authority), KeyPair::generate().unwrap());
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_verified_by_the_authorities_that_are_named() {
    let (source, files, other) = (storable().await, TempDir::new().unwrap(), TempDir::new().unwrap());
    certificates(files.path());
    certificates(other.path());
    let port = free_port().await;
    let file = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let _redis = RedisServer::with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &file("server.pem"),
        "--tls-key-file",
        &file("server.key"),
        "--tls-ca-cert-file",
        &file("ca.pem"),
        "--tls-auth-clients",
        "no",
    ])
    .await;
    let shared = |folder: &TempDir| {
        let ca = folder.path().join("ca.pem");
        table(&format!("rediss://127.0.0.1:{port}")) + &format!("ca = \"{}\"\n", ca.display())
    };
    assert_shares(&source, &shared(&files)).await;

    // Another authority's, and the system's, which do not know this one.
    for shared in [shared(&other), table(&format!("rediss://127.0.0.1:{port}"))] {
        // Each cause: the first may be that a handshake took too long.
        let mut stranger = setup(&source, &shared);
        stranger.environment("TIDEGATE_LOG", "info,tidegate::redis=debug");
        let stranger = stranger.start().await;
        eventually("it says why", async || {
            let log = stranger.log_text().to_lowercase();
            log.contains("cannot connect to redis") && log.contains("certificate")
        })
        .await;
        assert_eq!(stranger.get("/without").await.status, 200);
        assert_eq!(stranger.metric("tidegate_stored_total{tier=\"shared\"}").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_a_password_and_no_more_rights_than_it_needs() {
    let (source, redis) = (storable().await, RedisServer::start().await);
    let mut user = cmd("ACL");
    user.arg("SETUSER").arg("tide").arg("on").arg(">p@ss/word").arg("~tidegate:*");
    user.arg("+@read").arg("+@write").arg("+@connection").arg("+info");
    redis.command::<()>(&user).await;
    redis.command::<()>(cmd("ACL").arg("SETUSER").arg("default").arg("off")).await;
    let url = |login: &str| table(&format!("redis://{login}@{}", redis.address()));
    let (gateway, _other) = assert_shares(&source, &url("tide:p%40ss%2Fword")).await;
    let shown = gateway.admin_get("/v1/config").await.text();
    assert!(!shown.contains("p%40ss") && !gateway.log_text().contains("p%40ss"), "{shown}");
    assert!(!gateway.log_text().contains("does not let its user"), "{}", gateway.log_text());

    let stranger = setup(&source, &url("tide:wrong")).start().await;
    eventually("it says why", async || stranger.log_text().contains("uthentication failed")).await;
    assert_eq!(stranger.get("/without").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unix_socket() {
    let source = storable().await;
    let redis = RedisServer::with(&["--unixsocket", "FOLDER/redis.sock"]).await;
    let socket = redis.folder().join("redis.sock");
    assert_shares(&source, &table(&format!("redis+unix://{}?db=3", socket.display()))).await;
    let keys: u64 = {
        let to = format!("{}/3", redis.url()).into_connection_info().unwrap();
        ask(to, &cmd("DBSIZE")).await.unwrap()
    };
    assert!(keys > 0, "in the database that is named");
}

/// Three nodes with a third of the slots each, and the URL of two of them.
async fn cluster() -> (Vec<RedisServer>, String) {
    let arguments = [
        "--cluster-enabled",
        "yes",
        "--cluster-node-timeout",
        "1000",
        // The others go on without the slots of one that is gone.
        "--cluster-require-full-coverage",
        "no",
    ];
    let mut nodes = Vec::new();
    for (from, to) in [(0, 5460), (5461, 10922), (10923, 16383)] {
        let node = RedisServer::with(&arguments).await;
        node.command::<()>(cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(from).arg(to)).await;
        nodes.push(node);
    }
    for node in &nodes[1..] {
        let meet = |node: &RedisServer| cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(node.port()).clone();
        nodes[0].command::<()>(&meet(node)).await;
    }
    for node in &nodes {
        eventually("the cluster stands", async || {
            let info: String = node.command(cmd("CLUSTER").arg("INFO")).await;
            let slots: redis::Value = node.command(cmd("CLUSTER").arg("SLOTS")).await;
            let known = matches!(slots, redis::Value::Array(ranges) if ranges.len() == 3);
            info.contains("cluster_state:ok") && known
        })
        .await;
    }
    let url = format!("redis-cluster://{},{}", nodes[0].address(), nodes[1].address());
    (nodes, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_three_has_keys_on_every_node_and_outlives_one() {
    let source = storable().await;
    let (mut nodes, url) = cluster().await;
    let (one, other) = assert_shares(&source, &table(&url)).await;
    for number in 0..60 {
        one.send(asking(&format!("/spread/{number}"))).await;
    }
    one.has_written().await;
    for node in &nodes {
        assert!(!node.names("tidegate:c:").await.is_empty(), "every node has some");
    }
    assert_eq!(one.metric("tidegate_tier_dropped_total").await, 0);
    let mut in_time = 0;
    for number in 0..60 {
        let Some(answer) = other.send_in_time(asking(&format!("/spread/{number}"))).await else { continue };
        assert!(answer.is_hit() && answer.says("detail=shared"), "{number}: {answer:?}");
        in_time += 1;
    }
    assert!(in_time > 30, "{in_time} of 60 looks were in time");
    // A node goes: what lies on the others is found.
    let log = one.log_text();
    assert!(!log.contains("CROSSSLOT") && !log.contains("is lost"), "{log}");
    nodes[2].stop().await;
    for number in 0..60 {
        let answer = one.get(&format!("/after/{number}")).await;
        assert_eq!((answer.status, answer.text()), (200, format!("/after/{number}")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_tell_the_master_and_its_successor() {
    let source = storable().await;
    let mut master = RedisServer::start().await;
    let replica = RedisServer::start().await;
    let replicaof = |of: &RedisServer| cmd("REPLICAOF").arg("127.0.0.1").arg(of.port()).clone();
    replica.command::<()>(&replicaof(&master)).await;
    eventually("the replica follows", async || {
        let info: String = replica.command(cmd("INFO").arg("replication")).await;
        info.contains("master_link_status:up")
    })
    .await;
    let folder = TempDir::new().unwrap();
    let settings = format!(
        "sentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 500\n\
         sentinel failover-timeout main 3000\n",
        master.port()
    );
    let file = folder.path().join("sentinel.conf");
    std::fs::write(&file, settings).unwrap();
    let sentinel = RedisServer::run(folder, &[file.to_str().unwrap(), "--sentinel"]).await;
    sentinel.answering().await;
    eventually("the Sentinel knows the replica", async || {
        let known: RedisResult<redis::Value> =
            sentinel.try_command(cmd("SENTINEL").arg("REPLICAS").arg("main")).await;
        matches!(known, Ok(redis::Value::Array(replicas)) if !replicas.is_empty())
    })
    .await;
    // The first of the two is not there.
    let nobody = free_port().await;
    let url = format!("redis-sentinel://127.0.0.1:{nobody},{}/main", sentinel.address());
    let (one, _other) = assert_shares(&source, &table(&url)).await;
    one.get("/before").await;
    one.has_written().await;
    let stored = one.metric("tidegate_stored_total{tier=\"shared\"}").await;

    master.stop().await;
    let mut asked = 0;
    eventually("the successor is used", async || {
        asked += 1;
        let answer = one.get(&format!("/after/{asked}")).await;
        assert_eq!((answer.status, answer.text()), (200, format!("/after/{asked}")));
        one.metric("tidegate_stored_total{tier=\"shared\"}").await > stored
    })
    .await;
    assert!(!replica.names("tidegate:c:").await.is_empty());
    let role: String = replica.command(cmd("INFO").arg("replication")).await;
    assert!(role.contains("role:master"), "{role}");
}

/// The log of a gateway that Redis has cut off once.
async fn connected_twice(gateway: &Gateway, redis: &RedisServer) -> String {
    let _: i64 = redis.command(cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal")).await;
    let mut asked = 0;
    eventually("it connects again", async || {
        asked += 1;
        gateway.get(&format!("/notices/{asked}")).await;
        gateway.log_text().matches("connected to Redis").count() > 1
    })
    .await;
    gateway.log_text()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_told_once_with_a_remedy() {
    let source = storable().await;
    let redis = RedisServer::with(&["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]).await;
    let gateway = setup(&source, &redis.table()).start().await;
    gateway.uses_redis().await;
    // It is told once, however often it connects.
    let log = connected_twice(&gateway, &redis).await;
    assert_eq!(log.matches("set its maxmemory-policy to volatile-ttl").count(), 1, "{log}");
}

/// The quotas of a route lie in one slot and are charged together; those of other routes lie elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_quotas_hold_in_a_cluster_whatever_the_slot() {
    let (source, (nodes, url)) = (storable().await, cluster().await);
    let limit = |name: &str, key: &str, requests: u32| {
        format!(
            "[[route.limit]]\nname = \"{name}\"\nkey = \"{key}\"\nscope = \"shared\"\n\
             requests = {requests}\nper = \"1h\"\n"
        )
    };
    let limits = limit("wide", "route", 9) + &limit("narrow", "client", 4);
    let route = |number: i32| {
        let path = format!("path = \"/r{number}/{{*rest}}\"\nsource = \"inventory\"\n");
        format!("[[route]]\nname = \"r{number}\"\n{path}{limits}")
    };
    let routes = (0..12).map(route).collect::<Vec<_>>().concat();
    let text = format!("{}{routes}{EVERYTHING}{}", source.table(), table(&url));
    let gateways = [Setup::new(text.clone()).start().await, Setup::new(text).start().await];
    for gateway in &gateways {
        gateway.uses_redis().await;
        eventually("both are known", async || gateway.metric("tidegate_replicas").await == 2).await;
    }
    let mut told = Vec::new();
    for route in 0..12 {
        let mut passed = 0;
        for number in 0..8 {
            let answer = gateways[number % 2].get(&format!("/r{route}/{number}")).await;
            assert!(matches!(answer.status, 200 | 429), "{answer:?}");
            passed += u32::from(answer.status == 200);
            told.push(answer.field("RateLimit").to_owned());
        }
        let mut shares = 0;
        for gateway in &gateways {
            shares +=
                gateway.metric(&format!("tidegate_quota_local_share_total{{route=\"r{route}\"}}")).await;
        }
        // On a busy machine Redis may be late once; then the share is charged besides.
        assert!(passed == 4 || (shares > 0 && passed < 4), "{route}: {passed}, {shares} of them from shares");
        // A request that the narrow one denies is not charged to the wide one.
        let last = told.last().unwrap();
        assert!(shares > 0 || last.starts_with("\"wide\";r=5;"), "{route}: {last}");
    }
    for node in &nodes {
        assert!(!node.names("tidegate:q:{").await.is_empty(), "every node has quotas");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_too_old_is_told_once_with_a_remedy_and_used() {
    let (source, redis) = (storable().await, RedisServer::start().await);
    let relay = Relay::to(&redis.address()).await;
    let info: String = redis.command(cmd("INFO").arg("server")).await;
    let truth = info.lines().find(|line| line.starts_with("redis_version:")).unwrap();
    let lie = format!("{:0<length$}", "redis_version:6.0.", length = truth.len());
    relay.say(&lie, truth);
    let gateway = setup(&source, &relay.table()).start().await;
    gateway.uses_redis().await;
    let log = connected_twice(&gateway, &redis).await;
    assert_eq!(log.matches("is too old; upgrade it to 6.2 or newer").count(), 1, "{log}");
}

use super::*;

fn parsed(url: &str) -> Server {
    Server::parse(url).unwrap_or_else(|fault| panic!("{url} {fault}"))
}

#[test]
fn every_form_is_read() {
    let Topology::Single(info) = parsed("redis://me:p%40ss@h/3").topology else { panic!() };
    assert_eq!(info.addr().to_string(), "h:6379");
    let settings = info.redis_settings();
    assert_eq!((settings.username(), settings.password(), settings.db()), (Some("me"), Some("p@ss"), 3));
    let Topology::Single(info) = parsed("redis://:only@[::1]:7").topology else { panic!() };
    assert_eq!((info.redis_settings().username(), info.redis_settings().password()), (None, Some("only")));
    assert_eq!(info.addr(), &ConnectionAddr::Tcp("::1".into(), 7));
    for tls in ["rediss://h", "rediss-cluster://h", "rediss-sentinel://h/m"] {
        assert!(parsed(tls).is_encrypted(), "{tls}");
        assert!(!parsed(&tls.replace("ss", "s")).is_encrypted(), "{tls}");
    }
    let Topology::Cluster(nodes) = parsed("redis-cluster://me:pw@a,b:7,10.0.0.1:8").topology else {
        panic!()
    };
    let shown: Vec<String> = nodes.iter().map(|node| node.addr().to_string()).collect();
    assert_eq!(shown, ["a:6379", "b:7", "10.0.0.1:8"]);
    assert!(nodes.iter().all(|node| node.redis_settings().password() == Some("pw")));
    let url = "redis-sentinel://me:pw@a,b:7/main/2?sentinel_user=s&sentinel_password=t%26";
    let Topology::Sentinel(watched) = parsed(url).topology else { panic!() };
    assert_eq!((watched.sentinels.len(), watched.master.as_str(), watched.redis.db()), (2, "main", 2));
    assert_eq!(watched.sentinels[0].to_string(), "a:26379");
    assert_eq!((watched.redis.username(), watched.redis.password()), (Some("me"), Some("pw")));
    assert_eq!((watched.sentinel.username(), watched.sentinel.password()), (Some("s"), Some("t&")));
    for url in ["unix:///run/a%20b?db=1&user=me&pass=pw", "redis+unix:///run/a%20b?db=1&user=me&pass=pw"] {
        let Topology::Single(info) = parsed(url).topology else { panic!() };
        assert_eq!(info.addr(), &ConnectionAddr::Unix("/run/a b".into()));
        let settings = info.redis_settings();
        assert_eq!((settings.db(), settings.username(), settings.password()), (1, Some("me"), Some("pw")));
    }
}

#[test]
fn what_is_wrong_is_told() {
    for (url, fault) in [
        ("redis", UrlFault::NoUrl),
        ("http://h", UrlFault::Scheme),
        ("REDIS://h", UrlFault::Scheme),
        ("redis://", UrlFault::Host),
        ("redis://h:0", UrlFault::Host),
        ("redis://h:66000", UrlFault::Host),
        ("redis://0.0.0.0", UrlFault::Host),
        ("redis://[::]", UrlFault::Host),
        ("redis://a b", UrlFault::Host),
        ("redis://a,b", UrlFault::SeveralHosts),
        ("redis-cluster://a,", UrlFault::Host),
        ("redis-cluster://a,b/1", UrlFault::ClusterPath),
        ("redis-sentinel://a,b", UrlFault::Master),
        ("redis-sentinel://a,b/", UrlFault::Master),
        ("redis-sentinel://a/m/x", UrlFault::Database),
        ("redis-sentinel://a/m?password=x", UrlFault::Parameter),
        ("redis://h/one", UrlFault::Database),
        ("redis://h/-1", UrlFault::Database),
        ("redis://h?protocol=resp3", UrlFault::Parameter),
        ("rediss://h#insecure", UrlFault::Fragment),
        ("redis://me:%ff@h", UrlFault::Login),
        ("unix://", UrlFault::Socket),
        ("unix://run/redis", UrlFault::Socket),
        ("unix:///run/redis?password=x", UrlFault::Parameter),
    ] {
        assert_eq!(Server::parse(url).err(), Some(fault), "{url}");
    }
    let many = format!("redis-cluster://{}", vec!["h"; HOSTS_MAX + 1].join(","));
    assert_eq!(Server::parse(&many).err(), Some(UrlFault::TooManyHosts));
}

#[test]
fn i12_servers_print_without_their_secrets() {
    for (url, shown) in [
        ("redis://canary:canary@h:1/2", "redis://redacted@h:1/2"),
        ("redis-cluster://canary@a,b", "redis-cluster://redacted@a,b"),
        ("redis-sentinel://a,b/m?sentinel_password=canary", "redis-sentinel://a,b/m?redacted"),
        ("redis+unix:///run/s?pass=canary", "redis+unix:///run/s?redacted"),
    ] {
        let server = parsed(url);
        assert_eq!((server.to_string(), format!("{server:?}")), (shown.to_owned(), shown.to_owned()));
        assert_eq!(serde_json::to_string(&server).unwrap(), format!("\"{shown}\""));
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "(redis|rediss-cluster|redis-sentinel|unix)://[-a-z0-9:@/?#%,.\\[\\]]{0,40}") {
        drop(Server::parse(&text));
    }
}

//! What a Redis says of itself (`INFO`), held against what is expected of it: a pure rule.

use super::server::Keys;
use std::fmt;

/// The oldest Redis that has every command used here (`GETEX`).
const OLDEST: (u16, u16) = (6, 2);
/// The policy that evicts responses before the log of purges: everything has an expiry, and the
/// log's is the furthest away.
const POLICY: &str = "volatile-ttl";

/// What an operator should change. It prints what is wrong, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Warning {
    Version(String),
    /// It has a bound, and evicts otherwise than [`POLICY`].
    Policy(String),
    Replica,
    Sentinel,
    ClusterNode,
    /// It refused a write for want of memory.
    Full,
    /// Its user may not run a command.
    Denied,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => {
                write!(f, "Redis {version} is too old; upgrade it to 6.2 or newer")
            }
            Self::Policy(policy) if policy == "noeviction" => {
                f.write_str(
                    "Redis evicts nothing: when it is full it takes no responses and no purges; \
                     set its maxmemory-policy to volatile-ttl",
                )
            }
            Self::Policy(policy) => write!(
                f,
                "Redis evicts by {policy}, so it may lose the log of purges; \
                 set its maxmemory-policy to volatile-ttl"
            ),
            Self::Replica => f.write_str(
                "Redis is a read-only replica and is not used; \
                 name its primary in cache.shared.redis, or its Sentinels by redis-sentinel://",
            ),
            Self::Sentinel => f.write_str(
                "cache.shared.redis names a Sentinel, which stores nothing; \
                 write redis-sentinel:// with the name of the master as its path",
            ),
            Self::ClusterNode => f.write_str(
                "cache.shared.redis names a node of a cluster, which has only some of the keys; \
                 write redis-cluster://",
            ),
            Self::Full => f.write_str(
                "Redis is full and refuses what is written; responses and purges stay here until it has room: \
                 raise its maxmemory, or set its maxmemory-policy to volatile-ttl",
            ),
            Self::Denied => f.write_str(
                "Redis does not let its user run a command; \
                 grant it @read, @write, @connection, info, time and eval on the keys of cache.shared.namespace",
            ),
        }
    }
}

/// Whether what was found may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usable {
    Yes,
    /// It stores nothing, refuses every write, or is loading.
    No,
}

/// What follows from the answer to `INFO`.
pub(super) fn examine(info: &str, keys: Keys) -> (Vec<Warning>, Usable) {
    let fact = |name: &str| {
        let mut values = info.lines().filter_map(|line| line.split_once(':'));
        values.find(|(own, _)| *own == name).map(|(_, value)| value.trim())
    };
    let (mut warnings, mut usable) = (Vec::new(), Usable::Yes);
    if fact("redis_mode") == Some("sentinel") {
        return (vec![Warning::Sentinel], Usable::No);
    }
    if fact("redis_version").is_some_and(is_too_old) {
        warnings.push(Warning::Version(fact("redis_version").unwrap_or_default().to_owned()));
    }
    if keys == Keys::InOnePlace && fact("redis_mode") == Some("cluster") {
        warnings.push(Warning::ClusterNode);
    }
    if keys == Keys::InOnePlace && fact("role") == Some("slave") {
        warnings.push(Warning::Replica);
        usable = Usable::No;
    }
    // It answers this, but nothing else.
    if keys == Keys::InOnePlace && fact("loading") == Some("1") {
        usable = Usable::No;
    }
    let is_bounded = fact("maxmemory").is_some_and(|bytes| bytes != "0");
    if let Some(policy) = fact("maxmemory_policy").filter(|policy| is_bounded && *policy != POLICY) {
        warnings.push(Warning::Policy(policy.to_owned()));
    }
    (warnings, usable)
}

/// What has no readable version is somebody's own build.
fn is_too_old(version: &str) -> bool {
    let mut numbers = version.split('.').map(str::parse::<u16>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < OLDEST,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_which_redis() {
        let sound = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrole:master\r\nloading:0\r\n\
                     maxmemory:1000\r\nmaxmemory_policy:volatile-ttl\r\n";
        let rows = [
            ("", "", vec![], Usable::Yes),
            ("7.0.15", "6.0.16", vec![Warning::Version("6.0.16".into())], Usable::Yes),
            ("7.0.15", "6.2.0", vec![], Usable::Yes),
            ("7.0.15", "next", vec![], Usable::Yes),
            ("master", "slave", vec![Warning::Replica], Usable::No),
            ("loading:0", "loading:1", vec![], Usable::No),
            ("standalone", "sentinel", vec![Warning::Sentinel], Usable::No),
            ("standalone", "cluster", vec![Warning::ClusterNode], Usable::Yes),
            ("volatile-ttl", "allkeys-lru", vec![Warning::Policy("allkeys-lru".into())], Usable::Yes),
            ("volatile-ttl", "noeviction", vec![Warning::Policy("noeviction".into())], Usable::Yes),
            (
                "maxmemory:1000\r\nmaxmemory_policy:volatile-ttl",
                "maxmemory:0\r\nmaxmemory_policy:noeviction",
                vec![],
                Usable::Yes,
            ),
        ];
        for (what, with, warnings, usable) in rows {
            assert_eq!(
                examine(&sound.replace(what, with), Keys::InOnePlace),
                (warnings, usable),
                "{what} -> {with}"
            );
        }
        let node = sound.replace("standalone", "cluster").replace("master", "slave");
        assert_eq!(examine(&node, Keys::BySlot), (vec![], Usable::Yes), "any node of a cluster may answer");
        assert_eq!(examine("", Keys::InOnePlace), (vec![], Usable::Yes), "who says nothing is believed");
    }

    #[test]
    fn every_warning_tells_a_remedy() {
        for warning in
            [Warning::Full, Warning::Denied, Warning::Replica, Warning::Sentinel, Warning::ClusterNode]
        {
            let text = warning.to_string();
            assert!(text.contains("; ") || text.contains(": "), "{text}");
        }
    }
}

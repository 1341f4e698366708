//! Where Redis is and how to speak to it, read from a URL: a rule without I/O.
//!
//! ```text
//! redis[s]://[user:password@]host[:port][/database]
//! redis[s]-cluster://[user:password@]host[:port],host[:port],..
//! redis[s]-sentinel://[user:password@]sentinel[:port],sentinel[:port],../master[/database]
//!                    [?sentinel_user=..&sentinel_password=..]
//! [redis+]unix:///path[?user=..&pass=..&db=..]
//! ```
//!
//! User and password are those of Redis; Sentinels have their own, if any. In all parts but hosts
//! what a URL cannot hold is percent-encoded.

use crate::secret::REDACTED;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use std::fmt;
use url::{Host, Url, form_urlencoded};

/// Where Redis listens unless the URL says otherwise.
const REDIS_PORT: u16 = 6379;
/// Where a Sentinel does.
const SENTINEL_PORT: u16 = 26379;
/// Hosts that one URL may name.
const HOSTS_MAX: usize = 32;

/// What is wrong with a URL. It is not repeated: it may carry a password (I12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// There is no `://`.
    #[error("is no absolute URL")]
    NoUrl,
    /// Another scheme.
    #[error("must begin with redis://, rediss://, redis-cluster://, redis-sentinel:// or redis+unix://")]
    Scheme,
    /// A host is missing, or it or its port is none.
    #[error("must name a host, and a port from 1 to 65535 if any")]
    Host,
    /// Several hosts where there is one.
    #[error("has several hosts, which redis-cluster:// and redis-sentinel:// take")]
    SeveralHosts,
    /// More than `HOSTS_MAX`.
    #[error("has more than 32 hosts")]
    TooManyHosts,
    /// Its database is no number.
    #[error("its database must be a number from 0 to 65535")]
    Database,
    /// A cluster with a path.
    #[error("must have no path: a cluster has one database")]
    ClusterPath,
    /// Sentinels, but no name of what they watch.
    #[error("does not name the master that the Sentinels watch: redis-sentinel://host:26379/NAME")]
    Master,
    /// No path to a socket.
    #[error("must be redis+unix:///path/of/the/socket")]
    Socket,
    /// Something behind `?` that has no meaning.
    #[error("has a parameter that is not known")]
    Parameter,
    /// Something behind `#`.
    #[error("must not have a #fragment: certificates are always verified")]
    Fragment,
    /// What is before `@` cannot be read.
    #[error("its user or password cannot be read; what is no letter or digit is percent-encoded")]
    Login,
}

/// One Redis, however many servers it has. It prints without its secrets.
#[derive(Clone)]
pub struct Server {
    pub(super) topology: Topology,
    /// PEM of the authorities that certificates are verified by; `None`: the system's.
    pub(super) ca: Option<Vec<u8>>,
    shown: String,
}

#[derive(Clone)]
pub(super) enum Topology {
    Single(Box<ConnectionInfo>),
    Cluster(Vec<ConnectionInfo>),
    Sentinel(Box<Watched>),
}

/// Where keys lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    InOnePlace,
    /// On the nodes of a cluster.
    BySlot,
}

/// A master and its Sentinels.
#[derive(Clone)]
pub(super) struct Watched {
    pub(super) sentinels: Vec<ConnectionAddr>,
    pub(super) master: String,
    pub(super) redis: RedisConnectionInfo,
    pub(super) sentinel: RedisConnectionInfo,
    pub(super) transport: Transport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Plain,
    Tls,
}

/// The parts of a URL between its separators.
struct Parts<'u> {
    login: Option<&'u str>,
    hosts: &'u str,
    path: &'u str,
    query: Option<&'u str>,
}

impl Server {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`UrlFault`]
    pub fn parse(url: &str) -> Result<Self, UrlFault> {
        let (scheme, rest) = url.split_once("://").ok_or(UrlFault::NoUrl)?;
        let parts = Parts::of(rest)?;
        let transport = |plain: &str| if scheme == plain { Transport::Plain } else { Transport::Tls };
        let topology = match scheme {
            "redis" | "rediss" => parts.single(transport("redis"))?,
            "redis-cluster" | "rediss-cluster" => parts.cluster(transport("redis-cluster"))?,
            "redis-sentinel" | "rediss-sentinel" => parts.sentinel(transport("redis-sentinel"))?,
            "unix" | "redis+unix" => parts.socket()?,
            _ => return Err(UrlFault::Scheme),
        };
        let login = if parts.login.is_some() { format!("{REDACTED}@") } else { String::new() };
        let query = if parts.query.is_some() { format!("?{REDACTED}") } else { String::new() };
        let shown = format!("{scheme}://{login}{}{}{query}", parts.hosts, parts.path);
        Ok(Self { topology, ca: None, shown })
    }

    /// Verifies certificates by the authorities of a PEM file instead of the system's.
    #[must_use]
    pub fn with_ca(self, pem: Vec<u8>) -> Self {
        Self { ca: Some(pem), ..self }
    }

    /// Whether connections are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        let is_tls = |info: &ConnectionInfo| matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        match &self.topology {
            Topology::Single(info) => is_tls(info),
            Topology::Cluster(nodes) => nodes.first().is_some_and(is_tls),
            Topology::Sentinel(watched) => watched.transport == Transport::Tls,
        }
    }

    pub(super) const fn keys(&self) -> Keys {
        match self.topology {
            Topology::Cluster(_) => Keys::BySlot,
            Topology::Single(_) | Topology::Sentinel(_) => Keys::InOnePlace,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Server {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'u> Parts<'u> {
    fn of(rest: &'u str) -> Result<Self, UrlFault> {
        if rest.contains('#') {
            return Err(UrlFault::Fragment);
        }
        let (before, query) = match rest.split_once('?') {
            Some((before, query)) => (before, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = before.split_at(before.find('/').unwrap_or(before.len()));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        Ok(Self { login, hosts, path, query })
    }

    fn single(&self, transport: Transport) -> Result<Topology, UrlFault> {
        self.no_parameters()?;
        if self.hosts.contains(',') {
            return Err(UrlFault::SeveralHosts);
        }
        let settings = self.settings()?.set_db(database(self.path)?);
        let address = address(self.hosts, transport, REDIS_PORT)?;
        Ok(Topology::Single(Box::new(info(address)?.set_redis_settings(settings))))
    }

    fn cluster(&self, transport: Transport) -> Result<Topology, UrlFault> {
        self.no_parameters()?;
        if !matches!(self.path, "" | "/") {
            return Err(UrlFault::ClusterPath);
        }
        let settings = self.settings()?;
        let node = |address| Ok(info(address)?.set_redis_settings(settings.clone()));
        let nodes = self.addresses(transport, REDIS_PORT)?.into_iter().map(node);
        Ok(Topology::Cluster(nodes.collect::<Result<_, _>>()?))
    }

    fn sentinel(&self, transport: Transport) -> Result<Topology, UrlFault> {
        let (master, path) = match self.path.strip_prefix('/').unwrap_or_default().split_once('/') {
            Some((master, path)) => (master, path),
            None => (self.path.trim_start_matches('/'), ""),
        };
        // The name of a master is plain; what is encoded would be compared as it stands.
        if master.is_empty() || master.contains('%') {
            return Err(UrlFault::Master);
        }
        let mut sentinel = RedisConnectionInfo::default();
        for (name, value) in self.parameters() {
            sentinel = match &*name {
                "sentinel_user" => sentinel.set_username(value),
                "sentinel_password" => sentinel.set_password(value),
                _ => return Err(UrlFault::Parameter),
            };
        }
        Ok(Topology::Sentinel(Box::new(Watched {
            sentinels: self.addresses(transport, SENTINEL_PORT)?,
            master: master.to_owned(),
            redis: self.settings()?.set_db(database(path)?),
            sentinel,
            transport,
        })))
    }

    fn socket(&self) -> Result<Topology, UrlFault> {
        if self.login.is_some() || !self.hosts.is_empty() || self.path.len() < 2 {
            return Err(UrlFault::Socket);
        }
        let mut settings = RedisConnectionInfo::default();
        for (name, value) in self.parameters() {
            settings = match &*name {
                "user" => settings.set_username(value),
                "pass" => settings.set_password(value),
                "db" => settings.set_db(database(&value)?),
                _ => return Err(UrlFault::Parameter),
            };
        }
        let file = Url::parse(&format!("file://{}", self.path)).map_err(|_| UrlFault::Socket)?;
        let path = file.to_file_path().map_err(|()| UrlFault::Socket)?;
        Ok(Topology::Single(Box::new(info(ConnectionAddr::Unix(path))?.set_redis_settings(settings))))
    }

    fn addresses(&self, transport: Transport, port: u16) -> Result<Vec<ConnectionAddr>, UrlFault> {
        if self.hosts.split(',').count() > HOSTS_MAX {
            return Err(UrlFault::TooManyHosts);
        }
        self.hosts.split(',').map(|host| address(host, transport, port)).collect()
    }

    fn parameters(&self) -> form_urlencoded::Parse<'u> {
        form_urlencoded::parse(self.query.unwrap_or_default().as_bytes())
    }

    fn no_parameters(&self) -> Result<(), UrlFault> {
        if self.query.is_some_and(|query| !query.is_empty()) { Err(UrlFault::Parameter) } else { Ok(()) }
    }

    /// User and password, decoded.
    fn settings(&self) -> Result<RedisConnectionInfo, UrlFault> {
        let Some(login) = self.login else { return Ok(RedisConnectionInfo::default()) };
        let info = format!("redis://{login}@host").into_connection_info().map_err(|_| UrlFault::Login)?;
        Ok(info.redis_settings().clone())
    }
}

fn info(address: ConnectionAddr) -> Result<ConnectionInfo, UrlFault> {
    address.into_connection_info().map_err(|_| UrlFault::Host)
}

/// `host[:port]`, the host a name or an IP address.
fn address(text: &str, transport: Transport, port: u16) -> Result<ConnectionAddr, UrlFault> {
    let url = Url::parse(&format!("redis://{text}")).map_err(|_| UrlFault::Host)?;
    let host = match url.host() {
        Some(Host::Domain(name)) if !matches!(name, "" | "0.0.0.0") => name.to_owned(),
        Some(Host::Ipv6(ip)) if !ip.is_unspecified() => ip.to_string(),
        Some(_) | None => return Err(UrlFault::Host),
    };
    let port = url.port().unwrap_or(port);
    if port == 0 || !url.username().is_empty() || url.password().is_some() {
        return Err(UrlFault::Host);
    }
    Ok(match transport {
        Transport::Plain => ConnectionAddr::Tcp(host, port),
        Transport::Tls => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
    })
}

fn database(path: &str) -> Result<i64, UrlFault> {
    match path.strip_prefix('/').unwrap_or(path) {
        "" => Ok(0),
        number => number.parse::<u16>().map(i64::from).map_err(|_| UrlFault::Database),
    }
}

#[cfg(test)]
mod tests;

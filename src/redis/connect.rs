//! Connections, whatever the topology: what the crate gives, with every timeout set.

use super::OpenError;
use super::server::{Server, Topology, Transport, Watched};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, Pipeline, RedisError, RedisFuture, RedisResult,
    TlsCertificates, TlsMode, Value,
};
use std::fmt;
use std::future::Future;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long one attempt to connect may take, name resolution and handshake included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);
/// How long it may take to learn from Sentinels, or nodes of a cluster, whom to connect to. Nobody
/// waits for it; of several servers one that hangs must not keep the others from being asked.
const DISCOVERY_TIMEOUT: Duration = Duration::from_millis(1500);
/// Commands under way on one connection; more wait within their budgets.
const CONCURRENCY: usize = 1024;
/// How often a command of a cluster goes to another node than it was first sent to.
const REDIRECTIONS: u32 = 3;
/// Milliseconds before it does, at least and at most.
const REDIRECTION_PAUSE: (u64, u64) = (2, 20);

/// Makes connections to one Redis.
pub(super) enum Connector {
    Single(Client),
    Sentinel(Mutex<SentinelClient>),
    /// A node that asks for TLS is told by the URL.
    Cluster(Box<dyn Fn(Duration) -> RedisResult<ClusterClient> + Send + Sync>),
}

/// A pipelined connection, or one to each node of a cluster.
#[derive(Clone)]
pub(super) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connector {
    pub(super) fn new(server: &Server) -> Result<Self, OpenError> {
        let certificates = server
            .is_encrypted()
            .then(|| TlsCertificates { client_tls: None, root_cert: server.ca.clone() })
            // Without its own authorities the crate loads the system's at each connection.
            .filter(|certificates| certificates.root_cert.is_some());
        let connector = match &server.topology {
            Topology::Single(info) => {
                let info = ConnectionInfo::clone(info).set_tcp_settings(tcp());
                match certificates {
                    Some(certificates) => Client::build_with_tls(info, certificates),
                    None => Client::open(info),
                }
                .map(Self::Single)
            }
            Topology::Sentinel(watched) => {
                sentinel(watched, certificates).map(|client| Self::Sentinel(Mutex::new(client)))
            }
            Topology::Cluster(nodes) => {
                let nodes = nodes.clone();
                let client = move |timeout| cluster(&nodes, certificates.clone(), timeout);
                client(CONNECT_TIMEOUT).map(|_| Self::Cluster(Box::new(client)))
            }
        };
        connector.map_err(|error| OpenError(error.category().to_owned()))
    }

    /// So many new connections to one and the same server, or to one cluster.
    pub(super) async fn connect<const N: usize>(
        &self,
        response_timeout: Duration,
    ) -> RedisResult<[Connection; N]> {
        let mut connections = Vec::with_capacity(N);
        match self {
            Self::Single(client) => {
                for _ in 0..N {
                    connections.push(single(client, response_timeout).await?);
                }
            }
            Self::Sentinel(sentinels) => {
                let found = async { sentinels.lock().await.async_get_client().await };
                let client = within(DISCOVERY_TIMEOUT, found).await?;
                for _ in 0..N {
                    connections.push(single(&client, response_timeout).await?);
                }
            }
            Self::Cluster(client) => {
                let client = client(response_timeout)?;
                for _ in 0..N {
                    let connection = within(DISCOVERY_TIMEOUT, client.get_async_connection()).await?;
                    connections.push(Connection::Cluster(connection));
                }
            }
        }
        connections.try_into().map_err(|_| std::io::Error::from(std::io::ErrorKind::NotConnected).into())
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single(_) => "Single",
            Self::Sentinel(_) => "Sentinel",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl Connection {
    /// Asks a server about itself: of a cluster, any node.
    pub(super) async fn about(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Single(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => {
                let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
                connection.route_command(command.clone(), any).await
            }
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(commands, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

async fn single(client: &Client, response_timeout: Duration) -> RedisResult<Connection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(response_timeout))
        .set_concurrency_limit(CONCURRENCY);
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    within(CONNECT_TIMEOUT, connecting).await.map(Connection::Single)
}

fn sentinel(watched: &Watched, certificates: Option<TlsCertificates>) -> RedisResult<SentinelClient> {
    let sentinels = watched.sentinels.clone();
    let mut builder = SentinelClientBuilder::new(sentinels, &watched.master, SentinelServerType::Master)?
        .set_client_to_redis_db(watched.redis.db())
        .set_client_to_redis_tcp_settings(tcp())
        .set_client_to_sentinel_tcp_settings(tcp());
    if watched.transport == Transport::Tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure);
    }
    if let Some(certificates) = certificates {
        builder = builder
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
    }
    if let Some(user) = watched.redis.username() {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = watched.redis.password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(user) = watched.sentinel.username() {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = watched.sentinel.password() {
        builder = builder.set_client_to_sentinel_password(password);
    }
    builder.build()
}

fn cluster(
    nodes: &[ConnectionInfo],
    certificates: Option<TlsCertificates>,
    response_timeout: Duration,
) -> RedisResult<ClusterClient> {
    let (least, most) = REDIRECTION_PAUSE;
    let mut builder = ClusterClient::builder(nodes.to_vec())
        .connection_timeout(CONNECT_TIMEOUT)
        .response_timeout(response_timeout)
        .retries(REDIRECTIONS)
        .min_retry_wait(least)
        .max_retry_wait(most)
        .connection_concurrency_limit(CONCURRENCY)
        .tcp_settings(tcp());
    if let Some(certificates) = certificates {
        builder = builder.certs(certificates);
    }
    builder.build()
}

fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// Waits for an attempt at most so long.
pub(super) async fn within<T>(
    most: Duration,
    attempt: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    match tokio::time::timeout(most, attempt).await {
        Ok(outcome) => outcome,
        Err(_) => Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))),
    }
}

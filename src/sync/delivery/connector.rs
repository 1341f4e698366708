//! Connections to one destination: the address that a name resolves to is checked here, and that very
//! address is connected to, so that a name that changes its mind between the two gains nothing.

use crate::sync::settings::Allow;
use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tower::Service;

/// Until a connection stands: name, TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a name gives no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreached {
    /// A type of its own, so that it is told from other failures to connect.
    #[error("the name cannot be resolved")]
    Unresolved(#[source] io::Error),
    /// There are addresses, and none of them may be connected to.
    #[error("no address of it may be connected to")]
    Denied,
}

/// Resolves a name to those of its addresses that may be connected to.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    allow: Arc<Allow>,
}

impl Resolver {
    fn permitted(&self, found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, Unreached> {
        let mut denied = 0_usize;
        let permits = |address: &SocketAddr| {
            let permitted = self.allow.permits(address.ip());
            denied += usize::from(!permitted);
            permitted
        };
        let permitted: Vec<_> = found.filter(permits).collect();
        if permitted.is_empty() && denied > 0 { Err(Unreached::Denied) } else { Ok(permitted) }
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Unreached;
    type Future = BoxFuture<'static, Result<Self::Response, Unreached>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unreached>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        Box::pin(async move {
            let found = GaiResolver::new().call(name).await.map_err(Unreached::Unresolved)?;
            resolver.permitted(found).map(Vec::into_iter)
        })
    }
}

/// Connects by TCP to what may be connected to.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    tcp: HttpConnector<Resolver>,
    allow: Arc<Allow>,
}

impl Connector {
    pub(super) fn new(allow: Allow) -> Self {
        let allow = Arc::new(allow);
        let mut tcp = HttpConnector::new_with_resolver(Resolver { allow: Arc::clone(&allow) });
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        Self { tcp, allow }
    }

    /// The same for URLs that say http alone.
    pub(super) fn of_http_only(mut self) -> Self {
        self.tcp.enforce_http(true);
        self
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        // An address in the place of a name is never resolved.
        if literal(&uri).is_some_and(|address| !self.allow.permits(address)) {
            return Box::pin(std::future::ready(Err(Unreached::Denied.into())));
        }
        let connecting = self.tcp.call(uri);
        Box::pin(async move { connecting.await.map_err(Into::into) })
    }
}

fn literal(uri: &Uri) -> Option<IpAddr> {
    let host = uri.host()?;
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// A connector that gives up in time: names and TLS may stand still as well.
#[derive(Clone, Debug)]
pub(super) struct InTime<C>(pub(super) C);

impl<C> Service<Uri> for InTime<C>
where
    C: Service<Uri, Error = BoxError>,
    C::Response: Send,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<C::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.0.call(uri));
        Box::pin(async move { connecting.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn of_several_addresses_only_those_allowed_are_tried() {
        let resolver = Resolver { allow: Arc::new(Allow::Public) };
        let permitted = |list: &[&str]| resolver.permitted(addresses(list).into_iter());
        let mixed = permitted(&["10.0.0.1:80", "8.8.8.8:80", "[::1]:80", "[2606:4700::1]:80"]);
        assert_eq!(mixed.unwrap(), addresses(&["8.8.8.8:80", "[2606:4700::1]:80"]));
        assert!(matches!(permitted(&["127.0.0.1:80", "[::ffff:10.0.0.1]:80"]), Err(Unreached::Denied)));
        assert!(permitted(&[]).unwrap().is_empty(), "nothing was denied");
    }

    #[test]
    fn literal_addresses_are_seen() {
        for (uri, address) in [
            ("http://10.0.0.1/", Some("10.0.0.1")),
            ("http://10.0.0.1:99/", Some("10.0.0.1")),
            ("http://[::1]:99/", Some("::1")),
            ("http://[::ffff:7f00:1]/", Some("::ffff:127.0.0.1")),
            ("http://localhost/", None),
        ] {
            assert_eq!(literal(&uri.parse().unwrap()), address.map(|text| text.parse().unwrap()), "{uri}");
        }
    }
}

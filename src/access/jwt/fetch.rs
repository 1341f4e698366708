//! Fetching a set of signers' keys: a file, or a URL, asked by GET. Redirects are not followed, proxies not asked.

use super::key_set::{KeySet, KeySetFault};
use crate::secret::Endpoint;
use crate::tls::ClientTls;
use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Until the whole set is there.
const FETCH_WAIT: Duration = Duration::from_secs(5);

/// The largest set.
const SET_BYTES_MAX: usize = 256 << 10;

/// Where a set of keys is.
#[derive(Clone, PartialEq, Eq)]
pub enum JwksOrigin {
    /// A file, and what it held when the configuration was read.
    File(PathBuf, KeySet),
    /// A URL.
    Url(Endpoint, ClientTls),
}

/// Why there is no set; fit for a log.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("the file cannot be read: {0}")]
    File(#[source] std::io::Error),
    #[error("the URL cannot be asked")]
    Request(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("no answer within 5 s")]
    Timeout,
    #[error("it {0}")]
    Set(#[from] KeySetFault),
}

impl JwksOrigin {
    /// Reads a file.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
        use std::io::Read as _;
        let mut text = Vec::new();
        std::fs::File::open(path)?.take(SET_BYTES_MAX as u64 + 1).read_to_end(&mut text)?;
        if text.len() > SET_BYTES_MAX { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
    }

    pub(super) async fn fetch(&self) -> Result<KeySet, FetchError> {
        let text = match self {
            Self::File(path, _) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || Self::read(&path)).await;
                read.map_err(std::io::Error::other).flatten().map_err(FetchError::File)?.into()
            }
            Self::Url(url, tls) => tokio::time::timeout(FETCH_WAIT, get(url, tls))
                .await
                .map_err(|_| FetchError::Timeout)
                .flatten()?,
        };
        Ok(KeySet::parse(&text)?)
    }
}

impl fmt::Display for JwksOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, _) => path.display().fmt(f),
            Self::Url(url, _) => url.fmt(f),
        }
    }
}

impl fmt::Debug for JwksOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

async fn get(url: &Endpoint, tls: &ClientTls) -> Result<Bytes, FetchError> {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(FETCH_WAIT));
    match tls.config() {
        None => asked(url, tcp).await,
        Some(config) => {
            tcp.enforce_http(false);
            let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
            asked(url, connector.enable_http1().wrap_connector(tcp)).await
        }
    }
}

/// One exchange, on a connection of its own: it is rare.
async fn asked(
    url: &Endpoint,
    connector: impl Connect + Clone + Send + Sync + 'static,
) -> Result<Bytes, FetchError> {
    let boxed = |error: Box<dyn std::error::Error + Send + Sync>| FetchError::Request(error);
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    let url = url.expose();
    let request = Request::get(url.as_str())
        .header(ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"))
        .header(USER_AGENT, HeaderValue::from_static("tidegate"))
        .header(HOST, url.authority())
        .body(Empty::<Bytes>::new())
        .map_err(|error| boxed(error.into()))?;
    let answer = client.request(request).await.map_err(|error| boxed(error.into()))?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(answer.status()));
    }
    let body = Limited::new(answer.into_body(), SET_BYTES_MAX).collect().await.map_err(boxed)?;
    Ok(body.to_bytes())
}

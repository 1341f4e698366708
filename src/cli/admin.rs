//! The way to a running gateway: its admin API, as commands use it.

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::UnixStream;
use url::Url;

/// Until a connection stands.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// Until a whole answer is there; a redrive of very many is answered late.
const ANSWER_WAIT: Duration = Duration::from_mins(10);
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Which gateway, and how the outcome is told.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Reach {
    /// The admin listener of the gateway, or unix:PATH; the token comes from `TIDEGATE_ADMIN_TOKEN`
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "TIDEGATE_ADMIN",
        default_value = "http://127.0.0.1:9090"
    )]
    admin: Url,
    /// Print JSON on standard output, for machines
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// A client of one admin listener.
#[derive(Clone, Debug)]
pub(super) struct Admin {
    base: Url,
    /// How the operator has named it.
    named: Url,
    authorization: Option<HeaderValue>,
    way: Way,
}

/// How the listener is reached.
#[derive(Clone, Debug)]
enum Way {
    Tcp(Box<Client<HttpConnector, Full<Bytes>>>),
    Unix(PathBuf),
}

impl Way {
    async fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        match self {
            Self::Tcp(client) => Ok(client.request(request).await?),
            Self::Unix(path) => {
                let stream = tokio::time::timeout(CONNECT_WAIT, UnixStream::connect(path)).await??;
                let (mut send, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                Ok(send.send_request(request).await?)
            }
        }
    }
}

impl Admin {
    /// Reads the token from the environment; an empty one counts as left out.
    pub(super) fn new(reach: &Reach) -> anyhow::Result<Self> {
        let socket = (reach.admin.scheme() == "unix").then(|| PathBuf::from(reach.admin.path()));
        if reach.admin.scheme() != "http" && socket.is_none() {
            bail!("--admin {}: an admin listener speaks plain http://, or unix:PATH", reach.admin);
        }
        let token = std::env::var("TIDEGATE_ADMIN_TOKEN").unwrap_or_default();
        let authorization = (!token.is_empty()).then(|| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
            value.set_sensitive(true);
            Ok::<_, http::header::InvalidHeaderValue>(value)
        });
        let authorization = authorization
            .transpose()
            .map_err(|_| anyhow::anyhow!("TIDEGATE_ADMIN_TOKEN has a byte that no token has"))?;
        let (base, way) = if let Some(path) = socket {
            (Url::parse("http://localhost")?, Way::Unix(path))
        } else {
            let mut connector = HttpConnector::new();
            connector.set_connect_timeout(Some(CONNECT_WAIT));
            (reach.admin.clone(), Way::Tcp(Box::new(Client::builder(TokioExecutor::new()).build(connector))))
        };
        Ok(Self { base, named: reach.admin.clone(), authorization, way })
    }

    /// A GET of a path, given by its segments, with those parameters that have a value.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, Option<&str>)],
    ) -> anyhow::Result<T> {
        let mut url = self.url(path)?;
        let given = || query.iter().filter_map(|(name, value)| value.map(|value| (name, value)));
        if given().next().is_some() {
            url.query_pairs_mut().extend_pairs(given());
        }
        self.call(Method::GET, &url, Bytes::new()).await
    }

    /// A POST of a JSON body.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &Value) -> anyhow::Result<T> {
        self.call(Method::POST, &self.url(path)?, body.to_string().into()).await
    }

    fn url(&self, path: &[&str]) -> anyhow::Result<Url> {
        let mut url = self.base.clone();
        let segments = url.path_segments_mut();
        segments
            .map_err(|()| anyhow::anyhow!("--admin {}: not a URL of a listener", self.base))?
            .pop_if_empty()
            .push("v1")
            .extend(path);
        Ok(url)
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, url: &Url, body: Bytes) -> anyhow::Result<T> {
        let mut request = match &self.way {
            Way::Tcp(_) => Request::builder().method(method).uri(url.as_str()),
            Way::Unix(_) => {
                let target = &url[url::Position::BeforePath..];
                Request::builder().method(method).uri(target).header(HOST, "localhost")
            }
        };
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(body))?;
        let exchange = async {
            let answer = self.way.exchange(request).await?;
            let (head, body) = answer.into_parts();
            let body =
                Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(anyhow::Error::from_boxed)?;
            Ok::<_, anyhow::Error>((head.status, body.to_bytes()))
        };
        let answered = tokio::time::timeout(ANSWER_WAIT, exchange).await;
        let (status, body) =
            answered.map_err(|_| anyhow::anyhow!("no answer in time")).flatten().with_context(|| {
                format!(
                    "{} does not answer: is the gateway running, and is this its admin listener?",
                    self.named
                )
            })?;
        if !status.is_success() {
            bail!("{}", self.refusal(status, &body));
        }
        serde_json::from_slice(&body)
            .with_context(|| format!("{} answers, but not as an admin listener does", self.named))
    }

    /// What a refusal says, and what to do about it where that lies on this side.
    fn refusal(&self, status: StatusCode, body: &[u8]) -> String {
        let problem: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(detail) = problem.get("detail").and_then(Value::as_str) else {
            return format!("{} answers {status}, and not as an admin listener does", self.named);
        };
        match status {
            StatusCode::UNAUTHORIZED if self.authorization.is_some() => {
                format!("the token in TIDEGATE_ADMIN_TOKEN is not the one of {}", self.named)
            }
            StatusCode::UNAUTHORIZED => {
                format!("{} wants a token: set TIDEGATE_ADMIN_TOKEN to its admin.token", self.named)
            }
            _ => detail.to_owned(),
        }
    }
}

/// Runs a command against a gateway: success, or the fault in one line and exit code 1.
pub(super) fn run(command: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(command)) {
        Ok(code) => code,
        Err(fault) => {
            super::tell(format_args!("tidegate: {fault:#}"));
            ExitCode::FAILURE
        }
    }
}

//! The demo's HTTP client: one pool, whole answers of bounded size, every wait bounded.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The longest wait for one whole answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(20);
/// The largest answer that is read.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A whole answer and how long it took.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) took: Duration,
}

/// Cheap to clone; clones share the pool.
#[derive(Clone)]
pub(super) struct Http(Client<HttpConnector, Full<Bytes>>);

impl Http {
    pub(super) fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    /// One request; `body` is JSON where there is one.
    pub(super) async fn call(
        &self,
        method: Method,
        url: &str,
        client: &str,
        body: Option<&serde_json::Value>,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::builder().method(method).uri(url).header("x-api-key", client);
        if body.is_some() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        let content = body.map(|json| Bytes::from(json.to_string())).unwrap_or_default();
        let request = request.body(Full::new(content))?;
        let asked_at = Instant::now();
        let (head, content) = timeout(ANSWER_WAIT_MAX, self.exchange(request)).await??;
        let took = asked_at.elapsed();
        Ok(Answer { status: head.status, headers: head.headers, body: content, took })
    }

    /// The JSON that a GET is answered with; any status but 200 is an error.
    pub(super) async fn json<T: serde::de::DeserializeOwned>(&self, url: &str) -> anyhow::Result<T> {
        let answer = self.call(Method::GET, url, "demo", None).await?;
        anyhow::ensure!(answer.status == StatusCode::OK, "{url} answered {}", answer.status);
        Ok(serde_json::from_slice(&answer.body)?)
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> anyhow::Result<(http::response::Parts, Bytes)> {
        let (head, body) = self.0.request(request).await?.into_parts();
        let content =
            Limited::new(body, BODY_BYTES_MAX).collect().await.map_err(anyhow::Error::from_boxed)?;
        Ok((head, content.to_bytes()))
    }
}

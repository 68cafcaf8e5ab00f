//! Calls to the other services.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{HeaderMap, Request, Uri, header::HeaderName};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

/// Handed on with every call, so that one request can be followed through all
/// services.
pub const FOLLOWED: [HeaderName; 2] =
    [HeaderName::from_static("x-request-id"), HeaderName::from_static("traceparent")];

/// No answer of a service is near this long.
const LONGEST: usize = 1024 * 1024;

/// A client that keeps connections alive. Its connector asks the system's
/// resolver, as unmodified applications do.
#[derive(Debug)]
pub struct Upstream {
    client: Client<HttpConnector, Empty<Bytes>>,
    timeout: Duration,
}

impl Upstream {
    pub fn new(timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            // A server may close a connection that was idle for long, just
            // when we use it; most keep one for more than a minute.
            .pool_idle_timeout(Duration::from_secs(30))
            .build(connector);
        Self { client, timeout }
    }

    /// Gets JSON from `path` of the service at `base`.
    pub async fn get(&self, base: &Uri, path: &str, followed: &HeaderMap) -> Result<Value> {
        let url = format!("{}{path}", base.to_string().trim_end_matches('/'));
        let answer = tokio::time::timeout(self.timeout, self.fetch(&url, followed));
        answer
            .await
            .with_context(|| format!("GET {url}: no answer within {:?}", self.timeout))?
            .with_context(|| format!("GET {url}"))
    }

    async fn fetch(&self, url: &str, followed: &HeaderMap) -> Result<Value> {
        let mut request = Request::get(url).body(Empty::new())?;
        for name in FOLLOWED {
            if let Some(value) = followed.get(&name) {
                request.headers_mut().insert(name, value.clone());
            }
        }
        let response = self.client.request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!(error))?
            .to_bytes();
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).context("the answer is not JSON")
    }
}

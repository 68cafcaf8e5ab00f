//! A client of a real API server, for the tests' own objects.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::{net::TcpStream, runtime::Handle, sync::Mutex};
use tokio_rustls::TlsConnector;

/// Asks one request at a time, on one connection as long as that lives.
pub struct Client {
    runtime: Handle,
    connector: TlsConnector,
    address: SocketAddr,
    token: &'static str,
    connection: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl Client {
    pub fn new(
        runtime: Handle,
        config: rustls::ClientConfig,
        address: SocketAddr,
        token: &'static str,
    ) -> Self {
        let connector = TlsConnector::from(Arc::new(config));
        Self { runtime, connector, address, token, connection: Mutex::default() }
    }

    /// The answer's status and body.
    pub fn ask(
        &self,
        method: &Method,
        path: &str,
        (kind, body): (&str, &Value),
    ) -> Result<(u16, Value)> {
        self.runtime.block_on(self.exchange(method, path, (kind, body)))
    }

    /// [`Client::ask`] where everything but success is an error.
    pub fn must(&self, method: &Method, path: &str, sent: (&str, &Value)) -> Result<Value> {
        let (status, answer) = self.ask(method, path, sent)?;
        if status >= 300 {
            bail!("{method} {path}: {status}: {answer}");
        }
        Ok(answer)
    }

    async fn exchange(
        &self,
        method: &Method,
        path: &str,
        (kind, body): (&str, &Value),
    ) -> Result<(u16, Value)> {
        let mut kept = self.connection.lock().await;
        // One that the server has closed says so only when it is asked.
        let usable = match kept.as_mut() {
            Some(connection) => connection.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            *kept = Some(self.connect().await?);
        }
        let connection = kept.as_mut().context("a connection was made above")?;
        let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, kind)
            .body(Full::from(bytes))?;
        connection.ready().await?;
        let sent = connection.send_request(request).await;
        if sent.is_err() {
            *kept = None;
        }
        let response = sent?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await?.to_bytes();
        // Not every answer is JSON: `ok`, `404 page not found`.
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        Ok((status, serde_json::from_slice(&bytes).unwrap_or_else(|_| text())))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let stream = self.connector.connect(name, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its end shows when the next request is sent.
        tokio::spawn(connection);
        Ok(sender)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("address", &self.address).finish_non_exhaustive()
    }
}

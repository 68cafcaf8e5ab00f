//! The commands' side of the unix socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time::timeout};

use super::{
    ConnectionView, DrainOutcome, DrainRequest, EndpointView, ExplainRequest, Explanation,
    LogLevel, ReloadOutcome, ServiceView, Status, TapLine, Traffic,
};
use crate::tap::Filter;

/// For a whole answer. A reload writes all maps before it answers.
const DEADLINE: Duration = Duration::from_secs(30);

/// Asks the agent behind a socket; a connection for each question.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The agent's own words.
    #[error("{0}")]
    Refused(String),
    #[error(
        "the answer of the agent at {socket} makes no sense: {what}. Is it of another version? \
         `mesh-agent version` shows this one's", socket = .socket.display()
    )]
    Answer { socket: PathBuf, what: String },
}

/// Nobody is behind the socket.
#[derive(Debug, thiserror::Error)]
#[error("no agent answers at {}: {source}. {}", .socket.display(), .source.advice())]
pub struct Unreachable {
    socket: PathBuf,
    source: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("{0}")]
    Connect(io::Error),
    #[error("it hung up ({0})")]
    HungUp(hyper::Error),
    #[error("it said nothing for {} s", DEADLINE.as_secs())]
    Silent,
    #[error("it has ended the stream")]
    Ended,
}

impl Cause {
    fn advice(&self) -> &'static str {
        match self {
            Self::Connect(error) => match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "Only the owner of the agent may ask it: use sudo"
                }
                io::ErrorKind::ConnectionRefused => {
                    "No agent is behind it any more: start it with `mesh-agent run --config FILE`"
                }
                _ => {
                    "Start it with `mesh-agent run --config FILE`, or name its `admin.socket` \
                     with --socket or MESH_AGENT_SOCKET"
                }
            },
            Self::HungUp(_) | Self::Ended => "It may be stopping: try again",
            Self::Silent => "Look at its log",
        }
    }
}

type Connection = http1::Connection<TokioIo<UnixStream>, Full<Bytes>>;

impl Client {
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status").await
    }

    pub async fn services(&self) -> Result<Vec<ServiceView>, ClientError> {
        self.get("/v1/services").await
    }

    pub async fn endpoints(&self, service: Option<&str>) -> Result<Vec<EndpointView>, ClientError> {
        match service {
            None => self.get("/v1/endpoints").await,
            Some(name) => {
                let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
                self.get(&format!("/v1/endpoints?service={name}")).await
            }
        }
    }

    pub async fn connections(&self) -> Result<Vec<ConnectionView>, ClientError> {
        self.get("/v1/connections").await
    }

    pub async fn traffic(&self) -> Result<Traffic, ClientError> {
        self.get("/v1/traffic").await
    }

    /// What happens from now on.
    pub async fn tap(&self, filter: &Filter) -> Result<TapStream, ClientError> {
        let body = serde_json::to_vec(filter).map_err(|error| self.nonsense(&error))?;
        let asked = self.send(Method::POST, "/v1/tap", body.into());
        let (connection, response) = timeout(DEADLINE, asked)
            .await
            .unwrap_or(Err(Cause::Silent))
            .map_err(|source| self.unreachable(source))?;
        let status = response.status();
        let mut stream = TapStream {
            client: self.clone(),
            connection,
            body: response.into_body(),
            held: Vec::new(),
        };
        if status.is_success() {
            return Ok(stream);
        }
        while stream.read().await? {}
        Err(self.refusal(status, &stream.held))
    }

    pub async fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ClientError> {
        self.post("/v1/explain", request).await
    }

    pub async fn reload(&self) -> Result<ReloadOutcome, ClientError> {
        self.post("/v1/reload", &()).await
    }

    pub async fn drain(&self, request: &DrainRequest) -> Result<DrainOutcome, ClientError> {
        self.post("/v1/drain", request).await
    }

    pub async fn log_level(&self) -> Result<LogLevel, ClientError> {
        self.get("/v1/log").await
    }

    pub async fn set_log_level(&self, level: &LogLevel) -> Result<LogLevel, ClientError> {
        self.post("/v1/log", level).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.nonsense(&error))?;
        self.ask(Method::POST, path, body.into()).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let (status, answer) = timeout(DEADLINE, self.exchange(method, path, body))
            .await
            .unwrap_or(Err(Cause::Silent))
            .map_err(|source| self.unreachable(source))?;
        if status.is_success() {
            return serde_json::from_slice(&answer).map_err(|error| self.nonsense(&error));
        }
        Err(self.refusal(status, &answer))
    }

    /// The agent's no.
    fn refusal(&self, status: http::StatusCode, answer: &[u8]) -> ClientError {
        let error: serde_json::Value = match serde_json::from_slice(answer) {
            Ok(error) => error,
            Err(error) => return self.nonsense(&error),
        };
        match error["error"].as_str() {
            Some(text) => ClientError::Refused(text.to_owned()),
            None => self.nonsense(&format!("status {status} without an error")),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(http::StatusCode, Bytes), Cause> {
        let (connection, response) = self.send(method, path, body).await?;
        let status = response.status();
        let mut answer = std::pin::pin!(response.into_body().collect());
        let answer = tokio::select! {
            biased;
            answer = answer.as_mut() => answer,
            ended = connection => match ended {
                Err(error) => Err(error),
                Ok(()) => answer.await,
            },
        };
        Ok((status, answer.map_err(Cause::HungUp)?.to_bytes()))
    }

    /// A request, as far as the answer's head. The connection must be polled
    /// for the rest to come; it may end first only by failing.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(Connection, Response<Incoming>), Cause> {
        let stream = UnixStream::connect(&self.socket).await.map_err(Cause::Connect)?;
        let (mut sender, mut connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(Cause::HungUp)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "mesh-agent")
            .body(Full::new(body))
            .expect("method, path and header are valid by construction");
        let mut answer = std::pin::pin!(sender.send_request(request));
        let response = tokio::select! {
            biased;
            answer = answer.as_mut() => answer,
            ended = &mut connection => match ended {
                Err(error) => Err(error),
                Ok(()) => answer.await,
            },
        };
        Ok((connection, response.map_err(Cause::HungUp)?))
    }

    fn unreachable(&self, source: Cause) -> Unreachable {
        Unreachable { socket: self.socket.clone(), source }
    }

    fn nonsense(&self, what: &dyn std::fmt::Display) -> ClientError {
        ClientError::Answer { socket: self.socket.clone(), what: what.to_string() }
    }
}

/// Lines of what happens. Whoever drops it has seen enough.
pub struct TapStream {
    client: Client,
    connection: Connection,
    body: Incoming,
    held: Vec<u8>,
}

impl TapStream {
    /// The next one; an error when the agent ends. Safe to cancel.
    pub async fn next(&mut self) -> Result<TapLine, ClientError> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.held) {
                let line = serde_json::from_slice(&self.held[..end]);
                self.held.drain(..=end);
                return line.map_err(|error| self.client.nonsense(&error));
            }
            if !self.read().await? {
                return Err(self.client.unreachable(Cause::Ended).into());
            }
        }
    }

    /// Takes in what comes next; `false` at the end.
    async fn read(&mut self) -> Result<bool, ClientError> {
        let hung_up = |error| self.client.unreachable(Cause::HungUp(error));
        // The connection must be polled for more to come; it may end first
        // only by failing.
        let frame = tokio::select! {
            biased;
            frame = self.body.frame() => frame,
            ended = &mut self.connection => match ended {
                Err(error) => return Err(hung_up(error).into()),
                Ok(()) => self.body.frame().await,
            },
        };
        let Some(frame) = frame else { return Ok(false) };
        let frame = frame.map_err(hung_up)?;
        self.held.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        Ok(true)
    }
}

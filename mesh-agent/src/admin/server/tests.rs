use std::sync::Mutex;

use futures_util::{
    FutureExt as _,
    future::BoxFuture,
    stream::{self, BoxStream, StreamExt as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
};

use super::*;
use crate::{
    admin::{
        Client, ClientError, ConnectionView, ControlError, DrainOutcome, DrainRequest,
        EndpointView, ExplainRequest, Explanation, LogLevel, ReloadOutcome, ServiceView, Status,
        TapLine, Traffic, sample,
    },
    tap::Filter,
};

/// An agent that knows one service.
struct Fake(Mutex<String>);

impl Control for Fake {
    fn status(&self) -> Status {
        sample::status()
    }
    fn services(&self) -> Vec<ServiceView> {
        vec![sample::service()]
    }
    fn endpoints(&self, service: Option<&str>) -> Result<Vec<EndpointView>, ControlError> {
        match service {
            None | Some("reviews") => Ok(vec![sample::endpoint()]),
            Some(other) => Err(ControlError::NotFound(format!("there is no service {other:?}"))),
        }
    }
    fn connections(&self) -> Vec<ConnectionView> {
        vec![sample::connection()]
    }
    fn traffic(&self) -> Traffic {
        sample::traffic(0)
    }
    fn tap(
        self: Arc<Self>,
        filter: Filter,
    ) -> Result<BoxStream<'static, Vec<TapLine>>, ControlError> {
        if filter.service.is_some() {
            return Err(ControlError::NotFound("there is no such service".into()));
        }
        let lines = vec![TapLine::Event(Box::new(sample::tapped())), TapLine::Lost { lost: 7 }];
        Ok(stream::iter([lines]).chain(stream::pending()).boxed())
    }
    fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ControlError> {
        let destination = format!("{}:{}/{}", request.address, request.port, request.transport);
        Ok(Explanation { destination, ..sample::explanation() })
    }
    fn reload(&self) -> BoxFuture<'_, Result<ReloadOutcome, ControlError>> {
        async { Err(ControlError::Invalid("first problem\nsecond problem".into())) }.boxed()
    }
    fn drain(&self, request: DrainRequest) -> BoxFuture<'_, Result<DrainOutcome, ControlError>> {
        async move { Ok(DrainOutcome { drained: request.drained, ..sample::drained() }) }.boxed()
    }
    fn log_level(&self) -> LogLevel {
        LogLevel { filter: self.0.lock().unwrap().clone() }
    }
    fn set_log_level(&self, level: LogLevel) -> Result<LogLevel, ControlError> {
        *self.0.lock().unwrap() = level.filter.clone();
        Ok(level)
    }
    fn metrics(&self) -> String {
        "# EOF\n".into()
    }
    fn health(&self) -> Result<(), String> {
        Ok(())
    }
    fn ready(&self) -> Result<(), String> {
        Err("starting".into())
    }
}

fn fake() -> Arc<dyn Control> {
    Arc::new(Fake(Mutex::new("info".into())))
}

struct Running {
    folder: tempfile::TempDir,
    client: Client,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

fn on_socket() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let socket = AdminSocket::bind(&path).unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve_socket(socket, fake(), stop.clone()));
    Running { folder, client: Client::new(&path), stop, server }
}

#[tokio::test]
async fn every_question_is_answered() {
    let Running { folder, client, stop, server } = on_socket();
    assert_eq!(client.status().await.unwrap(), sample::status());
    assert_eq!(client.services().await.unwrap(), [sample::service()]);
    assert_eq!(client.endpoints(None).await.unwrap(), [sample::endpoint()]);
    assert_eq!(client.endpoints(Some("reviews")).await.unwrap(), [sample::endpoint()]);
    assert_eq!(client.connections().await.unwrap(), [sample::connection()]);
    let request =
        ExplainRequest { address: "fd00::1".into(), port: 53, transport: "udp".into(), from: None };
    assert_eq!(client.explain(&request).await.unwrap().destination, "fd00::1:53/udp");
    let request = DrainRequest { service: "reviews".into(), endpoint: "x".into(), drained: false };
    assert!(!client.drain(&request).await.unwrap().drained);
    client.set_log_level(&LogLevel { filter: "debug".into() }).await.unwrap();
    assert_eq!(client.log_level().await.unwrap().filter, "debug");

    stop.cancel();
    server.await.unwrap();
    assert!(!folder.path().join("admin.sock").exists(), "the socket goes with the server");
    assert!(matches!(client.status().await, Err(ClientError::Unreachable(_))));
}

#[tokio::test]
async fn a_tap_goes_on_until_either_end_has_enough() {
    let Running { folder: _folder, client, stop, server } = on_socket();
    let mut tapping = client.tap(&Filter::default()).await.unwrap();
    let tapped = TapLine::Event(Box::new(sample::tapped()));
    assert_eq!(tapping.next().await.unwrap(), tapped);
    assert_eq!(tapping.next().await.unwrap(), TapLine::Lost { lost: 7 });

    let filter = Filter { service: Some("x".into()), ..Filter::default() };
    let refused = client.tap(&filter).await.err().unwrap();
    assert_eq!(refused.to_string(), "there is no such service");

    stop.cancel();
    assert!(matches!(tapping.next().await, Err(ClientError::Unreachable(_))));
    server.await.unwrap();
}

#[tokio::test]
async fn a_no_comes_in_the_agents_words() {
    let running = on_socket();
    let refused = running.client.endpoints(Some("no such & name")).await.unwrap_err();
    assert_eq!(refused.to_string(), "there is no service \"no such & name\"");
    let refused = running.client.reload().await.unwrap_err();
    assert_eq!(refused.to_string(), "first problem\nsecond problem");
}

/// The head and body that one raw request gets over TCP.
async fn raw(request: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve_http(listener, fake(), stop.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    stop.cancel();
    server.await.unwrap();
    answer
}

#[tokio::test]
async fn over_tcp_there_are_three_pages() {
    let cases = [
        ("GET /metrics", "200", "# EOF\n"),
        ("HEAD /metrics", "200", ""),
        ("GET /healthz", "200", "ok\n"),
        ("GET /readyz", "503", "starting\n"),
        ("POST /metrics", "405", r#"{"error":"use GET, HEAD"}"#),
        ("GET /v1/status", "404", r#"{"error":"there is no /v1/status"}"#),
        ("POST /v1/reload", "404", r#"{"error":"there is no /v1/reload"}"#),
    ];
    for (line, status, body) in cases {
        let request = format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = raw(&request).await;
        let (head, got) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {head}");
        assert_eq!(got, body, "{line}");
    }
    let answer = raw("GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.contains("content-type: application/openmetrics-text"), "{answer}");
}

#[tokio::test]
async fn more_than_the_bound_wait_and_are_served() {
    let running = on_socket();
    let path = running.folder.path().join("admin.sock");
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        idle.push(UnixStream::connect(&path).await.unwrap());
    }
    let client = running.client.clone();
    let mut waiting = pin!(client.services());
    let early = timeout(Duration::from_millis(100), waiting.as_mut()).await;
    assert!(early.is_err(), "served beyond the bound");
    idle.pop();
    assert!(waiting.await.is_ok());
}

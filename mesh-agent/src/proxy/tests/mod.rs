//! The proxy against real sockets on loopback, without privileges.

mod detect;
mod drain;
mod failover;
mod flow;
mod http1;
mod http2;
mod redirected;
mod streams;
mod tapped;
mod tcp;
mod tunnel;

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Proxy, ProxySettings};
use crate::{
    model::{
        Instance, Limits, OnAgentFailure, PathChoice, Policy, Port, Protocol, ServiceName,
        ServiceSpec, Weight,
    },
    net::{Namespace, Original, OriginalDestinations, SocketOptions},
    registry::{Registry, SnapshotReader},
    tap::Taps,
};

#[derive(Debug)]
struct Nowhere;

impl OriginalDestinations for Nowhere {
    fn take(&self, _: u64, _: SocketAddr) -> Option<Original> {
        None
    }

    fn resolver(&self, _: u64, _: SocketAddr, _: u16) -> Option<Original> {
        None
    }
}

/// A proxy in front of one service.
struct Mesh {
    proxy: Proxy,
    address: SocketAddr,
    snapshots: SnapshotReader,
    registry: Registry,
    spec: ServiceSpec,
    taps: Arc<Taps>,
}

impl Mesh {
    async fn start(protocol: Protocol, instances: &[SocketAddr]) -> Self {
        Self::with(protocol, instances, Policy::default(), Limits::default()).await
    }

    async fn with(
        protocol: Protocol,
        instances: &[SocketAddr],
        policy: Policy,
        limits: Limits,
    ) -> Self {
        let address = free_address();
        let spec = ServiceSpec {
            name: ServiceName::new("reviews"),
            addresses: vec![address.ip()],
            hostnames: Vec::new(),
            ports: vec![Port { port: NonZeroU16::new(address.port()).unwrap(), protocol }],
            path: PathChoice::Proxy,
            on_agent_failure: OnAgentFailure::Open,
            static_instances: instances.iter().copied().map(instance).collect(),
            sources: Vec::new(),
            routes: Vec::new(),
            policy: policy.into(),
        };
        let mut registry = Registry::new();
        registry.configure(vec![spec.clone()]);
        let socket = SocketOptions { mark: 0 };
        let taps = Arc::<Taps>::default();
        let settings =
            ProxySettings { workers: 1, port: 0, socket, limits, taps: Arc::clone(&taps) };
        let originals: Arc<dyn OriginalDestinations> = Arc::new(Nowhere);
        let snapshots = registry.reader();
        let proxy = Proxy::start(&settings, &snapshots, &originals).unwrap();
        let namespace = Arc::new(Namespace::current().unwrap());
        proxy.open_explicit(namespace, vec![address]).await.unwrap();
        Self { proxy, address, snapshots, registry, spec, taps }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Whether a connection is reset; that may happen as early as in `connect`.
    async fn resets(&self) -> bool {
        let error = match TcpStream::connect(self.address).await {
            Err(error) => error,
            Ok(mut stream) => match stream.read_u8().await {
                Err(error) => error,
                Ok(_) => return false,
            },
        };
        error.kind() == std::io::ErrorKind::ConnectionReset
    }

    /// Sends raw bytes and reads until the proxy closes.
    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        read_all(&mut stream).await
    }
}

fn instance(address: SocketAddr) -> Instance {
    Instance {
        address: address.ip(),
        port: NonZeroU16::new(address.port()),
        serves: None,
        weight: Weight(1),
        locality: Arc::default(),
        priority: 0,
        labels: Arc::default(),
    }
}

/// An address that nobody else listens on: servers of other tests are on
/// 127.0.0.1, and other test processes have other numbers.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let port = NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::new(IpAddr::from([127, high | 1, low, 3]), port)
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    // A reset after the last byte is an end, too.
    let _ = tokio::time::timeout(Duration::from_secs(10), reading).await.expect("the end comes");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until the text ends with `end`.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        while !bytes.ends_with(end.as_bytes()) {
            let byte = stream.read_u8().await;
            bytes.push(byte.unwrap_or_else(|error| {
                panic!("{error} after {:?}", String::from_utf8_lossy(&bytes))
            }));
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading).await.expect("the text comes");
    String::from_utf8(bytes).unwrap()
}

async fn eventually(mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "it never held");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An instance that handles each connection by `handle`.
async fn server<F, Fut>(handle: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handle(stream));
        }
    });
    address
}

/// An HTTP instance that says what it got.
async fn http_server(name: &'static str, http2: bool) -> SocketAddr {
    server(move |stream| async move {
        let io = TokioIo::new(stream);
        let service = service_fn(move |request| echo(name, request));
        // Clients end connections as they like.
        if http2 {
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(io, service)
                .await;
        } else {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        }
    })
    .await
}

async fn echo(
    name: &'static str,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut text =
        format!("{name} {} {} {:?}\n", request.method(), request.uri(), request.version());
    for (field, value) in request.headers() {
        text += &format!("{field}: {}\n", value.to_str().unwrap());
    }
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    text += &match body {
        Ok(body) => format!("body {}: {}", body.len(), String::from_utf8_lossy(&body)),
        Err(error) => format!("body failed: {error}"),
    };
    Ok(Response::builder().header("x-from", name).body(Full::new(text.into())).unwrap())
}

//! Real sockets on loopback, a real resolver (dnsmasq) and a real client (dig).

use std::{
    net::{SocketAddr, UdpSocket as StdUdpSocket},
    num::NonZeroU16,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, AtomicU64, Ordering},
    time::Instant,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::*;
use crate::{
    model::{
        Instance, OnAgentFailure, PathChoice, Port, Protocol, ServiceName, ServiceSpec, Weight,
    },
    net::Original,
    registry::Registry,
};

mod answers;
mod namespaces;

const SOON: Duration = Duration::from_secs(5);

/// Knows one resolver, for every client in one namespace.
#[derive(Debug)]
struct Asked {
    cookie: u64,
    resolver: Option<SocketAddr>,
}

impl Asked {
    fn original(&self, cookie: u64) -> Option<Original> {
        let destination = self.resolver.filter(|_| cookie == self.cookie)?;
        Some(Original { destination, cgroup: 1, pid: 1 })
    }
}

impl OriginalDestinations for Asked {
    fn take(&self, cookie: u64, _client: SocketAddr) -> Option<Original> {
        self.original(cookie)
    }

    fn resolver(&self, cookie: u64, listener: SocketAddr, client_port: u16) -> Option<Original> {
        assert!(listener.ip().is_loopback() && client_port != 0);
        self.original(cookie)
    }
}

fn spec(name: &str, address: &[&str], port: u16, instances: &[SocketAddr]) -> ServiceSpec {
    let port = NonZeroU16::new(port).unwrap();
    ServiceSpec {
        name: ServiceName::new(name),
        addresses: address.iter().map(|address| address.parse().unwrap()).collect(),
        hostnames: vec![name.into()],
        ports: vec![Port { port, protocol: Protocol::Udp }, Port { port, protocol: Protocol::Tcp }],
        path: PathChoice::Kernel,
        on_agent_failure: OnAgentFailure::Open,
        static_instances: (instances.iter())
            .map(|instance| Instance {
                address: instance.ip(),
                port: NonZeroU16::new(instance.port()),
                weight: Weight(1),
                locality: Arc::default(),
                priority: 0,
                labels: Arc::default(),
                serves: None,
            })
            .collect(),
        sources: Vec::new(),
        routes: Vec::new(),
        policy: Arc::default(),
    }
}

/// A port that nobody listens on. From below those that
/// the kernel gives to clients, and never the same twice: tests run side by side.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 100).unwrap() * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        // Not by binding: a child forked meanwhile would hold the port.
        let free = (["127.0.0.1", "::1"].iter())
            .all(|ip| std::net::TcpStream::connect((*ip, port)).is_err());
        if free {
            return port;
        }
    }
}

/// A `Dns` that serves this namespace, with `reviews` in its snapshot.
struct Served {
    dns: Dns,
    namespace: Arc<Namespace>,
    v4: SocketAddr,
    v6: SocketAddr,
}

impl Served {
    async fn new(resolver: Option<SocketAddr>, more: Vec<ServiceSpec>) -> Self {
        let namespace = Arc::new(Namespace::current().unwrap());
        let mut registry = Registry::new();
        let reviews = spec("reviews", &["10.96.0.11", "fd00::11"], 80, &[]);
        registry.configure([vec![reviews], more].concat());
        let port = free_port();
        let settings =
            DnsSettings { port, ttl: Duration::from_secs(7), socket: SocketOptions { mark: 0 } };
        let originals = Arc::new(Asked { cookie: namespace.cookie(), resolver });
        let dns = Dns::new(registry.reader(), originals, settings);
        dns.open(Arc::clone(&namespace)).await.unwrap();
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self { dns, namespace, v4, v6: SocketAddr::from((Ipv6Addr::LOCALHOST, port)) }
    }

    fn count(&self, which: impl Fn(&DnsStats) -> &AtomicU64) -> u64 {
        which(&self.dns.stats).load(Ordering::Relaxed)
    }
}

/// A dnsmasq of our own that knows `.test` and asks nobody.
struct Dnsmasq {
    child: Child,
    address: SocketAddr,
}

impl Dnsmasq {
    async fn start() -> Self {
        let port = free_port();
        let text = ["x"; 200].concat();
        let child = Command::new("/usr/sbin/dnsmasq")
            .args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
            .args(["--user=root", "--pid-file=", "--bind-interfaces", "--local=/test/"])
            .args(["--listen-address=127.0.0.1", &format!("--port={port}")])
            .arg("--host-record=a.test,192.0.2.1,2001:db8::1")
            .arg(format!("--txt-record=big.test,{text},{text},{text},{text},{text},{text},{text}"))
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq is installed");
        let this = Self { child, address: ([127, 0, 0, 1], port).into() };
        let deadline = Instant::now() + SOON;
        while TcpStream::connect(this.address).await.is_err() {
            assert!(Instant::now() < deadline, "dnsmasq doesn't listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        this
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn query(id: u16, name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

async fn ask_udp(server: SocketAddr, query: &[u8]) -> Vec<u8> {
    let any = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(any).await.unwrap();
    // Connected: an answer from another address would never arrive.
    socket.connect(server).await.unwrap();
    socket.send(query).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let length = timeout(SOON, socket.recv(&mut buffer)).await.expect("an answer").unwrap();
    buffer.truncate(length);
    buffer
}

/// Writes all queries at once, closes this half, and reads until the end.
async fn ask_tcp(server: SocketAddr, queries: &[Vec<u8>]) -> Vec<Vec<u8>> {
    ask_stream(TcpStream::connect(server).await.unwrap(), queries).await
}

async fn ask_stream(mut stream: TcpStream, queries: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    for query in queries {
        bytes.extend_from_slice(&u16::try_from(query.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(query);
    }
    stream.write_all(&bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answers = Vec::new();
    while let Ok(length) = timeout(SOON, stream.read_u16()).await.expect("an answer or the end") {
        let mut answer = vec![0; length.into()];
        stream.read_exact(&mut answer).await.unwrap();
        answers.push(answer);
    }
    answers
}

async fn dig(server: SocketAddr, args: &[&str]) -> String {
    let output = tokio::process::Command::new("dig")
        .arg(format!("@{}", server.ip()))
        .args(["-p", &server.port().to_string(), "+tries=1", "+time=5"])
        .args(args)
        .output()
        .await
        .expect("dig is installed");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{args:?}: {text}");
    text
}

fn code(answer: &[u8]) -> ResponseCode {
    Message::from_vec(answer).unwrap().metadata.response_code
}

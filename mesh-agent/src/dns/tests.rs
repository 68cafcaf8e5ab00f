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
        Instance, Locality, OnAgentFailure, PathChoice, Policy, Port, Protocol, ServiceName,
        ServiceSpec, Weight,
    },
    net::Original,
    registry::Registry,
};

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
                serves: None,
                weight: Weight(1),
                locality: Locality::default(),
                priority: 0,
                labels: Arc::default(),
            })
            .collect(),
        sources: Vec::new(),
        routes: Vec::new(),
        policy: Policy::default(),
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

#[tokio::test(flavor = "multi_thread")]
async fn services_are_answered_without_a_resolver() {
    let served = Served::new(None, Vec::new()).await;
    for server in [served.v4, served.v6] {
        for transport in ["+notcp", "+tcp"] {
            let short = ["+short", transport];
            let ask = async |args: &[&str]| dig(server, &[&short[..], args].concat()).await;
            assert_eq!(ask(&["reviews", "A"]).await, "10.96.0.11\n");
            assert_eq!(ask(&["REVIEWS.", "AAAA"]).await, "fd00::11\n");
            assert_eq!(ask(&["reviews", "HTTPS"]).await, "");
        }
        let full = dig(server, &["ReViews", "A"]).await;
        assert!(full.contains("status: NOERROR") && full.contains("EDNS: version: 0"), "{full}");
        assert!(full.contains("flags: qr aa rd ra"), "{full}");
        assert!(full.contains("ReViews.\t\t7\tIN\tA\t10.96.0.11"), "{full}");
        // dig says so where anything about the answer is strange to it.
        assert!(!full.contains("WARNING") && !full.contains(";; Warning"), "{full}");
    }
    assert_eq!(served.count(|stats| &stats.answered), 14);
    assert_eq!(served.count(|stats| &stats.forwarded), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_else_is_answered_by_the_resolver_byte_for_byte() {
    let dnsmasq = Dnsmasq::start().await;
    let served = Served::new(Some(dnsmasq.address), Vec::new()).await;
    let mut notify = query(5, "reviews.", RecordType::SOA);
    notify[2] |= 0x20;
    let queries = [
        query(1, "a.test.", RecordType::A),
        query(2, "A.tEsT.", RecordType::AAAA),
        query(3, "nothing.test.", RecordType::A),
        query(4, "big.test.", RecordType::TXT),
        query(6, "reviews.example.com.", RecordType::A),
        notify,
    ];
    for query in &queries {
        let direct = ask_udp(dnsmasq.address, query).await;
        assert_eq!(ask_udp(served.v4, query).await, direct);
        assert_eq!(ask_udp(served.v6, query).await, direct);
        let direct = ask_tcp(dnsmasq.address, std::slice::from_ref(query)).await;
        assert_eq!(direct.len(), 1);
        assert_eq!(ask_tcp(served.v4, std::slice::from_ref(query)).await, direct);
        assert_eq!(ask_tcp(served.v6, std::slice::from_ref(query)).await, direct);
    }
    assert_eq!(code(&ask_udp(served.v4, &queries[2]).await), ResponseCode::NXDomain);
    assert_eq!(served.count(|stats| &stats.forwarded), 25);
    assert_eq!(served.count(|stats| &stats.answered), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_answers_are_asked_for_again_over_tcp() {
    let dnsmasq = Dnsmasq::start().await;
    let served = Served::new(Some(dnsmasq.address), Vec::new()).await;
    let cut = dig(served.v4, &["+noedns", "+ignore", "big.test", "TXT"]).await;
    assert!(cut.contains(" tc "), "{cut}");
    let whole = dig(served.v4, &["+noedns", "big.test", "TXT"]).await;
    assert!(whole.contains(";; Truncated, retrying in TCP mode"), "{whole}");
    assert_eq!(whole.matches(&["x"; 200].concat()).count(), 7, "{whole}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_queries_of_both_kinds_are_all_answered() {
    let dnsmasq = Dnsmasq::start().await;
    let served = Served::new(Some(dnsmasq.address), Vec::new()).await;
    let queries: Vec<_> = (0..60)
        .map(|id| match id % 3 {
            0 => query(id, "a.test.", RecordType::A),
            1 => query(id, "reviews.", RecordType::A),
            _ => query(id, "big.test.", RecordType::TXT),
        })
        .collect();
    let mut answers = ask_tcp(served.v4, &queries).await;
    answers.sort();
    assert_eq!(answers.len(), 60);
    for (id, answer) in (0..60u16).zip(&answers) {
        let message = Message::from_vec(answer).unwrap();
        assert_eq!(message.metadata.id, id);
        assert_eq!(message.answers.len(), 1, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_that_is_a_service_is_balanced() {
    let dnsmasq = Dnsmasq::start().await;
    let asked = "10.96.0.10:53".parse().unwrap();
    let service = spec("resolver", &["10.96.0.10"], 53, &[dnsmasq.address]);
    let served = Served::new(Some(asked), vec![service]).await;
    let query = query(1, "a.test.", RecordType::A);
    let direct = ask_udp(dnsmasq.address, &query).await;
    assert_eq!(ask_udp(served.v4, &query).await, direct);
    assert_eq!(ask_tcp(served.v4, &[query]).await, [direct]);

    let empty = spec("resolver", &["10.96.0.10"], 53, &[]);
    let served = Served::new(Some(asked), vec![empty]).await;
    let query = super::tests::query(1, "a.test.", RecordType::A);
    assert_eq!(code(&ask_udp(served.v4, &query).await), ResponseCode::ServFail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_that_cannot_be_asked_fails_at_once() {
    let closed = SocketAddr::from(([127, 0, 0, 1], free_port()));
    for resolver in [Some(closed), None] {
        let served = Served::new(resolver, Vec::new()).await;
        let foreign = query(1, "a.test.", RecordType::A);
        let ours = query(2, "reviews.", RecordType::A);
        assert_eq!(code(&ask_udp(served.v4, &foreign).await), ResponseCode::ServFail);
        let mut answers = ask_tcp(served.v4, &[foreign.clone(), ours, foreign]).await;
        answers.sort();
        let codes: Vec<_> = answers.iter().map(|answer| code(answer)).collect();
        let failed = ResponseCode::ServFail;
        assert_eq!(codes, [failed, failed, ResponseCode::NoError]);
        assert_eq!(served.count(|stats| &stats.failed), 3);
        // What isn't DNS can't be answered; the connection is closed instead.
        assert_eq!(ask_tcp(served.v4, &[b"garbage".to_vec()]).await, Vec::<Vec<u8>>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_goes_there_and_back() {
    let resolver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let served = Served::new(Some(resolver.local_addr().unwrap()), Vec::new()).await;
    let cases = [b"x".to_vec(), vec![0xff; 700], vec![0; 12], vec![7; 60_000]];
    let echo = async {
        let mut buffer = vec![0; 65_535];
        for _ in 0..4 {
            let (length, from) = resolver.recv_from(&mut buffer).await.unwrap();
            // A stray answer to another query is not the answer to this one.
            resolver.send_to(&[!buffer[0], 1, 2, 3], from).await.unwrap();
            resolver.send_to(&buffer[..length], from).await.unwrap();
        }
    };
    let ask = async {
        for case in &cases[1..] {
            assert_eq!(ask_udp(served.v4, case).await, *case);
        }
        // Too short for an id: whatever comes is the answer.
        assert_eq!(ask_udp(served.v4, &cases[0]).await, [!b'x', 1, 2, 3]);
    };
    tokio::join!(echo, ask);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_beyond_the_bound_are_dropped_and_ours_still_answered() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let served = Served::new(Some(silent.local_addr().unwrap()), Vec::new()).await;
    let mut context = served.dns.context(Arc::clone(&served.namespace));
    context.pending = Arc::new(Semaphore::new(2));
    let cancel = context.cancel.clone();
    let listener = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let task = tokio::spawn(udp::serve(Arc::new(context), listener));
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for id in 0..5 {
        client.send_to(&query(id, "a.test.", RecordType::A), server).await.unwrap();
    }
    // Datagrams are taken in order: once this is answered, so are those.
    let answer = ask_udp(server, &query(9, "reviews.", RecordType::A)).await;
    assert_eq!(code(&answer), ResponseCode::NoError);
    assert_eq!(served.count(|stats| &stats.dropped), 3);
    cancel.cancel();
    timeout(SOON, task).await.expect("pending queries are given up").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_namespace_is_free_again() {
    let served = Served::new(None, Vec::new()).await;
    served.dns.open(Arc::clone(&served.namespace)).await.unwrap();
    let mut held = TcpStream::connect(served.v4).await.unwrap();
    timeout(SOON, served.dns.close(served.namespace.cookie())).await.expect("close is quick");
    until_free(served.v4).await;
    until_free(served.v6).await;
    assert!(matches!(timeout(SOON, held.read(&mut [0])).await.unwrap(), Ok(0) | Err(_)));
    served.dns.open(Arc::clone(&served.namespace)).await.unwrap();
    assert_eq!(dig(served.v4, &["+short", "reviews"]).await, "10.96.0.11\n");
    timeout(SOON, served.dns.shutdown()).await.expect("shutdown is quick");
    until_free(served.v4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_says_what_to_check() {
    let served = Served::new(None, Vec::new()).await;
    let taken = StdUdpSocket::bind("127.0.0.1:0").unwrap();
    let settings = DnsSettings { port: taken.local_addr().unwrap().port(), ..served.dns.settings };
    let dns = Dns::new(SnapshotReader::default(), Arc::clone(&served.dns.originals), settings);
    let error = dns.open(Arc::clone(&served.namespace)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains("dns.port"), "{error}");
}

/// Nobody listens any more. Not at once: between the fork and the exec of
/// another test's child process, that child holds our sockets too.
async fn until_free(address: SocketAddr) {
    let deadline = Instant::now() + SOON;
    // No SO_REUSEPORT here: binding fails while any listener is left.
    while StdUdpSocket::bind(address).is_err() || TcpStream::connect(address).await.is_ok() {
        assert!(Instant::now() < deadline, "{address} is still listened on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A process with a network namespace of its own, without IPv6.
struct Pod(Child);

impl Pod {
    fn start() -> Self {
        let script = "ip link set lo up && sysctl -qw net.ipv6.conf.all.disable_ipv6=1 \
                      && echo ready && exec sleep 60";
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is installed");
        let mut line = [0; 6];
        let stdout = child.stdout.as_mut().unwrap();
        let pod = std::io::Read::read_exact(stdout, &mut line).map(|()| Self(child));
        pod.expect("root may make a network namespace")
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_namespace_without_ipv6_is_served_over_ipv4() {
    let pod = Pod::start();
    let namespace = Arc::new(Namespace::of_process(pod.0.id()).unwrap());
    let served = Served::new(None, Vec::new()).await;
    assert_ne!(namespace.cookie(), served.namespace.cookie());
    served.dns.open(Arc::clone(&namespace)).await.unwrap();
    served.dns.close(served.namespace.cookie()).await;
    until_free(served.v4).await;

    let options = SocketOptions { mark: 0 };
    let ours = query(1, "reviews.", RecordType::A);
    let stream = crate::net::connect_tcp(&namespace, served.v4, options).await.unwrap();
    let tcp = ask_stream(stream, std::slice::from_ref(&ours)).await;
    let socket = udp_socket(&namespace, "127.0.0.1:0".parse().unwrap(), options).unwrap();
    socket.send_to(&ours, served.v4).await.unwrap();
    let mut udp = vec![0; 512];
    let length = timeout(SOON, socket.recv(&mut udp)).await.expect("an answer").unwrap();
    assert_eq!(tcp, [&udp[..length]]);
    assert_eq!(code(&udp[..length]), ResponseCode::NoError);
}

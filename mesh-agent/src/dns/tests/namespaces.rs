//! Where the agent listens for queries, and that it leaves again.

use super::*;

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

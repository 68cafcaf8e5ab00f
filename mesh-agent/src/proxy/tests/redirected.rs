use std::sync::Mutex;

use super::*;

/// Knows one client, once.
#[derive(Debug)]
struct One(Mutex<Option<(SocketAddr, Original)>>);

impl OriginalDestinations for One {
    fn take(&self, cookie: u64, client: SocketAddr) -> Option<Original> {
        assert_eq!(cookie, Namespace::current().unwrap().cookie());
        let mut known = self.0.lock().unwrap();
        known.take_if(|(known, _)| *known == client).map(|(_, original)| original)
    }

    fn resolver(&self, _: u64, _: SocketAddr, _: u16) -> Option<Original> {
        None
    }
}

#[tokio::test]
async fn only_who_was_redirected_is_served() {
    let mesh = Mesh::start(Protocol::Http, &[http_server("one", false).await]).await;
    let port = free_address().port() + 10_000;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = socket.local_addr().unwrap();
    let original = Original { destination: mesh.address, cgroup: 7, pid: 8 };
    let originals: Arc<dyn OriginalDestinations> =
        Arc::new(One(Mutex::new(Some((client, original)))));
    let settings = ProxySettings {
        workers: 2,
        port,
        socket: SocketOptions { mark: 0 },
        limits: Limits::default(),
        taps: Arc::default(),
    };
    let proxy = Proxy::start(&settings, &mesh.snapshots, &originals).unwrap();
    let opened = proxy.open(Arc::new(Namespace::current().unwrap())).await.unwrap();
    let local = SocketAddr::from(([127, 0, 0, 1], port));
    assert!(opened.addresses.contains(&local), "{opened:?}");

    let mut stranger = TcpStream::connect(local).await.unwrap();
    assert_eq!(read_all(&mut stranger).await, "");
    assert_eq!(proxy.stats().unknown.load(Ordering::Relaxed), 1);

    let mut stream = socket.connect(local).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(read_until(&mut stream, "body 0: ").await.starts_with("HTTP/1.1 200 OK"));
    let all = proxy.connections().await;
    assert_eq!((all[0].cgroup, all[0].pid, all[0].protocol), (7, 8, "http/1.1"));
    assert_eq!((all[0].client, all[0].requests), (client, 1));
    drop(stream);
    assert_eq!(proxy.drain(Duration::from_secs(5)).await, 0);
}

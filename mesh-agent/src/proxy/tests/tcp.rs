use super::*;

async fn echo_server() -> SocketAddr {
    server(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        // The client may leave first.
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.write_all(b"bye").await;
    })
    .await
}

#[tokio::test]
async fn both_directions_end_on_their_own() {
    let mesh = Mesh::start(Protocol::Tcp, &[echo_server().await]).await;
    let mut stream = mesh.connect().await;
    stream.write_all(b"hello ").await.unwrap();
    assert_eq!(read_until(&mut stream, "hello ").await, "hello ");
    stream.shutdown().await.unwrap();
    // The other half is open until the server ends it.
    assert_eq!(read_all(&mut stream).await, "bye");
    eventually(|| mesh.proxy.live() == 0).await;
    let port = Arc::clone(mesh.snapshots.load().ports().next().unwrap());
    let live = &port.endpoints[0].live;
    assert_eq!(live.bytes_sent.load(Ordering::Relaxed), 6);
    assert_eq!(live.bytes_received.load(Ordering::Relaxed), 9);
    assert_eq!(live.in_flight.load(Ordering::Relaxed), 0);
    assert_eq!(port.stats.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_large_transfer_arrives_whole_with_backpressure() {
    const SIZE: usize = 64 * 1024 * 1024;
    let source = server(|mut stream| async move {
        let block: Vec<u8> = (0..=250u8).cycle().take(251 * 1000).collect();
        let mut left = SIZE;
        while left > 0 {
            let some = left.min(block.len());
            stream.write_all(&block[..some]).await.unwrap();
            left -= some;
        }
    })
    .await;
    let mesh = Mesh::start(Protocol::Tcp, &[source]).await;
    let mut stream = mesh.connect().await;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        if read == 0 {
            break;
        }
        assert!(buffer[..read].iter().enumerate().all(|(i, &b)| usize::from(b) == (at + i) % 251));
        at += read;
        if at < 1 << 21 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert_eq!(at, SIZE);
}

#[tokio::test]
async fn a_dead_instance_is_passed_over() {
    let mesh = Mesh::start(Protocol::Tcp, &[free_address(), echo_server().await]).await;
    for _ in 0..4 {
        let mut stream = mesh.connect().await;
        stream.write_all(b"x").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(read_all(&mut stream).await, "xbye");
    }
    let port = Arc::clone(mesh.snapshots.load().ports().next().unwrap());
    let retries = &port.stats.retries[crate::retry::Reason::ConnectFailure as usize];
    assert!(retries.load(Ordering::Relaxed) > 0);
    assert_eq!(port.stats.errors.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn without_an_instance_it_is_reset() {
    let mesh = Mesh::start(Protocol::Tcp, &[free_address()]).await;
    assert!(mesh.resets().await);
}

#[tokio::test]
async fn a_reset_is_passed_on() {
    let rude = server(|stream| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    let mesh = Mesh::start(Protocol::Tcp, &[rude]).await;
    assert!(mesh.resets().await);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let mut policy = Policy::default();
    policy.timeouts.idle = Duration::from_millis(300);
    let mesh = Mesh::with(Protocol::Tcp, &[echo_server().await], policy, Limits::default()).await;
    let mut stream = mesh.connect().await;
    stream.write_all(b"x").await.unwrap();
    assert_eq!(read_all(&mut stream).await, "x");
}

#[tokio::test]
async fn connections_are_limited_and_listed() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let instance = echo_server().await;
    let mesh = Mesh::with(Protocol::Tcp, &[instance], Policy::default(), limits).await;
    let mut first = mesh.connect().await;
    first.write_all(b"x").await.unwrap();
    read_until(&mut first, "x").await;
    let mut second = mesh.connect().await;
    assert_eq!(read_all(&mut second).await, "");
    assert_eq!(mesh.proxy.stats().over_limit.load(Ordering::Relaxed), 1);

    let all = mesh.proxy.connections().await;
    assert_eq!(all.len(), 1);
    let one = &all[0];
    assert_eq!(one.client, first.local_addr().unwrap());
    assert_eq!((one.destination, one.instance), (mesh.address, Some(instance)));
    assert_eq!((one.sent, one.received, one.protocol), (1, 1, "tcp"));
    assert_eq!(one.service.as_str(), "reviews");

    mesh.proxy.set_limits(Limits::default());
    let mut third = mesh.connect().await;
    third.write_all(b"y").await.unwrap();
    assert_eq!(read_until(&mut third, "y").await, "y");
}

#[tokio::test]
async fn a_removed_service_is_reset() {
    let mut mesh = Mesh::start(Protocol::Tcp, &[echo_server().await]).await;
    mesh.registry.configure(Vec::<ServiceSpec>::new());
    assert!(mesh.resets().await);
    assert_eq!(mesh.proxy.stats().no_service.load(Ordering::Relaxed), 1);
    // It comes back with the service.
    mesh.registry.configure(vec![mesh.spec.clone()]);
    let mut stream = mesh.connect().await;
    stream.write_all(b"x").await.unwrap();
    assert_eq!(read_until(&mut stream, "x").await, "x");
}

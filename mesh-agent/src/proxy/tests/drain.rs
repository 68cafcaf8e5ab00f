use super::*;

#[tokio::test]
async fn requests_under_way_are_answered_and_the_next_connection_refused() {
    let slow = server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
    })
    .await;
    let mesh = Mesh::start(Protocol::Http, &[slow]).await;
    let mut stream = mesh.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    eventually(|| mesh.proxy.live() == 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let address = mesh.address;
    let draining = tokio::spawn(async move { mesh.proxy.drain(Duration::from_secs(8)).await });
    let text = read_all(&mut stream).await;
    assert!(text.contains("connection: close\r\n") && text.ends_with("ok"), "{text}");
    assert_eq!(draining.await.unwrap(), 0);
    TcpStream::connect(address).await.unwrap_err();
}

#[tokio::test]
async fn what_does_not_end_is_cut_at_the_deadline() {
    let silent = server(|mut stream| async move {
        // Until the proxy cuts it.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let mesh = Mesh::start(Protocol::Tcp, &[silent]).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(mesh.connect().await);
    }
    eventually(|| mesh.proxy.live() == 3).await;
    assert_eq!(mesh.proxy.drain(Duration::from_millis(200)).await, 3);
    for stream in &mut streams {
        assert!(stream.read_u8().await.is_err());
    }
}

#[tokio::test]
async fn what_the_kernel_had_accepted_is_served() {
    let mesh = Mesh::start(Protocol::Http, &[http_server("one", false).await]).await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(mesh.connect().await);
    }
    let draining = tokio::spawn(async move { mesh.proxy.drain(Duration::from_secs(5)).await });
    for stream in &mut streams {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    }
    for stream in &mut streams {
        let text = read_all(stream).await;
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    }
    assert_eq!(draining.await.unwrap(), 0);
}

#[tokio::test]
async fn a_closed_namespace_is_not_listened_in() {
    let mesh = Mesh::start(Protocol::Http, &[http_server("one", false).await]).await;
    let mut stream = mesh.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(&mut stream, "body 0: ").await;
    mesh.proxy.close(Namespace::current().unwrap().cookie()).await;
    assert_eq!(mesh.proxy.connections().await.len(), 1);
    // A child that another test has just forked may hold the listener a moment
    // longer.
    eventually(|| std::net::TcpStream::connect(mesh.address).is_err()).await;
    // What was there goes on.
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(&mut stream, "body 0: ").await;
}

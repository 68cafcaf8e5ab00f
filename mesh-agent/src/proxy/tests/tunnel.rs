use super::*;

async fn switching() -> SocketAddr {
    server(|mut stream| async move {
        let head = read_until(&mut stream, "\r\n\r\n").await.to_lowercase();
        if head.starts_with("connect a:1 http/1.1\r\n") {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        } else {
            assert!(head.contains("upgrade: websocket\r\n"), "{head}");
            assert!(head.contains("connection: upgrade\r\n"), "{head}");
            stream
                .write_all(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                      Connection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nfirst",
                )
                .await
                .unwrap();
        }
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.write_all(b"bye").await.unwrap();
    })
    .await
}

const UPGRADE: &str =
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[tokio::test]
async fn a_websocket_is_a_tunnel() {
    let mesh = Mesh::start(Protocol::Http, &[switching().await]).await;
    let mut stream = mesh.connect().await;
    // What follows at once belongs to the tunnel and isn't HTTP.
    stream.write_all(format!("{UPGRADE}\x01\x02").as_bytes()).await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(head.contains("upgrade: websocket\r\n"), "{head}");
    assert!(head.contains("sec-websocket-accept: x\r\n"), "{head}");
    assert_eq!(read_until(&mut stream, "\x02").await, "first\x01\x02");
    stream.write_all(b"more").await.unwrap();
    assert_eq!(read_until(&mut stream, "more").await, "more");
    stream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut stream).await, "bye");
    eventually(|| mesh.proxy.live() == 0).await;
}

#[tokio::test]
async fn a_connect_is_a_tunnel() {
    let mesh = Mesh::start(Protocol::Http, &[switching().await]).await;
    let mut stream = mesh.connect().await;
    stream.write_all(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    stream.write_all(b"\0more").await.unwrap();
    assert_eq!(read_until(&mut stream, "more").await, "\0more");
}

#[tokio::test]
async fn after_a_refused_upgrade_requests_go_on() {
    let mesh = Mesh::start(Protocol::Http, &[http_server("one", false).await]).await;
    let again = "GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let text = mesh.raw(format!("{UPGRADE}{again}").as_bytes()).await;
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
    assert!(text.contains("GET /2 "), "{text}");
}

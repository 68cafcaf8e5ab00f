use super::*;

#[tokio::test]
async fn http_is_recognised() {
    let mesh = Mesh::start(Protocol::Auto, &[http_server("one", false).await]).await;
    let mut stream = mesh.connect().await;
    stream.write_all(b"GET / HT").await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    stream.write_all(b"TP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let text = read_all(&mut stream).await;
    assert!(text.contains("x-forwarded-for: 127.0.0.1"), "{text}");
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard() {
    let greeting = server(|mut stream| async move {
        stream.write_all(b"220 hello\r\n").await.unwrap();
        let line = read_until(&mut stream, "\r\n").await;
        stream.write_all(line.to_lowercase().as_bytes()).await.unwrap();
    })
    .await;
    let mesh = Mesh::start(Protocol::Auto, &[greeting]).await;
    let mut stream = mesh.connect().await;
    assert_eq!(read_until(&mut stream, "\r\n").await, "220 hello\r\n");
    stream.write_all(b"EHLO A\r\n").await.unwrap();
    assert_eq!(read_all(&mut stream).await, "ehlo a\r\n");
}

#[tokio::test]
async fn anything_else_passes_as_it_is() {
    let shout = server(|mut stream| async move {
        let line = read_until(&mut stream, "\r\n").await;
        stream.write_all(line.as_bytes()).await.unwrap();
    })
    .await;
    let mesh = Mesh::start(Protocol::Auto, &[shout]).await;
    assert_eq!(mesh.raw(b"*1\r\n").await, "*1\r\n");
    assert_eq!(mesh.raw(b"GET key\r\n").await, "GET key\r\n");
    let none = Mesh::start(Protocol::Auto, &[]).await;
    let text = none.raw(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
}

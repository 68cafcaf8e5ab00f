//! Streams to instances that do as they like.

use tokio::sync::mpsc;

use super::*;

/// What an instance saw of a body: its bytes, and how it ended.
type Seen = (usize, Result<(), Option<h2::Reason>>);

async fn client(mesh: &Mesh) -> h2::client::SendRequest<Bytes> {
    let (sender, connection) = h2::client::handshake(mesh.connect().await).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn post() -> Request<()> {
    Request::post("http://a/p").body(()).unwrap()
}

/// An instance with small windows that reads as slowly as they make it, and
/// tells what it saw.
async fn small_windows() -> (SocketAddr, mpsc::UnboundedReceiver<Seen>) {
    let (tell, seen) = mpsc::unbounded_channel();
    let address = server(move |stream| {
        let tell = tell.clone();
        async move {
            let mut builder = h2::server::Builder::new();
            builder.initial_window_size(1000).initial_connection_window_size(65_535);
            let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let mut body = request.into_body();
                    let mut bytes = 0;
                    let ended = loop {
                        match body.data().await {
                            Some(Ok(data)) => {
                                bytes += data.len();
                                body.flow_control().release_capacity(data.len()).unwrap();
                            }
                            Some(Err(error)) => break Err(error.reason()),
                            None => break Ok(()),
                        }
                    };
                    tell.send((bytes, ended)).unwrap();
                    if ended.is_ok() {
                        respond.send_response(Response::new(()), true).unwrap();
                    }
                });
            }
        }
    })
    .await;
    (address, seen)
}

#[tokio::test]
async fn a_body_passes_as_the_window_opens() {
    let (instance, mut seen) = small_windows().await;
    let mesh = Mesh::start(Protocol::Http2, &[instance]).await;
    let sender = client(&mesh).await;
    // Several at once share the connection's window.
    let uploads = (0..5).map(|_| {
        let mut sender = sender.clone();
        async move {
            let (response, mut send) = sender.send_request(post(), false).unwrap();
            for _ in 0..30 {
                send.send_data(Bytes::from(vec![b'x'; 10_001]), false).unwrap();
            }
            send.send_data(Bytes::new(), true).unwrap();
            response.await.unwrap().status()
        }
    });
    for status in futures_util::future::join_all(uploads).await {
        assert_eq!(status, 200);
        assert_eq!(seen.recv().await.unwrap(), (300_030, Ok(())));
    }
}

#[tokio::test]
async fn an_upload_that_its_client_breaks_off_does_not_end_well() {
    let (instance, mut seen) = small_windows().await;
    let mesh = Mesh::start(Protocol::Http2, &[instance]).await;
    let mut sender = client(&mesh).await;
    let (response, mut send) = sender.send_request(post(), false).unwrap();
    send.send_data(Bytes::from(vec![b'x'; 500]), false).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    send.send_reset(h2::Reason::CANCEL);
    assert!(response.await.is_err());
    assert_eq!(seen.recv().await.unwrap(), (500, Err(Some(h2::Reason::CANCEL))));
    let port = Arc::clone(mesh.snapshots.load().ports().next().unwrap());
    assert_eq!(port.endpoints[0].live.failures.load(Ordering::Relaxed), 0, "nobody is to blame");
}

#[tokio::test]
async fn an_answer_may_come_before_the_body_has_ended() {
    let instance = server(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                let mut send = respond.send_response(Response::new(()), false).unwrap();
                let mut body = request.into_body();
                while let Some(Ok(data)) = body.data().await {
                    body.flow_control().release_capacity(data.len()).unwrap();
                    send.send_data(data, false).unwrap();
                }
                let trailers = body.trailers().await.unwrap().unwrap();
                send.send_trailers(trailers).unwrap();
            });
        }
    })
    .await;
    let mesh = Mesh::start(Protocol::Grpc, &[instance]).await;
    let mut sender = client(&mesh).await;
    let (response, mut send) = sender.send_request(post(), false).unwrap();
    let mut answer = response.await.unwrap().into_body();
    for word in ["one", "two", "three"] {
        send.send_data(Bytes::from(word), false).unwrap();
        assert_eq!(answer.data().await.unwrap().unwrap(), word);
    }
    let mut trailers = http::HeaderMap::new();
    trailers.insert("checksum", "7".parse().unwrap());
    send.send_trailers(trailers).unwrap();
    assert!(answer.data().await.is_none());
    assert_eq!(answer.trailers().await.unwrap().unwrap()["checksum"], "7");
}

/// What a client gets of an answer whose instance resets the stream after it.
async fn reset_after(complete: bool, reason: h2::Reason) -> Result<Bytes, h2::Error> {
    let instance = server(move |stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            send.send_data(Bytes::from_static(b"answer"), complete).unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                send.send_reset(reason);
            });
        }
    })
    .await;
    let mesh = Mesh::start(Protocol::Http2, &[instance]).await;
    let mut sender = client(&mesh).await;
    // Its body never ends.
    let (response, _send) = sender.send_request(post(), false).unwrap();
    let mut answer = response.await?.into_body();
    let mut all = Vec::new();
    while let Some(data) = answer.data().await {
        all.extend_from_slice(&data?);
    }
    Ok(all.into())
}

#[tokio::test]
async fn an_answer_that_is_complete_needs_no_more_of_the_request() {
    assert_eq!(reset_after(true, h2::Reason::NO_ERROR).await.unwrap(), "answer");
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_end_well() {
    let error = reset_after(false, h2::Reason::CANCEL).await.unwrap_err();
    assert!(error.is_reset(), "{error}");
}

#[tokio::test]
async fn who_leaves_early_takes_the_stream_along() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let instance = server(move |stream| {
        let tell = tell.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                tell.send(None).unwrap();
                let tell = tell.clone();
                tokio::spawn(async move {
                    let reason = std::future::poll_fn(|context| respond.poll_reset(context)).await;
                    tell.send(Some(reason.unwrap())).unwrap();
                });
            }
        }
    })
    .await;
    let mesh = Mesh::start(Protocol::Http2, &[instance]).await;
    let mut sender = client(&mesh).await;
    let get = Request::get("http://a/").body(()).unwrap();
    let (response, _) = sender.send_request(get, true).unwrap();
    assert_eq!(told.recv().await.unwrap(), None, "it has the request");
    drop(response);
    assert_eq!(told.recv().await.unwrap(), Some(h2::Reason::CANCEL));
}

#[tokio::test]
async fn the_body_waits_for_the_instances_word() {
    let instance = server(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.headers()["expect"], "100-continue");
            let go_on = Response::builder().status(100).body(()).unwrap();
            respond.send_informational(go_on).unwrap();
            tokio::spawn(async move {
                let data = request.into_body().data().await.unwrap().unwrap();
                assert_eq!(data, "abc");
                respond.send_response(Response::new(()), true).unwrap();
            });
        }
    })
    .await;
    let mesh = Mesh::start(Protocol::Http2, &[instance]).await;
    let mut stream = mesh.connect().await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut stream, "100 Continue\r\n\r\n").await;
    stream.write_all(b"abc").await.unwrap();
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test]
async fn connections_that_nobody_has_any_more_are_closed() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let instance = server(move |stream| {
        let tell = tell.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                respond.send_response(Response::new(()), true).unwrap();
            }
            tell.send(()).unwrap();
        }
    })
    .await;
    let mesh = Mesh::start(Protocol::Http2, &[instance]).await;
    let mut sender = client(&mesh).await;
    let get = Request::get("http://a/").body(()).unwrap();
    let (response, _) = sender.send_request(get, true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    assert!(told.try_recv().is_err());
    // Its pools go with its namespace.
    let cookie = Namespace::current().unwrap().cookie();
    mesh.proxy.close(cookie).await;
    tokio::time::timeout(Duration::from_secs(10), told.recv()).await.expect("it ends").unwrap();
}

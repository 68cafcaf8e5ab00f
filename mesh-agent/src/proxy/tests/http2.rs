use http::Version;
use hyper::client::conn::http2;

use super::*;

async fn client(mesh: &Mesh) -> http2::SendRequest<Full<Bytes>> {
    let io = TokioIo::new(mesh.connect().await);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(body: &str) -> Request<Full<Bytes>> {
    Request::post("http://a/p").body(Full::new(body.to_owned().into())).unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn streams_are_balanced_one_by_one() {
    let instances = [http_server("one", true).await, http_server("two", true).await];
    let mesh = Mesh::start(Protocol::Http, &instances).await;
    let mut sender = client(&mesh).await;
    let all = (0..40).map(|_| sender.send_request(request("hi")));
    let mut ones = 0;
    for response in futures_util::future::join_all(all).await {
        let response = response.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        let text = text(response).await;
        assert!(text.contains("POST http://a/p HTTP/2.0"), "{text}");
        assert!(text.ends_with("body 2: hi"), "{text}");
        ones += usize::from(text.starts_with("one"));
    }
    assert_eq!(ones, 20);
}

#[tokio::test]
async fn an_http1_only_instance_is_found_out() {
    let instance = http_server("one", false).await;
    let mesh = Mesh::start(Protocol::Http, &[instance]).await;
    let mut sender = client(&mesh).await;
    let all = (0..10).map(|_| sender.send_request(request("hi")));
    for response in futures_util::future::join_all(all).await {
        let text = text(response.unwrap()).await;
        assert!(text.contains("POST /p HTTP/1.1\n") && text.contains("host: a\n"), "{text}");
    }
    let port = Arc::clone(mesh.snapshots.load().ports().next().unwrap());
    assert!(port.endpoints[0].live.http1_only.load(Ordering::Relaxed));
    let mut grpc = request("");
    grpc.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let response = sender.send_request(grpc).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "14");
}

#[tokio::test]
async fn an_http2_port_speaks_it_for_http1_clients() {
    let mesh = Mesh::start(Protocol::Http2, &[http_server("one", true).await]).await;
    let text = mesh.raw(b"GET /p HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("GET http://a:1/p HTTP/2.0"), "{text}");
}

#[tokio::test]
async fn grpc_trailers_pass() {
    let instance = server(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.headers()["te"], "trailers");
            let mut send = respond.send_response(Response::new(()), false).unwrap();
            send.send_data(Bytes::from_static(b"data"), false).unwrap();
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", "5".parse().unwrap());
            send.send_trailers(trailers).unwrap();
        }
    })
    .await;
    let mesh = Mesh::start(Protocol::Grpc, &[instance]).await;
    let mut sender = client(&mesh).await;
    let mut call = request("x");
    call.headers_mut().insert("te", "trailers".parse().unwrap());
    let response = sender.send_request(call).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "5");
    assert_eq!(body.to_bytes(), "data");
}

#[tokio::test]
async fn a_refused_stream_goes_elsewhere() {
    let refusing = server(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
        }
    })
    .await;
    let instances = [refusing, http_server("two", true).await];
    let mesh = Mesh::start(Protocol::Http2, &instances).await;
    let mut sender = client(&mesh).await;
    for _ in 0..6 {
        let get = Request::get("http://a/").body(Full::default()).unwrap();
        let text = text(sender.send_request(get).await.unwrap()).await;
        assert!(text.starts_with("two"), "{text}");
    }
}

#[tokio::test]
async fn more_streams_than_one_connection_takes() {
    let instance = server(|stream| async move {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(2);
        let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                respond.send_response(Response::new(()), true).unwrap();
            });
        }
    })
    .await;
    let mesh = Mesh::start(Protocol::Http2, &[instance]).await;
    let mut sender = client(&mesh).await;
    let started = std::time::Instant::now();
    let all = (0..20).map(|_| sender.send_request(request("")));
    for response in futures_util::future::join_all(all).await {
        assert_eq!(response.unwrap().status(), 200);
    }
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
}

#[tokio::test]
async fn connections_that_end_every_few_requests_lose_none() {
    let instance = server(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut served = 0;
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            served += 1;
            respond.send_response(Response::new(()), true).unwrap();
            if served == 10 {
                connection.graceful_shutdown();
            }
        }
    })
    .await;
    let mesh = Mesh::start(Protocol::Http2, &[instance]).await;
    let mut sender = client(&mesh).await;
    for _ in 0..10 {
        let all = (0..30)
            .map(|_| sender.send_request(Request::get("http://a/").body(Full::default()).unwrap()));
        for response in futures_util::future::join_all(all).await {
            assert_eq!(response.unwrap().status(), 200);
        }
    }
}

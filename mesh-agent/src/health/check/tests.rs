//! Checks against real servers on loopback.

use std::num::NonZeroU16;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};

use super::*;

fn checker() -> Checker {
    let namespace = Arc::new(Namespace::current().unwrap());
    Checker::new(namespace, SocketOptions { mark: 0 }, 4)
}

fn every(interval: Duration, probe: Probe) -> HealthCheck {
    let timeout = Duration::from_millis(500);
    HealthCheck { probe, interval, timeout, healthy: 2, unhealthy: 2, port: None }
}

/// Reads a request and answers it with `response`; gives the request.
async fn server(response: &'static str) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = vec![0; 4096];
            let read = stream.read(&mut bytes).await.unwrap_or(0);
            // The test may have seen enough.
            let _ = seen.send(String::from_utf8_lossy(&bytes[..read]).into_owned());
            let _ = stream.write_all(response.as_bytes()).await;
        }
    });
    (address, requests)
}

fn http(path: &str) -> Probe {
    Probe::Http {
        path: path.to_owned(),
        host: Some("reviews".to_owned()),
        headers: vec![("x-check".to_owned(), "1".to_owned())],
        status: (200, 299),
    }
}

#[tokio::test]
async fn http_asks_as_it_is_told_and_reads_the_status() {
    let (address, mut requests) = server("HTTP/1.1 204 No Content\r\n\r\n").await;
    let check = every(Duration::from_secs(1), http("/ready?full"));
    checker().once(address, &check).await.unwrap();
    let request = requests.recv().await.unwrap().to_ascii_lowercase();
    assert!(request.starts_with("get /ready?full http/1.1\r\n"), "{request}");
    assert!(request.contains("host: reviews\r\n"), "{request}");
    assert!(request.contains("x-check: 1\r\n"), "{request}");
    let (address, _requests) = server("HTTP/1.1 503 Not Now\r\n\r\n").await;
    let result = checker().once(address, &check).await;
    assert!(matches!(result, Err(CheckError::Status(503))), "{result:?}");
}

#[tokio::test]
async fn tcp_wants_a_connection_and_the_port_may_differ() {
    let (address, _requests) = server("").await;
    let check = every(Duration::from_secs(1), Probe::Tcp);
    checker().once(address, &check).await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let result = checker().once(closed, &check).await;
    assert!(matches!(result, Err(CheckError::Connect(_))), "{result:?}");
    let (told, mut verdicts) = mpsc::unbounded_channel();
    let check = HealthCheck {
        port: NonZeroU16::new(address.port()),
        ..every(Duration::from_millis(20), Probe::Tcp)
    };
    let running =
        tokio::spawn(checker().run(closed, check, Verdict::Unknown, move |result, verdict| {
            told.send((result.is_ok(), verdict)).unwrap();
        }));
    assert_eq!(verdicts.recv().await, Some((true, Verdict::Unknown)));
    assert_eq!(verdicts.recv().await, Some((true, Verdict::Healthy)));
    running.abort();
}

#[tokio::test]
async fn one_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for probe in [http("/"), Probe::Grpc { service: String::new() }] {
        let result = checker().once(address, &every(Duration::from_secs(1), probe)).await;
        assert!(matches!(result, Err(CheckError::TimedOut)), "{result:?}");
    }
}

//! Limits, against real sockets.

use std::{num::NonZeroU64, time::Instant};

use super::*;
use crate::model::{Bandwidth, ConnectionLimits, LimitBy, RateLimit};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const LAST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

fn limited(requests: u32, burst: u32, by: LimitBy) -> Policy {
    let per = Duration::from_secs(60);
    let limit = RateLimit { requests, per, burst, by, dry_run: false };
    Policy { rate_limits: vec![limit], ..Policy::default() }
}

async fn mesh(protocol: Protocol, instance: SocketAddr, policy: Policy) -> Mesh {
    Mesh::with(protocol, &[instance], policy, Limits::default()).await
}

#[tokio::test]
async fn over_the_rate_is_429_with_headers() {
    let instance = http_server("one", false).await;
    let mesh = mesh(Protocol::Http, instance, limited(60, 2, LimitBy::Service)).await;
    let answers = mesh.raw(&[GET, GET, LAST].concat()).await;
    let heads: Vec<_> = answers.split("HTTP/1.1 ").skip(1).collect();
    assert!(heads[0].starts_with("200") && heads[1].starts_with("200"), "{answers}");
    assert!(heads[0].contains("x-ratelimit-limit: 60\r\nx-ratelimit-remaining: 1\r\n"));
    assert!(heads[2].starts_with("429") && heads[2].contains("x-mesh-error: rate-limited\r\n"));
    assert!(heads[2].contains("retry-after: 1\r\n"), "{answers}");
    assert!(heads[2].contains("x-ratelimit-remaining: 0\r\nx-ratelimit-reset: 2\r\n"));
}

#[tokio::test]
async fn each_value_of_a_header_has_its_own_rate() {
    let instance = http_server("one", false).await;
    let mesh =
        mesh(Protocol::Http, instance, limited(1, 1, LimitBy::Header("x-user".into()))).await;
    for (user, status) in [("anna", "200"), ("anna", "429"), ("bert", "200")] {
        let request =
            format!("GET / HTTP/1.1\r\nhost: a\r\nx-user: {user}\r\nconnection: close\r\n\r\n");
        let answer = mesh.raw(request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{user}: {answer}");
    }
}

#[tokio::test]
async fn a_dry_run_refuses_nothing() {
    let instance = http_server("one", false).await;
    let mut policy = limited(1, 1, LimitBy::Service);
    policy.rate_limits[0].dry_run = true;
    let mesh = mesh(Protocol::Http, instance, policy).await;
    let answers = mesh.raw(&[GET, GET, LAST].concat()).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 3);
    assert!(!answers.contains("x-ratelimit"));
    let port = Arc::clone(mesh.snapshots.load().ports().next().unwrap());
    assert_eq!(port.flow.refusals.dry_run(), 2);
}

#[tokio::test]
async fn new_connections_of_tcp_are_limited() {
    let instance = server(|mut stream| async move {
        let _ = stream.write_all(b"x").await;
        let _ = stream.read_u8().await;
    })
    .await;
    let mesh = mesh(Protocol::Tcp, instance, limited(1, 2, LimitBy::Client)).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = mesh.connect().await;
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        open.push(stream);
    }
    assert!(mesh.resets().await);
}

#[tokio::test]
async fn requests_under_way_are_limited_until_their_answer_has_ended() {
    let end = Arc::<tokio::sync::Notify>::default();
    let told = Arc::clone(&end);
    let instance = server(move |mut stream| {
        let end = Arc::clone(&told);
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na").await;
            end.notified().await;
            let _ = stream.write_all(b"b").await;
        }
    })
    .await;
    let connections = ConnectionLimits { max_requests: Some(1), ..ConnectionLimits::default() };
    let mesh = mesh(Protocol::Http, instance, Policy { connections, ..Policy::default() }).await;
    let mut first = mesh.connect().await;
    first.write_all(GET).await.unwrap();
    read_until(&mut first, "\r\n\r\na").await;
    let refused = mesh.raw(LAST).await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("request-limit"), "{refused}");
    end.notify_one();
    assert_eq!(first.read_u8().await.unwrap(), b'b');
    let port = Arc::clone(mesh.snapshots.load().ports().next().unwrap());
    let count = || port.flow.breaker.count(crate::limit::Counted::Requests);
    eventually(|| count() == 0).await;
}

fn bandwidth(upload: u64, download: u64) -> Policy {
    let bandwidth = Bandwidth {
        upload: NonZeroU64::new(upload),
        download: NonZeroU64::new(download),
        by_client: false,
    };
    Policy { bandwidth: Some(bandwidth), ..Policy::default() }
}

/// How long it takes until a client has got 300,000 bytes at 600,000 a second.
/// The bucket may hold 30,000.
async fn takes_half_a_second(transfer: impl Future<Output = usize>) {
    let started = Instant::now();
    assert!(transfer.await >= 300_000);
    let took = started.elapsed().as_secs_f64();
    assert!((0.4..3.0).contains(&took), "{took} s");
}

#[tokio::test]
async fn downloads_of_tcp_and_http_are_paced() {
    let tcp = server(|mut stream| async move {
        let _ = stream.write_all(&[b'x'; 300_000]).await;
    })
    .await;
    let by_tcp = mesh(Protocol::Tcp, tcp, bandwidth(0, 600_000)).await;
    takes_half_a_second(async { read_all(&mut by_tcp.connect().await).await.len() }).await;
    let http = server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n").await;
        let _ = stream.write_all(&[b'x'; 300_000]).await;
        let _ = stream.read_u8().await;
    })
    .await;
    let by_http = mesh(Protocol::Http, http, bandwidth(0, 600_000)).await;
    takes_half_a_second(async { by_http.raw(LAST).await.len() }).await;
}

#[tokio::test]
async fn uploads_are_paced() {
    let instance = http_server("one", false).await;
    let mesh = mesh(Protocol::Http, instance, bandwidth(600_000, 0)).await;
    let mut request =
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\nconnection: close\r\n\r\n"
            .to_vec();
    request.resize(request.len() + 300_000, b'x');
    takes_half_a_second(async {
        let answer = mesh.raw(&request).await;
        assert!(answer.contains("body 300000"), "{}", &answer[..200]);
        300_000
    })
    .await;
}

#[tokio::test]
async fn who_waits_for_bandwidth_can_be_cut() {
    let instance = server(|mut stream| async move {
        let _ = stream.write_all(&[b'x'; 100_000]).await;
        let _ = stream.read_u8().await;
    })
    .await;
    // A second for each kilobyte.
    let mesh = mesh(Protocol::Tcp, instance, bandwidth(0, 1_000)).await;
    let mut stream = mesh.connect().await;
    let _ = stream.read_u8().await;
    let started = Instant::now();
    mesh.proxy.drain(Duration::from_millis(100)).await;
    assert!(started.elapsed() < Duration::from_secs(5));
}

//! What happens when an instance fails: attempts, replay, budget, ejection.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::*;
use crate::model::{Backoff, Consecutive, Failover, FailoverMode, Percent, Retry, RetryOn};

fn policy(failover: Failover, on: &[RetryOn]) -> Policy {
    let backoff = Backoff { base: Duration::from_millis(1), max: Duration::from_millis(2) };
    let retry = Retry { on: on.into(), backoff, ..Retry::default() };
    Policy { failover, retry, ..Policy::default() }
}

fn never_ejected() -> Failover {
    Failover { ejection: false, ..Failover::default() }
}

async fn mesh(instances: &[SocketAddr], policy: Policy) -> Mesh {
    Mesh::with(Protocol::Http, instances, policy, Limits::default()).await
}

fn request(method: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    )
}

/// Takes so many bytes of each request's body, and hangs up.
async fn breaks_off_after(bytes: usize) -> SocketAddr {
    server(move |mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let mut body = vec![0; bytes];
        // A client that sends less has sent all.
        let _ = stream.read_exact(&mut body).await;
    })
    .await
}

/// Answers every request with `head`, and counts them.
async fn answers(head: &'static str, seen: Arc<AtomicUsize>) -> SocketAddr {
    server(move |mut stream| {
        let seen = Arc::clone(&seen);
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            seen.fetch_add(1, Ordering::Relaxed);
            let text = format!("{head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            // The proxy may have had enough.
            let _ = stream.write_all(text.as_bytes()).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_body_is_sent_again_whole() {
    let well = http_server("well", false).await;
    for length in [0, 1, 1000, 50_000] {
        let broken = breaks_off_after(length.min(1000)).await;
        let mesh = mesh(&[broken, well], policy(never_ejected(), &[RetryOn::Reset])).await;
        let body = "x".repeat(length);
        for _ in 0..4 {
            let text = mesh.raw(request("POST", "", &body).as_bytes()).await;
            assert!(text.starts_with("HTTP/1.1 200 "), "{length}: {text}");
            assert!(text.ends_with(&format!("body {length}: {body}")), "{length}");
        }
    }
    let broken = breaks_off_after(0).await;
    let mesh = mesh(&[broken, well], policy(never_ejected(), &[RetryOn::Reset])).await;
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    for _ in 0..4 {
        let text = mesh.raw(chunked.as_bytes()).await;
        assert!(text.ends_with("body 11: hello world"), "{text}");
    }
}

#[tokio::test]
async fn a_body_too_long_to_keep_is_sent_once() {
    let broken = breaks_off_after(90_000).await;
    let well = http_server("well", false).await;
    let mesh = mesh(&[broken, well], policy(never_ejected(), &[RetryOn::Reset])).await;
    let body = "x".repeat(100_000);
    let mut refused = 0;
    for _ in 0..4 {
        let text = mesh.raw(request("PUT", "", &body).as_bytes()).await;
        refused += usize::from(text.starts_with("HTTP/1.1 502 "));
    }
    assert_eq!(refused, 2);
}

#[tokio::test]
async fn a_status_is_repeated_where_it_is_named_and_the_method_allows_it() {
    let sick = answers("HTTP/1.1 503 No", Arc::default()).await;
    let well = http_server("well", false).await;
    let mesh = mesh(&[sick, well], policy(never_ejected(), &[RetryOn::GatewayError])).await;
    for (method, refused) in [("GET", 0), ("PUT", 0), ("POST", 3)] {
        let mut seen = 0;
        for _ in 0..6 {
            let text = mesh.raw(request(method, "", "body").as_bytes()).await;
            seen += usize::from(text.starts_with("HTTP/1.1 503 "));
        }
        assert_eq!(seen, refused, "{method}");
    }
}

#[tokio::test]
async fn a_call_is_repeated_for_the_status_that_is_named() {
    let sick = answers(
        "HTTP/1.1 200 OK\r\ngrpc-status: 14\r\ncontent-type: application/grpc",
        Arc::default(),
    )
    .await;
    let well = http_server("well", false).await;
    let mesh = mesh(&[sick, well], policy(never_ejected(), &[RetryOn::Grpc(14)])).await;
    let call = request("POST", "Content-Type: application/grpc\r\n", "message");
    for _ in 0..6 {
        let text = mesh.raw(call.as_bytes()).await;
        assert!(text.ends_with("body 7: message"), "{text}");
    }
}

#[tokio::test]
async fn the_last_answer_stands_where_nobody_is_better() {
    let seen = Arc::<AtomicUsize>::default();
    let sick = answers("HTTP/1.1 503 No", Arc::clone(&seen)).await;
    let other = answers("HTTP/1.1 503 No", Arc::clone(&seen)).await;
    let mesh = mesh(&[sick, other], policy(never_ejected(), &[RetryOn::GatewayError])).await;
    let text = mesh.raw(request("GET", "", "").as_bytes()).await;
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    assert!(!text.contains("x-mesh-error"), "it is the instance's own: {text}");
    assert_eq!(seen.load(Ordering::Relaxed), 2, "no instance twice");
}

#[tokio::test]
async fn one_that_hangs_is_left_after_the_time_of_a_try() {
    let hangs = server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        std::future::pending::<()>().await;
    })
    .await;
    let well = http_server("well", false).await;
    let mut policy = policy(never_ejected(), &[RetryOn::Reset]);
    policy.retry.per_try_timeout = Some(Duration::from_millis(50));
    let both = mesh(&[hangs, well], policy.clone()).await;
    for method in ["GET", "POST"] {
        for _ in 0..4 {
            let text = both.raw(request(method, "", "body").as_bytes()).await;
            assert!(text.ends_with("body 4: body"), "{text}");
        }
    }
    let alone = mesh(&[hangs], policy).await;
    let text = alone.raw(request("GET", "", "").as_bytes()).await;
    assert!(text.starts_with("HTTP/1.1 504 "), "{text}");
    assert!(text.contains("x-mesh-error: per-try-timeout\r\n"), "{text}");
}

#[tokio::test]
async fn with_mode_once_the_client_sees_each_failure_until_the_instance_is_out() {
    let well = http_server("well", false).await;
    let failover = Failover {
        mode: FailoverMode::Once,
        consecutive: Consecutive { connect: 3, responses: 5 },
        ..Failover::default()
    };
    let mesh = mesh(&[free_address(), well], policy(failover, &[RetryOn::Reset])).await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let text = mesh.raw(request("GET", "", "").as_bytes()).await;
        statuses.push(text[9..12].to_owned());
    }
    let failed = statuses.iter().filter(|status| *status == "503").count();
    assert_eq!(failed, 3, "{statuses:?}");
    assert!(statuses[6..].iter().all(|status| status == "200"), "{statuses:?}");
}

#[tokio::test]
async fn after_its_exile_an_instance_gets_exactly_one_probe() {
    static WELL: AtomicBool = AtomicBool::new(false);
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let sick = server(|mut stream| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        SEEN.fetch_add(1, Ordering::Relaxed);
        let status = if WELL.load(Ordering::Relaxed) {
            // Long enough for others to come, were they let through.
            tokio::time::sleep(Duration::from_millis(200)).await;
            "200 OK"
        } else {
            "500 Sick"
        };
        let text = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(text.as_bytes()).await;
    })
    .await;
    let failover = Failover {
        consecutive: Consecutive { connect: 3, responses: 3 },
        base: Duration::from_millis(400),
        ..Failover::default()
    };
    let policy = policy(failover, &[RetryOn::ServerError]);
    let mesh = mesh(&[sick, http_server("well", false).await], policy).await;
    let get = request("GET", "", "");
    let answered = |text: &str| text.starts_with("HTTP/1.1 200 ");
    while SEEN.load(Ordering::Relaxed) < 3 {
        assert!(answered(&mesh.raw(get.as_bytes()).await));
    }
    let health = {
        let snapshot = mesh.snapshots.load();
        Arc::clone(&snapshot.ports().next().unwrap().endpoints[0].health)
    };
    assert!(health.is_ejected());
    for _ in 0..10 {
        assert!(answered(&mesh.raw(get.as_bytes()).await));
    }
    assert_eq!(SEEN.load(Ordering::Relaxed), 3, "nothing goes there in its exile");
    // It is still sick: the first probe fails, and nobody notices.
    let until = health.ejected_until().unwrap();
    eventually(|| crate::net::monotonic_ns() >= until).await;
    for _ in 0..10 {
        assert!(answered(&mesh.raw(get.as_bytes()).await));
    }
    assert_eq!(SEEN.load(Ordering::Relaxed), 4, "one probe");
    assert!(health.is_ejected());
    let again = health.ejected_until().unwrap() - crate::net::monotonic_ns();
    assert!(again > 400_000_000, "twice as long: {again} ns left");
    // Now it's well; many requests come at once, and one of them is the probe.
    WELL.store(true, Ordering::Relaxed);
    let until = health.ejected_until().unwrap();
    eventually(|| crate::net::monotonic_ns() >= until).await;
    let many = (0..20).map(|_| mesh.raw(get.as_bytes()));
    let texts = futures_util::future::join_all(many).await;
    assert!(texts.iter().all(|text| answered(text)));
    assert_eq!(SEEN.load(Ordering::Relaxed), 5, "exactly one probe");
    assert!(!health.is_ejected() && health.returned_at().is_some());
}

#[tokio::test]
async fn where_all_fail_the_budget_holds() {
    const CLIENTS: usize = 40;
    const EACH: usize = 25;
    let seen = Arc::<AtomicUsize>::default();
    let mut instances = Vec::new();
    for _ in 0..3 {
        instances.push(answers("HTTP/1.1 503 No", Arc::clone(&seen)).await);
    }
    let mut policy = policy(never_ejected(), &[RetryOn::GatewayError]);
    policy.retry.budget.percent = Percent(20);
    let mesh = mesh(&instances, policy).await;
    let clients = (0..CLIENTS).map(|_| async {
        for _ in 0..EACH {
            let text = mesh.raw(request("GET", "", "").as_bytes()).await;
            assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
        }
    });
    futures_util::future::join_all(clients).await;
    let (requests, seen) = (CLIENTS * EACH, seen.load(Ordering::Relaxed));
    assert!(seen > requests, "some are tried again");
    assert!(seen <= requests * 12 / 10 + CLIENTS, "{seen} for {requests}");
    let port = Arc::clone(mesh.snapshots.load().ports().next().unwrap());
    assert!(port.budget.exhausted() > 0);
}

#[tokio::test]
async fn tcp_goes_elsewhere_and_ejects() {
    let echo = server(|mut stream| async move {
        let (mut read, mut write) = stream.split();
        // The client ends as it likes.
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let mesh = Mesh::with(
        Protocol::Tcp,
        &[free_address(), echo, free_address()],
        Policy::default(),
        Limits::default(),
    )
    .await;
    for _ in 0..9 {
        let mut stream = mesh.connect().await;
        stream.write_all(b"ping").await.unwrap();
        assert_eq!(read_until(&mut stream, "ping").await, "ping");
    }
    let port = Arc::clone(mesh.snapshots.load().ports().next().unwrap());
    let ejected = port.endpoints.iter().filter(|one| one.health.is_ejected()).count();
    assert_eq!(ejected, 1, "half of three, rounded down");
    assert_eq!(port.endpoints.iter().map(|one| one.health.ejections()).sum::<u64>(), 1);
}

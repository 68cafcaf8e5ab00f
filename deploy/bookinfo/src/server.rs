//! The HTTP server that all roles share.

use std::{convert::Infallible, io::ErrorKind, net::Ipv6Addr, pin::pin, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

use crate::{Role, Service, catalogue, page, upstream::FOLLOWED};

/// For requests under way when the process is asked to end.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT, then lets requests under way end.
pub async fn run(port: u16, service: Arc<Service>) -> Result<()> {
    // This address takes IPv4 as well, where the system has its usual setting.
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .await
        .with_context(|| format!("listen on port {port}"))?;
    println!("{} serves on port {port}", service.instance);

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let graceful = GracefulShutdown::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => serve(stream, Arc::clone(&service), &graceful),
                // The client gave up before we came to it.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    eprintln!("accept: {error}: going on in a moment");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        eprintln!("requests were still under way after {DRAIN:?}");
    }
    Ok(())
}

fn serve(stream: TcpStream, service: Arc<Service>, graceful: &GracefulShutdown) {
    // Small answers go out at once; nothing is lost where this can't be set.
    let _ = stream.set_nodelay(true);
    let answering = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(answer(&service, &request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(75))
        .serve_connection(TokioIo::new(stream), answering);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        // Clients that go away are none of our concern.
        let _ = pin!(connection).await;
    });
}

async fn answer(service: &Service, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut response = if matches!(*request.method(), Method::GET | Method::HEAD) {
        route(service, request).await
    } else {
        let mut refused = json(StatusCode::METHOD_NOT_ALLOWED, &json!({"error": "only GET"}));
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        refused
    };
    for name in FOLLOWED {
        if let Some(value) = request.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

async fn route(service: &Service, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let headers = request.headers();
    let path = request.uri().path().trim_end_matches('/');
    let id = |prefix: &str| path.strip_prefix(prefix)?.parse::<u32>().ok();
    if path == "/health" {
        let health = json!({"status": "healthy", "instance": service.instance});
        return json(StatusCode::OK, &health);
    }
    match &service.role {
        Role::Details => {
            if let Some(id) = id("/details/") {
                return json(StatusCode::OK, &catalogue::details(service, id));
            }
        }
        Role::Ratings => {
            if let Some(id) = id("/ratings/") {
                return json(StatusCode::OK, &catalogue::ratings(service, id));
            }
        }
        Role::Reviews { version, ratings } => {
            if let Some(id) = id("/reviews/") {
                let reviews = catalogue::reviews(service, *version, ratings, id, headers);
                return json(StatusCode::OK, &reviews.await);
            }
        }
        Role::Productpage { details, reviews } => {
            let page = matches!(path, "" | "/productpage");
            if let Some(id) = if page { Some(0) } else { id("/api/v1/products/") } {
                return match catalogue::product(service, details, reviews, id, headers).await {
                    Ok(product) if page => html(page::render(&product)),
                    Ok(product) => json(StatusCode::OK, &product),
                    Err(error) => {
                        json(StatusCode::BAD_GATEWAY, &json!({"error": format!("{error:#}")}))
                    }
                };
            }
        }
    }
    json(StatusCode::NOT_FOUND, &json!({"error": format!("nothing at {path}")}))
}

fn json(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{value}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn html(page: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(page));
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

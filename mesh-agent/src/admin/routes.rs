//! Which request gets which answer.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _};
use http::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use serde::{Serialize, de::DeserializeOwned};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{Control, ControlError, TapLine};
use crate::telemetry::metrics;

/// The longest body of a request: all of them are a few fields.
const BODY_LIMIT: usize = 64 * 1024;

/// Who can reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surface {
    /// The owner of the socket file.
    Socket,
    /// Everybody who can connect: nothing but [`PUBLIC`].
    Http,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Metrics,
    Health,
    Ready,
    Status,
    Services,
    Endpoints,
    Connections,
    Traffic,
    Tap,
    Explain,
    Reload,
    Drain,
    ReadLog,
    SetLog,
}

const PUBLIC: &[(&str, &str, Route)] = &[
    ("GET", "/metrics", Route::Metrics),
    ("GET", "/healthz", Route::Health),
    ("GET", "/readyz", Route::Ready),
];

const PRIVATE: &[(&str, &str, Route)] = &[
    ("GET", "/v1/status", Route::Status),
    ("GET", "/v1/services", Route::Services),
    ("GET", "/v1/endpoints", Route::Endpoints),
    ("GET", "/v1/connections", Route::Connections),
    ("GET", "/v1/traffic", Route::Traffic),
    ("POST", "/v1/tap", Route::Tap),
    ("POST", "/v1/explain", Route::Explain),
    ("POST", "/v1/reload", Route::Reload),
    ("POST", "/v1/drain", Route::Drain),
    ("GET", "/v1/log", Route::ReadLog),
    ("POST", "/v1/log", Route::SetLog),
];

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Whom an answer is for.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub surface: Surface,
    /// The server stops.
    pub stop: CancellationToken,
    /// It gets an answer that has no end of its own.
    pub watches: Arc<AtomicBool>,
}

/// The answer to one request; there is always one.
pub(super) async fn answer(
    control: Arc<dyn Control>,
    asker: &Asker,
    request: Request<Incoming>,
) -> Answer {
    match find(asker.surface, request.method(), request.uri().path()) {
        Ok(route) => {
            dispatch(control, asker, route, request).await.unwrap_or_else(|refused| refused)
        }
        Err(None) => {
            refuse(StatusCode::NOT_FOUND, &format!("there is no {}", request.uri().path()))
        }
        Err(Some(allow)) => {
            let mut answer = refuse(StatusCode::METHOD_NOT_ALLOWED, &format!("use {allow}"));
            answer.headers_mut().insert(
                ALLOW,
                HeaderValue::from_str(&allow).expect("names of methods are valid in a header"),
            );
            answer
        }
    }
}

/// The route, or which methods the path allows, where there is one.
fn find(surface: Surface, method: &Method, path: &str) -> Result<Route, Option<String>> {
    let private = if surface == Surface::Socket { PRIVATE } else { &[] };
    let mut allowed = Vec::new();
    for &(allows, _, route) in PUBLIC.iter().chain(private).filter(|(_, at, _)| *at == path) {
        if allows == method.as_str() || (allows == "GET" && method == Method::HEAD) {
            return Ok(route);
        }
        allowed.push(allows);
        if allows == "GET" {
            allowed.push("HEAD");
        }
    }
    Err((!allowed.is_empty()).then(|| allowed.join(", ")))
}

async fn dispatch(
    control: Arc<dyn Control>,
    asker: &Asker,
    route: Route,
    request: Request<Incoming>,
) -> Result<Answer, Answer> {
    Ok(match route {
        Route::Metrics => {
            let page = blocking(control, Control::metrics).await?;
            respond(StatusCode::OK, metrics::CONTENT_TYPE, page)
        }
        Route::Health => probe(blocking(control, Control::health).await?),
        Route::Ready => probe(blocking(control, Control::ready).await?),
        Route::Status => json(&blocking(control, Control::status).await?),
        Route::Services => json(&blocking(control, Control::services).await?),
        Route::Endpoints => {
            let service = service_asked_for(request.uri().query())
                .map_err(|what| refuse(StatusCode::BAD_REQUEST, what))?;
            let found = blocking(control, move |control| control.endpoints(service.as_deref()));
            result(found.await?)
        }
        Route::Connections => json(&blocking(control, Control::connections).await?),
        Route::Traffic => json(&blocking(control, Control::traffic).await?),
        Route::Tap => {
            let filter = body(request).await?;
            let tapped = Arc::clone(&control);
            match blocking(control, move |_| tapped.tap(filter)).await? {
                Ok(lines) => stream(asker, lines),
                Err(error) => result::<()>(Err(error)),
            }
        }
        Route::Explain => {
            let asked = body(request).await?;
            result(blocking(control, move |control| control.explain(&asked)).await?)
        }
        Route::Reload => result(control.reload().await),
        Route::Drain => result(control.drain(body(request).await?).await),
        Route::ReadLog => json(&control.log_level()),
        Route::SetLog => result(control.set_log_level(body(request).await?)),
    })
}

/// Runs what may read files and maps off the event loop.
async fn blocking<T: Send + 'static>(
    control: Arc<dyn Control>,
    work: impl FnOnce(&dyn Control) -> T + Send + 'static,
) -> Result<T, Answer> {
    spawn_blocking(move || work(control.as_ref())).await.map_err(|error| {
        tracing::error!(%error, "an admin request failed");
        refuse(StatusCode::INTERNAL_SERVER_ERROR, "the agent failed on this; see its log")
    })
}

/// `service=NAME`, percent-encoded; nothing else may be asked.
fn service_asked_for(query: Option<&str>) -> Result<Option<String>, &'static str> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(None) };
    let name = query.strip_prefix("service=").filter(|name| !name.contains('&'));
    let name = name.and_then(|name| percent_encoding::percent_decode_str(name).decode_utf8().ok());
    match name {
        Some(name) => Ok(Some(name.into_owned())),
        None => Err("the only parameter is service=NAME, percent-encoded"),
    }
}

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Answer> {
    let bad = |error: &dyn std::fmt::Display| {
        refuse(StatusCode::BAD_REQUEST, &format!("the request's body: {error}"))
    };
    let body = Limited::new(request.into_body(), BODY_LIMIT).collect().await;
    let bytes = body.map_err(|error| bad(&error))?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| bad(&error))
}

fn probe(result: Result<(), String>) -> Answer {
    match result {
        Ok(()) => respond(StatusCode::OK, "text/plain; charset=utf-8", "ok\n"),
        Err(why) => respond(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain; charset=utf-8",
            format!("{why}\n"),
        ),
    }
}

fn result<T: Serialize>(result: Result<T, ControlError>) -> Answer {
    match result {
        Ok(value) => json(&value),
        Err(error) => {
            let status = match error {
                ControlError::NotFound(_) => StatusCode::NOT_FOUND,
                ControlError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
                ControlError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            refuse(status, &error.to_string())
        }
    }
}

/// Lines of JSON, until the client leaves or the server stops.
fn stream(asker: &Asker, lines: BoxStream<'static, Vec<TapLine>>) -> Answer {
    asker.watches.store(true, Ordering::Relaxed);
    let stop = asker.stop.clone().cancelled_owned();
    let frames = lines.take_until(stop).map(|lines| {
        let mut text = Vec::with_capacity(lines.len() * 512);
        for line in &lines {
            serde_json::to_writer(&mut text, line).expect("lines have string keys");
            text.push(b'\n');
        }
        Ok(Frame::data(Bytes::from(text)))
    });
    let mut answer = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn json<T: Serialize>(value: &T) -> Answer {
    let text = serde_json::to_vec(value).expect("views have string keys and no failing values");
    respond(StatusCode::OK, "application/json", text)
}

/// An error, as the client reads it.
fn refuse(status: StatusCode, error: &str) -> Answer {
    let text = serde_json::json!({ "error": error }).to_string();
    respond(status, "application/json", text)
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_side_is_three_pages() {
        for (method, path, _) in PRIVATE {
            let method = method.parse().unwrap();
            assert_eq!(find(Surface::Http, &method, path), Err(None), "{path}");
            assert!(find(Surface::Socket, &method, path).is_ok(), "{path}");
        }
        assert_eq!(find(Surface::Http, &Method::HEAD, "/metrics"), Ok(Route::Metrics));
        assert_eq!(find(Surface::Http, &Method::POST, "/healthz"), Err(Some("GET, HEAD".into())));
        assert_eq!(
            find(Surface::Socket, &Method::PUT, "/v1/log"),
            Err(Some("GET, HEAD, POST".into()))
        );
        assert_eq!(find(Surface::Http, &Method::GET, "/metrics/"), Err(None));
    }

    #[test]
    fn only_a_service_may_be_asked_for() {
        assert_eq!(service_asked_for(None).unwrap(), None);
        assert_eq!(service_asked_for(Some("service=a%20%26b")).unwrap().unwrap(), "a &b");
        for wrong in ["name=x", "service=a&x=1", "service=%ff"] {
            assert!(service_asked_for(Some(wrong)).is_err(), "{wrong}");
        }
    }
}

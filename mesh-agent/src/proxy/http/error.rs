//! Every answer that the agent itself gives, instead of an instance.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{
    body::{BodyError, ResponseBody},
    guard::Violation,
};
use crate::{
    limit::Refusal,
    proxy::{admission, upstream::ConnectError},
    tap::Ended,
};

/// Why a request wasn't answered by an instance.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("bad request: {0}")]
    BadRequest(#[from] Violation),
    #[error("bad request: {0}")]
    Malformed(&'static str),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("instance {0} does not speak HTTP/2")]
    NotHttp2(std::net::SocketAddr),
    #[error("instance {0} closed the connection before it answered")]
    Closed(std::net::SocketAddr),
    #[error("instance {instance} failed before it answered: {}", causes(error.as_ref()))]
    Exchange { instance: std::net::SocketAddr, error: BodyError },
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("instance {0} did not answer within policy.retry.perTryTimeout")]
    PerTryTimeout(std::net::SocketAddr),
    #[error("CONNECT over HTTP/2 is not supported")]
    NoTunnel,
    #[error("no whole response within policy.timeout.request, or the route's timeout")]
    RequestTimeout,
    #[error("no route of the service takes this request")]
    NoRoute,
    #[error("the route sends this request to a backend that isn't there, or that it may not name")]
    NoBackend,
    /// A route's answer: nothing has failed.
    #[error("redirected to {location}")]
    Redirect { status: StatusCode, location: String },
}

impl Failure {
    /// Status, name for `x-mesh-error`, and gRPC status (of the gRPC project's
    /// statuscodes.md).
    fn code(&self) -> (StatusCode, &'static str, u8) {
        match self {
            Self::BadRequest(Violation::TooLarge) => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large", 8)
            }
            Self::BadRequest(_) | Self::Malformed(_) => {
                (StatusCode::BAD_REQUEST, "bad-request", 13)
            }
            Self::Connect(error @ ConnectError::TimedOut(_)) => {
                (StatusCode::GATEWAY_TIMEOUT, error.name(), 14)
            }
            Self::Connect(error) => (StatusCode::SERVICE_UNAVAILABLE, error.name(), 14),
            Self::NotHttp2(_) => (StatusCode::BAD_GATEWAY, "not-http2", 14),
            Self::Closed(_) | Self::Exchange { .. } => {
                (StatusCode::BAD_GATEWAY, "instance-failed", 14)
            }
            Self::Refused(refusal @ Refusal::Rate(_)) => {
                (StatusCode::TOO_MANY_REQUESTS, refusal.name(), 8)
            }
            Self::Refused(refusal) => (StatusCode::SERVICE_UNAVAILABLE, refusal.name(), 14),
            Self::PerTryTimeout(_) => (StatusCode::GATEWAY_TIMEOUT, "per-try-timeout", 4),
            Self::NoTunnel => (StatusCode::NOT_IMPLEMENTED, "no-tunnel", 12),
            Self::RequestTimeout => (StatusCode::GATEWAY_TIMEOUT, "request-timeout", 4),
            Self::NoRoute => (StatusCode::NOT_FOUND, "no-route", 12),
            Self::NoBackend => (StatusCode::INTERNAL_SERVER_ERROR, "no-backend", 14),
            Self::Redirect { status, .. } => (*status, "redirect", 12),
        }
    }

    /// As `x-mesh-error` has it.
    pub fn name(&self) -> &'static str {
        self.code().1
    }

    /// How a request ends by it, as those who watch see it.
    pub fn ending(&self) -> Ended {
        match self {
            Self::Redirect { .. } => Ended::Complete,
            Self::Connect(ConnectError::Failed(..) | ConnectError::TimedOut(_))
            | Self::NotHttp2(_)
            | Self::Closed(_)
            | Self::Exchange { .. }
            | Self::PerTryTimeout(_)
            | Self::RequestTimeout => Ended::Failed,
            _ => Ended::Refused,
        }
    }

    /// Whether the operator's side, not the client, is to blame.
    pub fn is_error(&self) -> bool {
        self.code().0.is_server_error()
    }

    /// Whether the connection can't be used for another request.
    pub fn ends_connection(&self) -> bool {
        matches!(self, Self::BadRequest(_))
    }

    /// The answer. A gRPC client reads the status of the call from headers
    /// that are trailers at the same time.
    pub fn response(&self, grpc: bool) -> Response<ResponseBody> {
        let (status, name, grpc_status) = self.code();
        let text = self.to_string();
        if let Self::Redirect { location, .. } = self {
            let mut response = Response::new(ResponseBody::Text(Some(Bytes::from(text + "\n"))));
            *response.status_mut() = status;
            let location = HeaderValue::try_from(location)
                .expect("made of a request's own words and the configuration's");
            response.headers_mut().insert(header::LOCATION, location);
            return response;
        }
        if grpc {
            let mut response = Response::new(ResponseBody::Text(None));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from(u16::from(grpc_status)));
            headers.insert("grpc-message", percent_encoded(&text));
            headers.insert("x-mesh-error", HeaderValue::from_static(name));
            self.tell(headers);
            return response;
        }
        let mut response = Response::new(ResponseBody::Text(Some(Bytes::from(text + "\n"))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert("x-mesh-error", HeaderValue::from_static(name));
        self.tell(headers);
        response
    }

    /// Tells the client when another try makes sense.
    fn tell(&self, headers: &mut HeaderMap) {
        let Self::Refused(refusal) = self else { return };
        let seconds = admission::seconds(refusal.retry_after()).max(1);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        if let Refusal::Rate(over) = refusal {
            admission::tell(&over.quota, headers);
        }
    }
}

/// An error with its causes: the library's own words are "http2 error".
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// As the gRPC protocol wants `grpc-message`: printable ASCII without `%`.
fn percent_encoded(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    HeaderValue::try_from(encoded).expect("printable ASCII is a header value")
}

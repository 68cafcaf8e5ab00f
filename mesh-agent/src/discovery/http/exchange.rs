//! One GET over a connection of its own.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{super::sockets::Sockets, url::Url};

/// What differs from request to request.
#[derive(Debug)]
pub(super) struct Request {
    /// With the query.
    pub path: String,
    /// Of the response that we have.
    pub etag: Option<HeaderValue>,
    pub headers: Vec<(String, String)>,
    /// For the connection to stand.
    pub connect: Duration,
    /// For the whole exchange.
    pub timeout: Duration,
    /// Of the response, bytes.
    pub max_size: usize,
}

#[derive(Debug)]
pub(super) struct Response {
    pub headers: HeaderMap,
    /// `None`: what we have is still right (304).
    pub body: Option<Bytes>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum GetError {
    #[error("the name {host} can't be resolved: {source}")]
    Resolve { host: String, source: io::Error },
    #[error("can't connect to {address}: {source}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("no connection to {0} within {1:?}")]
    ConnectTimeout(String, Duration),
    #[error("no whole answer from {0} within {1:?}")]
    Timeout(String, Duration),
    #[error("{0} doesn't speak HTTP as it should: {1}")]
    Http(String, hyper::Error),
    #[error("the request can't be made: {0}; see `headers` and `url`")]
    Request(#[from] http::Error),
    #[error("{0} answered with {1}{2}")]
    Status(String, StatusCode, &'static str),
    #[error("{0} sends more than {1} bytes (maxSize)")]
    TooLong(String, usize),
    #[error("{0} sends a body that is encoded as {1:?}, and was asked not to")]
    Encoded(String, HeaderValue),
}

/// Asks for `request.path` of the server of `url`. Redirects aren't followed:
/// whoever can answer must not choose whom we ask next.
pub(super) async fn get(
    sockets: &Sockets,
    url: &Url,
    request: Request,
) -> Result<Response, GetError> {
    let (connect, whole, server) = (request.connect, request.timeout, url.authority.clone());
    let exchange = async {
        let stream = timeout(connect, self::connect(sockets, url)).await;
        let stream = stream.map_err(|_| GetError::ConnectTimeout(server.clone(), connect))??;
        over(stream, url, request).await
    };
    timeout(whole, exchange).await.map_err(|_| GetError::Timeout(server.clone(), whole))?
}

/// To the first address of the host that takes it. Names are the system's
/// business: /etc/hosts counts too.
async fn connect(sockets: &Sockets, url: &Url) -> Result<TcpStream, GetError> {
    let resolved = |source| GetError::Resolve { host: url.host.clone(), source };
    let addresses = lookup_host((url.host.as_str(), url.port)).await.map_err(resolved)?;
    let mut failure = resolved(io::ErrorKind::NotFound.into());
    for address in addresses {
        match sockets.tcp(address).await {
            Ok(stream) => return Ok(stream),
            Err(source) => failure = GetError::Connect { address, source },
        }
    }
    Err(failure)
}

async fn over(stream: TcpStream, url: &Url, request: Request) -> Result<Response, GetError> {
    let failed = |error| GetError::Http(url.authority.clone(), error);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let conditional = request.etag.is_some();
    let max_size = request.max_size;
    let message = message(url, request)?;
    let exchange = async {
        let response = sender.send_request(message).await.map_err(failed)?;
        read(response, url, conditional, max_size).await
    };
    match select(pin!(exchange), pin!(connection)).await {
        Either::Left((response, _)) => response,
        // What it had read is still to be taken.
        Either::Right((_, exchange)) => exchange.await,
    }
}

fn message(url: &Url, request: Request) -> Result<http::Request<Empty<Bytes>>, http::Error> {
    let mut builder = http::Request::get(request.path)
        .header(header::HOST, &url.authority)
        .header(header::ACCEPT, "application/json")
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::USER_AGENT, concat!("mesh-agent/", env!("CARGO_PKG_VERSION")));
    if let Some(etag) = request.etag {
        builder = builder.header(header::IF_NONE_MATCH, etag);
    }
    for (name, value) in request.headers {
        builder = builder.header(name, value);
    }
    builder.body(Empty::new())
}

async fn read(
    response: http::Response<Incoming>,
    url: &Url,
    conditional: bool,
    max_size: usize,
) -> Result<Response, GetError> {
    let server = || url.authority.clone();
    let (head, mut body) = response.into_parts();
    match head.status {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if conditional => {
            return Ok(Response { headers: head.headers, body: None });
        }
        status if status.is_redirection() => {
            return Err(GetError::Status(server(), status, ": name the URL that it leads to"));
        }
        status => return Err(GetError::Status(server(), status, "")),
    }
    if let Some(encoding) = head.headers.get(header::CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(GetError::Encoded(server(), encoding.clone()));
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| GetError::Http(server(), error))?;
        if let Some(data) = frame.data_ref() {
            if bytes.len() + data.len() > max_size {
                return Err(GetError::TooLong(server(), max_size));
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(Response { headers: head.headers, body: Some(bytes.into()) })
}

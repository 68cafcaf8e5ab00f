//! It answers a GET with a status in the range.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use super::CheckError;

/// One request over a connection of its own.
pub async fn check(
    stream: TcpStream,
    address: SocketAddr,
    path: &str,
    host: Option<&str>,
    headers: &[(String, String)],
    (lowest, highest): (u16, u16),
) -> Result<(), CheckError> {
    let own = address.to_string();
    let mut request = Request::get(path)
        .header(header::HOST, host.unwrap_or(&own))
        .header(header::USER_AGENT, concat!("mesh-agent/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ended with the set, whatever comes of the request.
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let status = sender.send_request(request).await?.status().as_u16();
    if (lowest..=highest).contains(&status) { Ok(()) } else { Err(CheckError::Status(status)) }
}

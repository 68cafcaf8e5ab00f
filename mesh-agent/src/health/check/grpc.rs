//! The standard health service says SERVING: `grpc.health.v1.Health/Check`
//! (the gRPC project's health-checking.md), over HTTP/2 with prior knowledge.

use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request, Version, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinSet};

use super::CheckError;

/// Of `HealthCheckResponse.ServingStatus`.
const SERVING: u64 = 1;

/// An answer is a few bytes.
const LONGEST: usize = 4096;

/// One call over a connection of its own; the server itself where `service` is
/// empty.
pub async fn check(
    stream: TcpStream,
    address: SocketAddr,
    service: &str,
) -> Result<(), CheckError> {
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .version(Version::HTTP_2)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(message(service)))?;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    // Ended with the set, whatever comes of the call.
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let response = sender.send_request(request).await?;
    if response.status() != http::StatusCode::OK {
        return Err(CheckError::Status(response.status().as_u16()));
    }
    fail_for(response.headers())?;
    let body = Limited::new(response.into_body(), LONGEST);
    let body = body.collect().await.map_err(|_| CheckError::Malformed)?;
    fail_for(body.trailers().unwrap_or(&HeaderMap::new()))?;
    match status(&body.to_bytes())? {
        SERVING => Ok(()),
        other => Err(CheckError::NotServing(other)),
    }
}

/// An error of the call itself.
fn fail_for(headers: &HeaderMap) -> Result<(), CheckError> {
    match headers.get("grpc-status").map(http::HeaderValue::as_bytes) {
        None | Some(b"0") => Ok(()),
        Some(code) => Err(CheckError::Grpc(String::from_utf8_lossy(code).into_owned())),
    }
}

/// `HealthCheckRequest {string service = 1}` as a gRPC message: not compressed,
/// its length, and the field where it isn't empty.
fn message(service: &str) -> Bytes {
    let mut field = BytesMut::new();
    if !service.is_empty() {
        field.put_u8(1 << 3 | 2);
        put_varint(&mut field, service.len() as u64);
        field.put_slice(service.as_bytes());
    }
    let mut message = BytesMut::with_capacity(5 + field.len());
    message.put_u8(0);
    message.put_u32(u32::try_from(field.len()).unwrap_or(u32::MAX));
    message.put_slice(&field);
    message.freeze()
}

fn put_varint(to: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        to.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.put_u8(value as u8);
}

/// Field 1 of `HealthCheckResponse {ServingStatus status = 1}`; 0 where it is
/// left out. Other fields are none that this version knows.
fn status(message: &[u8]) -> Result<u64, CheckError> {
    let [0, a, b, c, d, fields @ ..] = message else { return Err(CheckError::Malformed) };
    if fields.len() != u32::from_be_bytes([*a, *b, *c, *d]) as usize {
        return Err(CheckError::Malformed);
    }
    match fields {
        [] => Ok(0),
        [0x08, value @ ..] => varint(value).ok_or(CheckError::Malformed),
        _ => Err(CheckError::Malformed),
    }
}

fn varint(bytes: &[u8]) -> Option<u64> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_protocol() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("abc")[..], [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'b', b'c']);
        assert_eq!(message(&"x".repeat(300))[5..8], [0x0a, 0xac, 0x02]);
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 1]).unwrap(), 1);
        assert_eq!(status(&[0, 0, 0, 0, 3, 8, 0x81, 1]).unwrap(), 129);
        assert_eq!(status(&[0, 0, 0, 0, 0]).unwrap(), 0);
        for bad in [&[][..], &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 9, 8, 1], &[0, 0, 0, 0, 2, 8, 0x81]] {
            assert!(status(bad).is_err(), "{bad:?}");
        }
    }
}

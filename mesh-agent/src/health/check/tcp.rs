//! It accepts a connection.

use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::CheckError;

/// The connection is there. It is reset, not closed: an application that never
/// reads from it isn't left with half of one.
pub fn check(stream: &TcpStream) -> Result<(), CheckError> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).map_err(CheckError::Connect)
}

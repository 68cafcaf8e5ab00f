//! HTTP/1, HTTP/2 and gRPC: each request goes to an instance of its own.

mod attempts;
mod batch;
mod body;
mod coming;
mod error;
mod exchange;
mod expect;
mod finish;
mod forward;
mod guard;
mod head;
mod headers;
mod http2;
mod interim;
mod io;
mod lease;
mod local;
mod mirror;
mod paced;
mod patience;
mod plain;
mod pool;
mod route;
mod send;
mod server;
mod session;
mod source;
mod tapped;
mod tee;
mod upstream_io;
mod verdict;

use std::rc::Rc;

use tokio::net::TcpStream;

pub use self::guard::{Guard, HeadLimits};
use self::session::Session;
pub(super) use self::{pool::Pools, tee::Held};
use super::{attempts::Picked, connection::Connection, detect};

/// Serves a connection of an HTTP port.
pub(super) async fn serve(connection: &Rc<Connection>, stream: TcpStream) {
    if let Some((http2, early)) = detect::http_version(connection, &stream).await {
        serve_from(connection, stream, http2, early, None).await;
    }
}

/// Serves a connection of which the first bytes were read before, and for
/// which an instance may have been connected to.
pub(super) async fn serve_from(
    connection: &Rc<Connection>,
    stream: TcpStream,
    http2: bool,
    early: Vec<u8>,
    opened: Option<(Picked, TcpStream)>,
) {
    detect::count_early(connection, &early);
    let session = Session::new(connection, http2, opened);
    if http2 {
        connection.protocol.set("h2");
        server::serve_http2(session, stream, early).await;
    } else {
        connection.protocol.set("http/1.1");
        server::serve_http1(session, stream, early).await;
    }
}

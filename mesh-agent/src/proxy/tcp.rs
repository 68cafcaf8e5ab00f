//! Bytes from socket to socket, in both directions.

use std::{
    io::{self, ErrorKind},
    net::Shutdown,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use socket2::SockRef;
use tokio::{net::TcpStream, task::coop::consume_budget};

use super::{
    attempts::Picked,
    connection::{Connection, add},
    pick::Caller,
    upstream::{self, InFlight},
};
use crate::{health::Outcome, registry::Endpoint};

/// Serves a connection of a `tcp` port.
pub(super) async fn serve(connection: &Connection, client: TcpStream) {
    let port = connection.port();
    connection.protocol.set("tcp");
    let caller = Caller::connection(connection, &port);
    match upstream::connect_any(connection, &port, caller).await {
        Ok((Picked { endpoint, probe }, server)) => {
            if probe.is_some() {
                // Of a stream of bytes the agent can't tell what is an answer.
                port.report(&endpoint, Outcome::Answered, probe.as_ref());
            }
            let _in_flight = InFlight::new(&endpoint);
            tunnel(connection, &endpoint, &client, &server, Early::default()).await;
        }
        Err(error) => {
            port.stats.errors.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(client = %connection.peer, service = %port.service, %error, "reset");
            reset_on_close(&client);
        }
    }
}

/// Bytes that were read before the tunnel began.
#[derive(Debug, Default)]
pub(super) struct Early {
    pub from_client: Vec<u8>,
    pub from_server: Vec<u8>,
}

/// Moves bytes until both directions have ended, or one has failed: then both
/// sockets are reset, so that neither end takes a cut for a proper end.
pub(super) async fn tunnel(
    connection: &Connection,
    endpoint: &Arc<Endpoint>,
    client: &TcpStream,
    server: &TcpStream,
    early: Early,
) {
    let sent = |bytes| {
        add(&connection.sent, bytes);
        endpoint.live.bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
    };
    let received = |bytes| {
        add(&connection.received, bytes);
        endpoint.live.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
    };
    let both = futures_util::future::try_join(
        pump(connection, client, server, early.from_client, sent),
        pump(connection, server, client, early.from_server, received),
    );
    let result = tokio::select! {
        result = both => result.map(|_| ()),
        () = connection.cut() => Err(ErrorKind::ConnectionAborted.into()),
    };
    if let Err(error) = result {
        tracing::debug!(client = %connection.peer, instance = %endpoint.address, %error, "reset");
        reset_on_close(client);
        reset_on_close(server);
    }
}

/// One direction: reads only what fits, and stops reading while the other side
/// doesn't take it. What the other side didn't take at once is all that is
/// ever kept, so idle connections hold no buffer.
async fn pump(
    connection: &Connection,
    from: &TcpStream,
    to: &TcpStream,
    early: Vec<u8>,
    count: impl Fn(usize),
) -> io::Result<()> {
    count(early.len());
    let mut left = early;
    let mut window = SMALL;
    loop {
        write_all(to, &left).await?;
        left = Vec::new();
        consume_budget().await;
        from.readable().await?;
        let scratch = &mut *connection.worker.scratch.borrow_mut();
        let read = match from.try_read(&mut scratch[..window]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        count(read);
        let written = write_now(to, &scratch[..read])?;
        left = scratch[written..read].to_vec();
        // A sender that fills the window gets a larger one; one that doesn't,
        // a smaller: what is kept for a stalled receiver is bounded by it.
        window = if read == window { LARGE.min(window * 2) } else { SMALL.max(window / 2) };
    }
    // Half of it is closed; the other direction may go on for hours.
    match SockRef::from(to).shutdown(Shutdown::Write) {
        Err(error) if error.kind() != ErrorKind::NotConnected => Err(error),
        _ => Ok(()),
    }
}

/// Of one read: the smallest and the largest.
const SMALL: usize = 8 * 1024;
const LARGE: usize = 64 * 1024;

/// Writes what the socket takes without waiting.
fn write_now(to: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match to.try_write(&bytes[written..]) {
            Ok(some) => written += some,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

async fn write_all(to: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    let mut written = write_now(to, bytes)?;
    while written < bytes.len() {
        to.writable().await?;
        written += write_now(to, &bytes[written..])?;
    }
    Ok(())
}

/// Makes the close of this socket a reset.
pub(super) fn reset_on_close(stream: &TcpStream) {
    // Failing, it is closed in the ordinary way.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

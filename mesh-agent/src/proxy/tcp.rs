//! Bytes from socket to socket, in both directions.

use std::{
    cell::Cell,
    io::{self, ErrorKind},
    net::Shutdown,
    os::fd::AsRawFd as _,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream, task::coop::consume_budget, time::Instant};

use super::{
    admission,
    attempts::Picked,
    connection::{Connection, Stop, add},
    pick::{Caller, workload},
    tapped::Ending,
    upstream::{self, ConnectError, InFlight},
};
use crate::{
    health::Outcome,
    limit::{Pacer, Refusal, Turn},
    registry::{Endpoint, ServicePort},
};

/// Serves a connection of a `tcp` port.
pub(super) async fn serve(connection: &Connection, client: TcpStream) {
    let port = connection.port();
    connection.protocol.set("tcp");
    let _slot = match admission::connection(connection, &port) {
        Ok(slot) => slot,
        Err(refusal) => return refuse(connection, &port, &client, &refusal),
    };
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
            if matches!(error, ConnectError::NoInstance) {
                // Counted, where that is why.
                let _ = admission::overloaded(&port);
            }
            port.stats.errors.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(client = %connection.peer, service = %port.service, %error, "reset");
            Ending::failed(&error).note(&connection.ending);
            reset_on_close(&client);
        }
    }
}

/// Resets a connection that isn't let in.
pub(super) fn refuse(
    connection: &Connection,
    port: &ServicePort,
    client: &TcpStream,
    refusal: &Refusal,
) {
    tracing::debug!(client = %connection.peer, service = %port.service, %refusal, "reset");
    Ending::refused(refusal.name()).note(&connection.ending);
    reset_on_close(client);
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
    let port = connection.port();
    let flow = &port.flow;
    // Once both have ended, the sockets are closed, which says it as well.
    let ended = Cell::new(false);
    let both = futures_util::future::try_join(
        async {
            pump(connection, client, server, &flow.upload, early.from_client, sent).await?;
            if ended.replace(true) { Ok(()) } else { end(server) }
        },
        async {
            pump(connection, server, client, &flow.download, early.from_server, received).await?;
            if ended.replace(true) { Ok(()) } else { end(client) }
        },
    );
    let result = tokio::select! {
        result = both => result.map(|_| ()),
        () = connection.cut() => Err(ErrorKind::ConnectionAborted.into()),
    };
    if let Err(error) = result {
        tracing::debug!(client = %connection.peer, instance = %endpoint.address, %error, "reset");
        let cut = connection.stopping() == Stop::Cut;
        let ending = if cut { Ending::cut("ended-by-the-agent") } else { Ending::RESET };
        ending.note(&connection.ending);
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
    pacer: &Arc<Pacer>,
    early: Vec<u8>,
    count: impl Fn(usize),
) -> io::Result<()> {
    count(early.len());
    let mut paid = 0;
    while paid < early.len()
        && let Some(turn) = turn(connection, pacer, early.len() - paid).await
    {
        let bytes = turn.bytes();
        turn.used(bytes);
        paid += bytes;
    }
    let mut left = early;
    let mut window = SMALL;
    // What came past TCP can't be spliced.
    let splices = !connection.port().is_bypassed();
    loop {
        write_all(to, &left).await?;
        left = Vec::new();
        consume_budget().await;
        from.readable().await?;
        if window == LARGE
            && splices
            && !pacer.is_limited()
            && let Some(mut pipe) = connection.worker.pipes.lend()
        {
            match pipe.carry(from, to, &count).await {
                Ok(0) => break,
                // Not a stream any more: back to copying.
                Ok(moved) if moved < SMALL => window = SMALL,
                // It was made under another policy.
                Err(error) if error.kind() == ErrorKind::Unsupported => window = SMALL,
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
            continue;
        }
        let turn = turn(connection, pacer, window).await;
        let most = turn.as_ref().map_or(window, |turn| turn.bytes().min(window));
        let scratch = &mut *connection.worker.scratch.borrow_mut();
        let read = match read_now(from, &mut scratch[..most]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        count(read);
        if let Some(turn) = turn {
            turn.used(read);
        }
        let written = write_now(to, &scratch[..read])?;
        left = scratch[written..read].to_vec();
        // A sender that fills the window gets a larger one; one that doesn't,
        // a smaller: what is kept for a stalled receiver is bounded by it.
        window = if read == most { LARGE.min(window * 2) } else { SMALL.max(window / 2) };
    }
    Ok(())
}

/// Half of it is closed; the other direction may go on for hours.
fn end(to: &TcpStream) -> io::Result<()> {
    match SockRef::from(to).shutdown(Shutdown::Write) {
        Err(error) if error.kind() != ErrorKind::NotConnected => Err(error),
        _ => Ok(()),
    }
}

/// Waits until this connection may move some of that many bytes; `None` where
/// there is no limit. What it doesn't use goes back, as it does where the
/// connection is cut in between.
async fn turn(connection: &Connection, pacer: &Arc<Pacer>, bytes: usize) -> Option<Turn> {
    let now = Instant::now().into_std();
    let turn = pacer.turn(workload(connection), bytes, now)?;
    if let Some(begins) = turn.begins() {
        tokio::time::sleep_until(begins.into()).await;
    }
    Some(turn)
}

/// Of one read: the smallest and the largest.
const SMALL: usize = 8 * 1024;
const LARGE: usize = 64 * 1024;

/// Reads what is there without waiting.
///
/// What doesn't fill the room was all there was: the runtime is told so, and
/// needn't find out by another system call.
fn read_now(from: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
    let mut last = None;
    let result = from.try_io(Interest::READABLE, || {
        let read = recv(from.as_raw_fd(), room, MsgFlags::empty())?;
        if read == 0 || read == room.len() {
            return Ok(read);
        }
        last = Some(read);
        Err(ErrorKind::WouldBlock.into())
    });
    last.map_or(result, Ok)
}

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

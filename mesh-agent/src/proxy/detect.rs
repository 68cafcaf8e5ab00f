//! What a client speaks, by its first bytes.

use std::{io::ErrorKind, rc::Rc, sync::Arc, time::Duration};

use memchr::memchr;
use tokio::{net::TcpStream, time::Instant};

use super::{
    admission,
    attempts::Picked,
    connection::{Connection, add},
    http,
    pick::Caller,
    tapped::Ending,
    tcp::{self, Early},
    upstream::{self, ConnectError, InFlight},
};
use crate::{
    health::Outcome,
    registry::{Endpoint, ServicePort},
};

/// RFC 9113 section 3.4.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A request line longer than this isn't taken for one.
const REQUEST_LINE: usize = 16 * 1024;

/// RFC 9113 section 4.1.
const FRAME_HEAD: usize = 9;

/// How long a client may take to show that it speaks HTTP, where that is all
/// that is still open: its service has no instance, so that it can be told; or
/// the server has offered HTTP/2.
const LAST_WORD: Duration = Duration::from_millis(100);

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Http1,
    Http2,
    Other,
    /// Too little to tell.
    Undecided,
}

/// Judges a connection's first bytes.
pub(super) fn judge(bytes: &[u8]) -> Spoken {
    if bytes.starts_with(PREFACE) {
        return Spoken::Http2;
    }
    if PREFACE.starts_with(bytes) {
        return Spoken::Undecided;
    }
    let method =
        bytes.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
    match bytes.get(method) {
        None if method <= 20 => return Spoken::Undecided,
        Some(b' ') if (1..=20).contains(&method) => {}
        _ => return Spoken::Other,
    }
    match memchr(b'\n', bytes) {
        None if bytes.len() > REQUEST_LINE => Spoken::Other,
        None => Spoken::Undecided,
        Some(end) => {
            let line = bytes[..end].trim_ascii_end();
            let version = line.len().checked_sub(9).map(|from| &line[from..]);
            match version {
                Some(b" HTTP/1.1" | b" HTTP/1.0") => Spoken::Http1,
                _ => Spoken::Other,
            }
        }
    }
}

/// HTTP/1 or HTTP/2, on a port that speaks HTTP: whatever isn't the preface is
/// left to the HTTP/1 parser. `None` where the client left.
pub(super) async fn http_version(
    connection: &Connection,
    stream: &TcpStream,
) -> Option<(bool, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if !read_more(connection, stream, &mut bytes).await {
            return None;
        }
        let compared = bytes.len().min(PREFACE.len());
        if bytes[..compared] != PREFACE[..compared] {
            return Some((false, bytes));
        }
        if bytes.len() >= PREFACE.len() {
            return Some((true, bytes));
        }
        connection.head_since.set(Some(Instant::now()));
    }
}

/// Serves a connection of an `auto` port.
///
/// An instance is connected to at once, because in many protocols the server
/// speaks first; then whoever speaks first decides.
pub(super) async fn serve(connection: &Rc<Connection>, client: TcpStream) {
    let port = connection.port();
    let caller = Caller::connection(connection, &port);
    let connected = upstream::connect_any(connection, &port, caller).await;
    let (picked, server) = match connected {
        Ok(connected) => connected,
        Err(error) => return no_instance(connection, client, &port, &error).await,
    };
    let mut early = Vec::new();
    let spoken = tokio::select! {
        spoken = listen(connection, &client, &mut early) => spoken,
        // The server speaks, or leaves.
        _ = server.readable() => Spoken::Other,
    };
    // A server of HTTP/2 needn't wait for the preface: RFC 9113 section 3.4.
    let spoken = match spoken {
        Spoken::Other if early.is_empty() && offers_http2(&server).await => {
            let listening = listen(connection, &client, &mut early);
            tokio::time::timeout(LAST_WORD, listening).await.unwrap_or(Spoken::Other)
        }
        other => other,
    };
    match spoken {
        Spoken::Http1 | Spoken::Http2 => {
            let opened = Some((picked, server));
            http::serve_from(connection, client, spoken == Spoken::Http2, early, opened).await;
        }
        Spoken::Other | Spoken::Undecided => {
            connection.protocol.set("tcp");
            let Picked { endpoint, probe } = picked;
            if probe.is_some() {
                port.report(&endpoint, Outcome::Answered, probe.as_ref());
            }
            pass(connection, &endpoint, &client, &server, early).await;
        }
    }
}

/// Whether a server's first bytes, which stay unread, are those of HTTP/2.
async fn offers_http2(server: &TcpStream) -> bool {
    let mut bytes = [0; FRAME_HEAD];
    matches!(server.peek(&mut bytes).await, Ok(FRAME_HEAD)) && is_settings(bytes)
}

/// Whether a frame's head is that of SETTINGS: RFC 9113 sections 4.1 and 6.5.
fn is_settings([top, high, low, kind, flags, stream @ ..]: [u8; FRAME_HEAD]) -> bool {
    let length = u16::from_be_bytes([high, low]);
    top == 0 && length.is_multiple_of(6) && [kind, flags] == [4, 0] && stream == [0; 4]
}

async fn pass(
    connection: &Connection,
    endpoint: &Arc<Endpoint>,
    client: &TcpStream,
    server: &TcpStream,
    from_client: Vec<u8>,
) {
    let port = connection.port();
    let _slot = match admission::connection(connection, &port) {
        Ok(slot) => slot,
        Err(refusal) => {
            tcp::reset_on_close(server);
            return tcp::refuse(connection, &port, client, &refusal);
        }
    };
    let _in_flight = InFlight::new(endpoint);
    let early = Early { from_client, from_server: Vec::new() };
    tcp::tunnel(connection, endpoint, client, server, early).await;
}

/// Tells an HTTP client what is wrong; resets any other.
async fn no_instance(
    connection: &Rc<Connection>,
    client: TcpStream,
    port: &ServicePort,
    error: &ConnectError,
) {
    let mut early = Vec::new();
    let listening = listen(connection, &client, &mut early);
    match tokio::time::timeout(LAST_WORD, listening).await {
        Ok(spoken @ (Spoken::Http1 | Spoken::Http2)) => {
            http::serve_from(connection, client, spoken == Spoken::Http2, early, None).await;
        }
        _ => {
            port.stats.errors.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ending::failed(error).note(&connection.ending);
            tcp::reset_on_close(&client);
        }
    }
}

/// Reads until it's clear what the client speaks; a client that leaves early
/// speaks something else.
async fn listen(connection: &Connection, client: &TcpStream, bytes: &mut Vec<u8>) -> Spoken {
    loop {
        if !read_more(connection, client, bytes).await {
            return Spoken::Other;
        }
        match judge(bytes) {
            Spoken::Undecided => {}
            decided => return decided,
        }
    }
}

/// Reads what is there; false where nothing more comes. Safe to cancel.
async fn read_more(connection: &Connection, stream: &TcpStream, bytes: &mut Vec<u8>) -> bool {
    loop {
        let readable = tokio::select! {
            readable = stream.readable() => readable,
            () = connection.cut() => return false,
        };
        if readable.is_err() {
            return false;
        }
        let scratch = &mut connection.worker.scratch.borrow_mut()[..REQUEST_LINE];
        match stream.try_read(scratch) {
            Ok(0) => return false,
            Ok(read) => {
                bytes.extend_from_slice(&scratch[..read]);
                return true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
}

/// Counts bytes that were read before their protocol was known.
pub(super) fn count_early(connection: &Connection, early: &[u8]) {
    add(&connection.sent, early.len());
    connection.head_since.set(None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_offer_http2_are_known() {
        assert!(is_settings([0, 0, 18, 4, 0, 0, 0, 0, 0]));
        assert!(is_settings([0, 0, 0, 4, 0, 0, 0, 0, 0]));
        // MySQL's greeting, SSH's, SMTP's, and a frame of another kind.
        assert!(!is_settings([74, 0, 0, 0, 10, b'8', b'.', b'0', b'.']));
        assert!(!is_settings(*b"SSH-2.0-O"));
        assert!(!is_settings(*b"220 mail "));
        assert!(!is_settings([0, 0, 8, 6, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn first_bytes_are_judged() {
        for (bytes, spoken) in [
            (&b"GET / HTTP/1.1\r\n"[..], Spoken::Http1),
            (b"M-SEARCH * HTTP/1.1\r\n", Spoken::Http1),
            (b"GET / HTTP/1.0\n", Spoken::Http1),
            (b"GET /", Spoken::Undecided),
            (b"G", Spoken::Undecided),
            (b"PRI * HTTP/2.0\r\n\r\nSM", Spoken::Undecided),
            (PREFACE, Spoken::Http2),
            (b"GET key\r\n", Spoken::Other),
            (b"*1\r\n$4\r\nPING\r\n", Spoken::Other),
            (b"\x16\x03\x01", Spoken::Other),
            (b"EHLO a\r\n", Spoken::Other),
            (b"hello", Spoken::Other),
        ] {
            assert_eq!(judge(bytes), spoken, "{bytes:?}");
        }
    }
}

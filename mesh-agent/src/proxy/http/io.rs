//! The sockets as the HTTP library sees them: the client's behind the guard,
//! the instance's with its bytes counted.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    net::Shutdown,
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::rt::{Read, ReadBufCursor, Write};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use super::{guard::Guard, session::Session};
use crate::{proxy::connection::add, registry::Endpoint};

/// The client's socket.
pub(super) struct ClientIo {
    stream: TcpStream,
    session: Rc<Session>,
    /// None for HTTP/2, whose framing leaves no room for doubt.
    guard: Option<Guard>,
    /// Read, but not handed on yet: `ready` bytes of it may be.
    held: Vec<u8>,
    ready: usize,
    /// Everything that the library wrote has reached the socket.
    clean: bool,
}

impl ClientIo {
    /// `early` was read from the socket before.
    pub fn new(
        stream: TcpStream,
        session: Rc<Session>,
        mut guard: Option<Guard>,
        early: Vec<u8>,
    ) -> Self {
        let ready = match &mut guard {
            Some(guard) => {
                let fed = guard.feed(&early);
                if let Some(violation) = fed.violation {
                    session.violated(violation, guard);
                }
                fed.pass
            }
            None => early.len(),
        };
        let this = Self { stream, session, guard, held: early, ready, clean: true };
        this.note_waiting();
        this
    }

    /// The socket, and what was read from it and never handed on.
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.held)
    }

    /// Hands on what may be; false where there is nothing.
    fn hand_on(&mut self, cursor: &mut ReadBufCursor<'_>) -> bool {
        let some = self.ready.min(cursor.remaining());
        if some == 0 {
            return false;
        }
        cursor.put_slice(&self.held[..some]);
        self.ready -= some;
        if some == self.held.len() {
            self.held = Vec::new();
        } else {
            self.held.drain(..some);
        }
        true
    }

    /// What the library gets instead of the bytes that broke the rules.
    fn refuse(&mut self, cursor: &mut ReadBufCursor<'_>) -> Option<Poll<io::Result<()>>> {
        let refusal = self.session.refusal()?;
        if refusal.announced.replace(true) {
            // Nothing after it means anything. Not an end of the stream: the
            // library would leave without answering.
            return Some(Poll::Pending);
        }
        if refusal.in_body {
            return Some(Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                refusal.violation,
            ))));
        }
        // A request in its place, so that the answers before it go out first;
        // the service knows it by its number and answers 400.
        cursor.put_slice(b"GET / HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n");
        Some(Poll::Ready(Ok(())))
    }

    /// Reads once and lets the guard look at it.
    fn read_guarded(
        &mut self,
        context: &mut Context<'_>,
        cursor: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<usize>> {
        let Some(guard) = &mut self.guard else {
            return read_into(&mut self.stream, context, cursor);
        };
        if self.held.is_empty() && guard.unchecked() >= cursor.remaining() as u64 {
            let read = ready!(read_into(&mut self.stream, context, cursor))?;
            guard.skip(read);
            return Poll::Ready(Ok(read));
        }
        let worker = Rc::clone(&self.session.connection.worker);
        let scratch = &mut *worker.scratch.borrow_mut();
        let room = cursor.remaining().min(scratch.len());
        let mut buffer = ReadBuf::new(&mut scratch[..room]);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        let bytes = buffer.filled();
        let fed = if self.held.is_empty() {
            let fed = guard.feed(bytes);
            cursor.put_slice(&bytes[..fed.pass]);
            self.held.extend_from_slice(&bytes[fed.pass..]);
            fed
        } else {
            self.held.extend_from_slice(bytes);
            let fed = guard.feed(&self.held);
            self.ready = fed.pass;
            fed
        };
        if let Some(violation) = fed.violation {
            self.session.violated(violation, guard);
        }
        let read = bytes.len();
        self.note_waiting();
        Poll::Ready(Ok(read))
    }

    /// Keeps the time since which a head is incomplete.
    fn note_waiting(&self) {
        let paused = self.guard.as_ref().is_some_and(Guard::is_paused);
        let waiting = !self.held.is_empty() && self.ready == 0 && !paused;
        let since = &self.session.connection.head_since;
        since.set(match since.get() {
            _ if !waiting => None,
            None => Some(Instant::now()),
            since => since,
        });
    }
}

impl Read for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let before = cursor.remaining();
        loop {
            if self.hand_on(&mut cursor) {
                return Poll::Ready(Ok(()));
            }
            if let Some(refused) = self.refuse(&mut cursor) {
                return refused;
            }
            if self.guard.as_ref().is_some_and(Guard::is_paused) {
                if !self.session.poll_resume(context) {
                    return Poll::Pending;
                }
                let Self { guard: Some(guard), held, ready, session, .. } = &mut *self else {
                    continue;
                };
                guard.resume();
                let fed = guard.feed(held);
                *ready = fed.pass;
                if let Some(violation) = fed.violation {
                    session.violated(violation, guard);
                }
                continue;
            }
            let read = ready!(self.read_guarded(context, &mut cursor))?;
            add(&self.session.connection.sent, read);
            if read == 0 || cursor.remaining() < before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl ClientIo {
    /// Writes the interim responses that are due, where they can't end up in
    /// the middle of another response.
    fn write_interim(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.clean {
            self.session.interim.discard_unstarted();
            return Poll::Ready(Ok(()));
        }
        let Self { stream, session, .. } = self;
        session.interim.write(|bytes| Pin::new(&mut *stream).poll_write(context, bytes))
    }
}

impl Write for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.write_interim(context))?;
        self.clean = false;
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        add(&self.session.connection.received, written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.write_interim(context))?;
        self.clean = false;
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        add(&self.session.connection.received, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The library flushes only what it has written out whole.
        self.clean = true;
        self.write_interim(context)
    }

    /// Nothing: the library asks for it at the very end, and what closes the
    /// socket right after it says the same to the client.
    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Closes a socket so that what was written last arrives: unread bytes would
/// turn the close into a reset, and the reset could overtake the answer.
pub(super) async fn close_gently(stream: TcpStream, scratch: &std::cell::RefCell<Box<[u8]>>) {
    if SockRef::from(&stream).shutdown(Shutdown::Write).is_err() {
        return;
    }
    let drain = async {
        for _ in 0..LINGER_READS {
            if stream.readable().await.is_err() {
                return;
            }
            match stream.try_read(&mut scratch.borrow_mut()[..]) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    // Late is the client's own loss.
    let _ = tokio::time::timeout(LINGER, drain).await;
}

const LINGER: Duration = Duration::from_secs(1);
const LINGER_READS: usize = 64;

/// An instance's socket.
pub(super) struct UpstreamIo {
    pub stream: TcpStream,
    endpoint: Arc<Endpoint>,
    greeting: Option<Rc<Greeting>>,
}

/// The first bytes that an instance sent on an HTTP/2 connection.
#[derive(Debug, Default)]
pub(super) struct Greeting {
    pub said: Cell<Said>,
    pub changed: tokio::sync::Notify,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Said {
    #[default]
    Nothing,
    /// A SETTINGS frame, as RFC 9113 section 3.4 has it.
    Http2,
    SomethingElse,
    /// Closed without a word.
    Closed,
}

impl UpstreamIo {
    pub fn new(stream: TcpStream, endpoint: Arc<Endpoint>, greeting: Option<Rc<Greeting>>) -> Self {
        Self { stream, endpoint, greeting }
    }
}

impl Read for UpstreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(greeting) = &this.greeting else {
            let read = ready!(read_into(&mut this.stream, context, &mut cursor))?;
            this.endpoint.live.bytes_received.fetch_add(read as u64, Ordering::Relaxed);
            return Poll::Ready(Ok(()));
        };
        let mut first = [0; 9];
        let mut buffer = ReadBuf::new(&mut first);
        let peeked = ready!(this.stream.poll_peek(context, &mut buffer));
        let said = match (peeked, &first) {
            (Ok(0) | Err(_), _) => Said::Closed,
            // Type 4 on stream 0. Fewer bytes than a frame header are not
            // waited for: no peer sends the header in pieces.
            (Ok(9), [_, _, _, 4, _, 0, 0, 0, 0]) => Said::Http2,
            _ => Said::SomethingElse,
        };
        greeting.said.set(said);
        greeting.changed.notify_waiters();
        this.greeting = None;
        self.poll_read(context, cursor)
    }
}

impl UpstreamIo {
    fn count(&self, written: usize) -> usize {
        self.endpoint.live.bytes_sent.fetch_add(written as u64, Ordering::Relaxed);
        written
    }
}

impl Write for UpstreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        Poll::Ready(Ok(self.count(written)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        Poll::Ready(Ok(self.count(written)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Reads once, straight into the library's buffer.
fn read_into(
    stream: &mut TcpStream,
    context: &mut Context<'_>,
    cursor: &mut ReadBufCursor<'_>,
) -> Poll<io::Result<usize>> {
    // SAFETY: `ReadBuf` only ever writes initialised bytes to this memory.
    let memory = unsafe { cursor.as_mut() };
    let mut buffer = ReadBuf::uninit(memory);
    ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
    let read = buffer.filled().len();
    // SAFETY: the first `read` bytes have just been filled.
    unsafe { cursor.advance(read) };
    Poll::Ready(Ok(read))
}

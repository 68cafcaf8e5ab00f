//! The client's socket as the HTTP library sees it: behind the guard.

use std::{
    io::{self, IoSlice},
    net::Shutdown,
    pin::Pin,
    rc::Rc,
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
use crate::proxy::connection::add;

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
        let Self { stream, session, .. } = &mut *self;
        let scratch = &mut *session.connection.worker.scratch.borrow_mut();
        let written = ready!(match gather(slices, scratch) {
            Some(piece) => Pin::new(stream).poll_write(context, piece),
            None => Pin::new(stream).poll_write_vectored(context, slices),
        })?;
        add(&session.connection.received, written);
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

/// What is gathered at most: the copy of more costs more than it saves.
const GATHERED: usize = 16 * 1024;

/// The slices as one piece, where they are few bytes: the kernel takes longer
/// over `writev` than over `send`.
fn gather<'a>(slices: &'a [IoSlice<'_>], scratch: &'a mut [u8]) -> Option<&'a [u8]> {
    if let [piece] = slices {
        return Some(piece);
    }
    if slices.iter().map(|slice| slice.len()).sum::<usize>() > GATHERED.min(scratch.len()) {
        return None;
    }
    let mut end = 0;
    for slice in slices {
        scratch[end..end + slice.len()].copy_from_slice(slice);
        end += slice.len();
    }
    Some(&scratch[..end])
}

/// Reads once, straight into the library's buffer.
pub(super) fn read_into(
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

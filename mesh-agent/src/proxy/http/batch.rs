//! One system call for many HTTP/2 frames: the library writes and flushes frame
//! by frame; what it writes is collected until its connection has been polled.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf as _, BytesMut};
use hyper::rt::{Read, ReadBufCursor, Write};
use pin_project_lite::pin_project;

/// Collected at most; then the library has to wait for the socket.
const LIMIT: usize = 64 * 1024;
/// What is that large goes out as it is: a copy would cost more than the call.
const LARGE: usize = 8 * 1024;

/// A socket whose writes are collected. Whoever polls its connection calls
/// [`Batched::poll_drain`] afterwards, with the same context.
pub(super) struct Batched<T>(Rc<Shared<T>>);

struct Shared<T> {
    io: RefCell<T>,
    waiting: RefCell<BytesMut>,
    /// The library, where it waits for room.
    blocked: RefCell<Option<Waker>>,
}

impl<T> Clone for Batched<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T: Write + Unpin> Batched<T> {
    pub fn new(io: T) -> Self {
        Self(Rc::new(Shared {
            io: RefCell::new(io),
            waiting: RefCell::default(),
            blocked: RefCell::default(),
        }))
    }

    /// Writes what has been collected.
    pub fn poll_drain(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waiting = &mut *self.0.waiting.borrow_mut();
        let io = &mut *self.0.io.borrow_mut();
        while !waiting.is_empty() {
            let written = ready!(Pin::new(&mut *io).poll_write(context, waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            waiting.advance(written);
        }
        // An idle connection holds no memory for it.
        *waiting = BytesMut::new();
        if let Some(blocked) = self.0.blocked.take() {
            blocked.wake();
        }
        Poll::Ready(Ok(()))
    }

    /// Drains whenever `connection`, which writes to it, has been polled.
    pub fn drained<F: Future<Output = ()>>(self, connection: F) -> impl Future<Output = ()> {
        Drained { connection, ended: false, io: self }
    }

    /// The same for the library: another task may be the one that drains, and
    /// the socket wakes only the last that asked.
    fn poll_room(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let drained = self.poll_drain(context);
        if drained.is_pending() {
            *self.0.blocked.borrow_mut() = Some(context.waker().clone());
        }
        drained
    }
}

impl<T: Read + Unpin> Read for Batched<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.io.borrow_mut()).poll_read(context, cursor)
    }
}

impl<T: Write + Unpin> Write for Batched<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if length >= LARGE || self.0.waiting.borrow().len() + length > LIMIT {
            ready!(self.poll_room(context))?;
        }
        if length >= LARGE {
            return Pin::new(&mut *self.0.io.borrow_mut()).poll_write_vectored(context, slices);
        }
        let waiting = &mut *self.0.waiting.borrow_mut();
        waiting.reserve(length);
        for slice in slices {
            waiting.extend_from_slice(slice);
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Later: the library flushes after each frame.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_room(context))?;
        Pin::new(&mut *self.0.io.borrow_mut()).poll_shutdown(context)
    }
}

pin_project! {
    struct Drained<F, T> {
        #[pin]
        connection: F,
        ended: bool,
        io: Batched<T>,
    }
}

impl<F: Future<Output = ()>, T: Write + Unpin> Future for Drained<F, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        *this.ended = *this.ended || this.connection.poll(context).is_ready();
        // Not before all is out: nobody else may be woken for it.
        let drained = this.io.poll_drain(context);
        if *this.ended { drained.map(drop) } else { Poll::Pending }
    }
}

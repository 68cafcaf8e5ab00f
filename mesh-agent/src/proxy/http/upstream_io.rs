//! An instance's socket as the HTTP library sees it: with its bytes counted.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker, ready},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::{
    io::{AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::io::read_into;
use crate::registry::Endpoint;

/// An instance's socket.
pub(super) struct UpstreamIo {
    pub stream: TcpStream,
    endpoint: Arc<Endpoint>,
    greeting: Option<Rc<Greeting>>,
    takeover: Option<Takeover>,
}

/// An exchange that the library takes over after its request was sent, and the
/// beginning of its answer read.
struct Takeover {
    read: Vec<u8>,
    sent: Sent,
    /// The library, which may read once it believes that it has written.
    reader: Option<Waker>,
}

/// What the library knows of a request that is on its way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// It is still to write it, for nobody.
    Nothing,
    Some,
    All,
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
        Self { stream, endpoint, greeting, takeover: None }
    }

    /// For an exchange of which the whole request was sent, and this read.
    pub fn taken_over(stream: TcpStream, endpoint: Arc<Endpoint>, read: Vec<u8>) -> Self {
        let takeover = Takeover { read, sent: Sent::Nothing, reader: None };
        Self { stream, endpoint, greeting: None, takeover: Some(takeover) }
    }

    /// Whether the library's request is on its way already.
    fn is_sent(&mut self) -> bool {
        match &mut self.takeover {
            Some(takeover) if takeover.sent != Sent::All => {
                takeover.sent = Sent::Some;
                true
            }
            _ => false,
        }
    }

    /// Hands on what was read; `None` where all has been.
    fn poll_taken(
        &mut self,
        context: &Context<'_>,
        cursor: &mut ReadBufCursor<'_>,
    ) -> Option<Poll<io::Result<()>>> {
        let takeover = self.takeover.as_mut()?;
        if takeover.sent != Sent::All {
            takeover.reader = Some(context.waker().clone());
            return Some(Poll::Pending);
        }
        let some = takeover.read.len().min(cursor.remaining());
        cursor.put_slice(&takeover.read[..some]);
        takeover.read.drain(..some);
        if takeover.read.is_empty() {
            self.takeover = None;
        }
        Some(Poll::Ready(Ok(())))
    }
}

impl Read for UpstreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(taken) = self.poll_taken(context, &mut cursor) {
            return taken;
        }
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
        if self.is_sent() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        Poll::Ready(Ok(self.count(written)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_sent() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let stream = Pin::new(&mut self.stream);
        let written = ready!(match slices {
            [piece] => stream.poll_write(context, piece),
            _ => stream.poll_write_vectored(context, slices),
        })?;
        Poll::Ready(Ok(self.count(written)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(takeover) = &mut self.takeover
            && takeover.sent == Sent::Some
        {
            takeover.sent = Sent::All;
            if let Some(reader) = takeover.reader.take() {
                reader.wake();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

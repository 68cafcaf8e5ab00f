//! The body of an answer that said how long it is.

use std::{
    io::{self, ErrorKind},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::io::AsyncReadExt as _;

use super::{super::body::BodyError, Plain};

/// Of one read: the smallest and the largest.
const SMALL: usize = 16 * 1024;
const LARGE: usize = 128 * 1024;

pub(in super::super) struct PlainBody {
    connection: Rc<Plain>,
    /// Read, but not handed on.
    held: Bytes,
    /// Not read yet.
    left: u64,
    /// Room for the next read.
    window: usize,
}

impl PlainBody {
    pub(super) fn new(connection: &Rc<Plain>, held: Bytes, left: u64) -> Self {
        Self { connection: Rc::clone(connection), held, left, window: SMALL }
    }

    /// Never reads past the end: what follows is not of this body.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let room = usize::try_from(self.left).map_or(self.window, |left| left.min(self.window));
        let mut piece = BytesMut::with_capacity(room);
        let mut stream = self.connection.stream.borrow_mut();
        let stream = stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        let mut limited = (&mut piece).limit(room);
        let read = ready!(pin!(stream.read_buf(&mut limited)).poll(context))?;
        if read == 0 {
            let ended = "the instance closed the connection in the middle of its answer";
            return Poll::Ready(Err(io::Error::new(ErrorKind::UnexpectedEof, ended)));
        }
        self.connection.count_received(read);
        self.left -= read as u64;
        let more = if read == room { self.window * 2 } else { self.window / 2 };
        self.window = more.clamp(SMALL, LARGE);
        Poll::Ready(Ok(piece.freeze()))
    }
}

impl Body for PlainBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.is_end_stream() {
            return Poll::Ready(None);
        }
        let piece = match this.held.is_empty() {
            true => ready!(this.poll_piece(context)),
            false => Ok(std::mem::take(&mut this.held)),
        };
        Poll::Ready(Some(piece.map(Frame::data).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.held.len() as u64 + self.left)
    }
}

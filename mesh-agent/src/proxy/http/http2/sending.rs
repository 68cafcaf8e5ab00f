//! A request's body on its way to an instance, as far as the instance's window
//! is open.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;

use super::super::source::RequestBody;

/// What became of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    All,
    /// The instance wants no more of it, or is gone.
    Unwanted,
    /// It ended before its end; the stream is reset.
    BrokenOff,
}

/// Dropped, it resets the stream.
pub(super) struct Sending {
    stream: SendStream<Bytes>,
    body: RequestBody,
    /// Waits for the window to open.
    held: Option<Bytes>,
}

impl Sending {
    pub fn new(stream: SendStream<Bytes>, body: RequestBody) -> Self {
        Self { stream, body, held: None }
    }

    /// Sends what is held, once any of it may be sent: the library keeps what is
    /// left of it.
    fn poll_held(&mut self, context: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
            }
        }
        let data = self.held.take().unwrap_or_default();
        Poll::Ready(self.stream.send_data(data, self.body.is_end_stream()))
    }

    fn poll_all(&mut self, context: &mut Context<'_>) -> Poll<Result<Sent, h2::Error>> {
        loop {
            // Also wakes when the instance lets go of the stream.
            if self.stream.poll_reset(context)?.is_ready() {
                return Poll::Ready(Ok(Sent::Unwanted));
            }
            if self.held.is_some() {
                ready!(self.poll_held(context))?;
                if self.body.is_end_stream() {
                    return Poll::Ready(Ok(Sent::All));
                }
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Ok(Sent::BrokenOff));
                }
                None => {
                    self.stream.send_data(Bytes::new(), true)?;
                    return Poll::Ready(Ok(Sent::All));
                }
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {
                    let last = self.body.is_end_stream();
                    self.stream.send_data(data, last)?;
                    if last {
                        return Poll::Ready(Ok(Sent::All));
                    }
                }
                Ok(data) => {
                    // Not all of it: what waits on one stream would be taken
                    // from the connection's window for the others.
                    self.stream.reserve_capacity(1);
                    self.held = Some(data);
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.stream.reserve_capacity(0);
                        self.stream.send_trailers(trailers)?;
                        return Poll::Ready(Ok(Sent::All));
                    }
                }
            }
        }
    }
}

impl Future for Sending {
    type Output = Sent;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Sent> {
        let ended = ready!(self.poll_all(context));
        Poll::Ready(ended.unwrap_or_else(|error| {
            tracing::debug!(%error, "a request's body was not sent to its end");
            Sent::Unwanted
        }))
    }
}

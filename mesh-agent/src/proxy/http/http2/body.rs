//! The body of an answer on a stream.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};

use super::super::body::BodyError;

pub(in super::super) struct StreamBody {
    stream: RecvStream,
    /// Bytes still to come, where the head says so: the library sees to it that
    /// they do.
    left: Option<u64>,
    /// There is no data any more.
    data_ended: bool,
}

impl StreamBody {
    pub(super) fn new(stream: RecvStream, head: &HeaderMap) -> Self {
        let length = head.get(header::CONTENT_LENGTH);
        let left = match length {
            None => stream.is_end_stream().then_some(0),
            Some(length) => length.to_str().ok().and_then(|length| length.parse().ok()),
        };
        Self { stream, left, data_ended: false }
    }

    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let data = ready!(self.stream.poll_data(context));
        Poll::Ready(data.map(|data| {
            let data = data?;
            // At once: what is held back is bounded by the client's own window.
            self.stream.flow_control().release_capacity(data.len())?;
            self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
            Ok(Frame::data(data))
        }))
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let mut frame = None;
        if !this.data_ended {
            frame = ready!(this.poll_data(context));
            this.data_ended = frame.is_none();
        }
        if frame.is_none() {
            let trailers = ready!(this.stream.poll_trailers(context));
            frame = trailers.map(|trailers| trailers.map(Frame::trailers)).transpose();
        }
        match frame {
            // RFC 9113 section 8.1: the answer is complete, and the instance
            // doesn't want the rest of the request.
            Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => Poll::Ready(None),
            frame => Poll::Ready(frame.map(|frame| frame.map_err(Into::into))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

//! A body as it comes in, by whoever reads it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{body::BodyError, http2::StreamBody, plain::PlainBody, tee::Copy};

pub(super) enum Coming {
    Library(Incoming),
    Plain(PlainBody),
    Stream(StreamBody),
    /// Of a request, for a mirror.
    Copy(Copy),
}

impl From<Incoming> for Coming {
    fn from(incoming: Incoming) -> Self {
        Self::Library(incoming)
    }
}

impl From<Copy> for Coming {
    fn from(copy: Copy) -> Self {
        Self::Copy(copy)
    }
}

impl Body for Coming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Library(incoming) => Pin::new(incoming)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            Self::Plain(body) => Pin::new(body).poll_frame(context),
            Self::Stream(body) => Pin::new(body).poll_frame(context),
            Self::Copy(copy) => Pin::new(copy).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Library(incoming) => incoming.is_end_stream(),
            Self::Plain(body) => body.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
            Self::Copy(copy) => copy.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Library(incoming) => incoming.size_hint(),
            Self::Plain(body) => body.size_hint(),
            Self::Stream(body) => body.size_hint(),
            Self::Copy(copy) => copy.size_hint(),
        }
    }
}

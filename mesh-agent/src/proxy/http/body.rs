//! Bodies on their way to the client: streamed, never collected.

use std::{
    error::Error,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::{paced::Paced, pool::Lease, source::Source, tapped::TappedBody};
use crate::{limit::Slot, proxy::upstream::InFlight};

pub(super) type BodyError = Box<dyn Error + Send + Sync>;

/// What a client gets: an instance's body, or the agent's own line.
pub(super) enum ResponseBody {
    Text(Option<Bytes>),
    Streamed(Streamed),
    /// Any of them, while somebody watches.
    Tapped(Box<TappedBody>),
}

/// An instance's body, and what is given back when it ends.
pub(super) struct Streamed {
    incoming: Paced,
    /// `None` once the connection can serve the next request.
    lease: Option<Lease>,
    _in_flight: InFlight,
    /// Counts the request as under way.
    _slot: Option<Slot>,
    source: Rc<Source>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Streamed {
    pub fn new(
        incoming: Paced,
        lease: Lease,
        in_flight: InFlight,
        source: Rc<Source>,
        deadline: Option<Pin<Box<Sleep>>>,
    ) -> Self {
        let mut this = Self {
            incoming,
            lease: Some(lease),
            _in_flight: in_flight,
            _slot: None,
            source,
            deadline,
        };
        this.release_at_end();
        this
    }

    fn release_at_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.release();
        }
    }

    /// Gives the connection back, unless a part of the request is still on
    /// its way: then it's closed.
    fn release(&mut self) {
        if let Some(lease) = self.lease.take()
            && self.source.is_done()
        {
            lease.release();
        }
    }

    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Some(Err("policy.timeout.request is over".into())));
        }
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(context));
        if frame.is_some() {
            self.release_at_end();
        } else {
            self.release();
        }
        Poll::Ready(frame)
    }
}

impl ResponseBody {
    /// Keeps the request counted as under way until its answer has ended.
    pub fn hold(&mut self, slot: Slot) {
        if let Self::Streamed(streamed) = self {
            streamed._slot = Some(slot);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Streamed(streamed) => streamed.poll_frame(context),
            Self::Tapped(tapped) => tapped.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Streamed(streamed) => streamed.incoming.is_end_stream(),
            Self::Tapped(tapped) => tapped.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Self::Streamed(streamed) => streamed.incoming.size_hint(),
            Self::Tapped(tapped) => tapped.size_hint(),
        }
    }
}

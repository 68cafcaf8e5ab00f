//! Bodies on their way through: streamed, never collected.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::{expect::Gate, paced::Paced, pool::Lease};
use crate::{limit::Slot, proxy::upstream::InFlight};

pub(super) type BodyError = Box<dyn Error + Send + Sync>;

/// A client's request body, outside of any attempt: an attempt that never
/// touched it leaves it to the next.
#[derive(Debug)]
pub(super) struct Source {
    incoming: RefCell<Paced>,
    polled: Cell<bool>,
    done: Cell<bool>,
}

impl Source {
    pub fn new(incoming: Paced) -> Rc<Self> {
        let done = incoming.is_end_stream();
        Rc::new(Self {
            incoming: RefCell::new(incoming),
            polled: Cell::new(false),
            done: Cell::new(done),
        })
    }

    /// Whether another attempt can send the same body.
    pub fn is_replayable(&self) -> bool {
        !self.polled.get() || self.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.done.get() && !self.polled.get()
    }

    /// Whether all of it has been sent.
    pub fn is_done(&self) -> bool {
        self.done.get()
    }
}

/// The body of one attempt.
#[derive(Debug)]
pub(super) struct RequestBody {
    pub source: Rc<Source>,
    /// Opens when the instance wants the body.
    pub gate: Option<Arc<Gate>>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(gate) = &self.gate {
            ready!(gate.poll_open(context));
        }
        let source = &self.source;
        source.polled.set(true);
        let incoming = &mut *source.incoming.borrow_mut();
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(context));
        if frame.is_none() || incoming.is_end_stream() {
            source.done.set(true);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.source.incoming.borrow().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.incoming.borrow().size_hint()
    }
}

/// What a client gets: an instance's body, or the agent's own line.
pub(super) enum ResponseBody {
    Text(Option<Bytes>),
    Streamed(Streamed),
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
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
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
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Streamed(streamed) => streamed.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Self::Streamed(streamed) => streamed.incoming.size_hint(),
        }
    }
}

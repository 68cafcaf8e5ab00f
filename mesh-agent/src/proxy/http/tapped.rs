//! What those who watch are told of a request. Where nobody does, none of this
//! is made.

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Duration, Instant};

use super::{
    body::{BodyError, ResponseBody},
    error::Failure,
    source::Source,
};
use crate::{
    proxy::{connection::Connection, tapped::record},
    tap::{self, End, Ended, Kind, Record},
};

/// A request that is watched. Its end is told when the last part of it goes:
/// its answer's body, or whatever was under way when its client left.
pub(super) struct Tapped {
    connection: Rc<Connection>,
    request: tap::Request,
    started: Instant,
    instance: Cell<Option<SocketAddr>>,
    attempts: Cell<u32>,
    first_byte: Cell<Option<Duration>>,
    status: Cell<Option<u16>>,
    grpc_status: Cell<Option<u16>>,
    ended: Cell<Ended>,
    why: RefCell<Option<String>>,
    received: Cell<u64>,
    source: OnceCell<Rc<Source>>,
}

impl Tapped {
    /// `None` while nobody watches: all that a request pays is this look.
    #[inline]
    pub fn begin(connection: &Rc<Connection>, request: &Request<Incoming>) -> Option<Rc<Self>> {
        let taps = &connection.worker.taps;
        if taps.is_on() { Some(Self::new(connection, request)) } else { None }
    }

    #[cold]
    fn new(connection: &Rc<Connection>, request: &Request<Incoming>) -> Rc<Self> {
        let this = Self {
            connection: Rc::clone(connection),
            request: tap::Request::new(request.method(), request.uri(), request.headers()),
            started: Instant::now(),
            instance: Cell::new(None),
            attempts: Cell::new(0),
            first_byte: Cell::new(None),
            status: Cell::new(None),
            grpc_status: Cell::new(None),
            ended: Cell::new(Ended::Cancelled),
            why: RefCell::default(),
            received: Cell::new(0),
            source: OnceCell::new(),
        };
        this.connection.worker.taps.publish(this.record(None));
        Rc::new(this)
    }

    /// Its body, which counts itself.
    pub fn sends(&self, body: &Rc<Source>) {
        // Read once.
        let _ = self.source.set(Rc::clone(body));
    }

    /// It goes to this instance now.
    pub fn tries(&self, instance: SocketAddr) {
        self.instance.set(Some(instance));
        self.attempts.set(self.attempts.get() + 1);
    }

    /// The agent itself answers.
    pub fn refused(&self, failure: &Failure) {
        self.ended.set(failure.ending());
        *self.why.borrow_mut() = Some(format!("{}: {failure}", failure.name()));
    }

    /// The answer, watched until its end.
    pub fn watch(self: Rc<Self>, response: Response<ResponseBody>) -> Response<ResponseBody> {
        self.status.set(Some(response.status().as_u16()));
        self.note_grpc_status(response.headers());
        if self.why.borrow().is_none() {
            self.first_byte.set(Some(self.started.elapsed()));
        }
        response.map(|body| ResponseBody::Tapped(Box::new(TappedBody::new(body, self))))
    }

    fn note_grpc_status(&self, headers: &HeaderMap) {
        let status = headers.get("grpc-status").and_then(|value| value.to_str().ok()?.parse().ok());
        if status.is_some() {
            self.grpc_status.set(status);
        }
    }

    fn completed(&self) {
        if self.ended.get() == Ended::Cancelled {
            self.ended.set(Ended::Complete);
        }
    }

    fn broke(&self, error: &BodyError) {
        self.ended.set(Ended::Reset);
        *self.why.borrow_mut() = Some(error.to_string());
    }

    fn record(&self, end: Option<End>) -> Record {
        Record {
            instance: self.instance.get(),
            request: Some(self.request.clone()),
            end,
            ..record(&self.connection, Kind::Request)
        }
    }
}

impl Drop for Tapped {
    fn drop(&mut self) {
        let end = End {
            ended: self.ended.get(),
            status: self.status.get(),
            grpc_status: self.grpc_status.get(),
            why: self.why.take(),
            duration: self.started.elapsed(),
            first_byte: self.first_byte.get(),
            round_trip: None,
            sent: self.source.get().map_or(0, |source| source.passed()),
            received: self.received.get(),
            attempts: self.attempts.get(),
            requests: None,
        };
        self.connection.worker.taps.publish(self.record(Some(end)));
    }
}

/// An answer's body that is watched.
pub(super) struct TappedBody {
    body: ResponseBody,
    tapped: Rc<Tapped>,
}

impl TappedBody {
    fn new(body: ResponseBody, tapped: Rc<Tapped>) -> Self {
        let this = Self { body, tapped };
        this.note_end();
        this
    }

    fn note_end(&self) {
        if self.body.is_end_stream() {
            self.tapped.completed();
        }
    }

    pub fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let received = &self.tapped.received;
                    received.set(received.get() + data.len() as u64);
                }
                if let Some(trailers) = frame.trailers_ref() {
                    self.tapped.note_grpc_status(trailers);
                    self.tapped.completed();
                }
                self.note_end();
            }
            Some(Err(error)) => self.tapped.broke(error),
            None => self.tapped.completed(),
        }
        Poll::Ready(frame)
    }

    pub fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

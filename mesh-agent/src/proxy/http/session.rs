//! What the parts of one HTTP client connection tell each other.

use std::{
    cell::{Cell, OnceCell, RefCell},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::{Context, Waker},
};

use bytes::Bytes;
use http::HeaderValue;
use tokio::net::TcpStream;

use super::{
    guard::{Guard, Violation},
    interim::Interim,
};
use crate::{
    proxy::{attempts::Picked, connection::Connection},
    registry::Endpoint,
};

/// An HTTP client connection.
pub(super) struct Session {
    pub connection: Rc<Connection>,
    pub http2: bool,
    pub interim: Arc<Interim>,
    /// A connection to an instance that was opened before the protocol was
    /// known: the first request takes it.
    pub opened: RefCell<Option<(Picked, TcpStream)>>,
    /// Set with the answer that turns the connection into a tunnel.
    pub tunnel: RefCell<Option<Tunnel>>,
    /// Its client's address, as instances of IPv4 and IPv6 are told it.
    pub client: [OnceCell<HeaderValue>; 2],
    refusal: RefCell<Option<Rc<Refusal>>>,
    resume: Cell<bool>,
    resumed: RefCell<Option<Waker>>,
    /// Requests that reached the service.
    seen: Cell<u64>,
}

/// The other end of a tunnel.
pub(super) struct Tunnel {
    pub endpoint: Arc<Endpoint>,
    pub stream: TcpStream,
    /// Read from it with the answer.
    pub early: Bytes,
    pub in_flight: crate::proxy::upstream::InFlight,
    /// Counts the request as under way.
    pub slot: Option<crate::limit::Slot>,
    /// Counts the connection to the instance.
    pub _connection: Option<crate::limit::Slot>,
}

/// A request that is not served.
#[derive(Debug)]
pub(super) struct Refusal {
    pub violation: Violation,
    pub in_body: bool,
    /// Number of the request, from 0.
    request: u64,
    pub announced: Cell<bool>,
}

impl Session {
    pub fn new(
        connection: &Rc<Connection>,
        http2: bool,
        opened: Option<(Picked, TcpStream)>,
    ) -> Rc<Self> {
        Rc::new(Self {
            connection: Rc::clone(connection),
            http2,
            interim: Arc::default(),
            opened: RefCell::new(opened),
            tunnel: RefCell::default(),
            client: Default::default(),
            refusal: RefCell::default(),
            resume: Cell::new(false),
            resumed: RefCell::default(),
            seen: Cell::new(0),
        })
    }

    /// The guard found something wrong.
    pub fn violated(&self, violation: Violation, guard: &Guard) {
        if self.refusal.borrow().is_some() {
            return;
        }
        let stats = &self.connection.worker.stats;
        stats.bad_requests.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(client = %self.connection.peer, %violation, "bad request");
        let in_body = guard.in_body();
        *self.refusal.borrow_mut() = Some(Rc::new(Refusal {
            violation,
            in_body,
            request: guard.heads() - u64::from(in_body),
            announced: Cell::new(false),
        }));
    }

    pub fn refusal(&self) -> Option<Rc<Refusal>> {
        self.refusal.borrow().clone()
    }

    /// Counts a request; what is wrong with it, if it has to be refused.
    pub fn begin(&self) -> Option<Violation> {
        self.resume.set(false);
        let number = self.seen.replace(self.seen.get() + 1);
        let refusal = self.refusal.borrow();
        refusal
            .as_ref()
            .filter(|one| one.request == number && !one.in_body)
            .map(|one| one.violation)
    }

    /// What was wrong with the body of the request under way.
    pub fn bad_body(&self) -> Option<Violation> {
        self.refusal.borrow().as_ref().filter(|one| one.in_body).map(|one| one.violation)
    }

    /// There will be no tunnel: requests may go on.
    pub fn resume(&self) {
        self.resume.set(true);
        if let Some(waker) = self.resumed.take() {
            waker.wake();
        }
    }

    /// Whether requests may go on; where not, wakes when they may.
    pub fn poll_resume(&self, context: &Context<'_>) -> bool {
        let resume = self.resume.take();
        if !resume {
            *self.resumed.borrow_mut() = Some(context.waker().clone());
        }
        resume
    }
}

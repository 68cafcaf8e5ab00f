//! A request under way: what the client wants of it, whoever answers.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use http::{HeaderValue, Method, Request, Version, header, request};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    coming::Coming, error::Failure, expect::Gate, headers, paced::Paced, session::Session,
    source::Source, tapped::Tapped,
};
use crate::{
    model::{FailoverMode, Retry},
    proxy::{attempts::Picked, pick::workload},
    registry::ServicePort,
    route::Route,
};

/// A request under way.
pub(super) struct Exchange {
    pub session: Rc<Session>,
    /// Whose instances may answer.
    pub port: Arc<ServicePort>,
    /// Index in the port's subsets, where only one of them may.
    pub subset: Option<usize>,
    pub route: Option<Arc<Route>>,
    /// Index in the route's backends, of the one that gets the request.
    pub backend: Option<usize>,
    pub grpc: bool,
    pub connect: bool,
    pub upgrade: Option<HeaderValue>,
    pub http10: bool,
    pub source: Rc<Source>,
    pub gate: Option<Arc<Gate>>,
    /// Until when the client is to wait.
    pub deadline: Option<Instant>,
    /// The client's address stands in the head.
    pub told: Cell<bool>,
    /// The instance that has the request now.
    pub waiting: RefCell<Option<Rc<Picked>>>,
    /// Where somebody watches.
    pub tapped: Option<Rc<Tapped>>,
}

/// What is left of a request's head. Boxed, because it is handed on from stage
/// to stage, and futures hold what they are handed twice.
pub(super) type Head = Box<request::Parts>;

impl Exchange {
    /// Reads what the head says to the agent, and takes it out.
    pub fn read(
        session: &Rc<Session>,
        port: Arc<ServicePort>,
        request: Request<Incoming>,
        grpc: bool,
    ) -> Result<(Self, Head), Failure> {
        let (mut head, incoming) = request.into_parts();
        head.extensions = http::Extensions::new();
        let connect = head.method == Method::CONNECT;
        if connect && session.http2 {
            return Err(Failure::NoTunnel);
        }
        let http11 = !session.http2 && head.version == Version::HTTP_11;
        let upgrade = headers::strip_hop_by_hop(&mut head.headers).filter(|_| http11);
        let expects = http11
            && head
                .headers
                .get(header::EXPECT)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let failover = &port.policy.failover;
        let replay = if failover.mode == FailoverMode::Fast { failover.replay } else { 0 };
        let exchange = Self {
            session: Rc::clone(session),
            grpc,
            connect,
            upgrade,
            http10: head.version == Version::HTTP_10,
            source: Source::new(
                Paced::new(
                    Coming::Library(incoming),
                    &port.flow.upload,
                    workload(&session.connection),
                ),
                replay,
            ),
            gate: expects.then(Arc::<Gate>::default),
            deadline: port.policy.timeouts.request.map(|timeout| Instant::now() + timeout),
            told: Cell::new(false),
            subset: None,
            route: None,
            backend: None,
            waiting: RefCell::default(),
            tapped: None,
            port,
        };
        Ok((exchange, Box::new(head)))
    }

    /// Lets those who watch see what becomes of it.
    pub fn tap(&mut self, tapped: Option<&Rc<Tapped>>) {
        if let Some(tapped) = tapped {
            tapped.sends(&self.source);
            self.tapped = Some(Rc::clone(tapped));
        }
    }

    /// What is repeated, and how.
    pub fn retry(&self) -> &Retry {
        let own = self.route.as_ref().and_then(|route| route.retry.as_ref());
        own.unwrap_or(&self.port.policy.retry)
    }
}

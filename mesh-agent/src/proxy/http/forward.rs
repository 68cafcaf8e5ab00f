//! One request: to an instance, and its answer back.

use std::{
    cell::Cell,
    net::IpAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header, request};
use hyper::{body::Incoming, client::conn::TrySendError};
use tokio::{net::TcpStream, time::Instant};

use super::{
    body::{BodyError, RequestBody, ResponseBody, Source, Streamed},
    error::Failure,
    expect::{self, Gate},
    headers,
    pool::{Http1, Lease},
    session::{Session, Tunnel},
    unseen::{self, Unseen},
};
use crate::{
    proxy::{
        connection::{Stop, add},
        upstream::{Attempts, ConnectError, InFlight},
    },
    registry::{Endpoint, ServicePort},
};

/// Serves one request; always with an answer.
pub(super) async fn serve(
    session: Rc<Session>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, BodyError> {
    let connection = &session.connection;
    add(&connection.requests, 1);
    let port = connection.port();
    port.stats.requests.fetch_add(1, Ordering::Relaxed);
    let grpc = headers::is_grpc(request.headers());
    let outcome = match session.begin() {
        Some(violation) => Err(violation.into()),
        None => exchange(&session, Arc::clone(&port), request, grpc).await,
    };
    let mut close = connection.stopping() >= Stop::Closing;
    let mut response = match outcome {
        Ok(response) => response,
        Err(failure) => {
            let failure = session.bad_body().map_or(failure, Failure::BadRequest);
            tracing::debug!(
                client = %connection.peer, service = %port.service, error = %failure, "no answer"
            );
            if failure.is_error() {
                port.stats.errors.fetch_add(1, Ordering::Relaxed);
            }
            close |= failure.ends_connection();
            failure.response(grpc)
        }
    };
    if session.tunnel.borrow().is_none() {
        session.resume();
        if close && !session.http2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    Ok(response)
}

async fn exchange(
    session: &Rc<Session>,
    port: Arc<ServicePort>,
    request: Request<Incoming>,
    grpc: bool,
) -> Result<Response<ResponseBody>, Failure> {
    let (mut head, incoming) = request.into_parts();
    head.extensions = http::Extensions::new();
    let connect = head.method == Method::CONNECT;
    if connect && session.http2 {
        return Err(Failure::NoTunnel);
    }
    let upgrade = headers::strip_hop_by_hop(&mut head.headers)
        .filter(|_| !session.http2 && head.version == Version::HTTP_11);
    let expects = !session.http2
        && head.version == Version::HTTP_11
        && head
            .headers
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let deadline = port.policy.timeouts.request.map(|timeout| Instant::now() + timeout);
    let exchange = Exchange {
        session,
        grpc,
        connect,
        upgrade,
        http10: head.version == Version::HTTP_10,
        source: Source::new(incoming),
        gate: expects.then(Arc::<Gate>::default),
        deadline,
        told: Cell::new(false),
        port,
    };
    match deadline {
        None => exchange.run(head).await,
        Some(deadline) => tokio::time::timeout_at(deadline, exchange.run(head))
            .await
            .unwrap_or(Err(Failure::RequestTimeout)),
    }
}

/// A request under way.
pub(super) struct Exchange<'a> {
    pub session: &'a Rc<Session>,
    pub port: Arc<ServicePort>,
    pub grpc: bool,
    pub connect: bool,
    pub upgrade: Option<HeaderValue>,
    pub http10: bool,
    pub source: Rc<Source>,
    pub gate: Option<Arc<Gate>>,
    pub deadline: Option<Instant>,
    /// The client's address stands in the head.
    told: Cell<bool>,
}

/// For a request that was never looked at. Generous, because it is harmless
/// and can be needed: where an instance closes each connection after 50
/// requests and 100 wait, most of them are sent away, again and again.
const RENEWALS: usize = 40;

/// An attempt that came to nothing.
struct Failed {
    failure: Failure,
    /// The request, where another attempt may be made with it.
    head: Option<request::Parts>,
    /// The connection was no good any more: that many times, a new one to the
    /// same instance is the right next attempt.
    renewals: usize,
}

impl Exchange<'_> {
    async fn run(&self, mut head: request::Parts) -> Result<Response<ResponseBody>, Failure> {
        let mut attempts = Attempts::default();
        let mut failure = Failure::Connect(ConnectError::NoInstance);
        let mut opened = self.session.opened.take();
        loop {
            let (endpoint, stream) = match opened.take() {
                Some((endpoint, stream)) => {
                    attempts.made(&endpoint);
                    (endpoint, Some(stream))
                }
                None => match attempts.pick(&self.port) {
                    Some(endpoint) => (endpoint, None),
                    None => return Err(failure),
                },
            };
            self.session.connection.instance.set(Some(endpoint.address));
            match self.attempt(&endpoint, stream, head).await {
                Ok(response) => return Ok(response),
                Err(Failed { failure: why, head: Some(again), .. }) => {
                    failure = why;
                    head = again;
                }
                Err(Failed { failure, head: None, .. }) => return Err(failure),
            }
        }
    }

    /// One instance: first over a connection that is there, then over a new
    /// one if that proves dead.
    async fn attempt(
        &self,
        endpoint: &Arc<Endpoint>,
        mut stream: Option<TcpStream>,
        mut head: request::Parts,
    ) -> Result<Response<ResponseBody>, Failed> {
        let in_flight = InFlight::new(endpoint);
        let mut renewed = 0;
        loop {
            let leased = self.lease(endpoint, stream.take(), renewed > 0).await;
            let (lease, reused) = match leased {
                Ok(leased) => leased,
                Err(failure) => return Err(Failed { failure, head: Some(head), renewals: 0 }),
            };
            if !self.told.replace(true) {
                headers::forwarded_for(&mut head.headers, self.client_address(endpoint));
            }
            match self.send(endpoint, lease, reused, head).await {
                Ok((response, lease)) => {
                    return self.finish(endpoint, response, lease, in_flight).await;
                }
                Err(Failed { head: Some(again), renewals, .. }) if renewed < renewals => {
                    renewed += 1;
                    head = again;
                }
                Err(failed) => {
                    endpoint.live.failures.fetch_add(1, Ordering::Relaxed);
                    return Err(failed);
                }
            }
        }
    }

    fn client_address(&self, endpoint: &Endpoint) -> IpAddr {
        let connection = &self.session.connection;
        connection.space.client_address(
            connection.peer.ip(),
            endpoint.address,
            connection.worker.socket,
        )
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        mut lease: Lease,
        reused: bool,
        mut head: request::Parts,
    ) -> Result<(Response<Incoming>, Lease), Failed> {
        let version = match lease {
            Lease::Http1 { .. } => Version::HTTP_11,
            Lease::Http2(_) => Version::HTTP_2,
        };
        let spare = self.may_repeat(&lease, reused, &head).then(|| head.clone());
        if let Err(failure) = headers::address(&mut head, version) {
            return Err(Failed { failure, head: None, renewals: 0 });
        }
        if version == Version::HTTP_11 {
            self.ask_for_upgrade(&mut head);
        }
        let body = RequestBody { source: Rc::clone(&self.source), gate: self.gate.clone() };
        let mut request = Request::from_parts(head, body);
        if version == Version::HTTP_11 {
            self.hear_interim(&mut request);
        }
        let started = Instant::now();
        let result = match &mut lease {
            Lease::Http1 { connection, .. } => {
                connection.tunnel.set(self.connect || self.upgrade.is_some());
                self.with_patience(connection.sender.try_send_request(request)).await
            }
            Lease::Http2(stream) => {
                self.with_patience(stream.sender().try_send_request(request)).await
            }
        };
        match result {
            Ok(response) => {
                endpoint.live.observe(started.elapsed());
                Ok((response, lease))
            }
            Err(error) => Err(self.failed(endpoint, error, &lease, reused, spare)),
        }
    }

    /// Whether the request may have to be sent again after it has been sent.
    fn may_repeat(&self, lease: &Lease, reused: bool, head: &request::Parts) -> bool {
        match lease {
            // A kept connection may be closed by the instance while a request
            // is on its way to it. RFC 9110 section 9.2.2: only what is
            // idempotent is sent again on a guess.
            Lease::Http1 { .. } => reused && head.method.is_idempotent(),
            // The instance says that it hasn't looked at it.
            Lease::Http2(_) => true,
        }
    }

    fn ask_for_upgrade(&self, head: &mut request::Parts) {
        if let Some(to) = &self.upgrade {
            head.headers.insert(header::UPGRADE, to.clone());
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
    }

    fn hear_interim(&self, request: &mut Request<RequestBody>) {
        let gate = self.gate.clone();
        // RFC 9110 section 15.2: a client of HTTP/1.0 doesn't know them.
        let interim =
            (!self.session.http2 && !self.http10).then(|| Arc::clone(&self.session.interim));
        if gate.is_none() && interim.is_none() {
            return;
        }
        hyper::ext::on_informational(request, move |response| {
            if response.status() == StatusCode::CONTINUE {
                if let Some(gate) = &gate {
                    gate.open();
                }
            } else if let Some(interim) = &interim {
                interim.push(response.status(), response.headers());
            }
        });
    }

    /// Waits for the response; the body isn't held back for ever.
    async fn with_patience<T>(&self, response: impl Future<Output = T>) -> T {
        let Some(gate) = &self.gate else { return response.await };
        let mut response = std::pin::pin!(response);
        tokio::select! {
            response = &mut response => return response,
            () = tokio::time::sleep(expect::PATIENCE) => gate.open(),
        }
        response.await
    }

    fn failed(
        &self,
        endpoint: &Endpoint,
        mut error: TrySendError<Request<RequestBody>>,
        lease: &Lease,
        reused: bool,
        spare: Option<request::Parts>,
    ) -> Failed {
        let unsent = error.take_message().map(|request| request.into_parts().0);
        let error = error.into_error();
        let refused = unseen::unseen(&error);
        let untouched = unsent.is_some() || refused != Unseen::No;
        if let Lease::Http2(stream) = lease
            && (unsent.is_some() || refused == Unseen::GoAway)
        {
            stream.retire();
        }
        let dead = reused && !error.is_parse() && !error.is_user();
        let head = if !self.source.is_replayable() {
            None
        } else if untouched {
            unsent.or(spare)
        } else if dead && matches!(lease, Lease::Http1 { .. }) {
            spare
        } else {
            None
        };
        Failed {
            renewals: match refused {
                Unseen::Stream => 0,
                _ if untouched => RENEWALS,
                _ => usize::from(reused),
            },
            failure: Failure::Exchange { instance: endpoint.address, error: error.into() },
            head,
        }
    }

    /// Hands the answer to the client.
    async fn finish(
        &self,
        endpoint: &Arc<Endpoint>,
        response: Response<Incoming>,
        mut lease: Lease,
        in_flight: InFlight,
    ) -> Result<Response<ResponseBody>, Failed> {
        if response.status().is_server_error() {
            self.port.stats.errors.fetch_add(1, Ordering::Relaxed);
        }
        let (mut head, incoming) = response.into_parts();
        let to = headers::strip_hop_by_hop_response(&mut head.headers);
        head.version = if self.session.http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        let switched = head.status == StatusCode::SWITCHING_PROTOCOLS
            || (self.connect && head.status.is_success());
        if let Lease::Http1 { connection, .. } = &mut lease {
            if switched && connection.tunnel.get() {
                self.open_tunnel(endpoint, connection, in_flight).await?;
                if let Some(to) = to {
                    head.headers.insert(header::UPGRADE, to);
                    head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                }
                return Ok(Response::from_parts(head, ResponseBody::Text(None)));
            }
            connection.tunnel.set(false);
            if self.session.http2 {
                endpoint.live.http1_only.store(true, Ordering::Relaxed);
            }
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let error = "it switched protocols without being asked".into();
            let failure = Failure::Exchange { instance: endpoint.address, error };
            return Err(Failed { failure, head: None, renewals: 0 });
        }
        let deadline = self.deadline.map(|at| Box::pin(tokio::time::sleep_until(at)));
        let body = Streamed::new(incoming, lease, in_flight, Rc::clone(&self.source), deadline);
        Ok(Response::from_parts(head, ResponseBody::Streamed(body)))
    }

    async fn open_tunnel(
        &self,
        endpoint: &Arc<Endpoint>,
        connection: &mut Http1,
        in_flight: InFlight,
    ) -> Result<(), Failed> {
        let Ok(parts) = (&mut connection.parts).await else {
            let failure = Failure::Closed(endpoint.address);
            return Err(Failed { failure, head: None, renewals: 0 });
        };
        *self.session.tunnel.borrow_mut() = Some(Tunnel {
            endpoint: Arc::clone(endpoint),
            stream: parts.io.stream,
            early: parts.read_buf,
            in_flight,
        });
        Ok(())
    }
}

//! A request over a connection to an instance, and the head of the answer.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use http::{HeaderValue, Request, Response, StatusCode, Version, header, request};
use tokio::time::Instant;

use super::{
    coming::Coming,
    error::Failure,
    exchange::{Exchange, Head},
    headers,
    http2::Stream,
    plain::{Plain, Unanswered},
    pool::{self, Http1, Lease, Pool},
    source::RequestBody,
    upstream_io::UpstreamIo,
    verdict::Failed,
};
use crate::registry::Endpoint;

/// The response time of a request, for the balancer and for the limit of what
/// is under way. Where it is dropped without an answer, the time until then counts.
struct Timing<'a> {
    endpoint: &'a Endpoint,
    started: Instant,
    in_flight: u32,
    answered: bool,
}

impl<'a> Timing<'a> {
    fn new(endpoint: &'a Endpoint, started: Instant) -> Self {
        let in_flight = endpoint.live.in_flight.load(Ordering::Relaxed);
        Self { endpoint, started, in_flight, answered: false }
    }

    /// A failure says nothing of the limit: it is often fast.
    fn answered(mut self, status: StatusCode) {
        self.answered = true;
        let now = Instant::now();
        let took = now - self.started;
        self.endpoint.live.observe(took, now);
        if !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS {
            self.endpoint.concurrency.sample(took, self.in_flight, now.into_std());
        }
    }

    /// Another times the rest of it.
    fn taken_over(mut self) {
        self.answered = true;
    }
}

impl Drop for Timing<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let now = Instant::now();
            let elapsed = now - self.started;
            self.endpoint.concurrency.unanswered(elapsed, self.in_flight, now.into_std());
        }
    }
}

/// What came of a request, and the request, where another attempt may be made
/// with it.
type Sent = Result<(Response<Coming>, Lease, Option<Head>), Failed>;

/// An attempt over a connection that the library doesn't have.
struct Plainly<'a> {
    endpoint: &'a Arc<Endpoint>,
    pool: Rc<Pool>,
    connection: Rc<Plain>,
    reused: bool,
    started: Instant,
}

impl Exchange {
    pub async fn send(
        &self,
        endpoint: &Arc<Endpoint>,
        lease: Lease,
        reused: bool,
        head: Head,
    ) -> Sent {
        let started = Instant::now();
        match lease {
            Lease::Plain { pool, connection } => {
                let plain = Plainly { endpoint, pool, connection, reused, started };
                match self.is_plain(&head) {
                    true => self.send_plainly(plain, head).await,
                    false => self.take_over(plain, None, head).await,
                }
            }
            Lease::Http2(stream) => {
                self.send_on_stream(endpoint, stream, reused, head, started).await
            }
            Lease::Http1 { pool, connection } => {
                self.send_by_library(endpoint, (pool, connection), reused, head, started).await
            }
        }
    }

    async fn send_on_stream(
        &self,
        endpoint: &Arc<Endpoint>,
        stream: Stream,
        reused: bool,
        mut head: Head,
        started: Instant,
    ) -> Sent {
        let spare = head.clone();
        if let Err(failure) = headers::address(&mut head, Version::HTTP_2) {
            return Err(Failed::for_good(failure));
        }
        let body = self.source.attempt(self.gate.clone());
        let timing = Timing::new(endpoint, started);
        match self.in_time(stream.exchange(*head, body)).await {
            Some(Ok(response)) => {
                timing.answered(response.status());
                let spare = self.source.is_replayable().then_some(spare);
                Ok((response.map(Coming::Stream), Lease::Http2(stream), spare))
            }
            Some(Err(error)) => Err(self.stream_failed(endpoint, error, &stream, reused, spare)),
            None => Err(self.too_late(endpoint, &Lease::Http2(stream), spare)),
        }
    }

    /// Without the library, as far as that goes.
    async fn send_plainly(&self, plain: Plainly<'_>, mut head: Head) -> Sent {
        let Plainly { endpoint, reused, started, .. } = plain;
        let connection = &plain.connection;
        if !connection.is_idle() {
            return Err(self.unsent(endpoint, head));
        }
        if let Err(failure) = headers::address(&mut head, Version::HTTP_11) {
            return Err(Failed::for_good(failure));
        }
        let timing = Timing::new(endpoint, started);
        let scratch = &self.session.connection.worker.scratch;
        match self.in_time(connection.exchange(&head, scratch)).await {
            Some(Ok(response)) => {
                timing.answered(response.status());
                let spare = self.source.is_replayable().then_some(head);
                let Plainly { pool, connection, .. } = plain;
                Ok((response.map(Coming::Plain), Lease::Plain { pool, connection }, spare))
            }
            Some(Err(Unanswered::Broken(error))) => Err(self.broken(endpoint, error, reused, head)),
            Some(Err(Unanswered::Strange(read))) => {
                timing.taken_over();
                self.take_over(plain, Some(read), head).await
            }
            None => {
                let Plainly { pool, connection, .. } = plain;
                Err(self.too_late(endpoint, &Lease::Plain { pool, connection }, head))
            }
        }
    }

    /// From here on the library speaks on this connection: in the middle of an
    /// exchange, where something was read of the answer.
    async fn take_over(&self, plain: Plainly<'_>, read: Option<Vec<u8>>, head: Head) -> Sent {
        let Plainly { endpoint, pool, connection, reused, started } = plain;
        // Once for a connection; and large.
        Box::pin(async move {
            let closed = || Failure::Closed(endpoint.address);
            let Some((stream, slot)) = connection.take() else {
                return Err(Failed::not_connected(closed(), head));
            };
            let endpoint = Arc::clone(endpoint);
            let io = match read {
                None => UpstreamIo::new(stream, endpoint, None),
                Some(read) => UpstreamIo::taken_over(stream, endpoint, read),
            };
            let Ok(connection) = pool::start_http1(io, slot).await else {
                return Err(Failed::not_connected(closed(), head));
            };
            let connection = (pool, connection);
            self.send_by_library(plain.endpoint, connection, reused, head, started).await
        })
        .await
    }

    async fn send_by_library(
        &self,
        endpoint: &Arc<Endpoint>,
        (pool, mut connection): (Rc<Pool>, Http1),
        reused: bool,
        mut head: Head,
        started: Instant,
    ) -> Sent {
        // For what isn't answered, or not as it should be.
        let spare = head.clone();
        if let Err(failure) = headers::address(&mut head, Version::HTTP_11) {
            return Err(Failed::for_good(failure));
        }
        self.ask_for_upgrade(&mut head);
        let body = self.source.attempt(self.gate.clone());
        let mut request = Request::from_parts(*head, body);
        self.hear_interim(&mut request);
        let timing = Timing::new(endpoint, started);
        connection.tunnel.set(self.connect || self.upgrade.is_some());
        let result = self.in_time(connection.sender.try_send_request(request)).await;
        let lease = Lease::Http1 { pool, connection };
        match result {
            Some(Ok(response)) => {
                timing.answered(response.status());
                let spare = self.source.is_replayable().then_some(spare);
                Ok((response.map(Coming::Library), lease, spare))
            }
            Some(Err(error)) => Err(self.failed(endpoint, error, reused, spare)),
            None => Err(self.too_late(endpoint, &lease, spare)),
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
}

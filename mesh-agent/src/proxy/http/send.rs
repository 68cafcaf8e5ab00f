//! A request over a connection to an instance, and the head of the answer.

use std::sync::{Arc, atomic::Ordering};

use http::{HeaderValue, Request, Response, StatusCode, Version, header, request};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    exchange::{Exchange, Head},
    headers,
    pool::Lease,
    source::RequestBody,
    verdict::Failed,
};
use crate::registry::Endpoint;

/// The response time of a request, for the limit of what is under way. Where
/// it is dropped without an answer, the time until then counts.
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

    /// A failure says nothing: it is often fast.
    fn answered(mut self, status: StatusCode, now: Instant) {
        self.answered = true;
        if !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS {
            let took = now - self.started;
            self.endpoint.concurrency.sample(took, self.in_flight, now.into_std());
        }
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

impl Exchange {
    pub async fn send(
        &self,
        endpoint: &Endpoint,
        mut lease: Lease,
        reused: bool,
        mut head: Head,
    ) -> Result<(Response<Incoming>, Lease, Option<Head>), Failed> {
        let version = match lease {
            Lease::Http1 { .. } => Version::HTTP_11,
            Lease::Http2(_) => Version::HTTP_2,
        };
        // For what isn't answered, or not as it should be.
        let spare = head.clone();
        if let Err(failure) = headers::address(&mut head, version) {
            return Err(Failed::for_good(failure));
        }
        if version == Version::HTTP_11 {
            self.ask_for_upgrade(&mut head);
        }
        let body = self.source.attempt(self.gate.clone());
        let mut request = Request::from_parts(*head, body);
        if version == Version::HTTP_11 {
            self.hear_interim(&mut request);
        }
        let started = Instant::now();
        let timing = Timing::new(endpoint, started);
        let result = match &mut lease {
            Lease::Http1 { connection, .. } => {
                connection.tunnel.set(self.connect || self.upgrade.is_some());
                self.in_time(connection.sender.try_send_request(request)).await
            }
            Lease::Http2(stream) => self.in_time(stream.sender().try_send_request(request)).await,
        };
        match result {
            Some(Ok(response)) => {
                let now = Instant::now();
                endpoint.live.observe(now - started, now);
                timing.answered(response.status(), now);
                let spare = self.source.is_replayable().then_some(spare);
                Ok((response, lease, spare))
            }
            Some(Err(error)) => Err(self.failed(endpoint, error, &lease, reused, spare)),
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

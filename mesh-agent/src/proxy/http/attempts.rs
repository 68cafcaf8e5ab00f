//! Instance by instance, until one answers.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use http::{HeaderValue, Response};
use tokio::net::TcpStream;

use super::{
    coming::Coming,
    error::Failure,
    exchange::{Exchange, Head},
    headers,
    pool::Lease,
    verdict::Failed,
};
use crate::{
    health::Outcome,
    proxy::{
        attempts::{Attempts, Picked},
        pick::Caller,
        upstream::{ConnectError, InFlight},
    },
    registry::Endpoint,
    retry,
};

/// An instance's answer, as far as its head.
pub(super) struct Answer {
    pub endpoint: Arc<Endpoint>,
    pub response: Response<Coming>,
    pub lease: Lease,
    pub in_flight: InFlight,
    /// The request, where another attempt may be made with it.
    pub spare: Option<Head>,
}

impl Exchange {
    pub async fn attempts(&self, mut head: Head) -> Result<Answer, Failure> {
        let port = &self.port;
        let caller = Caller::request(&self.session.connection, port, &head);
        let caller = caller.within(self.subset);
        let mut attempts = Attempts::new(port, self.retry(), caller);
        let (first, mut stream) = match self.session.opened.take() {
            Some((picked, stream)) => {
                attempts.made(port, &picked.endpoint);
                (Some(picked), Some(stream))
            }
            None => (attempts.first(port), None),
        };
        let mut picked = Rc::new(first.ok_or(ConnectError::NoInstance)?);
        loop {
            self.session.connection.instance.set(Some(picked.endpoint.address));
            if let Some(tapped) = &self.tapped {
                tapped.tries(picked.endpoint.address);
            }
            *self.waiting.borrow_mut() = Some(Rc::clone(&picked));
            let idempotent = head.method.is_idempotent();
            let mut result = self.attempt(&picked, stream.take(), head).await;
            self.waiting.take();
            self.report(&picked, &result);
            let again = self.again(&mut result, idempotent);
            let next = again
                .and_then(|(reason, spare)| Some((attempts.next(port, reason)?, reason, spare)));
            let Some((next, reason, spare)) = next else {
                return result.map_err(|failed| failed.failure);
            };
            // What was answered is not wanted; nor is its connection.
            drop(result);
            if reason.is_answer() {
                let backoff = &self.retry().backoff;
                let delay = retry::delay(backoff, attempts.retries() - 1, rand::random());
                tokio::time::sleep(delay).await;
            }
            (picked, head) = (Rc::new(next), spare);
        }
    }

    /// One instance: first over a connection that is there, then over a new
    /// one if that proves dead.
    async fn attempt(
        &self,
        picked: &Picked,
        mut stream: Option<TcpStream>,
        mut head: Head,
    ) -> Result<Answer, Failed> {
        let endpoint = &picked.endpoint;
        let in_flight = InFlight::new(endpoint);
        let mut renewed = 0;
        loop {
            let leased = match self.leased(picked, &head, stream.is_some() || renewed > 0) {
                Some(lease) => Ok((lease, true)),
                // Rare, and large.
                None => Box::pin(self.lease(picked, &head, stream.take(), renewed > 0)).await,
            };
            let (lease, reused) = match leased {
                Ok(leased) => leased,
                // No instance is to blame, and another changes nothing.
                Err(failure @ Failure::Refused(_)) => return Err(Failed::for_good(failure)),
                Err(failure) => return Err(Failed::not_connected(failure, head)),
            };
            if !self.told.replace(true) {
                headers::forwarded_for(&mut head.headers, self.client(endpoint));
            }
            match self.send(endpoint, lease, reused, head).await {
                Ok((response, lease, spare)) => {
                    let endpoint = Arc::clone(endpoint);
                    return Ok(Answer { endpoint, response, lease, in_flight, spare });
                }
                Err(Failed { head: Some(again), renewals, .. }) if renewed < renewals => {
                    renewed += 1;
                    head = again;
                }
                Err(failed) => {
                    // A client that breaks off its body is no fault of an instance's.
                    if failed.outcome != Outcome::Unclear {
                        endpoint.live.failures.fetch_add(1, Ordering::Relaxed);
                    }
                    return Err(failed);
                }
            }
        }
    }

    /// What an instance is told of who asks.
    fn client(&self, endpoint: &Endpoint) -> &HeaderValue {
        let connection = &self.session.connection;
        let known = &self.session.client[usize::from(endpoint.address.is_ipv6())];
        known.get_or_init(|| {
            let (peer, socket) = (connection.peer.ip(), connection.worker.socket);
            headers::client(connection.space.client_address(peer, endpoint.address, socket))
        })
    }
}

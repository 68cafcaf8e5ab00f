//! Instance by instance, until one answers.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
};

use http::{Response, request};
use hyper::body::Incoming;
use tokio::net::TcpStream;

use super::{error::Failure, exchange::Exchange, headers, pool::Lease, verdict::Failed};
use crate::{
    proxy::pick::Caller,
    proxy::upstream::{Attempts, ConnectError, InFlight},
    registry::Endpoint,
};

/// An instance's answer, as far as its head.
pub(super) struct Answer {
    pub endpoint: Arc<Endpoint>,
    pub response: Response<Incoming>,
    pub lease: Lease,
    pub in_flight: InFlight,
}

impl Exchange<'_> {
    pub async fn attempts(&self, mut head: request::Parts) -> Result<Answer, Failure> {
        let mut attempts = Attempts::new(
            Caller::request(&self.session.connection, &self.port, &head).within(self.subset),
        );
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
                Ok(answer) => return Ok(answer),
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
    ) -> Result<Answer, Failed> {
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
                    let endpoint = Arc::clone(endpoint);
                    return Ok(Answer { endpoint, response, lease, in_flight });
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
}

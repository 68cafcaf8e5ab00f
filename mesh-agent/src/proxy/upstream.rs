//! Picking instances and connecting to them, from the client's namespace.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use tokio::{net::TcpStream, time::Instant};

use super::{
    connection::Connection,
    pick::{Caller, pick},
};
use crate::{
    model::Protocol,
    net,
    registry::{Endpoint, ServicePort},
};

/// Attempts for one request or connection, the first included.
const ATTEMPTS: usize = 3;

/// Why there is no connection to an instance.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("no instance of the service is available")]
    NoInstance,
    #[error("instance {0} did not accept the connection in time")]
    TimedOut(SocketAddr),
    #[error("instance {0} can't be connected to: {1}")]
    Failed(SocketAddr, #[source] io::Error),
}

/// Remembers what was tried: no instance gets two chances.
#[derive(Debug)]
pub(super) struct Attempts {
    caller: Caller,
    tried: [Option<SocketAddr>; ATTEMPTS],
    count: usize,
}

impl Attempts {
    pub fn new(caller: Caller) -> Self {
        Self { caller, tried: Default::default(), count: 0 }
    }

    /// Counts an attempt that was made elsewhere.
    pub fn made(&mut self, endpoint: &Endpoint) {
        self.tried[self.count] = Some(endpoint.address);
        self.count += 1;
    }

    /// The next instance; `None` when all were tried, or enough.
    pub fn pick(&mut self, port: &ServicePort) -> Option<Arc<Endpoint>> {
        if self.count == ATTEMPTS {
            return None;
        }
        let untried = |index: usize| !self.tried.contains(&Some(port.endpoints[index].address));
        let index = pick(port, self.caller, untried)?;
        let endpoint = &port.endpoints[index];
        self.tried[self.count] = Some(endpoint.address);
        self.count += 1;
        if self.count > 1 {
            port.stats.retries.fetch_add(1, Ordering::Relaxed);
        }
        endpoint.live.picks.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(endpoint))
    }
}

/// One connection to one instance.
pub(super) async fn connect(
    connection: &Connection,
    port: &ServicePort,
    endpoint: &Endpoint,
) -> Result<TcpStream, ConnectError> {
    let address = endpoint.address;
    let worker = &connection.worker;
    let started = Instant::now();
    let connecting = net::connect_tcp(&connection.space.namespace, address, worker.socket);
    let error = match tokio::time::timeout(port.policy.timeouts.connect_at_most(), connecting).await
    {
        Ok(Ok(stream)) => {
            // Failing, a vanished peer is noticed later.
            let _ = net::keep_alive(&stream);
            if port.port.protocol == Protocol::Tcp {
                // Of a stream of bytes the agent can't tell what is an answer.
                let now = Instant::now();
                endpoint.live.observe(now - started, now);
            }
            connection.instance.set(Some(address));
            return Ok(stream);
        }
        Ok(Err(error)) => ConnectError::Failed(address, error),
        Err(_) => ConnectError::TimedOut(address),
    };
    endpoint.live.failures.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(client = %connection.peer, %error, "attempt failed");
    Err(error)
}

/// A connection to the first instance that takes it.
pub(super) async fn connect_any(
    connection: &Connection,
    port: &ServicePort,
    attempts: &mut Attempts,
) -> Result<(Arc<Endpoint>, TcpStream), ConnectError> {
    let mut last = ConnectError::NoInstance;
    while let Some(endpoint) = attempts.pick(port) {
        match connect(connection, port, &endpoint).await {
            Ok(stream) => return Ok((endpoint, stream)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Counts as in flight at an instance until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Endpoint>);

impl InFlight {
    pub fn new(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.live.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(endpoint))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.live.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

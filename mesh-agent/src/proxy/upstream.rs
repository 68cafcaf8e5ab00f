//! Connecting to instances, from the client's namespace.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use tokio::{net::TcpStream, time::Instant};

use super::{
    attempts::{Attempts, Picked},
    connection::Connection,
    pick::Caller,
};
use crate::{
    health::Outcome,
    model::Protocol,
    net,
    registry::{Endpoint, ServicePort},
    retry::{self, Reason},
};

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

impl ConnectError {
    /// As `x-mesh-error` has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoInstance => "no-instance",
            Self::TimedOut(_) => "connect-timeout",
            Self::Failed(..) => "connect-failed",
        }
    }

    /// What it says of the instance. Nothing where the reason lies here: no
    /// descriptors or ports left, no route out of the client's namespace.
    pub fn outcome(&self) -> Outcome {
        use io::ErrorKind::{
            ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, TimedOut,
        };
        match self {
            Self::NoInstance => Outcome::Unclear,
            Self::TimedOut(_) => Outcome::ConnectFailed,
            Self::Failed(_, error) => match error.kind() {
                ConnectionAborted | ConnectionRefused | ConnectionReset | HostUnreachable
                | TimedOut => Outcome::ConnectFailed,
                _ => Outcome::Unclear,
            },
        }
    }

    /// The same again, for one who waited for the same connection.
    pub fn again(&self) -> Self {
        match self {
            Self::NoInstance => Self::NoInstance,
            Self::TimedOut(address) => Self::TimedOut(*address),
            Self::Failed(address, error) => Self::Failed(*address, error.kind().into()),
        }
    }
}

/// How long a connection may have bytes on their way that its instance doesn't
/// acknowledge, in times of the longest connect: three retransmissions of a
/// short path fit in. A frozen process doesn't matter, its kernel does.
const UNACKNOWLEDGED: u32 = 3;

/// One connection to one instance. What became of it is reported where it
/// succeeded; a failure is the caller's to report.
pub(super) async fn connect(
    connection: &Connection,
    port: &ServicePort,
    picked: &Picked,
) -> Result<TcpStream, ConnectError> {
    let endpoint = &picked.endpoint;
    let address = endpoint.address;
    let worker = &connection.worker;
    let timeouts = &port.policy.timeouts;
    let timeout = match picked.probe {
        // What was known before the exile needn't hold any more.
        Some(_) => timeouts.connect_at_most(),
        None => {
            let p99 = port.handshakes.p99(net::monotonic_ns());
            retry::connect_timeout(timeouts, p99, endpoint.health.handshake())
        }
    };
    let started = Instant::now();
    let namespace = &connection.space.namespace;
    let connecting = net::connect_tcp_with(namespace, address, worker.socket, |socket| {
        // Failing, all goes by TCP.
        if port.is_bypassed()
            && let Err(error) = worker.originals.take_past_tcp(socket)
        {
            tracing::debug!(%error, "not past TCP");
        }
    });
    let error = match tokio::time::timeout(timeout, connecting).await {
        Ok(Ok(stream)) => {
            let took = started.elapsed();
            port.handshakes.observe(took, net::monotonic_ns());
            endpoint.health.note_handshake(took);
            port.report(endpoint, Outcome::Connected, None);
            // Failing, a vanished peer is noticed later.
            let _ = net::keep_alive(&stream);
            let _ = net::user_timeout(&stream, timeouts.connect_at_most() * UNACKNOWLEDGED);
            if port.port.protocol == Protocol::Tcp {
                // Of a stream of bytes the agent can't tell what is an answer.
                let now = Instant::now();
                endpoint.live.observe(took, now);
                let in_flight = endpoint.live.in_flight.load(Ordering::Relaxed) + 1;
                endpoint.concurrency.sample(took, in_flight, now.into_std());
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

/// A connection to the first instance that takes it. Whether a probe that it
/// was has succeeded is for the caller to say.
pub(super) async fn connect_any(
    connection: &Connection,
    port: &ServicePort,
    caller: Caller,
) -> Result<(Picked, TcpStream), ConnectError> {
    let mut attempts = Attempts::new(port, &port.policy.retry, caller);
    // What is spoken isn't known yet; each request looks for itself.
    attempts.any_load = port.port.protocol == Protocol::Auto;
    let mut next = attempts.first(port);
    let mut last = ConnectError::NoInstance;
    while let Some(picked) = next {
        connection.attempts.set(connection.attempts.get() + 1);
        match connect(connection, port, &picked).await {
            Ok(stream) => return Ok((picked, stream)),
            Err(error) => {
                if error.outcome() != Outcome::Unclear {
                    picked.endpoint.live.observe_failure(None, Instant::now());
                }
                port.report(&picked.endpoint, error.outcome(), picked.probe.as_ref());
                last = error;
            }
        }
        next = attempts.next(port, Reason::ConnectFailure);
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

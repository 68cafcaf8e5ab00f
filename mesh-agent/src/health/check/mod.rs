//! Active checks: the agent asks an instance, again and again.
//!
//! From the agent's own network namespace, with the agent's mark, so that no
//! hook touches the check: it sees the instance as the node does, not as some
//! pod may.

mod grpc;
mod http;
mod streak;
mod tcp;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{sleep, timeout},
};

pub use self::streak::Streak;
use super::Verdict;
use crate::{
    model::{HealthCheck, Probe},
    net::{self, Namespace, SocketOptions},
};

/// The longest that a first check is put off, so that those of many instances
/// don't come at once.
const SPREAD: Duration = Duration::from_secs(1);

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error("it can't be connected to: {0}")]
    Connect(#[source] std::io::Error),
    #[error("no answer in time")]
    TimedOut,
    #[error("it doesn't speak HTTP as it should: {0}")]
    Http(#[from] hyper::Error),
    #[error("the check's own settings make no request: {0}")]
    Request(#[from] ::http::Error),
    #[error("it answers with status {0}")]
    Status(u16),
    #[error("its gRPC status is {0}")]
    Grpc(String),
    #[error("it says that it doesn't serve (status {0} of grpc.health.v1)")]
    NotServing(u64),
    #[error("its answer is no HealthCheckResponse")]
    Malformed,
}

/// Checks of all instances: how many run at a time, and where from.
#[derive(Clone, Debug)]
pub struct Checker {
    namespace: Arc<Namespace>,
    socket: SocketOptions,
    places: Arc<Semaphore>,
}

impl Checker {
    /// `concurrent`: checks under way at a time.
    pub fn new(namespace: Arc<Namespace>, socket: SocketOptions, concurrent: usize) -> Self {
        Self { namespace, socket, places: Arc::new(Semaphore::new(concurrent)) }
    }

    /// Checks an instance, of which this much is known, until the future is dropped, and tells what came of
    /// each, together with the verdict that it leads to.
    pub async fn run(
        self,
        instance: SocketAddr,
        check: HealthCheck,
        known: Verdict,
        mut tell: impl FnMut(Result<(), CheckError>, Verdict),
    ) {
        let address = SocketAddr::new(
            instance.ip(),
            check.port.map_or(instance.port(), std::num::NonZeroU16::get),
        );
        let mut streak = Streak::from(known);
        sleep(check.interval.min(SPREAD).mul_f64(rand::random())).await;
        loop {
            let result = {
                let _place = self.places.acquire().await.expect("it is never closed");
                self.once(address, &check).await
            };
            let verdict = streak.take(result.is_ok(), check.healthy, check.unhealthy);
            tell(result, verdict);
            sleep(jittered(check.interval, rand::random())).await;
        }
    }

    /// One check.
    pub async fn once(&self, address: SocketAddr, check: &HealthCheck) -> Result<(), CheckError> {
        let asking = async {
            let stream = self.connect(address).await?;
            match &check.probe {
                Probe::Tcp => tcp::check(&stream),
                Probe::Http { path, host, headers, status } => {
                    http::check(stream, address, path, host.as_deref(), headers, *status).await
                }
                Probe::Grpc { service } => grpc::check(stream, address, service).await,
            }
        };
        timeout(check.timeout, asking).await.unwrap_or(Err(CheckError::TimedOut))
    }

    async fn connect(&self, address: SocketAddr) -> Result<TcpStream, CheckError> {
        let connecting = net::connect_tcp(&self.namespace, address, self.socket);
        connecting.await.map_err(CheckError::Connect)
    }
}

/// Within a tenth of the interval, so that checks don't march in step.
fn jittered(interval: Duration, random: f64) -> Duration {
    interval.mul_f64(0.9 + random * 0.2)
}

#[cfg(test)]
mod tests;

//! The traffic side: takes redirected connections, picks instances and moves
//! bytes, requests and streams between the two.
//!
//! One worker per core, each a single-threaded runtime with its own listeners
//! and upstream pools. Workers share atomics and immutable snapshots, never a
//! lock on the request path.

mod admission;
mod attempts;
mod connection;
mod detect;
mod http;
mod listener;
mod pick;
mod splice;
mod tapped;
mod tcp;
mod upstream;
mod worker;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use self::worker::{Command, Seed};
pub use self::{
    connection::ConnectionInfo,
    http::{Guard, HeadLimits},
};
use crate::{
    model::Limits,
    net::{Namespace, OriginalDestinations, SocketOptions},
    registry::{PortKey, SnapshotReader},
    tap::Taps,
};

/// What the proxy is started with.
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// Threads; one per core is right.
    pub workers: usize,
    /// Of the listeners in captured namespaces.
    pub port: u16,
    pub socket: SocketOptions,
    pub limits: Limits,
    /// Who watches.
    pub taps: Arc<Taps>,
}

/// Listeners that were opened in a namespace.
#[derive(Clone, Debug)]
pub struct Opened {
    pub cookie: u64,
    pub addresses: Vec<SocketAddr>,
}

/// Counters of connections that never reached a service; all since start.
#[derive(Debug, Default)]
pub struct ProxyStats {
    /// Live now.
    pub connections: AtomicUsize,
    /// Closed at once: over `limits.connections`.
    pub over_limit: AtomicU64,
    /// Closed at once: nobody knew where they were going.
    pub unknown: AtomicU64,
    /// Reset: their service was gone.
    pub no_service: AtomicU64,
    /// Requests that were malformed.
    pub bad_requests: AtomicU64,
}

/// The running workers. Dropping it stops them without draining.
#[derive(Debug)]
pub struct Proxy {
    workers: Vec<mpsc::Sender<Command>>,
    /// Taken when they are joined.
    threads: Mutex<Vec<JoinHandle<()>>>,
    port: u16,
    limits: Arc<ArcSwap<Limits>>,
    stats: Arc<ProxyStats>,
}

impl Proxy {
    /// Starts the worker threads; nothing is listened on yet.
    pub fn start(
        settings: &ProxySettings,
        snapshots: &SnapshotReader,
        originals: &Arc<dyn OriginalDestinations>,
    ) -> io::Result<Self> {
        let limits = Arc::new(ArcSwap::from_pointee(settings.limits.clone()));
        let stats = Arc::<ProxyStats>::default();
        let (mut workers, mut threads) = (Vec::new(), Vec::new());
        for index in 0..settings.workers.max(1) {
            let (commands, inbox) = mpsc::channel(64);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let seed = Seed {
                snapshots: snapshots.clone(),
                originals: Arc::clone(originals),
                socket: settings.socket,
                limits: Arc::clone(&limits),
                stats: Arc::clone(&stats),
                taps: Arc::clone(&settings.taps),
            };
            let thread = std::thread::Builder::new()
                .name(format!("proxy-{index}"))
                .spawn(move || worker::run(&runtime, seed, inbox))?;
            workers.push(commands);
            threads.push(thread);
        }
        Ok(Self { workers, threads: Mutex::new(threads), port: settings.port, limits, stats })
    }

    /// Replaces the limits; connections and requests from now on keep to them.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }

    pub fn stats(&self) -> &ProxyStats {
        &self.stats
    }

    /// Opens the listeners of a captured namespace. One IP family is enough.
    pub async fn open(&self, namespace: Arc<Namespace>) -> io::Result<Opened> {
        let local: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let addresses = local.map(|ip| SocketAddr::new(ip, self.port)).to_vec();
        self.listen(&namespace, addresses, false).await
    }

    /// Listens on service addresses themselves, for running without eBPF: the
    /// original destination is the address that was connected to.
    pub async fn open_explicit(
        &self,
        namespace: Arc<Namespace>,
        addresses: Vec<SocketAddr>,
    ) -> io::Result<Opened> {
        self.listen(&namespace, addresses, true).await
    }

    async fn listen(
        &self,
        namespace: &Arc<Namespace>,
        addresses: Vec<SocketAddr>,
        explicit: bool,
    ) -> io::Result<Opened> {
        let mut opened = Vec::new();
        for worker in &self.workers {
            let (reply, answer) = oneshot::channel();
            let command = Command::Open {
                namespace: Arc::clone(namespace),
                addresses: addresses.clone(),
                explicit,
                reply,
            };
            match ask(worker, command, answer).await.and_then(|result| result) {
                Ok(addresses) => opened = addresses,
                Err(error) => {
                    // All workers or none: half of the listeners would take
                    // connections that the caller thinks are refused.
                    self.close(namespace.cookie()).await;
                    return Err(error);
                }
            }
        }
        Ok(Opened { cookie: namespace.cookie(), addresses: opened })
    }

    /// Closes the listeners of a namespace and its idle upstream connections;
    /// live connections end by themselves.
    pub async fn close(&self, cookie: u64) {
        for worker in &self.workers {
            // A worker that is gone has no listeners left to close.
            let _ = worker.send(Command::Close { cookie }).await;
        }
    }

    /// All live connections.
    pub async fn connections(&self) -> Vec<ConnectionInfo> {
        let mut all = Vec::new();
        for worker in &self.workers {
            let (reply, answer) = oneshot::channel();
            if let Ok(mut some) = ask(worker, Command::List { reply }, answer).await {
                all.append(&mut some);
            }
        }
        all
    }

    /// Resets the tunnels of a service port to an instance that left; tells how
    /// many. Requests under way aren't tunnels: they end with their connection
    /// to the instance, or by themselves.
    pub async fn cut(&self, port: &PortKey, instance: SocketAddr) -> usize {
        let mut cut = 0;
        for worker in &self.workers {
            let (reply, answer) = oneshot::channel();
            let command = Command::Cut { port: port.clone(), instance, reply };
            cut += ask(worker, command, answer).await.unwrap_or(0);
        }
        cut
    }

    /// Stops accepting, lets what is live end until `deadline` from now, cuts
    /// the rest and joins the threads. Returns how many were cut.
    pub async fn drain(&self, deadline: Duration) -> usize {
        let mut answers = Vec::new();
        for worker in &self.workers {
            let (reply, answer) = oneshot::channel();
            if worker.send(Command::Drain { deadline, reply }).await.is_ok() {
                answers.push(answer);
            }
        }
        let mut cut = 0;
        for answer in answers {
            cut += answer.await.unwrap_or(0);
        }
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count()
        });
        if !matches!(joined.await, Ok(0)) {
            tracing::error!("a proxy worker had panicked");
        }
        cut
    }

    /// Live connections, without asking the workers.
    pub fn live(&self) -> usize {
        self.stats.connections.load(Ordering::Relaxed)
    }
}

async fn ask<T>(
    worker: &mpsc::Sender<Command>,
    command: Command,
    answer: oneshot::Receiver<T>,
) -> io::Result<T> {
    let gone = || io::Error::other("a proxy worker is gone: see the log for its panic");
    worker.send(command).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())
}

#[cfg(test)]
mod tests;

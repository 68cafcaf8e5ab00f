//! Answers DNS for captured sockets: services' hostnames from the snapshot,
//! everything else, byte for byte, from the resolver that was asked.
//!
//! It caches nothing, follows nothing and rewrites nothing: what isn't a
//! service's hostname is none of its business.

mod answer;
mod resolver;
mod stats;
mod tcp;
mod udp;

pub use stats::DnsStats;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{Mutex, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    net::{Namespace, OriginalDestinations, SocketOptions, listen_tcp, udp_socket},
    registry::SnapshotReader,
};

/// Queries of one namespace that wait for a resolver over UDP.
const PENDING: usize = 1024;
/// TCP connections of one namespace.
const CONNECTIONS: usize = 256;

#[derive(Clone, Copy, Debug)]
pub struct DnsSettings {
    /// Of the listeners, on 127.0.0.1 and `::1`.
    pub port: u16,
    /// Of the answers for services' hostnames.
    pub ttl: Duration,
    pub socket: SocketOptions,
}

/// The DNS listeners of all captured namespaces. Their tasks run on the
/// runtime that [`Self::open`] is called on, and end with this.
#[derive(Debug)]
pub struct Dns {
    snapshots: SnapshotReader,
    originals: Arc<dyn OriginalDestinations>,
    settings: DnsSettings,
    stats: Arc<DnsStats>,
    /// By the namespace's cookie. Held while sockets are opened, so that a
    /// `close` can't overtake the `open` that it undoes.
    opened: Mutex<HashMap<u64, Opened>>,
}

/// The listeners of one namespace.
#[derive(Debug)]
struct Opened {
    cancel: CancellationToken,
    tasks: JoinSet<()>,
}

/// What the tasks of one namespace share.
#[derive(Debug)]
struct Context {
    namespace: Arc<Namespace>,
    snapshots: SnapshotReader,
    originals: Arc<dyn OriginalDestinations>,
    settings: DnsSettings,
    stats: Arc<DnsStats>,
    pending: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    cancel: CancellationToken,
}

impl Dns {
    pub fn new(
        snapshots: SnapshotReader,
        originals: Arc<dyn OriginalDestinations>,
        settings: DnsSettings,
    ) -> Self {
        let opened = Mutex::default();
        Self { snapshots, originals, settings, stats: Arc::default(), opened }
    }

    pub fn stats(&self) -> Arc<DnsStats> {
        Arc::clone(&self.stats)
    }

    /// Listens in `namespace`; does nothing where it does already. A namespace
    /// without IPv6 is served over IPv4 alone.
    pub async fn open(&self, namespace: Arc<Namespace>) -> io::Result<()> {
        let mut opened = self.opened.lock().await;
        let cookie = namespace.cookie();
        if opened.contains_key(&cookie) {
            return Ok(());
        }
        let mut listeners = vec![self.listen(&namespace, Ipv4Addr::LOCALHOST.into())?];
        match self.listen(&namespace, Ipv6Addr::LOCALHOST.into()) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_without_ipv6(&error) => {}
            Err(error) => return Err(error),
        }
        let context = Arc::new(self.context(namespace));
        let mut tasks = JoinSet::new();
        for (udp, tcp) in listeners {
            tasks.spawn(udp::serve(Arc::clone(&context), udp));
            tasks.spawn(tcp::serve(Arc::clone(&context), tcp));
        }
        opened.insert(cookie, Opened { cancel: context.cancel.clone(), tasks });
        Ok(())
    }

    /// Stops listening in a namespace. Queries under way are given up.
    pub async fn close(&self, cookie: u64) {
        let opened = self.opened.lock().await.remove(&cookie);
        if let Some(opened) = opened {
            opened.stop().await;
        }
    }

    /// Stops listening everywhere.
    pub async fn shutdown(&self) {
        let all = std::mem::take(&mut *self.opened.lock().await);
        for opened in all.values() {
            opened.cancel.cancel();
        }
        for opened in all.into_values() {
            opened.stop().await;
        }
    }

    fn context(&self, namespace: Arc<Namespace>) -> Context {
        Context {
            namespace,
            snapshots: self.snapshots.clone(),
            originals: Arc::clone(&self.originals),
            settings: self.settings,
            stats: Arc::clone(&self.stats),
            pending: Arc::new(Semaphore::new(PENDING)),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            cancel: CancellationToken::new(),
        }
    }

    fn listen(&self, namespace: &Namespace, ip: IpAddr) -> io::Result<(UdpSocket, TcpListener)> {
        let address = SocketAddr::new(ip, self.settings.port);
        let udp = udp_socket(namespace, address, self.settings.socket)
            .map_err(|error| cannot_listen("udp", address, namespace, &error))?;
        let tcp = listen_tcp(namespace, address, self.settings.socket)
            .map_err(|error| cannot_listen("tcp", address, namespace, &error))?;
        Ok((udp, tcp))
    }
}

impl Opened {
    async fn stop(mut self) {
        self.cancel.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            report_panic(ended);
        }
    }
}

impl Drop for Opened {
    /// A `Dns` that is dropped without `shutdown` leaves nothing behind either.
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// A task that panicked took one query or connection with it: say so, go on.
fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a DNS task panicked");
    }
}

/// `::1` isn't there, or no IPv6 at all.
fn is_without_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
}

/// Says what failed, under the error's kind: an `io::Error` with a text of its
/// own has no number, and "no IPv6 at all" has no kind of its own.
fn cannot_listen(
    transport: &str,
    address: SocketAddr,
    namespace: &Namespace,
    error: &io::Error,
) -> io::Error {
    let inode = namespace.inode();
    let kind = match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT) => io::ErrorKind::AddrNotAvailable,
        _ => error.kind(),
    };
    io::Error::new(
        kind,
        format!(
            "cannot listen for DNS on {transport} {address} in network namespace {inode}: \
             {error}; is the loopback interface up, and the port free (dns.port)?"
        ),
    )
}

#[cfg(test)]
mod tests;

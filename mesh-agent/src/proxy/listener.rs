//! Accepting: a worker's listeners in one namespace.

use std::{
    cell::Cell,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use super::{
    connection,
    worker::{Closing, Worker},
};
use crate::net::{self, Namespace, SocketOptions};

/// The listeners of a worker in one namespace.
pub(super) struct Listening {
    pub cookie: u64,
    pub addresses: Vec<SocketAddr>,
    closing: Closing,
    tasks: Vec<JoinHandle<()>>,
}

/// Where accepted connections come from.
pub(super) struct Space {
    pub namespace: Arc<Namespace>,
    /// Connections were made to service addresses themselves.
    pub explicit: bool,
    /// The namespace's own addresses, towards IPv4 and IPv6 instances.
    sources: [Cell<Option<IpAddr>>; 2],
}

impl Space {
    /// The address by which an instance would know a client of this namespace.
    ///
    /// A redirected client has a loopback address: it is connected to us, in
    /// its own namespace. What it would have had is what our sockets have.
    pub fn client_address(
        &self,
        peer: IpAddr,
        instance: SocketAddr,
        options: SocketOptions,
    ) -> IpAddr {
        if self.explicit || !peer.to_canonical().is_loopback() {
            return peer;
        }
        let source = &self.sources[usize::from(instance.is_ipv6())];
        source.get().unwrap_or_else(|| {
            let found = net::source_address(&self.namespace, instance, options);
            source.set(found.as_ref().ok().copied());
            found.unwrap_or(peer)
        })
    }
}

impl Listening {
    /// Stops accepting, once everything that the kernel had queued is taken.
    pub async fn close(self) {
        self.closing.send_replace(true);
        for task in self.tasks {
            // A panic has been reported by the panic hook.
            let _ = task.await;
        }
    }
}

/// Opens listeners on these addresses. Where not explicit, one that opens is
/// enough: the host may lack an IP family.
pub(super) fn open(
    worker: &Rc<Worker>,
    namespace: &Arc<Namespace>,
    addresses: &[SocketAddr],
    explicit: bool,
) -> io::Result<Listening> {
    let space =
        Rc::new(Space { namespace: Arc::clone(namespace), explicit, sources: Default::default() });
    let (closing, _) = watch::channel(false);
    let mut listening =
        Listening { cookie: namespace.cookie(), addresses: Vec::new(), closing, tasks: Vec::new() };
    let mut failed = None;
    for &address in addresses {
        let listener = match net::listen_tcp(namespace, address, worker.socket) {
            Ok(listener) => listener,
            Err(error) if explicit => return Err(named(address, &error)),
            Err(error) => {
                tracing::debug!(%address, %error, "no listener");
                failed = Some(named(address, &error));
                continue;
            }
        };
        listening.addresses.push(listener.local_addr()?);
        listening.tasks.push(tokio::task::spawn_local(accept(
            Rc::clone(worker),
            Rc::clone(&space),
            listener,
            listening.closing.subscribe(),
        )));
    }
    match failed {
        Some(error) if listening.addresses.is_empty() => Err(error),
        _ => Ok(listening),
    }
}

fn named(address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("listen on {address}: {error}"))
}

/// After a failure to accept.
const PAUSE: Duration = Duration::from_millis(50);
/// A listener's warnings about that are this far apart.
const WARN_AGAIN: Duration = Duration::from_secs(30);

async fn accept(
    worker: Rc<Worker>,
    space: Rc<Space>,
    listener: TcpListener,
    mut closing: watch::Receiver<bool>,
) {
    let mut warned: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // Also where the sender is gone: nobody could close this one later.
            _ = closing.wait_for(|&closing| closing) => break,
        };
        match accepted {
            Ok((stream, peer)) => start(&worker, &space, stream, peer),
            Err(error) => {
                // Each connection that ends makes room for one: this comes and goes.
                if warned.is_none_or(|at| at.elapsed() > WARN_AGAIN) {
                    warned = Some(Instant::now());
                    tracing::warn!(
                        %error, "accept failed; trying again. Check the limit of open files"
                    );
                }
                // Out of descriptors or memory: at once would spin.
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    if let Err(error) = take_the_rest(&worker, &space, listener) {
        tracing::warn!(%error, "emptying a listener's queue failed");
    }
}

/// The kernel has completed these handshakes: their clients count on us. Asked
/// of the socket itself, because the runtime knows of a connection only after
/// its next look at the kernel.
fn take_the_rest(worker: &Rc<Worker>, space: &Rc<Space>, listener: TcpListener) -> io::Result<()> {
    let listener = listener.into_std()?;
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(true)?;
                start(worker, space, TcpStream::from_std(stream)?, peer);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn start(worker: &Rc<Worker>, space: &Rc<Space>, stream: TcpStream, peer: SocketAddr) {
    if let Some(admitted) = connection::admit(worker, space, &stream, peer) {
        tokio::task::spawn_local(connection::serve(admitted, stream));
    }
}

//! A proxied client connection: whose it is, where it goes, what it has moved.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime},
};

use tokio::{net::TcpStream, time::Instant};

use super::{
    detect, http,
    listener::Space,
    pick,
    tapped::{self, Ending},
    tcp,
    worker::Worker,
};
use crate::{
    model::{Limits, Protocol, ServiceName, Transport},
    net::Original,
    registry::{PortKey, PortStats, ServicePort},
};

/// What is known of a live connection.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    pub client: SocketAddr,
    pub destination: SocketAddr,
    pub service: ServiceName,
    /// The last instance that anything was sent to.
    pub instance: Option<SocketAddr>,
    /// What is really spoken: `tcp`, `http/1.1`, `h2`, or `auto` before it is
    /// found out.
    pub protocol: &'static str,
    pub cgroup: u64,
    pub pid: u32,
    pub netns_cookie: u64,
    pub opened: SystemTime,
    /// By the client, and to the client.
    pub sent: u64,
    pub received: u64,
    pub requests: u64,
}

/// How urgently a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    No,
    /// The next response is the last.
    Closing,
    /// Closed as soon as nothing is under way.
    Graceful,
    /// Now.
    Cut,
}

/// A client connection. Stays on its worker's thread, so cells are enough.
pub(super) struct Connection {
    pub id: u64,
    pub worker: Rc<Worker>,
    pub space: Rc<Space>,
    pub peer: SocketAddr,
    pub original: Original,
    /// Of its client: see [`pick::workload`].
    pub workload: u64,
    pub protocol: Cell<&'static str>,
    pub instance: Cell<Option<SocketAddr>>,
    pub sent: Cell<u64>,
    pub received: Cell<u64>,
    pub requests: Cell<u64>,
    /// Instances that were tried, where it isn't up to its requests.
    pub attempts: Cell<u32>,
    pub ending: Cell<Ending>,
    /// It stands in for another: see [`Connection::beside`].
    pub beside: bool,
    /// Since when a request head is incomplete; the sweep looks at it.
    pub head_since: Cell<Option<Instant>>,
    opened: SystemTime,
    /// The port at the generation of the snapshot that it was looked up in.
    port: RefCell<(u64, Arc<ServicePort>)>,
    moved: Cell<(u64, Instant)>,
    stop: Cell<Stop>,
    stop_waker: RefCell<Option<Waker>>,
}

impl Connection {
    /// The service port as it is now; the last known where it was removed
    /// while this connection lives.
    pub fn port(&self) -> Arc<ServicePort> {
        let mut port = self.port.borrow_mut();
        self.worker.with_snapshot(|snapshot| {
            if snapshot.generation != port.0 {
                port.0 = snapshot.generation;
                if let Some(found) = snapshot.find(self.original.destination, Transport::Tcp) {
                    port.1 = Arc::clone(found);
                }
            }
        });
        Arc::clone(&port.1)
    }

    /// Stands in for it where something is sent beside its own requests: to
    /// instances that are none of its own, for longer than it may last.
    pub fn beside(&self, port: &Arc<ServicePort>) -> Rc<Self> {
        Rc::new(Self {
            id: self.id,
            worker: Rc::clone(&self.worker),
            space: Rc::clone(&self.space),
            peer: self.peer,
            original: self.original,
            workload: self.workload,
            protocol: self.protocol.clone(),
            instance: Cell::new(None),
            sent: Cell::new(0),
            received: Cell::new(0),
            requests: Cell::new(0),
            attempts: Cell::new(0),
            ending: Cell::new(Ending::CLOSED),
            beside: true,
            head_since: Cell::new(None),
            opened: self.opened,
            port: RefCell::new((self.port.borrow().0, Arc::clone(port))),
            moved: Cell::new((0, Instant::now())),
            stop: Cell::new(Stop::No),
            stop_waker: RefCell::new(None),
        })
    }

    pub fn cookie(&self) -> u64 {
        self.space.namespace.cookie()
    }

    pub fn stop(&self, level: Stop) {
        if level > self.stop.get() {
            self.stop.set(level);
            if let Some(waker) = self.stop_waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    pub fn stopping(&self) -> Stop {
        self.stop.get()
    }

    /// The level, and a wake-up when it rises.
    pub fn watch_stop(&self, context: &Context<'_>) -> Stop {
        let mut waker = self.stop_waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        self.stop.get()
    }

    /// Waits until the connection has to be cut.
    pub async fn cut(&self) {
        std::future::poll_fn(|context| match self.watch_stop(context) {
            Stop::Cut => Poll::Ready(()),
            _ => Poll::Pending,
        })
        .await;
    }

    /// Cuts what has been idle, or late with a request head, for too long.
    pub fn sweep(&self, now: Instant, limits: &Limits) {
        let total = self.sent.get() + self.received.get();
        let (last, since) = self.moved.get();
        if total != last {
            self.moved.set((total, now));
        } else if now.duration_since(since) >= self.idle_timeout() {
            tracing::debug!(client = %self.peer, "closed: idle");
            Ending::cut("idle").note(&self.ending);
            self.stop(Stop::Cut);
        }
        if let Some(since) = self.head_since.get()
            && now.duration_since(since) >= limits.header_timeout
        {
            tracing::debug!(client = %self.peer, "closed: request head took too long");
            Ending::cut("head-timeout").note(&self.ending);
            self.stop(Stop::Cut);
        }
    }

    fn idle_timeout(&self) -> Duration {
        self.port.borrow().1.policy.timeouts.idle
    }

    /// Whether it is a tunnel from this service port to this instance.
    pub fn is_tunnel(&self, port: &PortKey, instance: SocketAddr) -> bool {
        self.protocol.get() == "tcp"
            && self.instance.get() == Some(instance)
            && self.stop.get() != Stop::Cut
            && self.port.borrow().1.key() == *port
    }

    pub fn info(&self) -> ConnectionInfo {
        ConnectionInfo {
            client: self.peer,
            destination: self.original.destination,
            service: self.port.borrow().1.service.clone(),
            instance: self.instance.get(),
            protocol: self.protocol.get(),
            cgroup: self.original.cgroup,
            pid: self.original.pid,
            netns_cookie: self.cookie(),
            opened: self.opened,
            sent: self.sent.get(),
            received: self.received.get(),
            requests: self.requests.get(),
        }
    }
}

/// Adds to a counter that only its own thread writes.
pub(super) fn add(counter: &Cell<u64>, amount: usize) {
    counter.set(counter.get() + amount as u64);
}

/// Lets a connection in, if there is room and it's known where it goes.
pub(super) fn admit(
    worker: &Rc<Worker>,
    space: &Rc<Space>,
    stream: &TcpStream,
    peer: SocketAddr,
) -> Option<Admitted> {
    let stats = &worker.stats;
    let original = if space.explicit {
        let destination = stream.local_addr().ok()?;
        Original { destination, cgroup: 0, pid: 0 }
    } else {
        // Taken first: where it stays behind, the map fills up.
        let Some(original) = worker.originals.take(space.namespace.cookie(), peer) else {
            stats.unknown.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(client = %peer, "closed: no original destination");
            return None;
        };
        original
    };
    let found = worker.with_snapshot(|snapshot| {
        snapshot
            .find(original.destination, Transport::Tcp)
            .map(|port| (snapshot.generation, Arc::clone(port)))
    });
    let Some(port) = found else {
        stats.no_service.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(client = %peer, destination = %original.destination, "reset: no service");
        tcp::reset_on_close(stream);
        return None;
    };
    if stats.connections.fetch_add(1, Ordering::Relaxed) >= worker.limits().connections {
        stats.connections.fetch_sub(1, Ordering::Relaxed);
        stats.over_limit.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(client = %peer, "closed: limits.connections reached");
        return None;
    }
    let counts = Arc::clone(&port.1.stats);
    counts.connections.fetch_add(1, Ordering::Relaxed);
    counts.open.fetch_add(1, Ordering::Relaxed);
    let connection = Rc::new(Connection {
        id: worker.next_id(),
        worker: Rc::clone(worker),
        space: Rc::clone(space),
        peer,
        original,
        workload: pick::workload_of(space, peer),
        protocol: Cell::new(port.1.port.protocol.name()),
        instance: Cell::new(None),
        sent: Cell::new(0),
        received: Cell::new(0),
        requests: Cell::new(0),
        attempts: Cell::new(0),
        ending: Cell::new(Ending::CLOSED),
        beside: false,
        head_since: Cell::new(None),
        opened: SystemTime::now(),
        port: RefCell::new(port),
        moved: Cell::new((0, Instant::now())),
        stop: Cell::new(Stop::No),
        stop_waker: RefCell::new(None),
    });
    worker.enter(&connection);
    if worker.taps.is_on() {
        tapped::opened(&worker.taps, &connection);
    }
    Some(Admitted { connection, counts })
}

/// A connection that counts until it is dropped.
pub(super) struct Admitted {
    connection: Rc<Connection>,
    /// Of the port that it was made to.
    counts: Arc<PortStats>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let worker = &self.connection.worker;
        if worker.taps.is_on() {
            tapped::closed(&worker.taps, &self.connection);
        }
        worker.leave(&self.connection);
        worker.stats.connections.fetch_sub(1, Ordering::Relaxed);
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(admitted: Admitted, stream: TcpStream) {
    let connection = Rc::clone(&admitted.connection);
    match connection.port().port.protocol {
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
            http::serve(&connection, stream).await;
        }
        Protocol::Auto => detect::serve(&connection, stream).await,
        Protocol::Tcp | Protocol::Udp => tcp::serve(&connection, stream).await,
    }
}

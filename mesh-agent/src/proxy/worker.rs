//! One worker: a thread with its own listeners, connections and pools.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, Cache};
use foldhash::fast::RandomState;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::LocalSet,
    time::{Instant, MissedTickBehavior},
};

use super::{
    ProxyStats,
    connection::{Connection, ConnectionInfo, Stop},
    http::{Held, Pools},
    listener::{self, Listening},
    splice::Pipes,
};
use crate::{
    model::Limits,
    net::{Namespace, OriginalDestinations, SocketOptions},
    registry::{PortKey, Snapshot, SnapshotReader},
    tap::Taps,
};

/// How often idle times and unfinished request heads are looked at. One timer
/// for all connections of a worker, instead of one for each.
const SWEEP: Duration = Duration::from_millis(500);

/// How long idle HTTP/1 connections may still send a request while draining,
/// before they are closed: one that is on its way would be lost.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// What a worker is made of; crosses into its thread.
pub(super) struct Seed {
    pub snapshots: SnapshotReader,
    pub originals: Arc<dyn OriginalDestinations>,
    pub socket: SocketOptions,
    pub limits: Arc<ArcSwap<Limits>>,
    pub stats: Arc<ProxyStats>,
    pub taps: Arc<Taps>,
}

pub(super) enum Command {
    Open {
        namespace: Arc<Namespace>,
        addresses: Vec<SocketAddr>,
        explicit: bool,
        reply: oneshot::Sender<io::Result<Vec<SocketAddr>>>,
    },
    Close {
        cookie: u64,
    },
    List {
        reply: oneshot::Sender<Vec<ConnectionInfo>>,
    },
    Cut {
        port: PortKey,
        instance: SocketAddr,
        reply: oneshot::Sender<usize>,
    },
    Drain {
        deadline: Duration,
        reply: oneshot::Sender<usize>,
    },
}

pub(super) struct Worker {
    snapshots: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    limits: RefCell<Cache<Arc<ArcSwap<Limits>>, Arc<Limits>>>,
    pub originals: Arc<dyn OriginalDestinations>,
    pub socket: SocketOptions,
    pub stats: Arc<ProxyStats>,
    pub taps: Arc<Taps>,
    pub pools: Pools,
    pub mirrored: Held,
    connections: RefCell<HashMap<u64, Rc<Connection>, RandomState>>,
    next: Cell<u64>,
    draining: Cell<bool>,
    /// Bytes on their way from one socket to another; idle connections hold
    /// no buffer of their own.
    pub scratch: RefCell<Box<[u8]>>,
    pub pipes: Pipes,
}

/// Of one pass from socket to socket.
const SCRATCH: usize = 64 * 1024;

impl Worker {
    fn new(seed: Seed) -> Rc<Self> {
        Rc::new(Self {
            snapshots: RefCell::new(seed.snapshots.cache()),
            limits: RefCell::new(Cache::new(seed.limits)),
            originals: seed.originals,
            socket: seed.socket,
            stats: seed.stats,
            taps: seed.taps,
            pools: Pools::default(),
            mirrored: Held::default(),
            connections: RefCell::default(),
            next: Cell::new(0),
            draining: Cell::new(false),
            scratch: RefCell::new(vec![0; SCRATCH].into()),
            pipes: Pipes::default(),
        })
    }

    /// Looks at the current snapshot.
    pub fn with_snapshot<T>(&self, look: impl FnOnce(&Snapshot) -> T) -> T {
        look(self.snapshots.borrow_mut().load())
    }

    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(self.limits.borrow_mut().load())
    }

    pub fn next_id(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    pub fn enter(&self, connection: &Rc<Connection>) {
        if self.draining.get() {
            connection.stop(Stop::Graceful);
        }
        self.connections.borrow_mut().insert(connection.id, Rc::clone(connection));
    }

    pub fn leave(&self, connection: &Connection) {
        self.connections.borrow_mut().remove(&connection.id);
    }

    fn sweep(&self) {
        let limits = self.limits();
        let now = Instant::now();
        for connection in self.connections.borrow().values() {
            connection.sweep(now, &limits);
        }
        self.pools.sweep();
    }

    fn stop_all(&self, level: Stop) {
        for connection in self.connections.borrow().values() {
            connection.stop(level);
        }
    }

    fn cut(&self, port: &PortKey, instance: SocketAddr) -> usize {
        let all = self.connections.borrow();
        let tunnels = all.values().filter(|one| one.is_tunnel(port, instance));
        tunnels.inspect(|one| one.stop(Stop::Cut)).count()
    }

    fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty()
    }

    /// Ends all connections: politely first, by force at the deadline.
    async fn drain(&self, deadline: Duration) -> usize {
        let started = Instant::now();
        self.draining.set(true);
        self.stop_all(Stop::Closing);
        let mut asked = false;
        while !self.is_empty() && started.elapsed() < deadline {
            if !asked && started.elapsed() >= LAST_REQUEST.min(deadline / 2) {
                self.stop_all(Stop::Graceful);
                asked = true;
            }
            self.sweep();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let cut = self.connections.borrow().len();
        self.stop_all(Stop::Cut);
        for _ in 0..50 {
            if self.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        cut
    }
}

/// The body of a worker's thread.
pub(super) fn run(runtime: &tokio::runtime::Runtime, seed: Seed, inbox: mpsc::Receiver<Command>) {
    LocalSet::new().block_on(runtime, serve(Worker::new(seed), inbox));
}

async fn serve(worker: Rc<Worker>, mut inbox: mpsc::Receiver<Command>) {
    let mut listening: Vec<Listening> = Vec::new();
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let command = tokio::select! {
            command = inbox.recv() => command,
            _ = sweep.tick() => {
                worker.sweep();
                continue;
            }
        };
        match command {
            // The proxy was dropped without draining.
            None => return,
            Some(Command::Open { namespace, addresses, explicit, reply }) => {
                let opened = listener::open(&worker, &namespace, &addresses, explicit);
                let result = opened.map(|new| {
                    let addresses = new.addresses.clone();
                    listening.push(new);
                    addresses
                });
                // Who asked may have given up; the listeners serve anyway.
                let _ = reply.send(result);
            }
            Some(Command::Close { cookie }) => {
                for closed in listening.extract_if(.., |one| one.cookie == cookie) {
                    tokio::task::spawn_local(closed.close());
                }
                worker.pools.close(cookie);
            }
            Some(Command::List { reply }) => {
                let all = worker.connections.borrow();
                let _ = reply.send(all.values().map(|one| one.info()).collect());
            }
            Some(Command::Cut { port, instance, reply }) => {
                let _ = reply.send(worker.cut(&port, instance));
            }
            Some(Command::Drain { deadline, reply }) => {
                for closed in listening.drain(..) {
                    closed.close().await;
                }
                let cut = worker.drain(deadline).await;
                let _ = reply.send(cut);
                return;
            }
        }
    }
}

/// Says "stop" to the accept loops of a namespace.
pub(super) type Closing = watch::Sender<bool>;

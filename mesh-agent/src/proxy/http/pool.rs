//! Connections to instances that are kept for the next request, per worker.
//! Keyed by the client's namespace too: a connection carries its source
//! address, and one pod's must not serve another.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use foldhash::fast::RandomState;
use hyper::client::conn::http1;
use tokio::{
    sync::{Mutex, oneshot},
    task::AbortHandle,
    time::Instant,
};

use super::{
    http2::{Http2, Stream},
    plain::Plain,
    source::RequestBody,
    upstream_io::UpstreamIo,
};
use crate::{
    limit::Slot,
    net::coarse_ns,
    proxy::{connection::Connection, upstream::ConnectError},
};

/// Of an HTTP/1 response, head or body: what a client that reads slowly costs,
/// about three times, as each piece waits whole until it has been taken.
const READ_BUFFER: usize = 128 * 1024;
/// Idle HTTP/1 connections kept for one instance and namespace.
const IDLE: usize = 512;
/// Shorter than what servers commonly close after.
const IDLE_TIME: Duration = Duration::from_secs(55);
/// The pools of a worker, by namespace, instance, and whether it is for mirrors.
#[derive(Default)]
pub(in crate::proxy) struct Pools(RefCell<HashMap<Key, Rc<Pool>, RandomState>>);

/// Cookie of the namespace, address of the instance, whether it is for mirrors.
type Key = (u64, SocketAddr, bool);

/// Connections from one namespace to one instance.
#[derive(Default)]
pub(super) struct Pool {
    /// Those that wait, and since when.
    http1: RefCell<Vec<(Idle, u64)>>,
    pub http2: RefCell<Vec<Rc<Http2>>>,
    /// One HTTP/2 connection is opened at a time: those who wait will share it,
    /// or its failure.
    pub connecting: Mutex<()>,
    /// The last failure to open one, and when.
    failure: RefCell<Option<(Instant, ConnectError)>>,
}

/// An HTTP/1 connection; closed when dropped.
pub(super) struct Http1 {
    pub sender: http1::SendRequest<RequestBody>,
    /// The request under way may turn the connection into a tunnel.
    pub tunnel: Rc<Cell<bool>>,
    /// The socket, once it has.
    pub parts: oneshot::Receiver<http1::Parts<UpstreamIo>>,
    task: AbortHandle,
    /// Its place among the connections of the service that opened it.
    pub slot: Option<Slot>,
}

impl Http1 {
    /// Whether somebody waits for it to be closed.
    fn is_wanted(&self) -> bool {
        self.slot.as_ref().is_some_and(Slot::is_wanted)
    }
}

impl Drop for Http1 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An HTTP/1 connection that waits for the next request.
enum Idle {
    Library(Http1),
    Plain(Rc<Plain>),
}

impl Idle {
    fn is_wanted(&self) -> bool {
        match self {
            Self::Library(one) => one.is_wanted(),
            Self::Plain(one) => one.is_wanted(),
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Library(one) => one.sender.is_closed(),
            Self::Plain(one) => !one.is_idle(),
        }
    }

    fn is_ready(&self) -> bool {
        match self {
            Self::Library(one) => one.sender.is_ready(),
            Self::Plain(_) => true,
        }
    }

    fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }
}

/// A connection for one exchange.
pub(super) enum Lease {
    Http1 { pool: Rc<Pool>, connection: Http1 },
    Plain { pool: Rc<Pool>, connection: Rc<Plain> },
    Http2(Stream),
}

impl Lease {
    /// The exchange is complete on both sides.
    pub fn release(self) {
        let (pool, idle) = match self {
            Self::Http1 { pool, connection } if !connection.sender.is_closed() => {
                (pool, Idle::Library(connection))
            }
            Self::Plain { pool, connection } if connection.is_reusable() => {
                (pool, Idle::Plain(connection))
            }
            _ => return,
        };
        let all = &mut *pool.http1.borrow_mut();
        if all.len() < IDLE && !idle.is_wanted() {
            all.push((idle, coarse_ns()));
        }
    }
}

impl Pools {
    pub(super) fn get(&self, connection: &Connection, address: SocketAddr) -> Rc<Pool> {
        let key = (connection.cookie(), address, connection.beside);
        Rc::clone(self.0.borrow_mut().entry(key).or_default())
    }

    /// Drops the idle connections of a namespace that is gone.
    pub fn close(&self, cookie: u64) {
        self.0.borrow_mut().retain(|key, _| key.0 != cookie);
    }

    /// Drops what is idle and somebody waits for to be closed.
    pub(super) fn make_room(&self) {
        for pool in self.0.borrow().values() {
            pool.http1.borrow_mut().retain(|(one, _)| !one.is_wanted());
            pool.http2.borrow_mut().retain(|one| !one.is_wanted());
        }
    }

    /// Drops what is dead or has been idle for long.
    pub fn sweep(&self) {
        self.make_room();
        let (now_ns, idle_ns) = (coarse_ns(), IDLE_TIME.as_nanos() as u64);
        self.0.borrow_mut().retain(|_, pool| {
            pool.http1
                .borrow_mut()
                .retain(|(one, since)| !one.is_closed() && now_ns.saturating_sub(*since) < idle_ns);
            pool.http2.borrow_mut().retain(|one| one.is_open() && one.idle_ns(now_ns) < idle_ns);
            Rc::strong_count(pool) > 1
                || !pool.http1.borrow().is_empty()
                || !pool.http2.borrow().is_empty()
        });
    }
}

impl Pool {
    /// An idle HTTP/1 connection: the one used last, whose caches are warm and
    /// which the instance is least likely to be closing. One that the library
    /// speaks on serves any request, but a plain one better where it can.
    pub fn idle_http1(self: &Rc<Self>, plain: bool) -> Option<Lease> {
        let pool = Rc::clone(self);
        let idle = self.idle(|one| one.is_plain() == plain).or_else(|| self.idle(|_| true))?;
        Some(match idle {
            Idle::Library(connection) => Lease::Http1 { pool, connection },
            Idle::Plain(connection) => Lease::Plain { pool, connection },
        })
    }

    fn idle(&self, wanted: impl Fn(&Idle) -> bool) -> Option<Idle> {
        let idle = &mut *self.http1.borrow_mut();
        // Those that stay closed further down are swept.
        for index in (0..idle.len()).rev() {
            let one = &idle[index].0;
            if !wanted(one) {
                continue;
            }
            if one.is_closed() {
                idle.swap_remove(index);
            } else if one.is_ready() {
                return Some(idle.swap_remove(index).0);
            }
        }
        None
    }

    /// A place on an HTTP/2 connection with room for another stream.
    pub fn stream(&self) -> Option<Stream> {
        let all = &mut *self.http2.borrow_mut();
        all.retain(|one| one.is_open());
        all.iter().find_map(Http2::stream)
    }
}

impl Pool {
    /// Why no connection came about since `since`, for those who waited for one:
    /// each trying for itself would make the last wait for all before it.
    pub fn failed_since(&self, since: Instant) -> Option<ConnectError> {
        let failure = self.failure.borrow();
        failure.as_ref().filter(|(at, _)| *at >= since).map(|(_, error)| error.again())
    }

    pub fn note_failure(&self, error: &ConnectError) {
        *self.failure.borrow_mut() = Some((Instant::now(), error.again()));
    }

    /// No further request on the connections of before: an instance that was
    /// in exile may be another by now.
    pub fn retire(&self) {
        self.http1.borrow_mut().clear();
        self.http2.borrow_mut().clear();
    }
}

/// Speaks HTTP/1 on a new connection.
pub(super) async fn start_http1(io: UpstreamIo, slot: Slot) -> hyper::Result<Http1> {
    let (sender, mut connection) =
        http1::Builder::new().max_buf_size(READ_BUFFER).handshake(io).await?;
    let tunnel = Rc::new(Cell::new(false));
    let (give, parts) = oneshot::channel();
    let task = tokio::task::spawn_local({
        let tunnel = Rc::clone(&tunnel);
        async move {
            match (&mut connection).await {
                Ok(()) if tunnel.get() => {
                    // Nobody may want it any more: then it closes.
                    let _ = give.send(connection.into_parts());
                }
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, "http/1 connection to an instance ended"),
            }
        }
    });
    Ok(Http1 { sender, tunnel, parts, task: task.abort_handle(), slot: Some(slot) })
}

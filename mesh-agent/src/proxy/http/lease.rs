//! A connection for one exchange: one that is there, or a new one.

use std::{rc::Rc, sync::atomic::Ordering};

use http::request::Parts;
use tokio::{net::TcpStream, time::Instant};

use super::{
    error::Failure,
    exchange::Exchange,
    http2::{self, Started},
    plain::{self, Plain},
    pool::{Lease, Pool},
};
use crate::{
    limit::{Counted, Slot},
    model::Protocol,
    proxy::{attempts::Picked, upstream},
    registry::Endpoint,
};

/// Room for a connection that is to be opened.
struct Room {
    slot: Slot,
    _pending: Slot,
}

impl Exchange {
    /// Whether this instance is to be spoken to in HTTP/2.
    fn wants_http2(&self, endpoint: &Endpoint) -> bool {
        if self.upgrade.is_some() || self.connect {
            return false;
        }
        self.needs_http2()
            || (self.session.http2 && !endpoint.live.http1_only.load(Ordering::Relaxed))
    }

    /// Whether nothing else will do.
    fn needs_http2(&self) -> bool {
        matches!(self.port.port.protocol, Protocol::Http2 | Protocol::Grpc)
            || (self.grpc && self.session.http2)
    }

    /// A connection that is there. None where there is no such, or where it has
    /// to be a new one.
    pub fn leased(&self, picked: &Picked, head: &Parts, fresh: bool) -> Option<Lease> {
        if fresh || picked.probe.is_some() {
            return None;
        }
        let endpoint = &picked.endpoint;
        let connection = &self.session.connection;
        let pool = connection.worker.pools.get(connection, endpoint.address);
        if self.wants_http2(endpoint) {
            return pool.stream().map(Lease::Http2);
        }
        pool.idle_http1(self.is_plain(head))
    }

    /// Whether the agent itself may speak: see [`plain`].
    pub fn is_plain(&self, head: &Parts) -> bool {
        let alone = !self.connect && self.upgrade.is_none() && self.gate.is_none();
        alone && self.source.is_empty() && plain::fits(head)
    }

    /// A connection, and whether it served before.
    pub async fn lease(
        &self,
        picked: &Picked,
        head: &Parts,
        mut stream: Option<TcpStream>,
        fresh: bool,
    ) -> Result<(Lease, bool), Failure> {
        let endpoint = &picked.endpoint;
        let connection = &self.session.connection;
        let pool = connection.worker.pools.get(connection, endpoint.address);
        if picked.probe.is_some() && !fresh {
            pool.retire();
        }
        if self.wants_http2(endpoint)
            && let Some(leased) = self.lease_http2(picked, &pool, &mut stream).await?
        {
            return Ok(leased);
        }
        if !fresh
            && stream.is_none()
            && let Some(lease) = pool.idle_http1(self.is_plain(head))
        {
            return Ok((lease, true));
        }
        let room = self.room().await?;
        let stream = match stream {
            Some(stream) => stream,
            None => upstream::connect(connection, &self.port, picked).await?,
        };
        let connection = Rc::new(Plain::new(stream, endpoint, room.slot));
        Ok((Lease::Plain { pool, connection }, false))
    }

    /// Room for a connection; until there is some, the request is pending, and
    /// until it is connected.
    async fn room(&self) -> Result<Room, Failure> {
        let _pending = self.port.flow.enter(Counted::Pending)?;
        Ok(Room { slot: self.slot().await, _pending })
    }

    async fn slot(&self) -> Slot {
        let flow = &self.port.flow;
        let pools = &self.session.connection.worker.pools;
        flow.breaker.connection(flow.max(Counted::Connections), || pools.make_room()).await
    }

    /// `None` where the instance turned out to speak HTTP/1 only, and that is
    /// as good.
    async fn lease_http2(
        &self,
        picked: &Picked,
        pool: &Pool,
        stream: &mut Option<TcpStream>,
    ) -> Result<Option<(Lease, bool)>, Failure> {
        let endpoint = &picked.endpoint;
        if let Some(stream) = pool.stream() {
            return Ok(Some((Lease::Http2(stream), true)));
        }
        let asked = Instant::now();
        let _pending = self.port.flow.enter(Counted::Pending)?;
        let _alone = pool.connecting.lock().await;
        if let Some(stream) = pool.stream() {
            return Ok(Some((Lease::Http2(stream), true)));
        }
        if !self.wants_http2(endpoint) {
            return Ok(None);
        }
        if let Some(error) = pool.failed_since(asked) {
            return Err(error.into());
        }
        let slot = self.slot().await;
        let stream = match stream.take() {
            Some(stream) => stream,
            None => upstream::connect(&self.session.connection, &self.port, picked)
                .await
                .inspect_err(|error| pool.note_failure(error))?,
        };
        let patience = self.port.policy.timeouts.connect_at_most();
        match http2::start(stream, endpoint, pool, slot, patience).await {
            Started::Stream(stream) => Ok(Some((Lease::Http2(stream), false))),
            // Some HTTP/1 servers hang up on the preface without a word; it is
            // remembered once one has answered in HTTP/1.
            Started::NotHttp2 | Started::Closed if !self.needs_http2() => Ok(None),
            Started::NotHttp2 => Err(Failure::NotHttp2(endpoint.address)),
            Started::Closed => Err(Failure::Closed(endpoint.address)),
        }
    }
}

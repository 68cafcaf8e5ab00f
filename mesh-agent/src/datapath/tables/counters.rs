//! What the hooks counted, and how full the maps are.

use std::{collections::HashMap as StdHashMap, time::Duration};

use mesh_common::{
    address::Address,
    backend::Backend,
    connection::Connection,
    map::{self, capacity},
    reason::Reason,
    service::Service,
};

use super::Tables;
use crate::{
    datapath::{heartbeat::monotonic_ns, row::Row},
    registry::PortKey,
};

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    pub map: &'static str,
    pub used: usize,
    pub capacity: usize,
}

/// A live connection of the kernel path.
#[derive(Clone, Copy, Debug)]
pub struct LiveConnection {
    pub cookie: u64,
    pub connection: Connection,
    pub age: Duration,
    /// Bytes that went past TCP, from the client and to it; `None` where all goes
    /// by TCP.
    pub past_tcp: Option<[u64; 2]>,
}

impl Tables {
    /// Of the snapshot that stands in the kernel.
    pub fn generation(&self) -> u64 {
        self.planner.generation()
    }

    pub fn port_counters(&self, port: &PortKey) -> Option<Service> {
        self.services.get(&self.planner.id(port)?, 0).ok()
    }

    /// The backends of a service port, by their ids.
    pub fn backends_of(&self, service: u32) -> Vec<(u32, Backend)> {
        self.planner.backends(service, |id| self.backends.get(&id, 0).ok()).collect()
    }

    /// Counters of all backends, by service port and address.
    pub fn all_backend_counters(&self) -> StdHashMap<(u32, Address), Backend> {
        (self.backends.iter().flatten())
            .map(|(_, backend)| ((backend.service, backend.address), backend))
            .collect()
    }

    /// The number by which the kernel knows a service port.
    pub fn port_id(&self, port: &PortKey) -> Option<u32> {
        self.planner.id(port)
    }

    /// The service port behind a number of the kernel's.
    pub fn port_of(&self, id: u32) -> Option<PortKey> {
        self.planner.key(id).cloned()
    }

    /// How often each reason decided, over all CPUs.
    pub fn reasons(&self) -> Vec<(Reason, u64)> {
        (Reason::ALL.iter())
            .map(|&reason| {
                let counts = self.reasons.get(&(reason as u32), 0);
                (reason, counts.map_or(0, |counts| counts.iter().sum()))
            })
            .collect()
    }

    pub fn fill(&self) -> Vec<Fill> {
        let retired = |count: fn(&Row) -> usize| -> usize {
            self.retired.iter().map(|(.., row)| count(row)).sum()
        };
        let counts = self.planner.counts();
        let slots = counts.slots + retired(Row::entry_count);
        let chunks = counts.chunks + retired(|row| row.chunks as usize);
        let fill = |map, used, capacity| Fill { map, used, capacity };
        vec![
            fill(map::FRONTENDS, counts.frontends, capacity::FRONTENDS),
            fill(map::SLOTS, slots, capacity::SLOTS),
            fill(map::LOOKUPS, chunks, capacity::LOOKUPS),
            fill(map::BACKENDS, counts.backends, capacity::BACKENDS),
            fill(map::SERVICES, counts.services, capacity::SERVICES),
            fill(map::CONNECTIONS, self.connections.keys().count(), capacity::CONNECTIONS),
            self.bypass.fill(),
        ]
    }

    pub fn connections(&self) -> Vec<LiveConnection> {
        let now = monotonic_ns().unwrap_or(0);
        (self.connections.iter().flatten())
            .map(|(cookie, connection)| LiveConnection {
                cookie,
                past_tcp: self.bypass.bytes(cookie, &connection),
                connection,
                age: Duration::from_nanos(now.saturating_sub(connection.opened_ns)),
            })
            .collect()
    }
}

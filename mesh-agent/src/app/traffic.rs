//! What was counted so far on both paths, for `mesh-agent top`.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{OnceLock, atomic::Ordering},
    time::{Instant, SystemTime},
};

use super::{
    agent::Agent,
    connections, limits,
    views::{self, KernelCounters},
};
use crate::{
    admin::{InstanceTraffic, PortTraffic, Traffic},
    registry::{Endpoint, ServicePort},
    tap,
};

/// Bytes of live connections of the kernel path, which its counters only get
/// when they close: sent and received, by the port's number and the instance.
type LiveBytes = HashMap<(u32, SocketAddr), (u64, u64)>;

pub(super) fn traffic(agent: &Agent) -> Traffic {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    let live = live_bytes(agent);
    let counters = KernelCounters::read(agent);
    let snapshot = agent.snapshots.load();
    let at = STARTED.get_or_init(Instant::now).elapsed();
    Traffic {
        at_us: u64::try_from(at.as_micros()).unwrap_or(u64::MAX),
        time: tap::timestamp(SystemTime::now()),
        ports: snapshot.ports().map(|port| of_port(agent, port, &counters, &live)).collect(),
    }
}

fn live_bytes(agent: &Agent) -> LiveBytes {
    let mut bytes = LiveBytes::new();
    let Some(kernel) = agent.kernel() else { return bytes };
    let live = kernel.tables().connections();
    if live.is_empty() {
        return bytes;
    }
    let (statistics, _) = connections::statistics(agent);
    for one in live {
        let Some(of) = statistics.get(&one.cookie) else { continue };
        let instance = one.connection.backend_address.to_socket_addr();
        let (sent, received) = bytes.entry((one.connection.with.service, instance)).or_default();
        let [past_sent, past_received] = one.past_tcp.unwrap_or_default();
        *sent += of.bytes_sent + past_sent;
        *received += of.bytes_received + past_received;
    }
    bytes
}

fn of_port(
    agent: &Agent,
    port: &ServicePort,
    counters: &KernelCounters,
    live: &LiveBytes,
) -> PortTraffic {
    let tables = agent.kernel().map(super::kernel::Kernel::tables);
    let id = tables.as_ref().and_then(|tables| tables.port_id(&port.key()));
    let kernel = tables.and_then(|tables| tables.port_counters(&port.key())).unwrap_or_default();
    let instances: Vec<_> = (port.endpoints.iter())
        .map(|endpoint| {
            let live = id.and_then(|id| live.get(&(id, endpoint.address)));
            of_instance(agent, port, endpoint, counters, live.copied().unwrap_or_default())
        })
        .collect();
    let stats = &port.stats;
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let limited = limits::refused(port, kernel.limited);
    let failed: u64 =
        port.endpoints.iter().map(|endpoint| counters.of(agent, port, endpoint).failed).sum();
    PortTraffic {
        service: port.service.to_string(),
        port: port.port.port.get(),
        protocol: port.port.protocol.to_string(),
        path: port.path.to_string(),
        requests: load(&stats.requests),
        kernel: kernel.kernel,
        proxied: load(&stats.connections),
        errors: load(&stats.errors)
            + kernel.refused
            + failed
            + limited.iter().map(|reason| reason.count).sum::<u64>(),
        retries: stats.retries.iter().map(load).sum(),
        open: load(&stats.open) + kernel.opened.saturating_sub(kernel.closed),
        instances,
    }
}

fn of_instance(
    agent: &Agent,
    port: &ServicePort,
    endpoint: &Endpoint,
    counters: &KernelCounters,
    (sent, received): (u64, u64),
) -> InstanceTraffic {
    let kernel = counters.of(agent, port, endpoint);
    let view = views::endpoint_view(port, endpoint, &kernel);
    InstanceTraffic {
        address: view.address,
        state: view.state,
        in_flight: view.in_flight,
        picks: view.picks,
        failures: view.failures,
        ejections: endpoint.health.ejections(),
        bytes_sent: view.bytes_sent + sent,
        bytes_received: view.bytes_received + received,
        response_time_us: view.response_time_us,
        times: endpoint.live.response_times.counts(),
    }
}

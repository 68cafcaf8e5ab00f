//! `adaptiveConcurrency` on the kernel path: response times that the hooks saw
//! go into the rule, and the limits that come out go to the hooks.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{agent::Agent, kernel::Kernel};
use crate::{
    datapath::BackendCounters,
    model::{Path, Transport},
    registry::{Endpoint, ServicePort, Snapshot},
};

/// As often as the limit is computed anew, by default.
const PERIOD: Duration = Duration::from_millis(100);
/// While no service asks for it.
const RESTING: Duration = Duration::from_secs(1);
/// The rule takes a median; of a burst of answers, which the hooks only add up,
/// so many copies of their mean have weight enough.
const COPIES: u64 = 100;

/// Answers of each backend, and the time that their clients waited in all.
type Seen = HashMap<u32, (u64, u64)>;

pub(super) async fn run(agent: Arc<Agent>, stop: CancellationToken) {
    let Some(kernel) = agent.kernel() else { return };
    let mut seen = Seen::new();
    let mut failing = false;
    loop {
        let period = if seen.is_empty() { RESTING } else { PERIOD };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => {}
        }
        let limits = look(kernel, &agent.snapshots.load(), &mut seen, Instant::now());
        let result = kernel.concurrency().write(&limits);
        if let Err(error) = &result
            && !failing
        {
            tracing::warn!(
                error = format!("{error:#}"),
                "writing limits of concurrency failed: those written before stay"
            );
        }
        failing = result.is_err();
    }
}

/// Feeds the rule of each instance with what is new, and returns the limits.
fn look(kernel: &Kernel, snapshot: &Snapshot, seen: &mut Seen, now: Instant) -> HashMap<u32, u64> {
    let (mut limits, mut next) = (HashMap::new(), Seen::new());
    for port in snapshot.ports().filter(|port| applies(port)) {
        let endpoints: HashMap<SocketAddr, &Arc<Endpoint>> =
            port.endpoints.iter().map(|endpoint| (endpoint.address, endpoint)).collect();
        let tables = kernel.tables();
        let Some(id) = tables.port_id(&port.key()) else { continue };
        let backends = tables.backends_of(id);
        drop(tables);
        for (backend, counters) in backends {
            let address = counters.address.to_socket_addr();
            let Some(endpoint) = endpoints.get(&address) else { continue };
            next.insert(backend, (counters.answers, counters.waited_ns));
            if let Some(&before) = seen.get(&backend) {
                feed(endpoint, &counters, before, now);
            }
            // Nothing is known before the first answer.
            if counters.answers > 0
                && let Some(limit) = endpoint.concurrency.limit()
            {
                limits.insert(backend, u64::from(limit));
            }
        }
    }
    *seen = next;
    limits
}

fn applies(port: &ServicePort) -> bool {
    port.path == Path::Kernel
        && port.port.protocol.transport() == Transport::Tcp
        && port.policy.adaptive_concurrency.is_some()
}

fn feed(endpoint: &Endpoint, counters: &BackendCounters, before: (u64, u64), now: Instant) {
    let answers = counters.answers.saturating_sub(before.0);
    let Some(mean) = counters.waited_ns.saturating_sub(before.1).checked_div(answers) else {
        return;
    };
    let open = counters.opened.saturating_sub(counters.closed);
    let open = u32::try_from(open).unwrap_or(u32::MAX);
    for _ in 0..answers.min(COPIES) {
        endpoint.concurrency.sample(Duration::from_nanos(mean), open, now);
    }
}

//! `onRemoval`: what becomes of live connections to an instance that was
//! removed or ejected. They are ended from outside, whoever owns them: the
//! kernel destroys the socket, and the application sees ECONNABORTED.

mod departures;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use self::departures::{Departures, Place, Present};
use super::agent::Agent;
use crate::{
    model::{OnRemoval, Protocol, Transport},
    net::{Namespace, SocketKind, destroy},
    registry::{Difference, PortKey, ServicePort, Snapshot},
};

/// How often who has left is looked at; a change of the snapshot wakes us at
/// once, and an ejection makes one.
const PERIOD: Duration = Duration::from_millis(250);

/// The port of an instance that left, and the kernel's number of it.
#[derive(Clone)]
struct Stay {
    port: Arc<ServicePort>,
    id: Option<u32>,
}

pub(super) async fn run(agent: Arc<Agent>, stop: CancellationToken) {
    let mut departures = Departures::new();
    let mut changes = agent.watch_generation().await;
    let mut before = Arc::<Snapshot>::default();
    loop {
        let snapshot = agent.snapshots.load();
        let unseen = snapshot.generation != before.generation;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD), if unseen || departures.is_waiting() => {}
            // The registry lives as long as the agent.
            _ = changes.changed() => {}
        }
        let snapshot = agent.snapshots.load();
        let now = Instant::now();
        if is_in_force(&agent, &snapshot) {
            departures.observe(now, present(&agent, &snapshot.since(&before)));
            before = Arc::clone(&snapshot);
        }
        let due = departures.due(now);
        if due.is_empty() {
            continue;
        }
        let ended = end(&agent, &snapshot, due).await;
        if ended > 0 {
            tracing::info!(ended, "connections to removed instances were closed");
            agent.ended_by_removal.fetch_add(ended as u64, Ordering::Relaxed);
        }
    }
}

/// A reload that the kernel refuses is taken back: nothing is ended for it.
fn is_in_force(agent: &Agent, snapshot: &Snapshot) -> bool {
    agent.kernel().is_none_or(|kernel| kernel.tables().generation() == snapshot.generation)
}

/// The instances, of the ports that differ, whose removal would end connections.
fn present(agent: &Agent, difference: &Difference<'_>) -> HashMap<PortKey, Present<Stay>> {
    let tables = agent.kernel().map(super::kernel::Kernel::tables);
    let closes = |port: &Arc<ServicePort>| port.policy.on_removal != OnRemoval::Keep;
    let left = difference.left.iter().flat_map(|service| &service.ports);
    let mut changed: HashMap<_, _> =
        left.filter(|port| closes(port)).map(|port| (port.key(), HashMap::new())).collect();
    for port in difference.came.iter().flat_map(|service| &service.ports) {
        let key = port.key();
        // Those of one that keeps from now on are still there.
        if !closes(port) && !changed.contains_key(&key) {
            continue;
        }
        let id = tables.as_ref().and_then(|tables| tables.port_id(&key));
        let there = port.endpoints.iter().filter(|endpoint| !endpoint.health.is_ejected());
        let stay = Stay { port: Arc::clone(port), id };
        let there =
            there.map(|endpoint| (endpoint.address, (port.policy.on_removal, stay.clone())));
        changed.insert(key, there.collect());
    }
    changed
}

/// Ends all connections of the instances that are due; tells how many.
async fn end(agent: &Arc<Agent>, snapshot: &Snapshot, due: Vec<(Place, Stay)>) -> usize {
    let mut ended = 0;
    for ((key, instance), _) in &due {
        if key.2 == Transport::Tcp {
            ended += agent.proxy.cut(key, *instance).await;
        }
    }
    let mut sockets = Sockets { mark: agent.settings().capture.mark, ..Sockets::default() };
    if agent.kernel().is_none() {
        return ended;
    }
    for ((key, instance), stay) in &due {
        sockets.add(agent, &stay.port, stay.id, *instance);
        let elsewhere = |port: &Arc<ServicePort>| {
            port.key() != *key && port.endpoints.iter().any(|one| one.address == *instance)
        };
        // Tunnels are cut already, each by its own service's word.
        let pooled = stay.port.port.protocol != Protocol::Tcp;
        if key.2 == Transport::Tcp && pooled && !snapshot.ports().any(elsewhere) {
            sockets.proxied.insert(*instance);
        }
    }
    let namespaces: Vec<_> =
        agent.namespaces().0.iter().map(|tracked| Arc::clone(&tracked.namespace)).collect();
    let work = move || namespaces.iter().map(|namespace| sockets.destroy(namespace)).sum();
    ended + tokio::task::spawn_blocking(work).await.unwrap_or(0)
}

/// What is to be ended, in whatever namespace it is.
#[derive(Default)]
struct Sockets {
    mark: u32,
    /// Cookies of connections of the kernel path.
    tcp: HashSet<u64>,
    /// Of UDP sockets that dealt with an instance, with its address: one that
    /// deals with others too isn't connected to it.
    udp: HashSet<(u64, SocketAddr)>,
    /// Instances that the proxy connects to for nobody else.
    proxied: HashSet<SocketAddr>,
}

impl Sockets {
    fn add(&mut self, agent: &Agent, port: &ServicePort, id: Option<u32>, instance: SocketAddr) {
        let (Some(kernel), Some(id)) = (agent.kernel(), id) else { return };
        if port.port.protocol.transport() == Transport::Tcp {
            let connections = kernel.tables().connections();
            self.tcp.extend(
                (connections.iter())
                    .filter(|live| {
                        live.connection.with.service == id
                            && live.connection.backend_address.to_socket_addr() == instance
                    })
                    .map(|live| live.cookie),
            );
            return;
        }
        let number = port.port.port.get();
        let asked: Vec<_> =
            port.addresses.iter().map(|&address| SocketAddr::new(address, number)).collect();
        let mut flows = kernel.flows();
        let sockets = flows.sockets(instance, &asked);
        self.udp.extend(sockets.into_iter().map(|cookie| (cookie, instance)));
        flows.forget(id, instance);
    }

    fn destroy(&self, namespace: &Namespace) -> usize {
        let mut ended = 0;
        if !self.tcp.is_empty() || !self.proxied.is_empty() {
            ended += noting(
                namespace,
                destroy(namespace, SocketKind::Tcp, |live| {
                    self.tcp.contains(&live.cookie)
                        || (live.mark == self.mark && self.proxied.contains(&live.remote))
                }),
            );
        }
        if !self.udp.is_empty() {
            ended += noting(
                namespace,
                destroy(namespace, SocketKind::Udp, |live| {
                    self.udp.contains(&(live.cookie, live.remote))
                }),
            );
        }
        ended
    }
}

fn noting(namespace: &Namespace, result: std::io::Result<usize>) -> usize {
    result.unwrap_or_else(|error| {
        tracing::warn!(
            netns = namespace.cookie(), %error,
            "closing connections to a removed instance failed: they go on \
             (the kernel needs CONFIG_INET_DIAG_DESTROY, and the agent CAP_NET_ADMIN)"
        );
        0
    })
}

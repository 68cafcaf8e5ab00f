//! Live connections of both paths.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::SocketAddr,
    sync::Arc,
};

use tokio::runtime::Handle;

use super::{agent::Agent, pods::PodTable};
use crate::{
    admin::{ConnectionView, PodView, Who},
    kubernetes::{Pod, Workload},
    net::{TcpStatistics, tcp_connections, udp_sockets},
};

pub(super) fn all(agent: &Agent) -> Vec<ConnectionView> {
    let clients = Clients::of(agent);
    let mut views = kernel(agent, &clients);
    views.extend(proxied(agent, &clients));
    views.sort_by(|a, b| b.age_ms.cmp(&a.age_ms).then_with(|| a.client.cmp(&b.client)));
    views
}

fn kernel(agent: &Agent, clients: &Clients) -> Vec<ConnectionView> {
    let Some(kernel) = agent.kernel() else { return Vec::new() };
    let snapshot = agent.snapshots.load();
    let tables = kernel.tables();
    let names: HashMap<u32, String> = (snapshot.ports())
        .filter_map(|port| Some((tables.port_id(&port.key())?, port.service.to_string())))
        .collect();
    let connections = tables.connections();
    drop(tables);
    let (statistics, udp) = statistics(agent);
    (connections.into_iter())
        .map(|live| {
            let connection = live.connection;
            // A UDP socket has no port yet when the hook sees it.
            let client = udp.get(&live.cookie).copied();
            let client = client.unwrap_or_else(|| connection.client.to_socket_addr());
            let statistics = statistics.get(&live.cookie);
            let [past_sent, past_received] = live.past_tcp.unwrap_or_default();
            ConnectionView {
                path: "kernel".to_owned(),
                client: client.to_string(),
                who: clients.who(connection.pid, connection.netns),
                service: names.get(&connection.with.service).cloned().unwrap_or_default(),
                original: connection.original.to_socket_addr().to_string(),
                instance: Some(connection.backend_address.to_socket_addr().to_string()),
                age_ms: u64::try_from(live.age.as_millis()).unwrap_or(u64::MAX),
                bytes_sent: statistics.map(|of| of.bytes_sent + past_sent),
                bytes_received: statistics.map(|of| of.bytes_received + past_received),
                rtt_us: statistics.map(|of| of.rtt_us.into()),
                past_tcp: live.past_tcp.is_some(),
            }
        })
        .collect()
}

/// How many each workload has open to each service, on which path.
pub(super) fn by_workload(agent: &Agent) -> BTreeMap<(Workload, String, &'static str), u32> {
    let clients = Clients::of(agent);
    let workload = |netns| clients.pods.get(&netns).map(|pod| pod.workload());
    let mut counts = BTreeMap::new();
    if let Some(kernel) = agent.kernel() {
        let tables = kernel.tables();
        let mut services = HashMap::new();
        for live in tables.connections() {
            let Some(workload) = workload(live.connection.netns) else { continue };
            let service = services.entry(live.connection.with.service).or_insert_with_key(|&id| {
                tables.port_of(id).map(|(name, ..)| name.to_string()).unwrap_or_default()
            });
            *counts.entry((workload, service.clone(), "kernel")).or_default() += 1;
        }
    }
    // As in `proxied`.
    for connection in Handle::current().block_on(agent.proxy.connections()) {
        if let Some(workload) = workload(connection.netns_cookie) {
            *counts.entry((workload, connection.service.to_string(), "proxy")).or_default() += 1;
        }
    }
    counts
}

/// What the kernel knows of the connections of all captured namespaces, and
/// the addresses of their UDP sockets.
pub(super) fn statistics(agent: &Agent) -> (HashMap<u64, TcpStatistics>, HashMap<u64, SocketAddr>) {
    let (mut all, mut udp) = (HashMap::new(), HashMap::new());
    for tracked in &agent.namespaces().0 {
        let namespace = &tracked.namespace;
        match tcp_connections(namespace).and_then(|tcp| Ok((tcp, udp_sockets(namespace)?))) {
            Ok((tcp, sockets)) => {
                all.extend(tcp);
                udp.extend(sockets);
            }
            Err(error) => tracing::warn!(
                netns = tracked.namespace.cookie(), %error,
                "asking for the namespace's connections failed: they are shown without counts"
            ),
        }
    }
    (all, udp)
}

fn proxied(agent: &Agent, clients: &Clients) -> Vec<ConnectionView> {
    // Called where blocking is allowed, and answered by the workers.
    let live = Handle::current().block_on(agent.proxy.connections());
    (live.into_iter())
        .map(|connection| ConnectionView {
            path: "proxy".to_owned(),
            client: connection.client.to_string(),
            who: clients.who(connection.pid, connection.netns_cookie),
            service: connection.service.to_string(),
            original: connection.destination.to_string(),
            instance: connection.instance.map(|instance| instance.to_string()),
            age_ms: age_ms(connection.opened),
            bytes_sent: Some(connection.sent),
            bytes_received: Some(connection.received),
            rtt_us: None,
            past_tcp: false,
        })
        .collect()
}

fn age_ms(opened: std::time::SystemTime) -> u64 {
    let age = opened.elapsed().unwrap_or_default();
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}

/// Tells whose sockets are whose.
pub(super) struct Clients {
    /// Pods by the namespaces that they live in.
    pods: HashMap<u64, Arc<Pod>>,
    table: Arc<PodTable>,
}

impl Clients {
    pub fn of(agent: &Agent) -> Self {
        let namespaces = agent.namespaces();
        let pods = namespaces.0.iter().filter_map(|tracked| {
            Some((tracked.namespace.cookie(), Arc::clone(tracked.pod.as_ref()?)))
        });
        Self { pods: pods.collect(), table: agent.pods.table() }
    }

    /// The pod of a socket's namespace, and what the system still knows of the
    /// process.
    pub fn who(&self, pid: u32, netns: u64) -> Who {
        let read =
            |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let cgroups = read("cgroup");
        let cgroup = cgroups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
        // One that was let go has no listener, but may have connections.
        let pod = self.pods.get(&netns).or_else(|| self.table.pod_of(cgroup));
        let pod = pod.map(|pod| view(pod));
        Who { pid, process: read("comm").trim().to_owned(), cgroup: cgroup.to_owned(), pod, netns }
    }

    /// The pod that a cgroup is of.
    pub fn pod_of(&self, cgroup: &str) -> Option<PodView> {
        self.table.pod_of(cgroup).map(|pod| view(pod))
    }
}

fn view(pod: &Pod) -> PodView {
    PodView {
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        service_account: pod.service_account.to_string(),
    }
}

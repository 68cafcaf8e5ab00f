//! The immutable picture that the proxy and the datapath work from.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::AtomicU64},
};

use arc_swap::ArcSwap;

use super::{index::Index, mirrored::Mirrored};
use crate::{
    balance::{Affinity, Balancer, Live, Tier},
    health::{Health, Outliers},
    limit::{Concurrency, Flow},
    model::{
        Algorithm, Labels, Locality, OnAgentFailure, Path, Policy, Port, ServiceName, ServiceSpec,
        Transport, Weight,
    },
    retry::{Budget, Handshakes, Reason},
    route::Routes,
};

/// Everything that serves, at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts up with every change; 0 before the first configuration.
    pub generation: u64,
    /// In the order of the file.
    pub services: Vec<Arc<Service>>,
    pub(super) index: Arc<Index>,
}

#[derive(Debug)]
pub struct Service {
    pub spec: Arc<ServiceSpec>,
    pub ports: Vec<Arc<ServicePort>>,
}

/// One port of a service, on all of its addresses.
#[derive(Debug)]
pub struct ServicePort {
    pub service: ServiceName,
    pub port: Port,
    pub addresses: Vec<IpAddr>,
    pub path: Path,
    /// Why it takes this path, in words.
    pub path_reason: Cow<'static, str>,
    pub on_agent_failure: OnAgentFailure,
    pub policy: Arc<Policy>,
    /// All instances, the drained ones too.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Picks indices into `endpoints`.
    pub balancer: Balancer,
    /// One for each set of labels that a route asks for.
    pub subsets: Vec<Subset>,
    /// Of its service.
    pub routes: Arc<Routes>,
    /// The nearest first.
    pub tiers: Vec<Tier>,
    /// Too few instances are available: those that fail are used as well.
    pub panic: bool,
    /// Which instances clients keep to, where the policy has session affinity.
    pub affinity: Arc<Affinity>,
    pub stats: Arc<PortStats>,
    /// Its limits; their state outlives snapshots.
    pub flow: Flow,
    /// Of its instances' ejections.
    pub outliers: Arc<Outliers>,
    /// How much of its traffic may be retries.
    pub budget: Arc<Budget>,
    /// How long connecting to its instances takes.
    pub handshakes: Arc<Handshakes>,
}

/// The instances of a service port that have certain labels.
#[derive(Debug)]
pub struct Subset {
    pub labels: Labels,
    /// Picks indices into the port's endpoints, of this subset only.
    pub balancer: Balancer,
    /// As the port's, of this subset.
    pub panic: bool,
}

/// An instance behind a service port.
#[derive(Debug)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// As discovered.
    pub weight: Weight,
    /// Its turns in proportion to the others': the weight, scaled by what its
    /// tier gets. 0 where it gets nothing.
    pub turns: u32,
    /// Index in the port's tiers.
    pub tier: u16,
    pub priority: u16,
    pub locality: Arc<Locality>,
    pub labels: Labels,
    pub live: Arc<Live>,
    pub concurrency: Arc<Concurrency>,
    pub health: Arc<Health>,
    /// Whether it was failing when this was built.
    pub(super) failing: bool,
}

impl Endpoint {
    pub fn has(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(name) == Some(value))
    }

    /// 0 where the instance gets nothing.
    pub fn effective_weight(&self) -> Weight {
        if self.turns == 0 { Weight(0) } else { self.weight }
    }
}

/// Counters of a service port on the proxy path; they outlive snapshots.
#[derive(Debug, Default)]
pub struct PortStats {
    pub connections: AtomicU64,
    /// Of them, those that are open now.
    pub open: AtomicU64,
    pub requests: AtomicU64,
    /// Answers of 500 and above, and connections that no instance took.
    pub errors: AtomicU64,
    /// Further attempts, by their reason.
    pub retries: [AtomicU64; Reason::ALL.len()],
    /// Copies of requests that it is sent.
    pub mirrored: Mirrored,
}

/// What identifies a service port across snapshots.
pub type PortKey = (ServiceName, u16, Transport);

impl ServicePort {
    pub fn key(&self) -> PortKey {
        (self.service.clone(), self.port.port.get(), self.port.protocol.transport())
    }

    /// Whether its payload may go past TCP: not where the hooks time or pace
    /// packets.
    pub fn is_bypassed(&self) -> bool {
        let policy = &self.policy;
        let timed = self.path == Path::Kernel
            && (policy.algorithm == Algorithm::LeastResponseTime
                || policy.adaptive_concurrency.is_some());
        policy.bypass
            && self.port.protocol.transport() == Transport::Tcp
            && policy.bandwidth.is_none()
            && !timed
    }

    /// Picks among the instances with these labels, and whether they are in a
    /// panic. `None` for labels that no route asks for.
    pub fn subset(&self, labels: &BTreeMap<String, String>) -> Option<(&Balancer, bool)> {
        if labels.is_empty() {
            return Some((&self.balancer, self.panic));
        }
        let subset = self.subsets.iter().find(|subset| *subset.labels == *labels)?;
        Some((&subset.balancer, subset.panic))
    }
}

impl Snapshot {
    /// The service port that an application reaches at this address.
    pub fn find(&self, address: SocketAddr, transport: Transport) -> Option<&Arc<ServicePort>> {
        let key = (address.ip().to_canonical(), address.port(), transport);
        let &(service, port) = self.index.frontends.get(&key)?;
        self.services.get(service)?.ports.get(port)
    }

    /// The service with this hostname: lower case, without the trailing dot.
    pub fn by_hostname(&self, hostname: &str) -> Option<&Arc<Service>> {
        self.services.get(*self.index.hostnames.get(hostname)?)
    }

    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(*self.index.names.get(name)?)
    }

    pub fn ports(&self) -> impl Iterator<Item = &Arc<ServicePort>> {
        self.services.iter().flat_map(|service| &service.ports)
    }
}

/// Reads the current snapshot, from any thread, without waiting.
#[derive(Clone, Debug, Default)]
pub struct SnapshotReader(pub(super) Arc<ArcSwap<Snapshot>>);

impl SnapshotReader {
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// For a reader that looks often: `arc_swap::Cache` costs one atomic read.
    pub fn cache(&self) -> arc_swap::Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>> {
        arc_swap::Cache::new(Arc::clone(&self.0))
    }
}

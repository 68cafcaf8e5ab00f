//! The immutable picture that the proxy and the datapath work from.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::AtomicU64},
};

use arc_swap::ArcSwap;

use crate::{
    balance::{Balancer, Live},
    limit::{Concurrency, Flow},
    model::{
        Locality, OnAgentFailure, Path, Policy, Port, ServiceName, ServiceSpec, Transport, Weight,
    },
};

/// Everything that serves, at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts up with every change; 0 before the first configuration.
    pub generation: u64,
    /// In the order of the file.
    pub services: Vec<Arc<Service>>,
    pub(super) frontends: HashMap<(IpAddr, u16, Transport), Arc<ServicePort>>,
    pub(super) hostnames: HashMap<String, Arc<Service>>,
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
    pub path_reason: &'static str,
    pub on_agent_failure: OnAgentFailure,
    pub policy: Arc<Policy>,
    /// All instances, the drained ones too.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Picks indices into `endpoints`.
    pub balancer: Balancer,
    pub stats: Arc<PortStats>,
    /// Its limits; their state outlives snapshots.
    pub flow: Flow,
}

/// An instance behind a service port.
#[derive(Debug)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// As discovered; what counts is [`Self::effective_weight`].
    pub weight: Weight,
    pub locality: Locality,
    pub live: Arc<Live>,
    pub concurrency: Arc<Concurrency>,
}

/// Counters of a service port on the proxy path; they outlive snapshots.
#[derive(Debug, Default)]
pub struct PortStats {
    pub connections: AtomicU64,
    pub requests: AtomicU64,
    /// Answers of 500 and above, and connections that no instance took.
    pub errors: AtomicU64,
    /// Further attempts after one that failed.
    pub retries: AtomicU64,
}

/// What identifies a service port across snapshots.
pub type PortKey = (ServiceName, u16, Transport);

impl ServicePort {
    pub fn key(&self) -> PortKey {
        (self.service.clone(), self.port.port.get(), self.port.protocol.transport())
    }
}

impl Endpoint {
    /// 0 where the instance was taken out by hand.
    pub fn effective_weight(&self) -> Weight {
        if self.live.is_drained() { Weight(0) } else { self.weight }
    }
}

impl Snapshot {
    /// The service port that an application reaches at this address.
    pub fn find(&self, address: SocketAddr, transport: Transport) -> Option<&Arc<ServicePort>> {
        self.frontends.get(&(address.ip().to_canonical(), address.port(), transport))
    }

    /// The service with this hostname: lower case, without the trailing dot.
    pub fn by_hostname(&self, hostname: &str) -> Option<&Arc<Service>> {
        self.hostnames.get(hostname)
    }

    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| service.spec.name.as_str() == name)
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

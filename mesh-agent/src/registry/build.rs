//! Builds the next snapshot from the configuration and what discovery said.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use super::{Endpoint, PortKey, PortStats, Service, ServicePort, Snapshot, SnapshotReader};
use crate::{
    balance::{Balancer, Live},
    limit::{Concurrency, Flow},
    model::{Discovered, Instance, Port, ServiceName, ServiceSpec},
};

/// Owns what outlives a snapshot; the only writer.
#[derive(Debug)]
pub struct Registry {
    specs: Vec<Arc<ServiceSpec>>,
    /// By service: what each of its sources found, in their order. Empty where
    /// a source hasn't found anything yet.
    discovered: HashMap<ServiceName, Vec<Arc<[Instance]>>>,
    ports: HashMap<PortKey, Kept>,
    published: SnapshotReader,
    generation: watch::Sender<u64>,
}

/// What a service port keeps from snapshot to snapshot.
#[derive(Debug, Default)]
struct Kept {
    cursor: Arc<AtomicU64>,
    stats: Arc<PortStats>,
    live: HashMap<SocketAddr, Arc<Live>>,
    concurrency: HashMap<SocketAddr, Arc<Concurrency>>,
    flow: Flow,
}

impl Registry {
    pub fn new() -> Self {
        Self {
            specs: Vec::new(),
            discovered: HashMap::new(),
            ports: HashMap::new(),
            published: SnapshotReader::default(),
            generation: watch::Sender::new(0),
        }
    }

    pub fn reader(&self) -> SnapshotReader {
        self.published.clone()
    }

    /// Says when there is a new snapshot, by its generation.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Takes a new configuration. What was discovered by sources that are still
    /// there, unchanged, goes on serving.
    pub fn configure(&mut self, specs: Vec<ServiceSpec>) {
        self.configure_with(specs, Vec::new());
    }

    /// [`Self::configure`] together with what some of the new sources have
    /// found, so that no service is without its instances in between.
    pub fn configure_with(&mut self, specs: Vec<ServiceSpec>, found: Vec<Discovered>) {
        let kept = |spec: &ServiceSpec| {
            let before = self.specs.iter().find(|before| before.name == spec.name);
            let sets = self.discovered.get(&spec.name).zip(before);
            let set_of = |source| {
                let (sets, before) = sets?;
                sets.get(before.sources.iter().position(|other| other == source)?).cloned()
            };
            spec.sources.iter().map(|source| set_of(source).unwrap_or_default()).collect()
        };
        self.discovered = specs.iter().map(|spec| (spec.name.clone(), kept(spec))).collect();
        self.specs = specs.into_iter().map(Arc::new).collect();
        self.take_in(found);
        self.publish();
    }

    /// Takes in what sources say; of unknown services and sources nothing.
    /// Tells whether that changed anything.
    pub fn discover(&mut self, found: Vec<Discovered>) -> bool {
        let changed = self.take_in(found);
        if changed {
            self.publish();
        }
        changed
    }

    /// What stands of all sources, as [`Self::configure_with`] takes it.
    pub fn discovered(&self) -> Vec<Discovered> {
        (self.discovered.iter())
            .flat_map(|(service, sets)| sets.iter().enumerate().map(move |set| (service, set)))
            .map(|(service, (source, instances))| Discovered {
                service: service.clone(),
                source,
                instances: Arc::clone(instances),
            })
            .collect()
    }

    fn take_in(&mut self, found: Vec<Discovered>) -> bool {
        let mut changed = false;
        for Discovered { service, source, instances } in found {
            let sets = self.discovered.get_mut(&service);
            if let Some(set) = sets.and_then(|sets| sets.get_mut(source))
                && *set != instances
            {
                *set = instances;
                changed = true;
            }
        }
        changed
    }

    /// Takes an instance out of the picks, or back in; `false` where the
    /// service has no such instance.
    pub fn set_drained(&mut self, service: &str, address: SocketAddr, drained: bool) -> bool {
        let mut known = false;
        for ((name, ..), kept) in &self.ports {
            if name.as_str() == service
                && let Some(live) = kept.live.get(&address)
            {
                live.drained.store(drained, Ordering::Relaxed);
                known = true;
            }
        }
        if known {
            self.publish();
        }
        known
    }

    fn publish(&mut self) {
        let generation = *self.generation.borrow() + 1;
        let mut next = Snapshot { generation, ..Snapshot::default() };
        let mut kept = std::mem::take(&mut self.ports);
        for spec in &self.specs {
            // In this order: where two name the same instance, the first counts.
            let sets = self.discovered.get(&spec.name).into_iter().flatten();
            let instances: Vec<&Instance> =
                spec.static_instances.iter().chain(sets.flat_map(|set| set.iter())).collect();
            let policy = Arc::new(spec.policy.clone());
            let ports: Vec<_> = (spec.ports.iter())
                .map(|&port| {
                    let key = (spec.name.clone(), port.port.get(), port.protocol.transport());
                    let kept = kept.remove(&key).unwrap_or_else(Kept::at_random);
                    let (built, kept) = build_port(spec, port, &policy, &instances, kept);
                    self.ports.insert(key, kept);
                    Arc::new(built)
                })
                .collect();
            let service = Arc::new(Service { spec: Arc::clone(spec), ports });
            for (port, &address) in
                service.ports.iter().flat_map(|p| spec.addresses.iter().map(move |a| (p, a)))
            {
                let key = (address, port.port.port.get(), port.port.protocol.transport());
                next.frontends.insert(key, Arc::clone(port));
            }
            for hostname in &spec.hostnames {
                next.hostnames.insert(hostname.clone(), Arc::clone(&service));
            }
            next.services.push(service);
        }
        self.published.0.store(Arc::new(next));
        self.generation.send_replace(generation);
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Kept {
    /// The cursor starts at random, so that nodes don't march in step.
    fn at_random() -> Self {
        let cursor = Arc::new(AtomicU64::new(u64::from(rand::random::<u32>())));
        Self { cursor, ..Self::default() }
    }
}

fn build_port(
    spec: &ServiceSpec,
    port: Port,
    policy: &Arc<crate::model::Policy>,
    instances: &[&Instance],
    mut kept: Kept,
) -> (ServicePort, Kept) {
    let (mut live, mut concurrency) = (HashMap::new(), HashMap::new());
    let mut endpoints: Vec<Arc<Endpoint>> = Vec::with_capacity(instances.len());
    for instance in instances {
        let address = SocketAddr::new(instance.address, instance.port.unwrap_or(port.port).get());
        // Two sources may name the same instance; the first one's word counts.
        if live.contains_key(&address) {
            continue;
        }
        let state = kept.live.remove(&address).unwrap_or_default();
        live.insert(address, Arc::clone(&state));
        let limit = kept.concurrency.remove(&address).unwrap_or_default();
        limit.configure(policy.adaptive_concurrency.as_ref());
        concurrency.insert(address, Arc::clone(&limit));
        endpoints.push(Arc::new(Endpoint {
            address,
            weight: instance.weight,
            locality: instance.locality.clone(),
            live: state,
            concurrency: limit,
        }));
    }
    let flow = kept.flow.renewed(policy);
    let weights: Vec<_> = endpoints.iter().map(|endpoint| endpoint.effective_weight()).collect();
    let (path, path_reason) =
        spec.path.resolve(port.protocol, policy).expect("a validated path fits its protocol");
    let built = ServicePort {
        service: spec.name.clone(),
        port,
        addresses: spec.addresses.clone(),
        path,
        path_reason,
        on_agent_failure: spec.on_agent_failure,
        policy: Arc::clone(policy),
        balancer: Balancer::new(policy.algorithm, &weights, Arc::clone(&kept.cursor)),
        endpoints,
        stats: Arc::clone(&kept.stats),
        flow: flow.clone(),
    };
    (built, Kept { live, concurrency, flow, ..kept })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;
    use crate::model::{
        DnsSource, Locality, OnAgentFailure, PathChoice, Policy, Protocol, Source, Transport,
        Weight,
    };

    fn spec(instances: &[&str]) -> ServiceSpec {
        ServiceSpec {
            name: ServiceName::new("reviews"),
            addresses: vec!["10.96.0.11".parse().unwrap()],
            hostnames: vec!["reviews".into()],
            ports: vec![Port { port: NonZeroU16::new(80).unwrap(), protocol: Protocol::Http }],
            path: PathChoice::Auto,
            on_agent_failure: OnAgentFailure::Open,
            static_instances: instances
                .iter()
                .map(|text| {
                    let address: SocketAddr = text.parse().unwrap();
                    Instance {
                        address: address.ip(),
                        port: NonZeroU16::new(address.port()),
                        weight: Weight(1),
                        locality: Locality::default(),
                        priority: 0,
                        labels: Arc::default(),
                    }
                })
                .collect(),
            sources: Vec::new(),
            routes: Vec::new(),
            policy: Policy::default(),
        }
    }

    #[test]
    fn live_data_survives_a_change() {
        let mut registry = Registry::new();
        let reader = registry.reader();
        let vip: SocketAddr = "10.96.0.11:80".parse().unwrap();
        registry.configure(vec![spec(&["10.1.0.1:80", "10.1.0.2:80"])]);
        let before = reader.load();
        let port = before.find(vip, Transport::Tcp).unwrap();
        port.endpoints[1].live.picks.store(7, Ordering::Relaxed);

        registry.configure(vec![spec(&["10.1.0.2:80", "10.1.0.3:80"])]);
        let after = reader.load();
        assert_eq!(after.generation, before.generation + 1);
        let port = after.find(vip, Transport::Tcp).unwrap();
        assert_eq!(port.endpoints[0].live.picks.load(Ordering::Relaxed), 7);
        assert_eq!(port.endpoints[1].live.picks.load(Ordering::Relaxed), 0);
    }

    fn found(source: usize, instances: &[&str]) -> Discovered {
        let instances = spec(instances).static_instances.into();
        Discovered { service: ServiceName::new("reviews"), source, instances }
    }

    fn named(name: &str) -> Source {
        Source::Dns(DnsSource { name: name.to_owned(), ..DnsSource::default() })
    }

    fn pool(registry: &Registry) -> Vec<String> {
        let snapshot = registry.reader().load();
        let port = snapshot.ports().next().unwrap();
        port.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
    }

    #[test]
    fn static_and_discovered_instances_make_one_pool_and_the_first_word_counts() {
        let mut registry = Registry::new();
        let mut spec = spec(&["10.1.0.1:80"]);
        spec.static_instances[0].weight = Weight(7);
        spec.sources = vec![named("a"), named("b")];
        registry.configure(vec![spec]);
        assert!(registry.discover(vec![found(1, &["10.1.0.3:80", "10.1.0.2:80"])]));
        assert!(registry.discover(vec![found(0, &["10.1.0.2:80", "10.1.0.1:80"])]));
        assert_eq!(pool(&registry), ["10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80"]);
        let snapshot = registry.reader().load();
        assert_eq!(snapshot.ports().next().unwrap().endpoints[0].weight, Weight(7));

        // What says nothing new makes no new snapshot, nor does a stranger.
        let stranger = Discovered { service: ServiceName::new("x"), ..found(0, &["10.1.0.9:80"]) };
        assert!(!registry.discover(vec![
            found(1, &["10.1.0.3:80", "10.1.0.2:80"]),
            found(2, &["10.1.0.9:80"]),
            stranger
        ]));
        assert_eq!(registry.reader().load().generation, snapshot.generation);
    }

    #[test]
    fn a_reload_keeps_what_unchanged_sources_found() {
        let mut registry = Registry::new();
        let with = |names: &[&str]| {
            let sources = names.iter().map(|name| named(name)).collect();
            vec![ServiceSpec { sources, ..spec(&[]) }]
        };
        registry.configure(with(&["a", "b"]));
        registry.discover(vec![found(0, &["10.1.0.1:80"]), found(1, &["10.1.0.2:80"])]);
        let before = registry.discovered();
        registry.configure_with(with(&["b", "c"]), vec![found(1, &["10.1.0.3:80"])]);
        assert_eq!(pool(&registry), ["10.1.0.2:80", "10.1.0.3:80"]);
        // And back, as when the kernel refused it.
        registry.configure_with(with(&["a", "b"]), before);
        assert_eq!(pool(&registry), ["10.1.0.1:80", "10.1.0.2:80"]);
    }

    #[test]
    fn a_drained_instance_is_never_picked_and_comes_back() {
        let mut registry = Registry::new();
        let reader = registry.reader();
        registry.configure(vec![spec(&["10.1.0.1:80", "10.1.0.2:80"])]);
        let address = "10.1.0.1:80".parse().unwrap();
        assert!(registry.set_drained("reviews", address, true));
        assert!(!registry.set_drained("ratings", address, true));
        // A reload doesn't bring it back.
        registry.configure(vec![spec(&["10.1.0.1:80", "10.1.0.2:80"])]);
        let snapshot = reader.load();
        let port = snapshot.ports().next().unwrap();
        assert!((0..10).all(|n| port.balancer.pick(n, |_| true) == Some(1)));
        assert!(registry.set_drained("reviews", address, false));
        let snapshot = reader.load();
        let port = snapshot.ports().next().unwrap();
        assert!((0..10).any(|n| port.balancer.pick(n, |_| true) == Some(0)));
    }

    #[test]
    fn services_are_found_by_mapped_address_and_hostname() {
        let mut registry = Registry::new();
        registry.configure(vec![spec(&["10.1.0.1:80"])]);
        let snapshot = registry.reader().load();
        let mapped = "[::ffff:10.96.0.11]:80".parse().unwrap();
        assert!(snapshot.find(mapped, Transport::Tcp).is_some());
        assert!(snapshot.find(mapped, Transport::Udp).is_none());
        assert!(snapshot.by_hostname("reviews").is_some());
    }
}

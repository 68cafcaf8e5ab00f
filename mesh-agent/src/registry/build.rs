//! Builds the next snapshot from the configuration and what discovery said.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use tokio::{sync::watch, time::Instant};

use super::{
    Labels, PortKey, Service, Snapshot, SnapshotReader,
    index::Index,
    port::{self, Kept},
};
use crate::{
    model::{Discovered, Instance, Locality, ServiceName, ServiceSpec},
    route::Routes,
};

/// Owns what outlives a snapshot; the only writer.
#[derive(Debug)]
pub struct Registry {
    /// Of this node.
    node: Locality,
    specs: Vec<Arc<ServiceSpec>>,
    /// By service: what each of its sources found, in their order. Empty where
    /// a source hasn't found anything yet.
    discovered: HashMap<ServiceName, Vec<Arc<[Instance]>>>,
    /// By service: the labels that any route asks for.
    subsets: HashMap<ServiceName, Vec<Labels>>,
    /// Compiled once for a configuration.
    routes: HashMap<ServiceName, Arc<Routes>>,
    ports: HashMap<PortKey, Kept>,
    published: SnapshotReader,
    generation: watch::Sender<u64>,
}

impl Registry {
    pub fn new() -> Self {
        Self {
            node: Locality::default(),
            specs: Vec::new(),
            discovered: HashMap::new(),
            subsets: HashMap::new(),
            routes: HashMap::new(),
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

    /// Where this node is, from the next configuration on.
    pub fn locate(&mut self, node: Locality) {
        self.node = node;
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
        self.subsets = subsets(&self.specs);
        self.routes = routes(&self.specs);
        self.take_in(found);
        self.publish_all();
    }

    /// Takes in what sources say; of unknown services and sources nothing.
    /// Tells whether that changed anything.
    pub fn discover(&mut self, found: Vec<Discovered>) -> bool {
        let changed = self.take_in(found);
        self.publish(changed.iter().map(ServiceName::as_str));
        !changed.is_empty()
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

    /// The services of which something changed.
    fn take_in(&mut self, found: Vec<Discovered>) -> BTreeSet<ServiceName> {
        let mut changed = BTreeSet::new();
        for Discovered { service, source, instances } in found {
            let sets = self.discovered.get_mut(&service);
            if let Some(set) = sets.and_then(|sets| sets.get_mut(source))
                && *set != instances
            {
                *set = instances;
                changed.insert(service);
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
                && let Some(kept) = kept.instances.get(&address)
            {
                kept.live.drained.store(drained, Ordering::Relaxed);
                known = true;
            }
        }
        if known {
            self.refresh(service);
        }
        known
    }

    /// Looks at the instances of a service anew: the health of one has changed.
    /// All other services stay as they are. `false` where there is no such one.
    pub fn refresh(&mut self, service: &str) -> bool {
        self.publish(std::iter::once(service))
    }

    fn publish_all(&mut self) {
        self.ports.retain(|(name, port, transport), _| {
            let spec = self.specs.iter().find(|spec| spec.name == *name);
            let ports = spec.into_iter().flat_map(|spec| &spec.ports);
            ports
                .map(|one| (one.port.get(), one.protocol.transport()))
                .any(|one| one == (*port, *transport))
        });
        let specs = std::mem::take(&mut self.specs);
        let services = specs.iter().map(|spec| self.build(spec)).collect();
        let index = Arc::new(Index::new(&specs));
        self.specs = specs;
        self.store(Snapshot { services, index, generation: 0 });
    }

    /// Builds these services anew; all others are those of the last snapshot.
    fn publish<'a>(&mut self, services: impl Iterator<Item = &'a str>) -> bool {
        let before = self.published.load();
        let index = Arc::clone(&before.index);
        let places: Vec<_> = services.filter_map(|name| index.names.get(name).copied()).collect();
        if places.is_empty() {
            return false;
        }
        let mut services = before.services.clone();
        for place in places {
            let spec = Arc::clone(&self.specs[place]);
            services[place] = self.build(&spec);
        }
        self.store(Snapshot { services, index, generation: 0 });
        true
    }

    fn build(&mut self, spec: &Arc<ServiceSpec>) -> Arc<Service> {
        // In this order: where two name the same instance, the first counts.
        let sets = self.discovered.get(&spec.name).into_iter().flatten();
        let instances: Vec<&Instance> =
            spec.static_instances.iter().chain(sets.flat_map(|set| set.iter())).collect();
        let plan = port::Plan {
            node: &self.node,
            spec,
            policy: &Arc::new(spec.policy.clone()),
            instances: &instances,
            subsets: self.subsets.get(&spec.name).map_or(&[], Vec::as_slice),
            routes: &self.routes.get(&spec.name).cloned().unwrap_or_default(),
            now: Instant::now(),
        };
        let ports = (spec.ports.iter())
            .map(|&port| {
                let key = (spec.name.clone(), port.port.get(), port.protocol.transport());
                let kept = self.ports.entry(key).or_insert_with(Kept::at_random);
                Arc::new(port::build(&plan, port, kept))
            })
            .collect();
        Arc::new(Service { spec: Arc::clone(spec), ports })
    }

    fn store(&mut self, next: Snapshot) {
        let generation = *self.generation.borrow() + 1;
        self.published.0.store(Arc::new(Snapshot { generation, ..next }));
        self.generation.send_replace(generation);
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

/// The labels that the routes of all services ask for, by the service whose
/// instances they select.
fn subsets(specs: &[Arc<ServiceSpec>]) -> HashMap<ServiceName, Vec<Labels>> {
    let mut subsets: HashMap<ServiceName, Vec<Labels>> = HashMap::new();
    for spec in specs {
        for backend in spec.routes.iter().flat_map(|route| &route.backends) {
            let wanted = subsets.entry(backend.service.as_ref().unwrap_or(&spec.name).clone());
            let wanted = wanted.or_default();
            if !backend.subset.is_empty() && !wanted.contains(&backend.subset) {
                wanted.push(Arc::clone(&backend.subset));
            }
        }
    }
    subsets
}

fn routes(specs: &[Arc<ServiceSpec>]) -> HashMap<ServiceName, Arc<Routes>> {
    let some = specs.iter().filter(|spec| !spec.routes.is_empty());
    some.map(|spec| (spec.name.clone(), Arc::new(Routes::new(&spec.routes)))).collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::super::ServicePort;
    use super::*;
    use crate::{
        balance::Ask,
        model::{
            DnsSource, OnAgentFailure, PathChoice, Policy, Port, Protocol, Source, Transport,
            Weight,
        },
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

    fn pick(port: &ServicePort, random: u64) -> Option<usize> {
        port.balancer.pick(Ask::new(random, Instant::now()), |_| true)
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
        assert!((0..10).all(|n| pick(port, n) == Some(1)));
        assert!(registry.set_drained("reviews", address, false));
        let snapshot = reader.load();
        let port = snapshot.ports().next().unwrap();
        assert!((0..10).any(|n| pick(port, n) == Some(0)));
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

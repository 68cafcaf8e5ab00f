//! Builds the next snapshot from the configuration and what discovery said.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    sync::{Arc, atomic::Ordering},
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    PortKey, Service, Snapshot, SnapshotReader,
    index::Index,
    port::{self, Kept},
};
use crate::{
    model::{Discovered, Instance, Labels, Locality, Route, ServiceName, ServiceSpec},
    route::Routes,
};

/// The routes of a service: of each port by itself, where any route holds for
/// some ports only.
#[derive(Debug, Default)]
struct PortRoutes {
    all: Arc<Routes>,
    of: HashMap<NonZeroU16, Arc<Routes>>,
}

/// Owns what outlives a snapshot; the only writer.
#[derive(Debug)]
pub struct Registry {
    /// Of this node.
    node: Locality,
    /// It is another than that of the last snapshot.
    moved: bool,
    specs: Vec<Arc<ServiceSpec>>,
    /// By service: what each of its sources found, in their order. Empty where
    /// a source hasn't found anything yet.
    discovered: HashMap<ServiceName, Vec<Arc<[Instance]>>>,
    /// By service: the labels that any route asks for.
    subsets: HashMap<ServiceName, Vec<Labels>>,
    /// Compiled once for a configuration.
    routes: HashMap<ServiceName, PortRoutes>,
    /// Addresses of the pods that this agent captures.
    captured: HashSet<IpAddr>,
    ports: HashMap<PortKey, Kept>,
    published: SnapshotReader,
    generation: watch::Sender<u64>,
    health_changed: Arc<Notify>,
}

impl Registry {
    pub fn new() -> Self {
        Self {
            node: Locality::default(),
            moved: false,
            specs: Vec::new(),
            discovered: HashMap::new(),
            subsets: HashMap::new(),
            routes: HashMap::new(),
            captured: HashSet::new(),
            ports: HashMap::new(),
            published: SnapshotReader::default(),
            generation: watch::Sender::new(0),
            health_changed: Arc::default(),
        }
    }

    pub fn reader(&self) -> SnapshotReader {
        self.published.clone()
    }

    /// Told when the health of some instance changes; the ports that it concerns
    /// say so themselves, by `Outliers::take_change`.
    pub fn health_changed(&self) -> Arc<Notify> {
        Arc::clone(&self.health_changed)
    }

    /// Says when there is a new snapshot, by its generation.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Where this node is, from the next configuration on.
    pub fn locate(&mut self, node: Locality) {
        self.moved |= node != self.node;
        self.node = node;
    }

    /// Takes a new configuration. What was discovered by sources that are still
    /// there, unchanged, goes on serving.
    pub fn configure(&mut self, specs: impl IntoIterator<Item = impl Into<Arc<ServiceSpec>>>) {
        self.configure_with(specs, Vec::new());
    }

    /// [`Self::configure`] together with what some of the new sources have
    /// found, so that no service is without its instances in between.
    pub fn configure_with(
        &mut self,
        specs: impl IntoIterator<Item = impl Into<Arc<ServiceSpec>>>,
        found: Vec<Discovered>,
    ) {
        let specs: Vec<Arc<ServiceSpec>> = specs.into_iter().map(Into::into).collect();
        let before = self.published.load();
        let known = |name: &ServiceName| Some(&before.service(name.as_str())?.spec);
        let kept = |spec: &ServiceSpec| {
            let sets = self.discovered.get(&spec.name).zip(known(&spec.name));
            let set_of = |source| {
                let (sets, before) = sets?;
                sets.get(before.sources.iter().position(|other| other == source)?).cloned()
            };
            spec.sources.iter().map(|source| set_of(source).unwrap_or_default()).collect()
        };
        let discovered = specs.iter().map(|spec| (spec.name.clone(), kept(spec))).collect();
        let discovered = std::mem::replace(&mut self.discovered, discovered);
        self.specs = specs;
        let subsets = std::mem::replace(&mut self.subsets, subsets(&self.specs));
        self.routes = routes(&self.specs);
        let moved = std::mem::take(&mut self.moved);
        self.take_in(found);
        self.publish_all(|registry, spec| {
            let name = &spec.name;
            let same = !moved
                && discovered.get(name) == registry.discovered.get(name)
                && subsets.get(name) == registry.subsets.get(name);
            before.service(name.as_str()).filter(|before| same && *before.spec == *spec).cloned()
        });
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

    /// What stands in the places that these would take.
    pub fn discovered_before(&self, changes: &[Discovered]) -> Vec<Discovered> {
        (changes.iter())
            .filter_map(|change| {
                let instances = self.discovered.get(&change.service)?.get(change.source)?;
                Some(Discovered { instances: Arc::clone(instances), ..change.clone() })
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
                && let Some(endpoint) = kept.endpoints.iter().find(|one| one.address == address)
            {
                endpoint.live.drained.store(drained, Ordering::Relaxed);
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

    /// Whether the path of any port depends on which pods are captured.
    pub fn asks_for_captured(&self) -> bool {
        self.specs.iter().any(|spec| {
            let mut ports = spec.ports.iter();
            ports.any(|port| spec.path.asks_for_instances(port.protocol, &spec.policy))
        })
    }

    /// Takes the addresses of the pods that this agent captures. Tells whether
    /// that gave any port another path, or another reason for it.
    pub fn set_captured(&mut self, captured: HashSet<IpAddr>) -> bool {
        if captured == self.captured {
            return false;
        }
        self.captured = captured;
        let snapshot = self.published.load();
        let moved = |spec: &ServiceSpec| {
            let service = snapshot.service(spec.name.as_str())?;
            let mut ports = service
                .ports
                .iter()
                .filter(|port| spec.path.asks_for_instances(port.port.protocol, &spec.policy));
            let other = ports.any(|port| {
                let instances = port.endpoints.iter().map(|endpoint| endpoint.address);
                let instances = port::whereabouts(instances, &self.captured);
                let resolved = spec.path.resolve(port.port.protocol, &spec.policy, instances);
                resolved.is_ok_and(|(_, why)| why != port.path_reason)
            });
            other.then(|| spec.name.clone())
        };
        let moved: Vec<_> = self.specs.iter().filter_map(|spec| moved(spec)).collect();
        self.publish(moved.iter().map(ServiceName::as_str))
    }

    /// Builds all services but those that `unchanged` still has.
    fn publish_all(&mut self, unchanged: impl Fn(&Self, &ServiceSpec) -> Option<Arc<Service>>) {
        let index = Arc::new(Index::new(&self.specs));
        self.ports.retain(|(name, port, transport), _| {
            let spec = index.names.get(name).map(|&place| &self.specs[place]);
            let mut ports = spec.into_iter().flat_map(|spec| &spec.ports);
            ports.any(|one| (one.port.get(), one.protocol.transport()) == (*port, *transport))
        });
        let specs = std::mem::take(&mut self.specs);
        let services = (specs.iter())
            .map(|spec| unchanged(self, spec).unwrap_or_else(|| self.build(spec)))
            .collect();
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
        let routes = self.routes.get(&spec.name);
        let no_routes = Arc::default();
        let policy = &spec.policy;
        let now = Instant::now();
        let ports = (spec.ports.iter())
            .map(|&port| {
                let plan = port::Plan {
                    node: &self.node,
                    spec,
                    policy: spec
                        .policy
                        .ports
                        .get(&(port.port, port.protocol.transport()))
                        .unwrap_or(policy),
                    instances: &instances,
                    subsets: self.subsets.get(&spec.name).map_or(&[], Vec::as_slice),
                    routes: routes
                        .map_or(&no_routes, |all| all.of.get(&port.port).unwrap_or(&all.all)),
                    captured: &self.captured,
                    now,
                };
                let key = (spec.name.clone(), port.port.get(), port.protocol.transport());
                let kept = self.ports.entry(key).or_insert_with(|| Kept::new(&self.health_changed));
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
        for (service, subset) in spec.routes.iter().flat_map(Route::targets) {
            let wanted = subsets.entry(service.unwrap_or(&spec.name).clone());
            let wanted = wanted.or_default();
            if !subset.is_empty() && !wanted.contains(subset) {
                wanted.push(Arc::clone(subset));
            }
        }
    }
    subsets
}

fn routes(specs: &[Arc<ServiceSpec>]) -> HashMap<ServiceName, PortRoutes> {
    let some = specs.iter().filter(|spec| !spec.routes.is_empty());
    some.map(|spec| (spec.name.clone(), PortRoutes::new(spec))).collect()
}

impl PortRoutes {
    fn new(spec: &ServiceSpec) -> Self {
        if spec.routes.iter().all(|route| route.ports.is_empty()) {
            return Self { all: Arc::new(Routes::new(&spec.routes)), of: HashMap::new() };
        }
        let of_port = |port: NonZeroU16| {
            let holds = |route: &&Route| route.ports.is_empty() || route.ports.contains(&port);
            let routes: Vec<Route> = spec.routes.iter().filter(holds).cloned().collect();
            (port, Arc::new(Routes::new(&routes)))
        };
        let of = spec.ports.iter().map(|port| of_port(port.port)).collect();
        Self { all: Arc::default(), of }
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;

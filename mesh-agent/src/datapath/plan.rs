//! From what the maps hold to what they should hold: a pure function. It is
//! given what belongs to the services that changed; all others are only counted.
//!
//! The order of the operations is what makes a change safe while connections
//! go on. Make before break: first everything that a frontend will point to,
//! then the frontends in one update each, then what nothing points to any more.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use mesh_common::{
    address::Address,
    frontend::{self, Frontend, FrontendKey},
    map::{self, capacity},
    policy::Policy,
};

use super::{
    contents::{Contents, Counts, Ids},
    policies,
    row::Row,
};
use crate::{
    model::{Algorithm, OnAgentFailure, Path, Transport},
    registry::{PortKey, ServicePort},
};

/// One step; each is one or a few map operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    AddService(u32),
    AddBackend {
        id: u32,
        service: u32,
        address: Address,
    },
    AddSlots {
        set: u32,
        generation: u32,
        row: Row,
    },
    PutPolicy(u32, Box<Policy>),
    PutFrontend(FrontendKey, Frontend),
    RemoveFrontend(FrontendKey),
    RemoveBackend(u32),
    RemoveService(u32),
    RemovePolicy(u32),
    /// Only after programs that may still read them have ended.
    RetireSlots {
        set: u32,
        generation: u32,
        row: Row,
    },
}

/// Why a snapshot can't be put into the maps. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error(
        "the map {map} holds {capacity} entries and {need} are needed: \
         the whole change is refused, what was there goes on serving"
    )]
    Full { map: &'static str, need: usize, capacity: usize },
}

/// Operations in order, and what stands in the maps after the last of them.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub operations: Vec<Operation>,
    pub contents: Contents,
    pub ports: Vec<(PortKey, Held)>,
}

/// What of the maps' contents belongs to a service port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// The number by which the kernel knows it.
    pub service: u32,
    pub frontends: Vec<FrontendKey>,
    pub backends: Vec<u32>,
    /// Sets with their generations.
    pub slots: Vec<(u32, u32)>,
}

/// Plans the way from `old` to what these ports ask for. `old` is what the maps
/// hold for them, and for ports that are gone; the rest has the size `others`.
pub(super) fn plan<'a>(
    ports: impl Iterator<Item = &'a ServicePort>,
    old: &Contents,
    others: Counts,
) -> Result<Plan, PlanError> {
    let mut planner = Planner {
        old,
        old_backends: old.backends.iter().map(|(&id, &at)| (at, id)).collect(),
        ids: old.ids,
        next: Contents::default(),
        taken: HashSet::new(),
        ports: Vec::new(),
        make: Vec::new(),
        publish: Vec::new(),
    };
    for port in ports {
        planner.add_port(port);
    }
    planner.finish(others)
}

struct Planner<'a> {
    old: &'a Contents,
    old_backends: HashMap<(u32, Address), u32>,
    ids: Ids,
    next: Contents,
    /// Sets that a port of this plan has already.
    taken: HashSet<u32>,
    ports: Vec<(PortKey, Held)>,
    make: Vec<Operation>,
    publish: Vec<Operation>,
}

impl Planner<'_> {
    fn add_port(&mut self, port: &ServicePort) {
        let service = self.service_id(port);
        self.put_policy(port, service);
        let backends = self.add_backends(port, service);
        let mut held = Held { service, frontends: keys(port).collect(), ..Held::default() };
        let empty = refuses(port).into();
        for v4 in [true, false] {
            let keys: Vec<_> = keys(port).filter(|key| key.address.is_v4() == v4).collect();
            if keys.is_empty() {
                continue;
            }
            let row = Row::new(port, &backends, v4);
            let (slots, different) = (row.slots.len() as u32, row.backends());
            let (set, generation) = self.add_set(service, &keys, row);
            if slots > 0 {
                held.slots.push((set, generation));
            }
            for key in keys {
                let frontend = Frontend {
                    service,
                    set,
                    generation,
                    slots,
                    backends: different,
                    algorithm: algorithm_code(port.policy.algorithm),
                    path: path_code(port.path),
                    on_agent_failure: failure_code(port.on_agent_failure),
                    empty,
                };
                if self.old.frontends.get(&key) != Some(&frontend) {
                    self.publish.push(Operation::PutFrontend(key, frontend));
                }
                self.next.frontends.insert(key, frontend);
            }
        }
        held.backends = backends;
        self.ports.push((port.key(), held));
    }

    /// The number that any of the port's frontends had, or a new one.
    fn service_id(&mut self, port: &ServicePort) -> u32 {
        let known = keys(port)
            .filter_map(|key| self.old.frontends.get(&key))
            .map(|frontend| frontend.service)
            .find(|id| self.old.services.contains(id) && !self.next.services.contains(id));
        let id = known.unwrap_or_else(|| {
            let id = self.ids.next_service();
            self.make.push(Operation::AddService(id));
            id
        });
        self.next.services.insert(id);
        id
    }

    /// Policies come before anything that is treated by them.
    fn put_policy(&mut self, port: &ServicePort, service: u32) {
        let policy = policies::policy(port);
        if self.old.policies.get(&service) != Some(&policy) {
            self.make.push(Operation::PutPolicy(service, Box::new(policy)));
        }
        self.next.policies.insert(service, policy);
    }

    fn add_backends(&mut self, port: &ServicePort, service: u32) -> Vec<u32> {
        let mut backends = Vec::with_capacity(port.endpoints.len());
        for endpoint in &port.endpoints {
            let address = Address::from(endpoint.address);
            let id = self.old_backends.get(&(service, address)).copied().unwrap_or_else(|| {
                let id = self.ids.next_backend();
                self.make.push(Operation::AddBackend { id, service, address });
                id
            });
            self.next.backends.insert(id, (service, address));
            backends.push(id);
        }
        backends
    }

    /// The set and generation that hold exactly these slots.
    fn add_set(&mut self, service: u32, keys: &[FrontendKey], row: Row) -> (u32, u32) {
        let known = (keys.iter())
            .filter_map(|key| self.old.frontends.get(key))
            .find(|known| known.service == service && !self.taken.contains(&known.set));
        let Some(known) = known else {
            let set = self.ids.next_set();
            return (set, self.add_slots(set, 0, row));
        };
        self.taken.insert(known.set);
        let old = self.old.slots.get(&(known.set, known.generation));
        if old.map_or(row.slots.is_empty(), |old| *old == row) {
            if !row.slots.is_empty() {
                self.next.slots.insert((known.set, known.generation), row);
            }
            return (known.set, known.generation);
        }
        let newest = (self.old.slots.range((known.set, 0)..=(known.set, u32::MAX)))
            .next_back()
            .map_or(known.generation, |(&(_, generation), _)| generation.max(known.generation));
        (known.set, self.add_slots(known.set, newest.wrapping_add(1), row))
    }

    fn add_slots(&mut self, set: u32, generation: u32, row: Row) -> u32 {
        if !row.slots.is_empty() {
            self.make.push(Operation::AddSlots { set, generation, row: row.clone() });
            self.next.slots.insert((set, generation), row);
        }
        generation
    }

    fn finish(self, others: Counts) -> Result<Plan, PlanError> {
        let Self { old, ids, mut next, ports, make, publish, .. } = self;
        next.ids = ids;
        let gone = |op: &mut Vec<Operation>| {
            op.extend(missing(&old.frontends, &next.frontends).map(Operation::RemoveFrontend));
            op.extend(missing(&old.backends, &next.backends).map(Operation::RemoveBackend));
            op.extend(
                old.services.difference(&next.services).copied().map(Operation::RemoveService),
            );
            op.extend((old.slots.iter()).filter(|(key, _)| !next.slots.contains_key(key)).map(
                |(&(set, generation), row)| Operation::RetireSlots {
                    set,
                    generation,
                    row: row.clone(),
                },
            ));
            op.extend(missing(&old.policies, &next.policies).map(Operation::RemovePolicy));
        };
        check_capacity(old, &next, others)?;
        let mut operations = make;
        operations.extend(publish);
        gone(&mut operations);
        Ok(Plan { operations, contents: next, ports })
    }
}

/// Whether nothing can come of a connection. On the proxy path a route may lead
/// to other services, or answer by itself.
fn refuses(port: &ServicePort) -> bool {
    let elsewhere = port.path == Path::Proxy && port.routes.need_no_instance();
    !elsewhere && port.endpoints.iter().all(|endpoint| endpoint.turns == 0)
}

fn missing<K: Ord + Copy, V>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> impl Iterator<Item = K> {
    old.keys().filter(|key| !new.contains_key(key)).copied()
}

/// What is made stands beside what is removed for a while: both must fit.
fn check_capacity(old: &Contents, next: &Contents, others: Counts) -> Result<(), PlanError> {
    let rows = || added(&old.slots, &next.slots);
    let new = Counts {
        frontends: added(&old.frontends, &next.frontends).count(),
        slots: rows().map(Row::entry_count).sum(),
        chunks: rows().map(|row| row.chunks as usize).sum(),
        backends: added(&old.backends, &next.backends).count(),
        services: next.services.difference(&old.services).count(),
    };
    let need = others + old.counts() + new;
    let needs = [
        (map::FRONTENDS, capacity::FRONTENDS, need.frontends),
        (map::SLOTS, capacity::SLOTS, need.slots),
        (map::LOOKUPS, capacity::LOOKUPS, need.chunks),
        (map::BACKENDS, capacity::BACKENDS, need.backends),
        (map::SERVICES, capacity::SERVICES, need.services),
    ];
    match needs.into_iter().find(|&(_, capacity, need)| need > capacity) {
        Some((map, capacity, need)) => Err(PlanError::Full { map, need, capacity }),
        None => Ok(()),
    }
}

/// What only `next` has.
fn added<'a, K: Ord, V>(
    old: &BTreeMap<K, V>,
    next: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = &'a V> {
    next.iter().filter(|(key, _)| !old.contains_key(key)).map(|(_, value)| value)
}

/// As the kernel numbers it.
pub(super) const fn protocol(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => frontend::TCP,
        Transport::Udp => frontend::UDP,
    }
}

fn keys(port: &ServicePort) -> impl Iterator<Item = FrontendKey> {
    let protocol = protocol(port.port.protocol.transport());
    let number = port.port.port.get();
    (port.addresses.iter()).map(move |&address: &IpAddr| {
        FrontendKey::new(Address::from(SocketAddr::new(address, number)), protocol)
    })
}

const fn algorithm_code(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::RoundRobin | Algorithm::Weighted => frontend::algorithm::ROUND_ROBIN,
        Algorithm::Random => frontend::algorithm::RANDOM,
        Algorithm::LeastConnections => frontend::algorithm::LEAST_CONNECTIONS,
        Algorithm::LeastResponseTime => frontend::algorithm::LEAST_RESPONSE_TIME,
        Algorithm::ConsistentHash => frontend::algorithm::CONSISTENT_HASH,
    }
}

const fn path_code(path: Path) -> u8 {
    match path {
        Path::Kernel => frontend::path::KERNEL,
        Path::Proxy => frontend::path::PROXY,
    }
}

const fn failure_code(on_agent_failure: OnAgentFailure) -> u8 {
    match on_agent_failure {
        OnAgentFailure::Open => frontend::on_agent_failure::OPEN,
        OnAgentFailure::Closed => frontend::on_agent_failure::CLOSED,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

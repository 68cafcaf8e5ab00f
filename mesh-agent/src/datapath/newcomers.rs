//! How a backend begins that is new among others: slowly, and with the response
//! time of its peers. Nobody knows better, and with none at all it would be
//! taken for the fastest.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use mesh_common::{address::Address, backend::Backend, ewma::Ewma};

use super::plan::{Held, Operation};
use crate::{
    model::Algorithm,
    registry::{PortKey, ServicePort},
};

/// What is known before a plan is carried out.
pub(super) struct Known<'a> {
    /// By id: the service, and the address.
    pub backends: &'a BTreeMap<u32, (u32, Address)>,
    /// Those that change.
    pub ports: &'a [Arc<ServicePort>],
    /// What the plan gives each of them.
    pub held: &'a [(PortKey, Held)],
    pub now: u64,
}

/// The backends that the plan adds to services that have others, by id;
/// `response_time` is that of a known one.
pub(super) fn newcomers(
    operations: &[Operation],
    known: &Known<'_>,
    response_time: impl Fn(u32) -> Option<Ewma>,
) -> HashMap<u32, Backend> {
    let added: Vec<_> = (operations.iter())
        .filter_map(|operation| match *operation {
            Operation::AddBackend { id, service, address } => Some((id, service, address)),
            _ => None,
        })
        .collect();
    let mut begun = HashMap::new();
    // Most plans add none, or those of new services.
    let joined: HashSet<u32> = added.iter().map(|&(_, service, _)| service).collect();
    let peers = known.backends.iter().filter(|(_, (service, _))| joined.contains(service));
    let mut peers_of = HashMap::<u32, HashMap<Address, u32>>::new();
    for (&id, &(service, address)) in peers {
        peers_of.entry(service).or_default().insert(address, id);
    }
    let services: HashMap<&PortKey, u32> = (known.held.iter())
        .filter(|(_, held)| peers_of.contains_key(&held.service))
        .map(|(key, held)| (key, held.service))
        .collect();
    for port in known.ports.iter().filter(|_| !services.is_empty()) {
        let Some(&service) = services.get(&port.key()) else { continue };
        let Some(peers) = peers_of.get(&service) else { continue };
        for &(id, _, address) in added.iter().filter(|&&(_, of, _)| of == service) {
            let ewma = median(port, peers, address, known.now, &response_time);
            let started_ns = if port.policy.slow_start.is_some() { known.now } else { 0 };
            let ewma = ewma.unwrap_or_default();
            begun.insert(id, Backend { address, service, started_ns, ewma, ..Backend::default() });
        }
    }
    begun
}

/// The median of the response times in its tier, where picks go by them.
fn median(
    port: &ServicePort,
    peers: &HashMap<Address, u32>,
    address: Address,
    now: u64,
    response_time: impl Fn(u32) -> Option<Ewma>,
) -> Option<Ewma> {
    if port.policy.algorithm != Algorithm::LeastResponseTime {
        return None;
    }
    let tier_of = |wanted: Address| {
        let mut endpoints = port.endpoints.iter();
        endpoints.find(|one| Address::from(one.address) == wanted).map(|one| one.tier)
    };
    let tier = tier_of(address)?;
    let endpoints = port.endpoints.iter().filter(|one| one.tier == tier && one.weight.0 > 0);
    let ids = endpoints.filter_map(|one| peers.get(&Address::from(one.address)));
    let mut times: Vec<u64> =
        ids.filter_map(|&id| Some(response_time(id)?.read(now))).filter(|&time| time > 0).collect();
    times.sort_unstable();
    let median = *times.get(times.len() / 2)?;
    Some(Ewma::default().observe(median, now))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;
    use crate::{
        model::{
            Instance, OnAgentFailure, PathChoice, Policy, Port, Protocol, ServiceName, ServiceSpec,
            SlowStart, Weight,
        },
        registry::Registry,
    };

    /// Instances by the last number of their addresses, and their priorities.
    fn spec(policy: &Policy, instances: &[(u8, u16)]) -> ServiceSpec {
        ServiceSpec {
            name: ServiceName::new("web"),
            addresses: vec!["10.96.0.1".parse().unwrap()],
            hostnames: Vec::new(),
            ports: vec![Port { port: NonZeroU16::new(80).unwrap(), protocol: Protocol::Tcp }],
            path: PathChoice::Kernel,
            on_agent_failure: OnAgentFailure::Open,
            static_instances: (instances.iter())
                .map(|&(number, priority)| Instance {
                    address: [10, 1, 0, number].into(),
                    port: None,
                    weight: Weight(1),
                    locality: Arc::default(),
                    priority,
                    labels: Arc::default(),
                    serves: Default::default(),
                })
                .collect(),
            sources: Vec::new(),
            routes: Vec::new(),
            policy: policy.clone().into(),
        }
    }

    fn begun(policy: &Policy, before: &[(u8, u16)], new: &[(u8, u16)]) -> HashMap<u32, Backend> {
        let all = [before, new].concat();
        let mut registry = Registry::new();
        registry.configure(vec![spec(policy, &all)]);
        let snapshot = registry.reader().load();
        let at = |number: u8| Address::from(std::net::SocketAddr::from(([10, 1, 0, number], 80)));
        let backends = before.iter().map(|&(n, _)| (u32::from(n), (7, at(n)))).collect();
        let ports: Vec<_> = (snapshot.services.iter())
            .flat_map(|service| service.ports.iter().map(Arc::clone))
            .collect();
        let held = |port: &Arc<ServicePort>| (port.key(), Held { service: 7, ..Held::default() });
        let held: Vec<_> = ports.iter().map(held).collect();
        let operations: Vec<_> = (new.iter())
            .map(|&(n, _)| Operation::AddBackend { id: n.into(), service: 7, address: at(n) })
            .collect();
        let known = Known { backends: &backends, ports: &ports, held: &held, now: 1_000 };
        // Each answers after as many microseconds as its number; 9 never did.
        let time = |id: u32| Some(Ewma::default().observe(u64::from(id) * 1_000, 1_000));
        newcomers(&operations, &known, |id| if id == 9 { None } else { time(id) })
    }

    #[test]
    fn a_newcomer_begins_with_the_median_of_its_tier() {
        let policy = Policy { algorithm: Algorithm::LeastResponseTime, ..Policy::default() };
        let before = [(1, 0), (3, 0), (5, 0), (9, 0), (200, 1)];
        let new = begun(&policy, &before, &[(10, 0), (11, 1), (12, 2)]);
        let time = |id: u32| (new[&id].ewma.read(1_000), new[&id].started_ns);
        assert_eq!((time(10), time(11), time(12)), ((3_000, 0), (200_000, 0), (0, 0)));
        // Other algorithms don't ask.
        assert_eq!(begun(&Policy::default(), &before, &[(10, 0)])[&10].ewma, Ewma::default());
    }

    #[test]
    fn a_newcomer_starts_slowly_where_that_is_set_and_the_first_ones_never() {
        let policy = Policy { slow_start: Some(SlowStart::default()), ..Policy::default() };
        assert_eq!(begun(&policy, &[(1, 0)], &[(2, 0)])[&2].started_ns, 1_000);
        assert_eq!(begun(&Policy::default(), &[(1, 0)], &[(2, 0)])[&2].started_ns, 0);
        assert!(begun(&policy, &[], &[(1, 0), (2, 0)]).is_empty());
    }
}

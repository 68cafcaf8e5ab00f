//! `plan` against a model of the maps: after every single operation each
//! frontend must point to a whole set, and after the last the maps must hold
//! what was promised. What the planner plans of a change alone is what would be
//! planned over everything.

use std::num::NonZeroU16;

use proptest::prelude::*;

use std::sync::Arc;

use super::{
    super::{planner::Planner as Incremental, row::CHUNKS},
    *,
};
use crate::{
    model::{Instance, PathChoice, Port, Protocol, ServiceName, ServiceSpec, Weight},
    registry::{Registry, Snapshot},
};

fn service(index: u8, ports: u8, addresses: &[u8], instances: &[(u8, u16)]) -> ServiceSpec {
    let address = |n: u8| -> IpAddr {
        if n.is_multiple_of(2) {
            IpAddr::from([10, 96, index, n])
        } else {
            format!("fd00::{index}:{n}").parse().unwrap()
        }
    };
    let instance = |&(n, weight): &(u8, u16)| Instance {
        address: if n.is_multiple_of(3) {
            format!("fd01::{n}").parse().unwrap()
        } else {
            IpAddr::from([10, 1, 0, n])
        },
        port: NonZeroU16::new(8080),
        serves: None,
        weight: Weight(weight),
        locality: Arc::default(),
        priority: 0,
        labels: std::sync::Arc::default(),
    };
    let port =
        |n: u8| Port { port: NonZeroU16::new(80 + u16::from(n)).unwrap(), protocol: Protocol::Tcp };
    ServiceSpec {
        name: ServiceName::new(&format!("s{index}")),
        addresses: addresses.iter().map(|&n| address(n)).collect(),
        hostnames: Vec::new(),
        ports: (0..ports).map(port).collect(),
        path: PathChoice::Auto,
        on_agent_failure: OnAgentFailure::Open,
        static_instances: instances.iter().map(instance).collect(),
        sources: Vec::new(),
        routes: Vec::new(),
        policy: Arc::default(),
    }
}

fn snapshot(specs: Vec<ServiceSpec>) -> std::sync::Arc<Snapshot> {
    let mut registry = Registry::new();
    registry.configure(specs);
    registry.reader().load()
}

/// Does to a model what an operation does to the maps.
fn apply(contents: &mut Contents, operation: &Operation) {
    match operation.clone() {
        Operation::AddService(id) => assert!(contents.services.insert(id), "service {id} twice"),
        Operation::AddBackend { id, service, address } => {
            assert!(
                contents.backends.insert(id, (service, address)).is_none(),
                "backend {id} twice"
            );
        }
        Operation::AddSlots { set, generation, row } => {
            let old = contents.slots.insert((set, generation), row);
            assert!(old.is_none(), "slots of ({set}, {generation}) written over");
        }
        Operation::PutFrontend(key, frontend) => {
            contents.frontends.insert(key, frontend);
        }
        Operation::RemoveFrontend(key) => assert!(contents.frontends.remove(&key).is_some()),
        Operation::RemoveBackend(id) => assert!(contents.backends.remove(&id).is_some()),
        Operation::RemoveService(id) => assert!(contents.services.remove(&id)),
        Operation::RetireSlots { set, generation, row } => {
            assert_eq!(contents.slots.remove(&(set, generation)).unwrap(), row);
        }
        Operation::PutPolicy(id, policy) => {
            contents.policies.insert(id, *policy);
        }
        Operation::RemovePolicy(id) => assert!(contents.policies.remove(&id).is_some()),
    }
}

fn assert_whole(contents: &Contents) {
    for (key, frontend) in &contents.frontends {
        assert!(contents.services.contains(&frontend.service));
        assert!(contents.policies.contains_key(&frontend.service));
        // Without slots nothing is looked up. After a change that failed halfway
        // its generation may be another key's next one.
        if frontend.slots == 0 {
            assert_eq!(frontend.backends, 0);
            continue;
        }
        let row = contents.slots.get(&(frontend.set, frontend.generation));
        let slots = row.map_or(0, |row| row.slots.len());
        assert_eq!(slots, frontend.slots as usize, "{key:?} {frontend:?}");
        assert_eq!(row.map_or(0, Row::backends), frontend.backends, "{key:?} {frontend:?}");
        let hashed = frontend.algorithm == frontend::algorithm::CONSISTENT_HASH;
        assert_eq!(row.is_some_and(|row| row.chunks == CHUNKS), hashed);
    }
}

fn whole(snapshot: &Snapshot, contents: &Contents) -> Result<Plan, PlanError> {
    plan(snapshot.ports().map(std::sync::Arc::as_ref), contents, Counts::default())
}

fn step(snapshot: &Snapshot, contents: &mut Contents) -> Plan {
    let plan = whole(snapshot, contents).unwrap();
    for operation in &plan.operations {
        apply(contents, operation);
        assert_whole(contents);
    }
    contents.ids = plan.contents.ids;
    assert_eq!(*contents, plan.contents);
    plan
}

fn specs() -> impl Strategy<Value = Vec<ServiceSpec>> {
    let one = (
        1u8..3,
        prop::collection::btree_set(0u8..4, 1..4),
        prop::collection::btree_map(0u8..9, 0u16..4, 0..6),
    );
    prop::collection::btree_map(0u8..5, one, 0..5).prop_map(|services| {
        (services.into_iter())
            .map(|(index, (ports, addresses, instances))| {
                let addresses: Vec<_> = addresses.into_iter().collect();
                let instances: Vec<_> = instances.into_iter().collect();
                service(index, ports, &addresses, &instances)
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn every_change_is_safe_at_every_step(changes in prop::collection::vec(specs(), 1..6)) {
        let mut contents = Contents::default();
        for specs in changes {
            let snapshot = snapshot(specs);
            step(&snapshot, &mut contents);
            // A second plan finds nothing to do.
            prop_assert_eq!(whole(&snapshot, &contents).unwrap().operations, vec![]);
        }
    }

    #[test]
    fn a_change_is_planned_alone_as_among_all(
        changes in prop::collection::vec((specs(), any::<bool>()), 1..8),
    ) {
        let mut registry = Registry::new();
        let mut contents = Contents::default();
        let mut planner = Incremental::default();
        for (specs, fails) in changes {
            registry.configure(specs);
            let snapshot = registry.reader().load();
            let change = planner.plan(&snapshot).unwrap();
            let expected = whole(&snapshot, &contents).unwrap();
            prop_assert_eq!(&change.plan.operations, &expected.operations);
            if fails {
                // After half of it: what is there is read, and planned from.
                let half = change.plan.operations.len() / 2;
                for operation in &change.plan.operations[..half] {
                    apply(&mut contents, operation);
                }
                contents.skip_used_ids(std::iter::empty());
                planner.undone(change, Some(contents.clone()));
                continue;
            }
            for operation in &change.plan.operations {
                apply(&mut contents, operation);
                assert_whole(&contents);
            }
            contents.ids = expected.contents.ids;
            prop_assert_eq!(&contents, &expected.contents);
            planner.done(change);
            prop_assert_eq!(planner.contents(), &contents);
            prop_assert_eq!(planner.counts(), contents.counts());
            prop_assert_eq!(planner.generation(), snapshot.generation);
            for (key, held) in expected.ports {
                prop_assert_eq!(planner.id(&key), Some(held.service));
                prop_assert_eq!(planner.key(held.service), Some(&key));
            }
        }
    }
}

#[test]
fn a_new_instance_is_a_new_generation_of_the_same_set() {
    let mut contents = Contents::default();
    step(&snapshot(vec![service(1, 1, &[0], &[(1, 1)])]), &mut contents);
    let plan = step(&snapshot(vec![service(1, 1, &[0], &[(1, 1), (2, 1)])]), &mut contents);
    let kinds: Vec<_> = (plan.operations.iter())
        .map(|operation| format!("{operation:?}").split([' ', '(']).next().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["PutPolicy", "AddBackend", "AddSlots", "PutFrontend", "RetireSlots"]);
}

#[test]
fn others_count_and_are_not_looked_at() {
    let mut registry = Registry::new();
    let specs = |weight| {
        vec![
            service(1, 1, &[0], &[(1, 1)]),
            service(2, 1, &[0], &[(1, weight), (2, 1)]),
            service(3, 2, &[0], &[(1, 1)]),
        ]
    };
    registry.configure(specs(1));
    let mut planner = Incremental::default();
    let change = planner.plan(&registry.reader().load()).unwrap();
    planner.done(change);
    registry.configure(specs(2));
    let snapshot = registry.reader().load();
    let change = planner.plan(&snapshot).unwrap();
    assert_eq!(change.plan.ports.len(), 1, "only the port that changed");
    assert_eq!(change.operations(), 3, "{:?}", change.plan.operations);
    planner.done(change);
    assert_eq!(planner.plan(&snapshot).unwrap().operations(), 0);
}

#[test]
fn clients_get_backends_of_their_family() {
    let mut contents = Contents::default();
    // Instances 3 and 6 are IPv6; addresses 0 and 1 are one of each.
    step(&snapshot(vec![service(1, 1, &[0, 1], &[(1, 1), (3, 1), (6, 1)])]), &mut contents);
    let slots = |contents: &Contents, v4: bool| -> Vec<bool> {
        let found = contents.frontends.iter().find(|(key, _)| key.address.is_v4() == v4);
        let frontend = found.unwrap().1;
        let slots = contents.slots.get(&(frontend.set, frontend.generation));
        slots.map_or(Vec::new(), |row| row.slots.iter().map(|slot| slot.address.is_v4()).collect())
    };
    assert_eq!(slots(&contents, true), [true]);
    assert_eq!(slots(&contents, false), [false, false]);
    // An IPv6 client gets IPv4 backends where there are no others.
    step(&snapshot(vec![service(1, 1, &[0, 1], &[(1, 1)])]), &mut contents);
    assert_eq!(slots(&contents, false), [true]);
    // The other way round there is nothing that could be reached.
    step(&snapshot(vec![service(1, 1, &[0, 1], &[(3, 1)])]), &mut contents);
    assert_eq!(slots(&contents, true), [false; 0]);
}

#[test]
fn a_change_that_does_not_fit_is_refused_whole() {
    let too_many: Vec<_> = (0..=255u8)
        .map(|index| {
            let mut spec = service(index, 1, &[0], &[]);
            spec.ports = (1..=300)
                .map(|n| Port { port: NonZeroU16::new(n).unwrap(), protocol: Protocol::Tcp })
                .collect();
            spec
        })
        .collect();
    let error = whole(&snapshot(too_many), &Contents::default()).unwrap_err();
    assert_eq!(error, PlanError::Full { map: "FRONTENDS", need: 256 * 300, capacity: 65_536 });
}

/// Two tiers of instances, of which some are of weight 0, drained or unhealthy:
/// the hooks may eject as many of each as the agent may.
#[test]
fn both_paths_count_the_same_tier() {
    use crate::{health, net};
    let sizes = |port: &ServicePort, tier: u16| {
        let of_tier = |one: &&std::sync::Arc<_>| -> bool {
            let one: &crate::registry::Endpoint = one;
            one.tier == tier
        };
        port.endpoints.iter().find(of_tier).map_or(0, |one| port.tier_of(one).size)
    };
    for case in 0..1 << 8_u32 {
        let bit = |n: u32| case >> n & 1 == 1;
        let mut spec = service(1, 1, &[2], &[]);
        spec.static_instances = (0..6_u8)
            .map(|n| Instance {
                address: IpAddr::from([10, 1, 0, n + 1]),
                port: NonZeroU16::new(8080),
                serves: None,
                weight: Weight(u16::from(n != 5 || bit(0))),
                locality: Arc::default(),
                priority: u16::from(n % 2),
                labels: std::sync::Arc::default(),
            })
            .collect();
        let mut registry = Registry::new();
        registry.configure(vec![spec]);
        for n in 0..3 {
            let address = SocketAddr::from(([10, 1, 0, n + 1], 8080));
            assert!(registry.set_drained("s1", address, bit(1 + u32::from(n))));
        }
        let now = net::monotonic_ns();
        for (n, endpoint) in (0..).zip(&registry.reader().load().ports().next().unwrap().endpoints)
        {
            if n < 4 && bit(4 + n) {
                let health = &endpoint.health;
                let rules = health::Rules::from(&crate::model::Failover::default());
                let port = registry.reader().load();
                let outliers = &port.ports().next().unwrap().outliers;
                outliers.checked(health, false, health::Verdict::Unhealthy, &rules, (now, 0));
            }
        }
        let snapshot = registry.reader().load();
        let port = snapshot.ports().next().unwrap();
        let kernel = policies::policy(port).max_ejected;
        for tier in [0, 1] {
            let share = u32::from(port.policy.failover.max_ejected.0);
            let agent = mesh_common::ejection::allowed(sizes(port, tier), share);
            assert_eq!(kernel[usize::from(tier)], agent, "case {case:08b}, tier {tier}");
        }
    }
}

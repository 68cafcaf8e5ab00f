//! What a change of one instance costs from its discovery to the operations on
//! the kernel's maps, with few and with many services around it.

use std::{net::IpAddr, num::NonZeroU16, sync::Arc, time::Duration};

use divan::{Bencher, counter::ItemsCount};
use mesh_agent::{
    datapath::Planner,
    model::{
        Discovered, DnsSource, Instance, Locality, OnAgentFailure, PathChoice, Policy, Port,
        Protocol, ServiceName, ServiceSpec, Source, Weight,
    },
    registry::Registry,
};

const SIZES: [u32; 3] = [100, 1_000, 10_000];
const INSTANCES: u8 = 10;

fn main() {
    divan::main();
}

fn instances(service: u32, weight: u16) -> Arc<[Instance]> {
    let [_, _, high, low] = service.to_be_bytes();
    let instance = |n| Instance {
        address: IpAddr::from([10, high, low, n]),
        port: NonZeroU16::new(8080),
        weight: Weight(if n == 0 { weight } else { 1 }),
        locality: Locality::default().into(),
        priority: 0,
        labels: Arc::default(),
        serves: Default::default(),
    };
    (0..INSTANCES).map(instance).collect()
}

fn found(service: u32, weight: u16) -> Discovered {
    let service_name = ServiceName::new(&format!("s{service}"));
    Discovered { service: service_name, source: 0, instances: instances(service, weight) }
}

/// So many services, all of them discovered.
fn registry(services: u32) -> Registry {
    let spec = |service: u32| {
        let [_, _, high, low] = service.to_be_bytes();
        ServiceSpec {
            name: ServiceName::new(&format!("s{service}")),
            addresses: vec![IpAddr::from([100, 64 + (high >> 6), high, low])],
            hostnames: vec![format!("s{service}.default.svc.cluster.local")],
            ports: vec![Port { port: NonZeroU16::MIN, protocol: Protocol::Tcp }],
            path: PathChoice::Auto,
            on_agent_failure: OnAgentFailure::Open,
            static_instances: Vec::new(),
            sources: vec![Source::Dns(DnsSource::default())],
            routes: Vec::new(),
            policy: Policy::default().into(),
        }
    };
    let mut registry = Registry::new();
    let discovered = (0..services).map(|service| found(service, 1)).collect();
    registry.configure_with((0..services).map(spec), discovered);
    registry
}

fn planned(registry: &Registry) -> Planner {
    let mut planner = Planner::default();
    let change = planner.plan(&registry.reader().load()).expect("it fits");
    planner.done(change);
    planner
}

/// Of one service: what each change of an instance costs.
#[divan::bench(args = SIZES)]
fn one_service(bencher: Bencher<'_, '_>, services: u32) {
    let mut registry = registry(services);
    let mut planner = planned(&registry);
    let mut turn = 0u32;
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        turn += 1;
        let weight = 2 + (turn / services % 2) as u16;
        assert!(registry.discover(vec![found(turn % services, weight)]));
        let change = planner.plan(&registry.reader().load()).expect("it fits");
        assert!(change.operations() > 0);
        planner.done(change);
    });
}

/// The registry's part of it.
#[divan::bench(args = SIZES)]
fn snapshot_alone(bencher: Bencher<'_, '_>, services: u32) {
    let mut registry = registry(services);
    let mut turn = 0u32;
    bencher.bench_local(|| {
        turn += 1;
        let weight = 2 + (turn / services % 2) as u16;
        assert!(registry.discover(vec![found(turn % services, weight)]));
    });
}

/// Over everything, as a start does, and a change that failed halfway.
#[divan::bench(args = SIZES, max_time = Duration::from_secs(3))]
fn everything(bencher: Bencher<'_, '_>, services: u32) {
    let snapshot = registry(services).reader().load();
    bencher.bench_local(|| {
        let mut planner = Planner::default();
        let change = planner.plan(&snapshot).expect("it fits");
        planner.done(change);
        planner
    });
}

use std::{num::NonZeroU16, time::Duration};

use super::super::ServicePort;
use super::*;
use crate::{
    balance::Ask,
    model::{
        Algorithm, Bandwidth, DnsSource, OnAgentFailure, Path, PathChoice, Port, Protocol, Route,
        RouteBackend, SlowStart, Source, Transport, Weight,
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
                    serves: None,
                    weight: Weight(1),
                    locality: Arc::default(),
                    priority: 0,
                    labels: Arc::default(),
                }
            })
            .collect(),
        sources: Vec::new(),
        routes: Vec::new(),
        policy: Arc::default(),
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

fn named_spec(name: &str, instances: &[&str]) -> ServiceSpec {
    ServiceSpec {
        name: ServiceName::new(name),
        addresses: Vec::new(),
        hostnames: Vec::new(),
        ..spec(instances)
    }
}

fn port(registry: &Registry, service: &str) -> Arc<ServicePort> {
    Arc::clone(&registry.reader().load().service(service).unwrap().ports[0])
}

#[test]
fn a_change_in_one_service_leaves_the_others_as_they_are() {
    let mut registry = Registry::new();
    registry.configure(vec![named_spec("a", &["10.1.0.1:80"]), named_spec("b", &["10.1.0.2:80"])]);
    let before = (port(&registry, "a"), port(&registry, "b"));
    assert!(registry.refresh("b"));
    let after = (port(&registry, "a"), port(&registry, "b"));
    assert!(Arc::ptr_eq(&before.0, &after.0));
    assert!(!Arc::ptr_eq(&before.1, &after.1));
    assert!(!registry.refresh("c"));

    registry.configure(vec![named_spec("a", &["10.1.0.9:80"]), named_spec("b", &["10.1.0.2:80"])]);
    let last = (port(&registry, "a"), port(&registry, "b"));
    assert!(!Arc::ptr_eq(&after.0, &last.0));
    assert!(Arc::ptr_eq(&after.1, &last.1));
    registry.locate(Locality { zone: "z".to_owned(), ..Locality::default() });
    registry.configure(vec![named_spec("b", &["10.1.0.2:80"])]);
    assert!(!Arc::ptr_eq(&last.1, &port(&registry, "b")));
}

/// Milliseconds even in a debug build, where all would take a second.
#[test]
fn a_change_in_one_of_ten_thousand_services_is_cheap() {
    let mut registry = Registry::new();
    let name = |n: usize| format!("service-{n}");
    registry.configure((0..10_000).map(|n| named_spec(&name(n), &["10.1.0.1:80", "10.1.0.2:80"])));
    let (all, started) = (port(&registry, "service-0"), std::time::Instant::now());
    for n in 1..=100 {
        registry.refresh(&name(n));
    }
    let each = started.elapsed() / 100;
    assert!(Arc::ptr_eq(&all, &port(&registry, "service-0")));
    assert!(each < std::time::Duration::from_millis(20), "{each:?}");
}

/// Two clouds of three, as local ones are drained one by one, and come back.
#[test]
fn shares_of_two_clouds_follow_the_formula() {
    let near: Vec<_> = (1..=3).map(|n| format!("10.1.0.{n}:80")).collect();
    let mut spec = spec(&[]);
    let place = |cloud: &str| Locality { cloud: cloud.to_owned(), ..Locality::default() };
    for (cloud, net) in [("aws", "10.1.0"), ("gcp", "10.2.0")] {
        for n in 1..=3 {
            let mut instance = self::spec(&[&format!("{net}.{n}:80")]).static_instances.remove(0);
            instance.locality = place(cloud).shared();
            spec.static_instances.push(instance);
        }
    }
    let mut registry = Registry::new();
    registry.locate(place("aws"));
    registry.configure(vec![spec]);
    let local = |registry: &Registry| {
        let shares = port(registry, "reviews").balancer.shares(Instant::now());
        shares[..3].iter().sum::<f64>()
    };
    assert_eq!(local(&registry), 1.0);
    for (drained, due) in near.iter().zip([1.4 * 2.0 / 3.0, 1.4 / 3.0, 0.0]) {
        registry.set_drained("reviews", drained.parse().unwrap(), true);
        assert!((local(&registry) - due).abs() < 1e-4, "{}", local(&registry));
        assert!(!port(&registry, "reviews").panic);
    }
    for back in &near {
        registry.set_drained("reviews", back.parse().unwrap(), false);
    }
    assert_eq!(local(&registry), 1.0);
}

#[test]
fn a_new_instance_starts_slowly_and_as_fast_as_its_peers() {
    let mut registry = Registry::new();
    let with = |instances: &[&str]| {
        let mut spec = spec(instances);
        Arc::make_mut(&mut spec.policy).algorithm = Algorithm::LeastResponseTime;
        Arc::make_mut(&mut spec.policy).slow_start = Some(SlowStart::default());
        vec![spec]
    };
    registry.configure(with(&["10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80"]));
    let now = Instant::now();
    for (endpoint, ms) in port(&registry, "reviews").endpoints.iter().zip([1, 7, 90]) {
        endpoint.live.observe(Duration::from_millis(ms), now);
        assert_eq!(endpoint.live.warmth(&SlowStart::default(), 0), 1.0, "the first all start warm");
    }
    registry.configure(with(&["10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80", "10.1.0.4:80"]));
    let new = Arc::clone(&port(&registry, "reviews").endpoints[3]);
    let median = new.live.response_time(Instant::now()).unwrap();
    assert!((6..=7).contains(&median.as_millis()), "{median:?}");
    assert_eq!(new.live.warmth(&SlowStart::default(), 0), 0.1);
}

#[test]
fn routes_get_balancers_over_their_subsets() {
    let mut with_routes = named_spec("front", &[]);
    let labels =
        |version: &str| -> Labels { Arc::new([("version".to_owned(), version.to_owned())].into()) };
    with_routes.routes = vec![Route {
        ports: Vec::new(),
        name: "canary".to_owned(),
        hosts: Vec::new(),
        matches: Vec::new(),
        filters: Vec::new(),
        backends: vec![RouteBackend {
            service: Some(ServiceName::new("reviews")),
            port: None,
            subset: labels("v2"),
            weight: 1,
            filters: Vec::new(),
            unresolved: false,
        }],
        timeout: None,
        retry: None,
    }];
    let mut target = spec(&["10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80"]);
    for (instance, version) in target.static_instances.iter_mut().zip(["v1", "v2", "v2"]) {
        instance.labels = labels(version);
    }
    let mut registry = Registry::new();
    registry.configure(vec![with_routes, target]);
    let port = port(&registry, "reviews");
    let (balancer, panic) = port.subset(&labels("v2")).unwrap();
    assert_eq!((balancer.shares(Instant::now()), panic), (vec![0.0, 0.5, 0.5], false));
    assert!(port.subset(&labels("v3")).is_none());
    assert_eq!(port.subset(&labels("v2")).map(|_| port.subsets.len()), Some(1));
    assert!(std::ptr::eq(port.subset(&Default::default()).unwrap().0, &port.balancer));
}

#[test]
fn a_download_is_paced_by_the_kernel_while_all_instances_are_captured() {
    let mut registry = Registry::new();
    let reader = registry.reader();
    let mut bulk = spec(&["10.1.0.1:80", "10.1.0.2:80"]);
    bulk.ports[0].protocol = Protocol::Tcp;
    let download = std::num::NonZeroU64::new(1000);
    Arc::make_mut(&mut bulk.policy).bandwidth =
        Some(Bandwidth { upload: None, download, by_client: false });
    let other = ServiceSpec { name: ServiceName::new("other"), ..spec(&["10.1.0.9:80"]) };
    registry.configure(vec![other.clone()]);
    assert!(!registry.asks_for_captured());
    registry.configure(vec![bulk, other]);
    assert!(registry.asks_for_captured());

    let pods = |ips: &[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect::<HashSet<_>>();
    let port = || Arc::clone(&reader.load().services[0].ports[0]);
    assert_eq!(port().path, Path::Proxy);
    assert!(registry.set_captured(pods(&["10.1.0.1", "10.1.0.7"])));
    assert_eq!(port().path, Path::Proxy);
    assert!(port().path_reason.contains("10.1.0.2:80 isn't captured"), "{}", port().path_reason);
    assert!(registry.set_captured(pods(&["10.1.0.1", "10.1.0.2"])));
    assert_eq!(port().path, Path::Kernel);
    // Nothing changes for anybody.
    let generation = reader.load().generation;
    assert!(!registry.set_captured(pods(&["10.1.0.1", "10.1.0.2", "10.1.0.9"])));
    assert_eq!(reader.load().generation, generation);
    assert!(registry.set_captured(pods(&["10.1.0.2"])));
    assert_eq!(port().path, Path::Proxy);
}

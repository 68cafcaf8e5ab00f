use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    super::{Slice, Watched},
    *,
};
use crate::model::{Instance, KubernetesPort, OnAgentFailure};

#[expect(clippy::needless_pass_by_value, reason = "calls read as the JSON they make")]
fn service(spec: Value) -> Service {
    let object = json!({"metadata": {"name": "reviews", "namespace": "shop"}, "spec": spec});
    Service::read(serde_json::from_value(object).unwrap()).unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "calls read as the JSON they make")]
fn slice(name: &str, kind: &str, ports: Value, endpoints: Value) -> Result<Slice, String> {
    let labels = json!({"kubernetes.io/service-name": "reviews"});
    let metadata = json!({"name": name, "namespace": "shop", "labels": labels});
    let object = json!({
        "metadata": metadata, "addressType": kind, "ports": ports, "endpoints": endpoints
    });
    let wire = serde_json::from_value(object).map_err(|error| error.to_string())?;
    Slice::read(wire)
}

fn http(endpoints: Value) -> Slice {
    slice("a", "IPv4", json!([{"name": "http", "port": 9080, "protocol": "TCP"}]), endpoints)
        .unwrap()
}

/// From node `n1` in zone `a`.
fn found(service: &Service, slices: &[Slice]) -> Vec<Instance> {
    let of_node = |name: &str| match name {
        "n1" => ("eu".into(), "a".into()),
        "n2" => ("eu".into(), "b".into()),
        _ => Default::default(),
    };
    let of_zone = |zone: &str| if zone == "a" { "eu".into() } else { Arc::default() };
    let place = Place { node: "n1", zone: "a", cloud: "aws", of_node: &of_node, of_zone: &of_zone };
    instances(service, &slices.iter().collect::<Vec<_>>(), None, &place).unwrap().to_vec()
}

fn addresses(service: &Service, slices: &[Slice]) -> Vec<String> {
    found(service, slices).iter().map(|instance| instance.address.to_string()).collect()
}

fn cluster_ip() -> Service {
    service(json!({"clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 80}]}))
}

#[test]
fn a_service_becomes_one_of_the_mesh() {
    let service = service(json!({
        "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"],
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
        "ports": [
            {"name": "http", "port": 80, "protocol": "TCP"},
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "media", "port": 5000, "protocol": "SCTP"},
        ],
    }));
    let settings = Kubernetes { on_agent_failure: OnAgentFailure::Closed, ..Kubernetes::default() };
    let spec = spec(&service, &settings).unwrap();
    assert_eq!(spec.name.as_str(), "reviews.shop");
    let expected = ["reviews.shop", "reviews.shop.svc", "reviews.shop.svc.cluster.local"];
    assert_eq!(spec.hostnames, expected);
    let addresses: Vec<_> = spec.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.96.0.1", "fd00::1"]);
    let ports: Vec<_> = spec.ports.iter().map(|p| (p.port.get(), p.protocol.name())).collect();
    assert_eq!(ports, [(80, "http"), (53, "udp")]);
    assert_eq!(spec.policy.session_affinity.map(|it| it.as_secs()), Some(60));
    assert_eq!(spec.on_agent_failure, OnAgentFailure::Closed);
    assert_eq!(spec.policy.locality.mode, LocalityMode::Off, "all alike, as Kubernetes has it");
}

#[test]
fn what_has_no_virtual_address_is_known_by_name_only() {
    let settings = Kubernetes::default();
    let ports = json!([{"port": 80}]);
    let headless = service(json!({"clusterIP": "None", "ports": ports}));
    let headless = spec(&headless, &settings).unwrap();
    assert!(headless.addresses.is_empty() && headless.hostnames.is_empty());
    assert!(matches!(headless.sources[..], [Source::Kubernetes(_)]));
    let alias = json!({"type": "ExternalName", "externalName": "DB.example.", "ports": ports});
    let alias = spec(&service(alias), &settings).unwrap();
    assert!(alias.addresses.is_empty() && alias.hostnames.is_empty());
    let [Source::Dns(dns)] = &alias.sources[..] else { panic!() };
    assert_eq!(dns.name, "db.example");
    for nothing in [
        json!({"clusterIP": "10.96.0.1"}),
        json!({"clusterIP": "", "ports": ports}),
        json!({"type": "ExternalName", "externalName": "a.b"}),
    ] {
        assert_eq!(spec(&service(nothing.clone()), &settings), None, "{nothing}");
    }
    let mut foreign = cluster_ip();
    foreign.foreign = true;
    assert_eq!(spec(&foreign, &settings), None);
}

#[test]
fn protocols_by_app_protocol_then_name_then_port() {
    for (name, app, number, expected) in [
        ("http", None, 80, "http"),
        ("http-web", None, 80, "http"),
        ("http2-x", None, 80, "http2"),
        ("grpc-api", None, 80, "grpc"),
        ("tcp-http", None, 80, "tcp"),
        ("httpx", None, 80, "auto"),
        ("web", None, 80, "auto"),
        ("", None, 5432, "tcp"),
        ("http", None, 5432, "http"),
        ("http", Some("tcp"), 80, "tcp"),
        ("tcp", Some("kubernetes.io/h2c"), 80, "http2"),
        ("tcp", Some("HTTP"), 80, "http"),
        ("http", Some("https"), 443, "tcp"),
        ("http", Some("example.com/own"), 80, "tcp"),
        ("http", Some("kubernetes.io/ws"), 80, "http"),
        ("http", Some("kubernetes.io/wss"), 80, "tcp"),
    ] {
        let service = service(json!({"clusterIP": "10.96.0.1", "ports": [
            {"name": name, "port": number, "appProtocol": app},
        ]}));
        let protocol = protocol::of(&service.ports[0]).name();
        assert_eq!(protocol, expected, "{name} {app:?} {number}");
    }
}

#[test]
fn ready_ones_else_those_that_still_serve() {
    let endpoints = json!([
        {"addresses": ["10.1.0.1"], "conditions": {}},
        {"addresses": ["10.1.0.2"], "conditions": {"ready": true, "terminating": true}},
        {"addresses": ["10.1.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
        {"addresses": ["10.1.0.4"], "conditions": {"ready": false, "serving": true}},
        {"addresses": ["10.1.0.5"], "conditions": {"ready": false}},
    ]);
    assert_eq!(addresses(&cluster_ip(), &[http(endpoints.clone())]), ["10.1.0.1", "10.1.0.2"]);
    let rest = Value::Array(endpoints.as_array().unwrap()[2..].to_vec());
    assert_eq!(addresses(&cluster_ip(), &[http(rest)]), ["10.1.0.3"]);
}

#[test]
fn slices_are_merged_and_an_instance_in_two_of_them_is_one() {
    let ports = json!([{"name": "http", "port": 9080}]);
    let six = slice("v6", "IPv6", ports.clone(), json!([{"addresses": ["fd00::9"]}])).unwrap();
    let twice = |name, addresses: [&str; 2]| {
        let endpoints = json!([{"addresses": [addresses[0]]}, {"addresses": [addresses[1]]}]);
        slice(name, "IPv4", ports.clone(), endpoints).unwrap()
    };
    let slices = [twice("a", ["10.1.0.1", "10.1.0.2"]), twice("b", ["10.1.0.2", "10.1.0.3"]), six];
    let expected = ["10.1.0.1", "10.1.0.2", "10.1.0.3", "fd00::9"];
    assert_eq!(addresses(&cluster_ip(), &slices), expected);
}

#[test]
fn each_port_has_its_own_targets() {
    let service = service(json!({"clusterIP": "10.96.0.1", "ports": [
        {"name": "http", "port": 80}, {"name": "admin", "port": 81}, {"name": "dns", "port": 80, "protocol": "UDP"},
    ]}));
    let ports = json!([
        {"name": "http", "port": 9080}, {"name": "admin", "port": 9081},
        {"name": "dns", "port": 9053, "protocol": "UDP"}, {"name": "other", "port": 1},
    ]);
    let slice = slice("a", "IPv4", ports, json!([{"addresses": ["10.1.0.1"]}])).unwrap();
    let found = found(&service, std::slice::from_ref(&slice));
    let mut shown: Vec<_> = (found.iter())
        .map(|it| {
            let serves = it.serves.unwrap();
            (serves.port.get(), serves.transport.name(), it.port.unwrap().get())
        })
        .collect();
    shown.sort_unstable();
    assert_eq!(shown, [(80, "tcp", 9080), (80, "udp", 9053), (81, "tcp", 9081)]);
    // One of them by name or number serves whatever port the mesh has.
    let place = Place {
        node: "",
        zone: "",
        cloud: "",
        of_node: &|_| Default::default(),
        of_zone: &|_| Default::default(),
    };
    let one = |port| instances(&service, &[&slice], Some(&port), &place);
    let named = one(KubernetesPort::Name("admin".into())).unwrap();
    assert_eq!((named[0].serves, named[0].port.unwrap().get()), (None, 9081));
    let wrong = one(KubernetesPort::Number(7.try_into().unwrap())).unwrap_err();
    assert!(wrong.contains("http (80), admin (81)"), "{wrong}");
}

#[test]
fn nearness() {
    let endpoints = |hinted: bool| {
        let hints = |zone: &str| match hinted {
            true => json!({"forZones": [{"name": zone}]}),
            false => Value::Null,
        };
        http(json!([
            {"addresses": ["10.1.0.1"], "nodeName": "n1", "zone": "a", "hints": hints("a")},
            {"addresses": ["10.1.0.2"], "nodeName": "n2", "zone": "b", "hints": hints("b")},
        ]))
    };
    let with = |key: &str, value: &str| {
        let mut spec = json!({"clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 80}]});
        spec[key] = value.into();
        service(spec)
    };
    let local = with("internalTrafficPolicy", "Local");
    assert_eq!(addresses(&local, &[endpoints(false)]), ["10.1.0.1"]);
    // By hints, unless the Service says how near: then the others stand by.
    assert_eq!(addresses(&cluster_ip(), &[endpoints(true)]), ["10.1.0.1"]);
    assert_eq!(addresses(&cluster_ip(), &[endpoints(false)]).len(), 2);
    for (value, node) in [("PreferClose", ""), ("PreferSameZone", ""), ("PreferSameNode", "n1")] {
        let near = with("trafficDistribution", value);
        let found = found(&near, &[endpoints(true)]);
        assert_eq!(found.len(), 2, "{value}");
        let expected = crate::model::Locality {
            cloud: "aws".into(),
            region: "eu".into(),
            zone: "a".into(),
            node: node.into(),
        };
        assert_eq!(*found[0].locality, expected, "{value}");
        let spec = spec(&near, &Kubernetes::default()).unwrap();
        assert_eq!(spec.policy.locality.mode, LocalityMode::Failover);
    }
}

#[test]
fn an_endpoint_without_a_node_is_in_its_zones_region() {
    let slice = slice(
        "a",
        "IPv4",
        json!([{"name": "http", "port": 80}]),
        json!([
            {"addresses": ["10.1.0.1"], "zone": "a"},
            {"addresses": ["10.1.0.2"], "zone": "elsewhere"},
            {"addresses": ["10.1.0.3"]},
        ]),
    );
    let found = found(&cluster_ip(), &[slice.unwrap()]);
    let places = found.iter().map(|one| (one.locality.region.as_str(), one.locality.zone.as_str()));
    assert_eq!(places.collect::<Vec<_>>(), [("eu", "a"), ("", "elsewhere"), ("", "")]);
}

#[test]
fn garbage_is_refused_whole() {
    let ports = || json!([{"name": "http", "port": 9080}]);
    let good = json!({"addresses": ["10.1.0.1"]});
    for (kind, ports, bad, part) in [
        ("IPv4", ports(), json!({"addresses": ["10.1.0.300"]}), "10.1.0.300"),
        ("IPv4", ports(), json!({"addresses": ["fd00::1"]}), "no IPv4"),
        ("IPv4", ports(), json!({"addresses": ["0.0.0.0"]}), "0.0.0.0"),
        ("IPv4", ports(), json!({"addresses": []}), "no address"),
        ("IPv4", ports(), json!({"addresses": 5}), "invalid type"),
        ("IPv9", ports(), good.clone(), "IPv9"),
        ("IPv4", json!([{"port": 70_000}]), good.clone(), "70000"),
        ("IPv4", json!([{"port": 0}]), good.clone(), "port 0"),
    ] {
        let error = slice("a", kind, ports, json!([good, bad])).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn an_alias_has_no_instances_of_its_own() {
    let alias =
        json!({"type": "ExternalName", "externalName": "db.example", "ports": [{"port": 1}]});
    let place = Place {
        node: "",
        zone: "",
        cloud: "",
        of_node: &|_: &str| (Arc::from(""), Arc::from("")),
        of_zone: &|_| Arc::default(),
    };
    let error = instances(&service(alias), &[], None, &place).unwrap_err();
    assert!(error.contains("db.example"), "{error}");
}

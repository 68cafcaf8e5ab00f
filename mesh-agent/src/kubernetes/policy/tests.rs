//! Whole clusters in, services and verdicts out.

use std::num::NonZeroU16;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    kubernetes::{ServiceKind, ServicePort},
    model::{self, Algorithm, Protocol, ServiceName},
};

/// What a test's cluster holds.
#[derive(Default)]
pub struct World {
    services: Vec<Service>,
    specs: Vec<ServiceSpec>,
    pub objects: Vec<Arc<Object>>,
    pub grants: Vec<Arc<ReferenceGrant>>,
    pub memory: Memory,
    defaults: PolicyBlock,
}

impl World {
    /// With Services `NAME.NAMESPACE`, each with ports 80 (http) and 5432 (tcp, `db`).
    pub fn new(names: &[&str]) -> Self {
        let mut world = Self::default();
        for name in names {
            world.service(name, true);
        }
        world
    }

    /// A Service that is in the mesh, or not.
    pub fn service(&mut self, name: &str, meshed: bool) {
        let (own, namespace) = name.split_once('.').unwrap();
        let port = |name: &str, number| ServicePort {
            name: name.into(),
            port: NonZeroU16::new(number).unwrap(),
            transport: model::Transport::Tcp,
            protocol: None,
        };
        let address = [10, 96, 0, self.services.len() as u8 + 1].into();
        self.services.push(Service {
            key: Key::new(namespace, own),
            kind: ServiceKind::ClusterIp(vec![address]),
            ports: vec![port("http", 80), port("db", 5432)],
            affinity: None,
            local: false,
            distribution: None,
            foreign: false,
        });
        if meshed {
            let port =
                |number, protocol| model::Port { port: NonZeroU16::new(number).unwrap(), protocol };
            self.specs.push(ServiceSpec {
                name: ServiceName::new(name),
                addresses: vec![address],
                hostnames: Vec::new(),
                ports: vec![port(80, Protocol::Http), port(5432, Protocol::Tcp)],
                path: model::PathChoice::Auto,
                on_agent_failure: model::OnAgentFailure::default(),
                static_instances: Vec::new(),
                sources: Vec::new(),
                routes: Vec::new(),
                policy: self.defaults.model().into(),
            });
        }
    }

    /// A resource, newer than all before it.
    pub fn object(&mut self, kind: Kind, name: &str, spec: Value) {
        let (own, namespace) = name.split_once('.').unwrap();
        let age = self.objects.len();
        self.objects.push(Arc::new(Object {
            kind,
            key: Key::new(namespace, own),
            uid: format!("uid-{name}-{age}").into(),
            generation: 1,
            created: format!("2026-01-01T00:00:{age:02}Z").into(),
            version: "1".into(),
            spec,
            status: Value::Null,
        }));
    }

    pub fn policy(&mut self, name: &str, targets: &[&str], mut spec: Value) {
        if !targets.is_empty() {
            let reference = |target: &&str| match target.split_once(':') {
                Some((name, port)) => json!({ "name": name, "sectionName": port }),
                None => json!({ "group": "", "kind": "Service", "name": target }),
            };
            spec["targetRefs"] = targets.iter().map(reference).collect();
        }
        self.object(Kind::MeshPolicy, name, spec);
    }

    /// Another generation of a resource's spec.
    pub fn change(&mut self, name: &str, spec: Value) {
        let (own, namespace) = name.split_once('.').unwrap();
        let key = Key::new(namespace, own);
        let object = self.objects.iter_mut().find(|object| object.key == key).unwrap();
        let generation = object.generation + 1;
        *object = Arc::new(Object { spec, generation, ..(**object).clone() });
    }

    /// Services as they become, by their names; and the verdicts, by the
    /// resources' names.
    pub fn attach(&mut self) -> (HashMap<String, ServiceSpec>, HashMap<String, Outcome>) {
        let mut specs = self.specs.clone();
        let cluster = Cluster {
            services: self.services.iter().collect(),
            objects: &self.objects,
            grants: &self.grants,
            defaults: &self.defaults,
        };
        let verdicts = super::attach(&mut specs, &cluster, &mut self.memory);
        let name = |verdict: &Verdict| {
            format!("{}.{}", verdict.object.key.name, verdict.object.key.namespace)
        };
        (
            specs.into_iter().map(|spec| (spec.name.to_string(), spec)).collect(),
            verdicts.into_iter().map(|verdict| (name(&verdict), verdict.outcome)).collect(),
        )
    }
}

/// Whether each resource is in force, by its name, once these are left out.
fn programmed(world: &World, left_out: &[&str]) -> HashMap<String, Ruling> {
    let mut policies = Policies::default();
    for object in &world.objects {
        policies.object(object.kind, crate::kubernetes::Change::Applied((**object).clone()));
    }
    let settings = model::Kubernetes::default();
    policies.attach(&mut world.specs.clone(), world.services.iter(), &settings);
    assert!(policies.told().is_empty());
    let left_out = left_out.iter().map(|name| (ServiceName::new(name), "why".to_owned()));
    policies.applied(Ok(left_out.collect()));
    let told = policies.told().into_iter();
    told.map(|(_, object, programmed)| (object.key.name.to_string(), programmed)).collect()
}

fn accepted(outcome: &Outcome) -> &Ruling {
    match outcome {
        Outcome::Policy(standing) => &standing.accepted,
        Outcome::Route(_) => panic!("a route"),
    }
}

#[track_caller]
fn rules(outcome: &Outcome, holds: bool, reason: &str, part: &str) {
    let ruling = accepted(outcome);
    assert_eq!((ruling.holds, ruling.reason), (holds, reason), "{ruling:?}");
    assert!(ruling.message.contains(part), "{part:?} in {:?}", ruling.message);
}

const TCP: model::Transport = model::Transport::Tcp;
const PORT: NonZeroU16 = NonZeroU16::new(80).unwrap();
const DB: NonZeroU16 = NonZeroU16::new(5432).unwrap();

#[test]
fn the_nearer_policy_comes_first_key_by_key() {
    let mut world = World::new(&["a.x", "b.x", "c.y"]);
    world.defaults = PolicyBlock::read(&json!({
        "failover": { "attempts": 7 }, "timeout": { "idle": "9s" }, "loadBalancer": "random",
    }))
    .unwrap();
    for spec in &mut world.specs {
        spec.policy = world.defaults.model().into();
    }
    world.policy("default.x", &[], json!({
        "loadBalancer": "leastConnections", "timeout": { "request": "5s" }, "rateLimit": { "requests": 3 },
    }));
    world.policy("own.x", &["a"], json!({ "timeout": { "connect": "1s" }, "rateLimit": "off" }));
    world.policy("port.x", &["a:db"], json!({ "loadBalancer": "roundRobin" }));
    let (specs, verdicts) = world.attach();
    for name in ["default.x", "own.x", "port.x"] {
        rules(&verdicts[name], true, "Accepted", "");
    }
    let a = &specs["a.x"].policy;
    assert_eq!(a.failover.attempts, 7);
    assert_eq!(a.timeouts.idle.as_secs(), 9);
    assert_eq!(a.timeouts.request.unwrap().as_secs(), 5);
    assert_eq!(a.timeouts.connect.unwrap().as_secs(), 1);
    assert_eq!(a.of(PORT, TCP).algorithm, Algorithm::LeastConnections);
    assert!(a.rate_limits.is_empty());
    assert_eq!(a.of(DB, TCP).algorithm, Algorithm::RoundRobin);
    assert_eq!(a.of(DB, TCP).timeouts, a.timeouts);
    assert!(a.of(DB, TCP).rate_limits.is_empty());
    let b = &specs["b.x"].policy;
    assert_eq!((b.algorithm, b.rate_limits.len()), (Algorithm::LeastConnections, 1));
    assert_eq!(b.failover.attempts, 7);
    let c = &specs["c.y"].policy;
    assert_eq!(**c, world.defaults.model());
}

#[test]
fn what_the_service_itself_says_stays_until_a_policy_says_otherwise() {
    let mut world = World::new(&["a.x"]);
    let hour = std::time::Duration::from_secs(3600);
    Arc::make_mut(&mut world.specs[0].policy).session_affinity = Some(hour);
    Arc::make_mut(&mut world.specs[0].policy).locality.mode = model::LocalityMode::Off;
    world.policy("own.x", &["a"], json!({ "loadBalancer": "random" }));
    let policy = |world: &mut World| Arc::clone(&world.attach().0["a.x"].policy);
    let kept = policy(&mut world);
    assert_eq!((kept.session_affinity, kept.locality.mode), (Some(hour), model::LocalityMode::Off));
    assert_eq!(kept.algorithm, Algorithm::Random);
    world.change("own.x", json!({
        "targetRefs": [{ "name": "a" }], "sessionAffinity": "off", "locality": { "mode": "strict" },
    }));
    let changed = policy(&mut world);
    assert_eq!(changed.session_affinity, None);
    assert_eq!(changed.locality.mode, model::LocalityMode::Strict);
}

#[test]
fn two_ports_of_one_number_have_policies_of_their_own() {
    // As kube-dns: `dns` by UDP, `dns-tcp` by TCP.
    let mut world = World::new(&["dns.x"]);
    let number = world.services[0].ports[1].port;
    world.services[0].ports[0] = ServicePort {
        name: "dns".into(),
        port: number,
        transport: model::Transport::Udp,
        protocol: None,
    };
    world.specs[0].ports[0] = model::Port { port: number, protocol: Protocol::Udp };
    world.policy("udp.x", &["dns:dns"], json!({ "loadBalancer": "random" }));
    // Not for datagrams.
    world.policy("tcp.x", &["dns:db"], json!({ "bandwidth": { "upload": "1MiB" } }));
    let (specs, verdicts) = world.attach();
    for name in ["udp.x", "tcp.x"] {
        rules(&verdicts[name], true, "Accepted", "");
    }
    let policy = &specs["dns.x"].policy;
    let udp = policy.of(number, model::Transport::Udp);
    assert_eq!((udp.algorithm, udp.bandwidth), (Algorithm::Random, None));
    let tcp = policy.of(number, TCP);
    assert_eq!((tcp.algorithm, tcp.bandwidth.is_some()), (Algorithm::default(), true));
}

#[test]
fn of_two_the_older_one_holds() {
    let mut world = World::new(&["a.x", "b.x"]);
    world.policy("z.x", &["a"], json!({ "loadBalancer": "random" }));
    world.policy("y.x", &["a", "b"], json!({ "loadBalancer": "roundRobin" }));
    world.policy("first.x", &[], json!({}));
    world.policy("second.x", &[], json!({ "loadBalancer": "leastConnections" }));
    let (specs, verdicts) = world.attach();
    assert_eq!(specs["a.x"].policy.algorithm, Algorithm::Random);
    assert_eq!(specs["b.x"].policy.algorithm, Algorithm::RoundRobin);
    rules(&verdicts["z.x"], true, "Accepted", "");
    rules(&verdicts["y.x"], false, "Conflicted", "older MeshPolicy, `z`");
    rules(&verdicts["y.x"], false, "Conflicted", "holds for its other targets");
    rules(&verdicts["second.x"], false, "Conflicted", "`first`");
    // Of the same age: by name.
    for object in &mut world.objects {
        *object = Arc::new(Object { created: "2026-01-01T00:00:00Z".into(), ..(**object).clone() });
    }
    let (specs, verdicts) = world.attach();
    assert_eq!(specs["a.x"].policy.algorithm, Algorithm::RoundRobin);
    rules(&verdicts["z.x"], false, "Conflicted", "`y`");
}

#[test]
fn targets_that_are_not_there() {
    let mut world = World::new(&["a.x", "a.y"]);
    world.service("alien.x", false);
    for (name, target, part) in [
        ("one.x", "nobody", "no Service `nobody`"),
        ("two.x", "a:grpc", "no port named `grpc`"),
        ("three.x", "alien", "is its namespace captured"),
    ] {
        world.policy(name, &[target], json!({ "loadBalancer": "random" }));
        let (specs, verdicts) = world.attach();
        rules(&verdicts[name], false, "TargetNotFound", part);
        assert_eq!(*specs["a.x"].policy, world.defaults.model());
    }
    // Another namespace's is out of reach.
    world.policy("four.y", &["a"], json!({ "loadBalancer": "random" }));
    let (specs, _) = world.attach();
    assert_eq!(specs["a.x"].policy.algorithm, Algorithm::default());
    assert_eq!(specs["a.y"].policy.algorithm, Algorithm::Random);
}

#[test]
fn a_policy_of_a_service_without_requests_says_so() {
    let mut world = World::new(&["plain.x", "headless.x", "taken.x"]);
    world.specs[1].addresses.clear();
    let spec = || json!({ "loadBalancer": "random" });
    world.policy("plain.x", &["plain"], spec());
    world.policy("alone.x", &["headless"], spec());
    world.policy("both.x", &["plain:db", "headless:db"], spec());
    world.policy("lost.x", &["taken"], spec());
    let yes = |ruling: &Ruling| assert_eq!((ruling.holds, ruling.reason), (true, "Programmed"));
    #[track_caller]
    fn no(ruling: &Ruling, part: &str) {
        assert_eq!((ruling.holds, ruling.reason), (false, "NoTraffic"));
        assert!(ruling.message.contains(part), "{}", ruling.message);
    }
    let now = programmed(&world, &["taken.x"]);
    yes(&now["plain"]);
    no(&now["alone"], "headless.x has no virtual address");
    no(&now["both"], "it is in force for its other targets");
    no(&now["lost"], "the mesh leaves taken.x out: why");
    yes(&programmed(&world, &[])["lost"]);
    // A route, or a mirror, leads there.
    let to = json!({ "name": "headless", "port": 80 });
    let mirror = json!({ "type": "RequestMirror", "requestMirror": { "backendRef": to } });
    for rule in [
        json!({ "backendRefs": [to] }),
        json!({ "backendRefs": [{ "name": "plain", "port": 80 }], "filters": [mirror] }),
    ] {
        world.objects.retain(|object| object.kind == Kind::MeshPolicy);
        world.object(
            Kind::HttpRoute,
            "route.x",
            json!({
                "parentRefs": [{ "group": "", "kind": "Service", "name": "plain", "port": 80 }],
                "rules": [rule],
            }),
        );
        let now = programmed(&world, &[]);
        yes(&now["alone"]);
        yes(&now["both"]);
    }
}

#[test]
fn a_wrong_spec_changes_nothing() {
    let mut world = World::new(&["a.x"]);
    let wrong = json!({
        "targetRefs": [{ "name": "a" }],
        "loadBalancer": { "algorithm": "leastConnection" },
        "timeout": { "requst": "5s" },
    });
    world.object(Kind::MeshPolicy, "own.x", wrong.clone());
    let (specs, verdicts) = world.attach();
    assert_eq!(*specs["a.x"].policy, world.defaults.model());
    rules(&verdicts["own.x"], false, "Invalid", "spec.loadBalancer.algorithm: ");
    rules(&verdicts["own.x"], false, "Invalid", "did you mean `leastConnections`?");
    rules(&verdicts["own.x"], false, "Invalid", "spec.timeout.requst: unknown key");
    // With a good one before it, that one goes on.
    world.change("own.x", json!({ "targetRefs": [{ "name": "a" }], "loadBalancer": "random" }));
    world.attach();
    world.change("own.x", wrong);
    let (specs, verdicts) = world.attach();
    assert_eq!(specs["a.x"].policy.algorithm, Algorithm::Random);
    rules(&verdicts["own.x"], false, "Invalid", "generation 2 goes on serving");
    // The next run knows it too.
    let kept = serde_json::to_string(&world.memory).unwrap();
    world.memory = serde_json::from_str(&kept).unwrap();
    assert_eq!(world.attach().0["a.x"].policy.algorithm, Algorithm::Random);
    // Once it is gone, it is gone.
    world.objects.clear();
    assert_eq!(*world.attach().0["a.x"].policy, world.defaults.model());
    assert_eq!(world.memory, Memory::default());
}

#[test]
fn a_spec_that_does_not_fit_its_target_changes_nothing() {
    let mut world = World::new(&["a.x", "b.x"]);
    let limit = |requests: u32| json!({ "requests": requests });
    let db = json!([{ "name": "a", "sectionName": "db" }]);
    world.policy("own.x", &["a:db"], json!({ "rateLimit": limit(100) }));
    let limits = |world: &mut World| {
        let (specs, verdicts) = world.attach();
        let of = |service: &str| {
            let policy = Arc::clone(&specs[service].policy);
            policy.of(DB, TCP).rate_limits.first().map(|one| one.requests)
        };
        (of("a.x"), of("b.x"), verdicts["own.x"].clone())
    };
    assert_eq!(limits(&mut world).0, Some(100));
    // Whole: not even for targets that it would fit.
    world.change(
        "own.x",
        json!({
            "targetRefs": [{ "name": "b" }, db[0]],
            "rateLimit": limit(200),
            "timeout": { "request": "5s" },
        }),
    );
    for _ in 0..2 {
        let (a, b, verdict) = limits(&mut world);
        assert_eq!((a, b), (Some(100), None));
        rules(&verdict, false, "Invalid", "for port `db` of Service `a`: spec.timeout.request: ");
        rules(&verdict, false, "Invalid", "generation 1 goes on serving");
        // The next run knows it too.
        let kept = serde_json::to_string(&world.memory).unwrap();
        world.memory = serde_json::from_str(&kept).unwrap();
    }
    world.change("own.x", json!({ "targetRefs": db, "rateLimit": limit(300) }));
    let (a, _, verdict) = limits(&mut world);
    assert_eq!(a, Some(300));
    rules(&verdict, true, "Accepted", "");
}

#[test]
fn a_target_that_changes_takes_nothing_from_its_policy() {
    let mut world = World::new(&["a.x"]);
    let both = json!({ "rateLimit": { "requests": 100 }, "timeout": { "request": "5s" } });
    world.policy("own.x", &["a"], both);
    rules(&world.attach().1["own.x"], true, "Accepted", "");
    // As by `appProtocol: tcp`.
    world.specs[0].ports[0].protocol = Protocol::Tcp;
    let (specs, verdicts) = world.attach();
    assert_eq!(specs["a.x"].policy.rate_limits[0].requests, 100);
    rules(&verdicts["own.x"], false, "Invalid", "what can be held of it goes on serving");
    // An agent that never saw it fit has none.
    world.memory = Memory::default();
    let (specs, verdicts) = world.attach();
    assert!(specs["a.x"].policy.rate_limits.is_empty());
    rules(&verdicts["own.x"], false, "Invalid", "speaks HTTP");
}

#[test]
fn what_is_wrong_below_does_not_count_against_what_stands_over_it() {
    let mut world = World::new(&["a.x"]);
    world.policy("own.x", &["a"], json!({ "failover": { "max": "20s" } }));
    world.policy("port.x", &["a:db"], json!({ "failover": { "base": "15s" } }));
    world.attach();
    // With a longest exile of 5 s neither this nor the port's would make sense.
    world.change(
        "own.x",
        json!({
            "targetRefs": [{ "name": "a" }], "failover": { "base": "10s", "max": "5s" },
        }),
    );
    let (specs, verdicts) = world.attach();
    rules(&verdicts["own.x"], false, "Invalid", "generation 1 goes on serving");
    rules(&verdicts["port.x"], true, "Accepted", "");
    let failover = &specs["a.x"].policy.of(DB, TCP).failover;
    assert_eq!((failover.base.as_secs(), failover.max.as_secs()), (15, 20));
}

#[test]
fn what_the_ports_cannot_keep_is_refused() {
    let mut world = World::new(&["a.x"]);
    world.policy("own.x", &["a:db"], json!({ "timeout": { "request": "5s" } }));
    world.policy("kind.x", &[], json!({ "targetRefs": [{ "kind": "Pod", "name": "a" }] }));
    let (specs, verdicts) = world.attach();
    rules(&verdicts["own.x"], false, "Invalid", "speaks HTTP");
    rules(&verdicts["kind.x"], false, "Invalid", "spec.targetRefs[0]");
    assert_eq!(*specs["a.x"].policy, world.defaults.model());
}

#[test]
fn a_part_of_a_section_is_judged_over_what_stands_under_it() {
    let mut world = World::new(&["a.x", "b.x"]);
    world.policy("default.x", &[], json!({
        "healthCheck": { "http": { "path": "/ready" } }, "retry": { "backoff": { "max": "10s" } },
    }));
    world.policy(
        "own.x",
        &["a"],
        json!({
            "healthCheck": { "interval": "1s" },
            "retry": { "backoff": { "base": "5s" } },
            "failover": { "max": "10m" },
        }),
    );
    // Longer than the longest by itself, but not than its Service's.
    world.policy("port.x", &["a:db"], json!({ "failover": { "base": "6m" } }));
    let (specs, verdicts) = world.attach();
    for name in ["default.x", "own.x", "port.x"] {
        rules(&verdicts[name], true, "Accepted", "");
    }
    let policy = &specs["a.x"].policy;
    let check = policy.health_check.as_ref().unwrap();
    assert_eq!(check.interval.as_secs(), 1);
    assert!(matches!(&check.probe, model::Probe::Http { path, .. } if path == "/ready"));
    assert_eq!(policy.retry.backoff.base.as_secs(), 5);
    assert_eq!(policy.of(DB, TCP).failover.base.as_secs(), 360);
    // The other way round: fine by itself, not over its Service's.
    world.change(
        "own.x",
        json!({
            "targetRefs": [{ "name": "a" }], "failover": { "base": "1s", "max": "3s" },
        }),
    );
    world.memory = Memory::default();
    let (specs, verdicts) = world.attach();
    rules(&verdicts["port.x"], false, "Invalid", "spec.failover.base: ");
    assert_eq!(specs["a.x"].policy.of(DB, TCP).failover.base.as_secs(), 1);
    // A default has nothing but the file's under it.
    world.change("default.x", json!({ "healthCheck": { "interval": "1s" } }));
    rules(&world.attach().1["default.x"], false, "Invalid", "doesn't say how to ask");
}

proptest! {
    /// However resources come: the same services and verdicts, each resource
    /// has one, and for each target the oldest policy holds.
    #[test]
    fn order_does_not_matter(
        policies in prop::collection::vec(
            (prop::sample::subsequence(vec!["a", "b", "a:db", "none"], 0..=3), 1..100_u32, 0..3_u8),
            0..8,
        ),
        turn in 0..8_usize,
    ) {
        let mut world = World::new(&["a.x", "b.x"]);
        for (index, (targets, attempts, _)) in policies.iter().enumerate() {
            let spec = json!({ "rateLimit": { "requests": attempts } });
            world.policy(&format!("p{index}.x"), targets, spec);
        }
        for (object, (.., age)) in world.objects.iter_mut().zip(&policies) {
            let created = format!("2026-01-01T00:00:0{age}Z").into();
            *object = Arc::new(Object { created, ..(**object).clone() });
        }
        let before = world.attach();
        prop_assert_eq!(before.1.len(), policies.len());
        let middle = turn.min(world.objects.len());
        world.objects.rotate_left(middle);
        prop_assert_eq!(&before, &world.attach());

        let oldest = |target: Option<&str>| {
            let of = |targets: &[&str]| match target {
                Some(target) => targets.contains(&target),
                None => targets.is_empty(),
            };
            let own = policies.iter().enumerate().filter(|(_, (targets, ..))| of(targets));
            let first = own.min_by_key(|(index, (.., age))| (*age, *index));
            first.map(|(_, (_, requests, _))| *requests)
        };
        let default = oldest(None);
        for (service, target) in [("a.x", "a"), ("b.x", "b")] {
            let policy = &before.0[service].policy;
            let own = oldest(Some(target)).or(default);
            let found = |policy: &model::Policy| policy.rate_limits.first().map(|one| one.requests);
            prop_assert_eq!(found(policy), own);
            let port = if service == "a.x" { oldest(Some("a:db")).or(own) } else { own };
            prop_assert_eq!(found(policy.of(DB, TCP)), port);
        }
    }
}

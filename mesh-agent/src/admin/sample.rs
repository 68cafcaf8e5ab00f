//! One value of each view, for the tests of their JSON and of their tables.

use super::*;
use crate::tap::{Ended, Event, Kind, Via};

pub fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        pid: 4242,
        uptime_ms: 192_000,
        state: AgentState::Serving,
        config: "/etc/mesh-agent/mesh.yaml".into(),
        ebpf: true,
        hooks: vec![
            HookView {
                cgroup: "/sys/fs/cgroup/mesh".into(),
                hook: "connect4".into(),
                program_id: Some(71),
                link_id: Some(12),
                pinned: "/sys/fs/bpf/mesh-agent/v1/links/connect4".into(),
                ok: true,
                problem: None,
            },
            HookView {
                cgroup: "/sys/fs/cgroup/mesh".into(),
                hook: "sock_ops".into(),
                program_id: None,
                link_id: None,
                pinned: "/sys/fs/bpf/mesh-agent/v1/links/sock_ops".into(),
                ok: false,
                problem: Some("the link is gone".into()),
            },
        ],
        namespaces: vec![NamespaceView {
            cookie: 4097,
            listeners: vec!["127.0.0.1:15001".into(), "[::1]:15001".into()],
            pids: vec![812, 813],
        }],
        heartbeat_age_ms: Some(42),
        dns: DnsView { enabled: true, hostnames: 3 },
        sources: vec![
            SourceView {
                service: "reviews".into(),
                kind: "dns".into(),
                target: "_reviews._tcp.example.internal".into(),
                state: SourceState::Ok,
                instances: 3,
                age_ms: Some(12_000),
                last_error: None,
                last_error_age_ms: None,
                next_try_ms: Some(18_000),
                answers: 420,
                errors: 0,
            },
            SourceView {
                service: "ratings".into(),
                kind: "http".into(),
                target: "http://10.0.0.3/sd.json".into(),
                state: SourceState::Failing,
                instances: 2,
                age_ms: Some(185_000),
                last_error: Some("can't connect to 10.0.0.3:80: Connection refused".into()),
                last_error_age_ms: Some(3_000),
                next_try_ms: None,
                answers: 36,
                errors: 12,
            },
        ],
        watches: vec![
            WatchView {
                resource: "services".into(),
                state: WatchState::Synced,
                objects: 1_000,
                age_ms: Some(2_000),
                last_error: None,
                last_error_age_ms: None,
                events: 17,
                lists: 1,
                errors: 0,
                unreadable: Vec::new(),
            },
            WatchView {
                resource: "endpointslices.discovery.k8s.io".into(),
                state: WatchState::Stale,
                objects: 1_204,
                age_ms: Some(61_000),
                last_error: Some("can't watch endpointslices.discovery.k8s.io: refused".into()),
                last_error_age_ms: Some(4_000),
                events: 5_310,
                lists: 2,
                errors: 7,
                unreadable: vec![UnreadableView {
                    object: "default/reviews-x7k2p".into(),
                    why: "\"10.1.0.300\" is no IPv4 address of an endpoint".into(),
                }],
            },
        ],
        last_reload: Some(ReloadView {
            age_ms: 65_000,
            ok: false,
            problems: vec!["mesh.yaml:3:5: services[0].port: unknown key".into()],
        }),
        generations: Generations { registry: 7, kernel: Some(7) },
        maps: vec![MapView { name: "BACKENDS".into(), used: 235_930, capacity: 262_144 }],
        degraded: vec!["sock_ops is not attached: connections are not counted".into()],
        reasons: vec![
            ReasonView { name: "balanced".into(), count: 12_345 },
            ReasonView { name: "no-backend".into(), count: 0 },
        ],
        log: "info".into(),
    }
}

pub fn service() -> ServiceView {
    ServiceView {
        name: "reviews".into(),
        addresses: vec!["10.96.0.11".into(), "fd00::11".into()],
        hostnames: vec!["reviews".into()],
        ports: vec![PortView {
            port: 9080,
            protocol: "http".into(),
            path: "proxy".into(),
            why: "auto: balanced per request".into(),
            on_agent_failure: "open".into(),
            algorithm: "roundRobin".into(),
            endpoints: 3,
            available: 1,
            panic: true,
            tiers: vec![TierView { priority: 0, near: 2, share: 100.0, available: 1, size: 3 }],
            connections: 1_200,
            requests: 34_567,
            errors: 1,
            limited: vec![
                ReasonView { name: "rate-limited".into(), count: 1_020 },
                ReasonView { name: "connect".into(), count: 7 },
            ],
            dry_run: 15,
        }],
    }
}

pub fn endpoint() -> EndpointView {
    EndpointView {
        service: "reviews".into(),
        port: 9080,
        address: "10.1.0.5:9080".into(),
        weight: 3,
        share: 75.0,
        tier: 0,
        locality: "aws/eu-west-1/a".into(),
        state: EndpointState::Available,
        why: None,
        ejected_for_ms: None,
        in_flight: 2,
        response_time_us: Some(1_234),
        picks: 100,
        failures: 0,
        bytes_sent: 1_536,
        bytes_received: 12 << 20,
    }
}

pub fn ejected() -> EndpointView {
    EndpointView {
        address: "10.1.0.6:9080".into(),
        weight: 1,
        share: 0.0,
        state: EndpointState::Ejected,
        why: Some("ejected for another 9.5 s: 5 responses in a row failed".into()),
        ejected_for_ms: Some(9_500),
        in_flight: 0,
        response_time_us: Some(5_000_000),
        picks: 33,
        failures: 5,
        ..endpoint()
    }
}

pub fn connection() -> ConnectionView {
    ConnectionView {
        path: "kernel".into(),
        client: "10.1.0.9:40312".into(),
        who: Who {
            pid: 812,
            process: "curl".into(),
            cgroup: "/sys/fs/cgroup/mesh/pod-a".into(),
            pod: Some(PodView {
                namespace: "default".into(),
                name: "web-7d8c9".into(),
                service_account: "bookinfo".into(),
            }),
            netns: 4097,
        },
        service: "reviews".into(),
        original: "10.96.0.11:9080".into(),
        instance: Some("10.1.0.5:9080".into()),
        age_ms: 1_500,
        bytes_sent: None,
        bytes_received: None,
        rtt_us: Some(85),
        past_tcp: false,
    }
}

/// A request that was refused by two instances.
pub fn tapped() -> TapEvent {
    TapEvent {
        time: "2026-11-23T00:04:51.123Z".into(),
        event: Event::Ended,
        kind: Kind::Request,
        via: Via::Proxy,
        client: Some("127.0.0.1:40312".into()),
        who: connection().who,
        service: Some("reviews".into()),
        destination: "10.96.0.11:9080".into(),
        instance: Some("[fd00::5]:9080".into()),
        protocol: "http/1.1".into(),
        method: Some("GET".into()),
        authority: Some("reviews:9080".into()),
        path: Some("/reviews/1?full=true".into()),
        status: Some(503),
        grpc_status: None,
        ended: Some(Ended::Failed),
        why: Some("connect-failed: instance [fd00::5]:9080 can't be connected to".into()),
        duration_us: Some(1_850),
        first_byte_us: None,
        rtt_us: None,
        bytes_sent: Some(0),
        bytes_received: Some(1_536),
        attempts: Some(2),
        requests: None,
    }
}

/// Counted that many times more than at the start.
pub fn traffic(times: u64) -> Traffic {
    let instance = |address: &str, picks: u64, state| InstanceTraffic {
        address: address.into(),
        state,
        in_flight: 2,
        picks: picks * times,
        failures: 0,
        ejections: 0,
        bytes_sent: 1024 * times,
        bytes_received: (64 << 10) * times,
        response_time_us: Some(1_234),
        times: vec![(1_023, 9 * picks * times / 10), (20_479, picks * times / 10)],
    };
    let port = |service: &str, path: &str, instances: Vec<InstanceTraffic>| PortTraffic {
        service: service.into(),
        port: 9080,
        protocol: if path == "proxy" { "http".into() } else { "tcp".into() },
        path: path.into(),
        requests: if path == "proxy" { 1_000 * times } else { 0 },
        kernel: if path == "kernel" { 50 * times } else { 0 },
        proxied: if path == "proxy" { 3 * times } else { 0 },
        errors: if path == "proxy" { 10 * times } else { 0 },
        retries: times,
        open: 12,
        instances,
    };
    let mut ejected = instance("[fd00:10:1::6]:9080", 400, EndpointState::Ejected);
    ejected.failures = 10 * times;
    ejected.ejections = times;
    let mut direct = instance("10.1.0.7:5432", 50, EndpointState::Available);
    direct.times = Vec::new();
    Traffic {
        at_us: 1_000_000 * times,
        time: "2026-11-23T00:04:51.123Z".into(),
        ports: vec![
            port(
                "reviews",
                "proxy",
                vec![instance("10.1.0.5:9080", 600, EndpointState::Available), ejected],
            ),
            port("database.default.svc", "kernel", vec![direct]),
        ],
    }
}

pub fn explanation() -> Explanation {
    let candidate = |address: &str, state, share, why: &str, next| Candidate {
        address: address.into(),
        weight: 1,
        share,
        tier: 0,
        score: Some(1.234),
        state,
        why: why.into(),
        next,
    };
    Explanation {
        destination: "10.96.0.11:9080/tcp".into(),
        service: Some("reviews".into()),
        path: "proxy".into(),
        reason: "auto: balanced per request".into(),
        protocol: Some("http".into()),
        algorithm: Some("leastResponseTime".into()),
        scored_by: Some("response time × (in flight + 1) / weight, in ms".into()),
        candidates: vec![
            candidate("10.1.0.5:9080", EndpointState::Available, 100.0, "in", true),
            candidate("10.1.0.6:9080", EndpointState::Drained, 0.0, "taken out by hand", false),
        ],
        routes: vec![ExplainedRoute {
            name: "canary".into(),
            requests: vec!["host reviews, path below /v2, method GET".into()],
            actions: vec!["timeout 2s".into()],
            backends: vec![ExplainedBackend {
                service: "reviews".into(),
                port: 9080,
                subset: vec!["version=v2".into()],
                share: 100.0,
                instances: 1,
                actions: vec!["request header x-v: 2 set".into()],
            }],
        }],
        agent_gone: "the kernel balances it (onAgentFailure: open)".into(),
        dns_answer: vec!["10.96.0.11".into()],
        steps: vec!["10.96.0.11:9080/tcp is port 9080 of reviews".into()],
    }
}

pub fn reload() -> ReloadOutcome {
    ReloadOutcome {
        changed: true,
        generation: 8,
        services: 4,
        needs_restart: vec!["capture.pins".into()],
    }
}

pub fn drained() -> DrainOutcome {
    DrainOutcome {
        service: "reviews".into(),
        endpoint: "10.1.0.5:9080".into(),
        drained: true,
        in_flight: 2,
        available: 1,
    }
}

#[test]
fn json_keys_are_stable() {
    let cases = [
        (serde_json::to_string(&status()).unwrap(), include_str!("sample/status.json")),
        (serde_json::to_string(&service()).unwrap(), include_str!("sample/service.json")),
        (serde_json::to_string(&endpoint()).unwrap(), include_str!("sample/endpoint.json")),
        (serde_json::to_string(&connection()).unwrap(), include_str!("sample/connection.json")),
        (serde_json::to_string(&tapped()).unwrap(), include_str!("sample/tap.json")),
        (serde_json::to_string(&traffic(1)).unwrap(), include_str!("sample/traffic.json")),
        (serde_json::to_string(&explanation()).unwrap(), include_str!("sample/explanation.json")),
        (serde_json::to_string(&reload()).unwrap(), include_str!("sample/reload.json")),
        (serde_json::to_string(&drained()).unwrap(), include_str!("sample/drain.json")),
    ];
    for (got, expected) in cases {
        assert_eq!(got, expected.trim_end());
    }
}

//! The state of services and agent, as the commands show it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{agent::Agent, limits, pods};
use crate::{
    admin::{
        DnsView, EndpointState, EndpointView, Generations, HookView, MapView, NamespaceView,
        PortView, ReasonView, ReloadView, ServiceView, SourceState, SourceView, Status, TierView,
    },
    balance::Tier,
    datapath::BackendCounters,
    discovery, health, net,
    registry::{Endpoint, ServicePort},
};

/// Kernel-side counters of all instances, read in one go.
pub(super) struct KernelCounters(HashMap<(u32, SocketAddr), BackendCounters>);

impl KernelCounters {
    pub fn read(agent: &Agent) -> Self {
        let counters = agent.kernel().map(|kernel| kernel.tables().all_backend_counters());
        let counters = counters.unwrap_or_default().into_iter();
        Self(counters.map(|((id, at), backend)| ((id, at.to_socket_addr()), backend)).collect())
    }

    pub fn of(&self, agent: &Agent, port: &ServicePort, endpoint: &Endpoint) -> BackendCounters {
        let id = agent.kernel().and_then(|kernel| kernel.tables().port_id(&port.key()));
        id.and_then(|id| self.0.get(&(id, endpoint.address)).copied()).unwrap_or_default()
    }
}

pub(super) fn state_of(endpoint: &Endpoint) -> EndpointState {
    if endpoint.live.is_drained() {
        EndpointState::Drained
    } else if endpoint.weight.0 == 0 {
        EndpointState::WeightZero
    } else {
        match endpoint.health.state(net::monotonic_ns()) {
            health::State::InService => EndpointState::Available,
            health::State::Unhealthy => EndpointState::Unhealthy,
            health::State::Ejected { .. } | health::State::AwaitsProbe | health::State::Probing => {
                EndpointState::Ejected
            }
        }
    }
}

pub(super) fn services(agent: &Agent) -> Vec<ServiceView> {
    let snapshot = agent.snapshots.load();
    let view = |service: &std::sync::Arc<crate::registry::Service>| ServiceView {
        name: service.spec.name.to_string(),
        addresses: service.spec.addresses.iter().map(ToString::to_string).collect(),
        hostnames: service.spec.hostnames.clone(),
        ports: service.ports.iter().map(|port| port_view(agent, port)).collect(),
    };
    snapshot.services.iter().map(view).collect()
}

fn port_view(agent: &Agent, port: &ServicePort) -> PortView {
    let kernel = agent
        .kernel()
        .and_then(|kernel| kernel.tables().port_counters(&port.key()))
        .unwrap_or_default();
    let stats = &port.stats;
    PortView {
        port: port.port.port.get(),
        protocol: port.port.protocol.to_string(),
        path: port.path.to_string(),
        why: port.path_reason.to_string(),
        on_agent_failure: port.on_agent_failure.to_string(),
        algorithm: port.policy.algorithm.to_string(),
        panic: port.panic,
        tiers: port.tiers.iter().map(tier_view).collect(),
        endpoints: port.endpoints.len() as u64,
        available: port
            .endpoints
            .iter()
            .filter(|endpoint| state_of(endpoint) == EndpointState::Available)
            .count() as u64,
        connections: kernel.kernel + stats.connections.load(Ordering::Relaxed),
        requests: stats.requests.load(Ordering::Relaxed),
        errors: kernel.refused + stats.errors.load(Ordering::Relaxed),
        limited: limits::refused(port, kernel.limited),
        dry_run: kernel.dry_run + port.flow.refusals.dry_run(),
    }
}

fn tier_view(tier: &Tier) -> TierView {
    TierView {
        priority: tier.priority,
        near: tier.near,
        share: 100.0 * tier.share,
        available: tier.available,
        size: tier.size,
    }
}

pub(super) fn endpoints(agent: &Agent, service: Option<&str>) -> Vec<EndpointView> {
    let snapshot = agent.snapshots.load();
    let counters = KernelCounters::read(agent);
    (snapshot.ports())
        .filter(|port| service.is_none_or(|name| port.service.as_str() == name))
        .flat_map(|port| of_port(agent, port, &counters))
        .collect()
}

/// All instances of a port.
pub(super) fn of_port(
    agent: &Agent,
    port: &ServicePort,
    counters: &KernelCounters,
) -> Vec<EndpointView> {
    let shares = port.balancer.shares(Instant::now());
    let with_shares = port.endpoints.iter().zip(shares);
    let view = |(endpoint, share): (&Arc<Endpoint>, f64)| {
        let kernel = counters.of(agent, port, endpoint);
        EndpointView { share: 100.0 * share, ..endpoint_view(port, endpoint, &kernel) }
    };
    with_shares.map(view).collect()
}

pub(super) fn endpoint_view(
    port: &ServicePort,
    endpoint: &Endpoint,
    kernel: &BackendCounters,
) -> EndpointView {
    let live = &endpoint.live;
    let now = net::monotonic_ns();
    let of_kernel = match kernel.ewma.read(now) {
        0 => None,
        ns => Some(Duration::from_nanos(ns)),
    };
    EndpointView {
        service: port.service.to_string(),
        port: port.port.port.get(),
        address: endpoint.address.to_string(),
        weight: endpoint.weight.0,
        share: 0.0,
        tier: endpoint.tier,
        locality: endpoint.locality.to_string(),
        state: state_of(endpoint),
        why: endpoint.health.reason(now),
        ejected_for_ms: (endpoint.health.ejected_until())
            .map(|until| until.saturating_sub(now) / 1_000_000),
        in_flight: u64::from(live.in_flight.load(Ordering::Relaxed)) + open(kernel),
        response_time_us: live
            .response_time(Instant::now())
            .or(of_kernel)
            .map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        picks: live.picks.load(Ordering::Relaxed) + kernel.opened,
        failures: live.failures.load(Ordering::Relaxed) + kernel.failed,
        bytes_sent: live.bytes_sent.load(Ordering::Relaxed) + kernel.bytes_sent,
        bytes_received: live.bytes_received.load(Ordering::Relaxed) + kernel.bytes_received,
    }
}

/// Connections open on the kernel path: of UDP, sockets.
pub(super) const fn open(kernel: &BackendCounters) -> u64 {
    kernel.opened.saturating_sub(kernel.closed)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn status(agent: &Agent) -> Status {
    let settings = agent.settings();
    let snapshot = agent.snapshots.load();
    let hooks = hooks(agent);
    let degraded = degraded(agent, &hooks);
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_ms: millis(agent.started.elapsed()),
        state: agent.state(),
        config: agent.config_path().display().to_string(),
        ebpf: agent.kernel().is_some(),
        hooks,
        namespaces: namespaces(agent),
        heartbeat_age_ms: agent.kernel().and_then(super::kernel::Kernel::beat_age_ms),
        dns: DnsView {
            enabled: settings.dns.enabled && agent.kernel().is_some(),
            hostnames: snapshot.services.iter().map(|s| s.spec.hostnames.len() as u64).sum(),
        },
        sources: sources(agent),
        watches: super::watches::views(agent),
        last_reload: agent.last_reload().map(|reload| ReloadView {
            age_ms: millis(reload.at.elapsed()),
            ok: reload.problems.is_empty(),
            problems: reload.problems,
        }),
        generations: Generations {
            registry: snapshot.generation,
            kernel: agent.kernel().map(|kernel| kernel.tables().generation()),
        },
        maps: maps(agent),
        degraded,
        reasons: reasons(agent),
        log: agent.logs.filter(),
    }
}

pub(super) fn hooks(agent: &Agent) -> Vec<HookView> {
    let Some(kernel) = agent.kernel() else { return Vec::new() };
    let attached = kernel.hooks().verify(&kernel.pins);
    (attached.into_iter())
        .map(|hook| HookView {
            cgroup: hook.cgroup.display().to_string(),
            hook: hook.hook.to_owned(),
            program_id: (hook.program > 0).then_some(hook.program),
            link_id: (hook.link > 0).then_some(hook.link),
            pinned: hook.pin.display().to_string(),
            ok: hook.problem.is_none(),
            problem: hook.problem,
        })
        .collect()
}

pub(super) fn sources(agent: &Agent) -> Vec<SourceView> {
    let state = |state| match state {
        discovery::SourceState::Waiting => SourceState::Waiting,
        discovery::SourceState::Ok => SourceState::Ok,
        discovery::SourceState::Empty => SourceState::Empty,
        discovery::SourceState::Failing => SourceState::Failing,
    };
    let now = tokio::time::Instant::now();
    let view = |source: discovery::SourceStatus| SourceView {
        service: source.service.to_string(),
        kind: source.kind.to_owned(),
        target: source.target,
        state: state(source.state),
        instances: source.instances as u64,
        age_ms: source.answered.map(|at| millis(at.elapsed())),
        last_error_age_ms: source.last_error.as_ref().map(|(at, _)| millis(at.elapsed())),
        last_error: source.last_error.map(|(_, error)| error),
        next_try_ms: source.next_try.map(|at| millis(at.saturating_duration_since(now))),
        answers: source.answers,
        errors: source.errors,
    };
    let asked = agent.discovery.status().into_iter().map(view);
    asked.chain(super::watches::sources(agent)).collect()
}

fn namespaces(agent: &Agent) -> Vec<NamespaceView> {
    (agent.namespaces().0.iter())
        .map(|tracked| NamespaceView {
            cookie: tracked.namespace.cookie(),
            listeners: tracked.listeners.iter().map(ToString::to_string).collect(),
            pids: tracked.pid.into_iter().collect(),
        })
        .collect()
}

pub(super) fn maps(agent: &Agent) -> Vec<MapView> {
    let Some(kernel) = agent.kernel() else { return Vec::new() };
    let captured = kernel.captured().fill();
    let neighbours = kernel.neighbours().fill();
    (kernel.tables().fill().into_iter().chain([captured, neighbours]))
        .map(|fill| MapView {
            name: fill.map.to_owned(),
            used: fill.used as u64,
            capacity: fill.capacity as u64,
        })
        .collect()
}

pub(super) fn reasons(agent: &Agent) -> Vec<ReasonView> {
    let Some(kernel) = agent.kernel() else { return Vec::new() };
    (kernel.tables().reasons().into_iter())
        .map(|(reason, count)| ReasonView { name: reason.name().to_owned(), count })
        .collect()
}

/// What doesn't work as it should, each with its consequence.
pub(super) fn degraded(agent: &Agent, hooks: &[HookView]) -> Vec<String> {
    let mut degraded: Vec<String> = (hooks.iter())
        .filter_map(|hook| {
            let problem = hook.problem.as_ref()?;
            Some(format!(
                "{} on {} is not attached ({problem}): sockets pass it untouched; \
                 restart the agent once the cgroup is there",
                hook.hook, hook.cgroup
            ))
        })
        .collect();
    for error in &agent.namespaces().1 {
        degraded.push(format!("a namespace has no listener ({error}): it takes the kernel path"));
    }
    degraded.extend(pods::degraded(agent));
    degraded.extend(agent.snapshots.load().ports().filter(|port| port.panic).map(|port| {
        let of = |part: fn(&Tier) -> u64| port.tiers.iter().map(part).sum::<u64>();
        format!(
            "{}:{} is in a panic: {} of {} (by weight) are available, less than {} in every tier; \
             those that fail are used as well (policy.locality.panicThreshold)",
            port.service,
            port.port.port,
            of(|tier| tier.available),
            of(|tier| tier.size),
            port.policy.locality.panic_threshold,
        )
    }));
    degraded.extend(agent.kernel().and_then(super::kernel::Kernel::degraded));
    degraded.extend(sources(agent).iter().filter_map(failing));
    degraded.extend(agent.undiscovered().iter().cloned());
    degraded.extend(super::watches::degraded(agent));
    for map in maps(agent) {
        if map.used * 10 >= map.capacity * 9 {
            degraded.push(format!("map {} holds {} of {}", map.name, map.used, map.capacity));
        }
    }
    if agent.last_reload().is_some_and(|reload| !reload.problems.is_empty()) {
        degraded.push("the last reload was refused: the configuration before it serves".to_owned());
    }
    degraded
}

fn failing(source: &SourceView) -> Option<String> {
    if source.state != SourceState::Failing {
        return None;
    }
    let what = match source.instances {
        0 => "it has named no instance".to_owned(),
        count => format!("its last {count} instances stay"),
    };
    Some(format!(
        "the {} source {} of {} fails ({}): {what}",
        source.kind,
        source.target,
        source.service,
        source.last_error.as_deref().unwrap_or("no reason is known"),
    ))
}

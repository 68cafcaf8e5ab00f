//! What becomes of a connection to a destination, and why: the same steps as
//! the hooks take, in words.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use super::{agent::Agent, candidates, limits, routes};
use crate::{
    admin::{ControlError, ExplainRequest, Explanation},
    model::{OnAgentFailure, Path as Way, Transport},
    registry::{Service, ServicePort},
};

pub(super) fn explain(
    agent: &Agent,
    request: &ExplainRequest,
) -> Result<Explanation, ControlError> {
    let transport = match request.transport.as_str() {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        other => return Err(ControlError::Invalid(format!("transport {other:?}: use tcp or udp"))),
    };
    let mut steps = Vec::new();
    let mut explanation = Explanation {
        destination: format!("{}:{}/{transport}", request.address, request.port),
        service: None,
        path: "untouched".to_owned(),
        reason: String::new(),
        protocol: None,
        algorithm: None,
        scored_by: None,
        candidates: Vec::new(),
        routes: Vec::new(),
        agent_gone: "nothing changes: the mesh has no part in it".to_owned(),
        dns_answer: Vec::new(),
        steps: Vec::new(),
    };
    if let Some(from) = &request.from
        && let Err(why) = captured(agent, from)
    {
        steps.push(format!("{from}: {why}"));
        return Ok(Explanation { reason: why, steps, ..explanation });
    }
    steps.push(match &request.from {
        Some(from) => format!("{from} is captured: the hooks look at its sockets"),
        None => "assuming a process in a captured cgroup (say which with --from)".to_owned(),
    });
    let address = resolve(agent, request, transport, &mut explanation, &mut steps)?;
    let snapshot = agent.snapshots.load();
    let Some(port) = snapshot.find(SocketAddr::new(address, request.port), transport) else {
        let why = no_service(&snapshot.services, address, request.port, transport);
        steps.push(format!("{why}: the socket is left alone"));
        return Ok(Explanation { reason: why, steps, ..explanation });
    };
    describe(agent, port, address, &mut explanation, &mut steps);
    explanation.routes = routes::of(&snapshot, port);
    Ok(Explanation { steps, ..explanation })
}

/// Whether the hooks see sockets of this cgroup, or pod; why not.
fn captured(agent: &Agent, from: &str) -> Result<(), String> {
    if agent.kernel().is_none() {
        return Err("the agent runs without eBPF and captures nothing".to_owned());
    }
    let pods = agent.pods.table();
    if !from.starts_with('/') {
        if !agent.settings().kubernetes.enabled {
            return Err("it is no path of a cgroup, and kubernetes.enabled is false".to_owned());
        }
        return pods.by_name(from).map(drop);
    }
    let from = Path::new(from);
    let capture = &agent.settings().capture;
    if !from.exists() {
        return Err("there is no such cgroup".to_owned());
    }
    if let Some(verdict) = pods.by_cgroup(from) {
        return verdict;
    }
    if let Some(excluded) = capture.exclude.iter().find(|excluded| from.starts_with(excluded)) {
        return Err(format!("it is below {}, which capture.exclude names", excluded.display()));
    }
    if capture.cgroups.iter().any(|cgroup| from.starts_with(cgroup)) {
        return Ok(());
    }
    let cgroups: Vec<_> = capture.cgroups.iter().map(|path| path.display().to_string()).collect();
    Err(format!("it is not below a captured cgroup ({})", cgroups.join(", ")))
}

/// The address behind what was asked for, as an application would find it.
fn resolve(
    agent: &Agent,
    request: &ExplainRequest,
    transport: Transport,
    explanation: &mut Explanation,
    steps: &mut Vec<String>,
) -> Result<IpAddr, ControlError> {
    if let Some(address) = request.ip() {
        return Ok(address.to_canonical());
    }
    let snapshot = agent.snapshots.load();
    let hostname = request.hostname();
    let Some(service) = snapshot.by_hostname(&hostname) else {
        return Err(ControlError::NotFound(format!(
            "{hostname} is no address and no service's hostname: a query for it is forwarded to \
             the resolver that the application asks"
        )));
    };
    let addresses = &service.spec.addresses;
    explanation.dns_answer = addresses.iter().map(ToString::to_string).collect();
    steps.push(format!(
        "{hostname} is a hostname of {}: a query is answered with {}",
        service.spec.name,
        explanation.dns_answer.join(", ")
    ));
    let fitting = addresses.iter().copied().find(|&address| {
        snapshot.find(SocketAddr::new(address, request.port), transport).is_some()
    });
    fitting
        .or(addresses.first().copied())
        .ok_or_else(|| ControlError::NotFound(format!("{} has no address", service.spec.name)))
}

fn no_service(
    services: &[std::sync::Arc<Service>],
    address: IpAddr,
    port: u16,
    transport: Transport,
) -> String {
    let near = services.iter().find(|service| service.spec.addresses.contains(&address));
    match near {
        Some(service) => {
            let ports: Vec<_> = (service.ports.iter())
                .map(|p| format!("{}/{}", p.port.port, p.port.protocol.transport()))
                .collect();
            format!(
                "{address} is {}'s, but it has no port {port}/{transport} (it has {})",
                service.spec.name,
                ports.join(", ")
            )
        }
        None => format!("{address} is no service's address"),
    }
}

fn describe(
    agent: &Agent,
    port: &ServicePort,
    address: IpAddr,
    explanation: &mut Explanation,
    steps: &mut Vec<String>,
) {
    steps.push(format!(
        "{address}:{} is port {} of service {} ({})",
        port.port.port, port.port.port, port.service, port.port.protocol
    ));
    steps.push(match port.path {
        Way::Kernel => format!(
            "kernel path ({}): the hook picks an instance at connect, the agent never sees it",
            port.path_reason
        ),
        Way::Proxy => format!(
            "proxy path ({}): to the agent's listener in the caller's namespace",
            port.path_reason
        ),
    });
    explanation.service = Some(port.service.to_string());
    explanation.path = port.path.to_string();
    explanation.reason = port.path_reason.to_string();
    explanation.protocol = Some(port.port.protocol.to_string());
    explanation.algorithm = Some(port.policy.algorithm.to_string());
    explanation.scored_by = candidates::scored_by(port.policy.algorithm).map(str::to_owned);
    explanation.candidates = candidates::of_port(agent, port, address);
    steps.extend(limits::of_connections(agent, port));
    let able: Vec<_> = explanation.candidates.iter().filter(|c| c.share > 0.0).collect();
    let full = explanation.candidates.iter().any(|c| c.why.starts_with("out: at its limit"));
    steps.push(match able.len() {
        0 if full => match port.path {
            Way::Kernel => "all instances are at their limit: connect fails with EAGAIN".to_owned(),
            Way::Proxy => "all instances are at their limit: the agent answers 503".to_owned(),
        },
        0 => "no instance is available: connect fails at once with EHOSTUNREACH".to_owned(),
        n => format!("{} picks among {n} of {}", port.policy.algorithm, port.endpoints.len()),
    });
    if port.panic {
        steps.push(format!(
            "less than {} of every tier are available, which is a panic: those that fail are used \
             as well",
            port.policy.locality.panic_threshold
        ));
    }
    if let Some(timeout) = port.policy.session_affinity {
        steps.push(format!("a client keeps its instance until it is silent for {timeout:?}"));
    }
    explanation.agent_gone = match (port.path, port.on_agent_failure) {
        (Way::Kernel, _) => "nothing changes: the kernel goes on balancing".to_owned(),
        (Way::Proxy, OnAgentFailure::Open) => {
            "new connections are balanced by the kernel (onAgentFailure: open)".to_owned()
        }
        (Way::Proxy, OnAgentFailure::Closed) => {
            "new connections are refused with ECONNREFUSED (onAgentFailure: closed)".to_owned()
        }
    };
}

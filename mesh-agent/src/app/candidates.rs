//! The instances of a service port as candidates for the next pick: what each
//! is due, how it compares, and why it is in or out.

use std::net::{IpAddr, SocketAddr};

use tokio::time::Instant;

use super::{
    agent::Agent,
    views::{self, KernelCounters},
};
use crate::{
    admin::{Candidate, EndpointState, EndpointView},
    model::{Algorithm, LocalityMode, Path as Way},
    registry::{Endpoint, ServicePort},
};

/// What the scores of this port's candidates are, where two are compared.
pub(super) const fn scored_by(algorithm: Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::LeastConnections => Some("(in flight + 1) / weight"),
        Algorithm::LeastResponseTime => Some("response time × (in flight + 1) / weight, in ms"),
        _ => None,
    }
}

/// All instances of the port, for a client that connects to this address.
pub(super) fn of_port(agent: &Agent, port: &ServicePort, address: IpAddr) -> Vec<Candidate> {
    let counters = KernelCounters::read(agent);
    let seen = views::of_port(agent, port, &counters);
    // The rule of the kernel's sets: see `datapath::plan`.
    let same_family = |at: SocketAddr| at.is_ipv4() == address.is_ipv4();
    let any_of_family = port.endpoints.iter().any(|endpoint| same_family(endpoint.address));
    let reachable = |at: SocketAddr| {
        port.path == Way::Proxy
            || same_family(at)
            || (address.is_ipv6() && at.is_ipv4() && !any_of_family)
    };
    let due = |(endpoint, view): (&Endpoint, &EndpointView)| {
        let able = reachable(endpoint.address) && full(port, endpoint, view).is_none();
        if able { view.share } else { 0.0 }
    };
    let both = || port.endpoints.iter().map(AsRef::as_ref).zip(&seen);
    let total: f64 = both().map(due).sum();
    let next = next(port);
    let candidate = |(index, (endpoint, view)): (usize, (&Endpoint, &EndpointView))| {
        let share = due((endpoint, view));
        let why = match out(port, endpoint, view) {
            Some(why) => format!("out: {why}"),
            None if !reachable(endpoint.address) => "out: of the other address family".to_owned(),
            None => match full(port, endpoint, view) {
                Some(why) => format!("out: {why}"),
                None => format!("in: {}", within(port, endpoint, view)),
            },
        };
        Candidate {
            address: endpoint.address.to_string(),
            weight: endpoint.weight.0,
            share: if total > 0.0 { 100.0 * share / total } else { 0.0 },
            tier: endpoint.tier,
            score: score(port.policy.algorithm, view),
            state: view.state,
            why,
            next: next == Some(index),
        }
    };
    both().enumerate().map(candidate).collect()
}

/// Why nothing new goes there.
fn out(port: &ServicePort, endpoint: &Endpoint, view: &EndpointView) -> Option<String> {
    let fails = view.state != EndpointState::Available && !port.panic;
    if endpoint.turns > 0 && !fails {
        return None;
    }
    Some(match view.state {
        EndpointState::Drained => "drained by hand".to_owned(),
        EndpointState::WeightZero => "weight 0".to_owned(),
        EndpointState::Ejected | EndpointState::Unhealthy => {
            view.why.clone().unwrap_or_else(|| view.state.name().to_owned())
        }
        EndpointState::Available => {
            let tier = endpoint.tier;
            match port.policy.locality.mode {
                LocalityMode::Strict => format!("tier {tier} isn't the nearest (mode: strict)"),
                _ => format!("tier {tier} gets nothing, nearer ones carry all"),
            }
        }
    })
}

/// Why it takes nothing more just now, though nothing is wrong with it.
fn full(port: &ServicePort, endpoint: &Endpoint, view: &EndpointView) -> Option<String> {
    let limit = concurrency_limit(port, endpoint, view)?;
    (view.in_flight >= limit).then(|| {
        format!("at its limit: {} of {limit} under way (adaptiveConcurrency)", view.in_flight)
    })
}

/// What `adaptiveConcurrency` allows it now.
fn concurrency_limit(port: &ServicePort, endpoint: &Endpoint, view: &EndpointView) -> Option<u64> {
    let limit = endpoint.concurrency.limit().map(u64::from)?;
    // The kernel has a limit only of those that have answered.
    (port.path == Way::Proxy || view.response_time_us.is_some()).then_some(limit)
}

/// What it is among its peers.
fn within(port: &ServicePort, endpoint: &Endpoint, view: &EndpointView) -> String {
    let tier = &port.tiers[usize::from(endpoint.tier)];
    let of = if port.panic { tier.usable } else { tier.available };
    let mut why = format!("weight {} of {of}", endpoint.weight.0);
    if port.tiers.len() > 1 {
        why += &format!(" in tier {}, which gets {:.1} %", endpoint.tier, 100.0 * tier.share);
    }
    let slow_start = port.policy.slow_start.unwrap_or_default();
    let warmth = endpoint.live.warmth_at(&slow_start, Instant::now());
    if warmth < 1.0 {
        why += &format!("; starts slowly, at {:.0} % of it", 100.0 * warmth);
    }
    if let Some(limit) = concurrency_limit(port, endpoint, view) {
        why += &format!("; {} of {limit} under way", view.in_flight);
    }
    if view.state != EndpointState::Available {
        why += &format!("; {}, but there is a panic", view.state.name());
    }
    why
}

fn score(algorithm: Algorithm, view: &EndpointView) -> Option<f64> {
    let waiting = (view.in_flight + 1) as f64 / f64::from(view.weight.max(1));
    match algorithm {
        Algorithm::LeastConnections => Some(waiting),
        Algorithm::LeastResponseTime => {
            Some(view.response_time_us.unwrap_or(0) as f64 / 1000.0 * waiting)
        }
        _ => None,
    }
}

/// Whose turn it is on the proxy path. The kernel's turns have gone by before
/// anybody could read the answer.
fn next(port: &ServicePort) -> Option<usize> {
    (port.path == Way::Proxy).then(|| port.balancer.peek()).flatten()
}

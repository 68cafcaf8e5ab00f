//! Builds one service port: its instances, and who of them gets how much.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{Endpoint, PortStats, ServicePort, Subset};
use crate::{
    balance::{self, Affinity, Balancer, Choice, Live, Member, State, Tiers},
    health::{Health, Outliers},
    limit::{Concurrency, Flow},
    model::{
        Algorithm, Instance, Instances, Labels, Locality, Policy, Port, Serves, ServiceSpec, Weight,
    },
    net,
    retry::{Budget, Handshakes},
    route::Routes,
};

/// What a service port keeps from snapshot to snapshot.
#[derive(Debug)]
pub(super) struct Kept {
    cursor: Arc<AtomicU64>,
    stats: Arc<PortStats>,
    outliers: Arc<Outliers>,
    budget: Arc<Budget>,
    handshakes: Arc<Handshakes>,
    affinity: Arc<Affinity>,
    flow: Flow,
    /// As the port was last built: their live data goes on.
    pub endpoints: Vec<Arc<Endpoint>>,
}

impl Kept {
    /// The cursor starts at random, so that nodes don't march in step.
    pub fn new(health_changed: &Arc<Notify>) -> Self {
        Self {
            cursor: Arc::new(AtomicU64::new(u64::from(rand::random::<u32>()))),
            stats: Arc::default(),
            outliers: Arc::new(Outliers::new(Arc::clone(health_changed))),
            budget: Arc::default(),
            handshakes: Arc::default(),
            affinity: Arc::default(),
            flow: Flow::default(),
            endpoints: Vec::new(),
        }
    }
}

/// What the ports of a service are built from, beside what they keep.
pub(super) struct Plan<'a> {
    pub node: &'a Locality,
    pub spec: &'a ServiceSpec,
    pub policy: &'a Arc<Policy>,
    /// Where two name the same instance, the first one's word counts.
    pub instances: &'a [&'a Instance],
    /// Those that routes send something to.
    pub subsets: &'a [Labels],
    pub routes: &'a Arc<Routes>,
    /// Addresses of the pods that this agent captures.
    pub captured: &'a HashSet<IpAddr>,
    pub now: Instant,
}

/// An instance of the port that is built.
struct Found<'a> {
    address: SocketAddr,
    instance: &'a Instance,
    live: Arc<Live>,
    concurrency: Arc<Concurrency>,
    health: Arc<Health>,
    state: State,
    /// It is new among others, or has just come back.
    entry: Option<Entrance>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entrance {
    New,
    Returned,
}

/// Builds the port; what was kept of instances that are gone is forgotten.
pub(super) fn build(plan: &Plan<'_>, port: Port, kept: &mut Kept) -> ServicePort {
    let Plan { spec, policy, .. } = plan;
    let mut found = find(plan, port, &kept.endpoints);
    kept.flow = kept.flow.renewed(policy);
    spill_over(plan, &mut found);
    let members: Vec<_> = found.iter().map(Found::member).collect();
    let tiers = Tiers::new(plan.node, &policy.locality, &members);
    let turns = tiers.turns(&members);
    welcome(plan, &found, &tiers);
    let balancer = balancer(policy, &found, &tiers, &turns, &kept.cursor);
    let subsets = plan.subsets.iter().map(|labels| subset(plan, labels, &found, &kept.cursor));
    kept.endpoints = (found.iter().zip(&turns).zip(&tiers.of))
        .map(|((found, &turns), &tier)| Arc::new(found.endpoint(turns, tier)))
        .collect();
    let whereabouts = whereabouts(found.iter().map(|found| found.address), plan.captured);
    let (path, path_reason) = (spec.path.resolve(port.protocol, policy, whereabouts))
        .expect("a validated path fits its protocol");
    ServicePort {
        service: spec.name.clone(),
        port,
        addresses: spec.addresses.clone(),
        path,
        path_reason,
        on_agent_failure: spec.on_agent_failure,
        policy: Arc::clone(policy),
        balancer,
        subsets: subsets.collect(),
        routes: Arc::clone(plan.routes),
        endpoints: kept.endpoints.clone(),
        tiers: tiers.tiers,
        panic: tiers.panic,
        affinity: Arc::clone(&kept.affinity),
        stats: Arc::clone(&kept.stats),
        flow: kept.flow.clone(),
        outliers: Arc::clone(&kept.outliers),
        budget: Arc::clone(&kept.budget),
        handshakes: Arc::clone(&kept.handshakes),
    }
}

/// What the hooks ejected stays in the schedule, so that they bring it back with
/// no agent. But where there are several tiers its own has to do without it, or
/// nothing would spill over: there it comes back for its probe.
fn spill_over(plan: &Plan<'_>, found: &mut [Found<'_>]) {
    let now = net::monotonic_ns();
    if !found.iter().any(|one| one.health.is_in_kernel_exile(now)) {
        return;
    }
    let members: Vec<_> = found.iter().map(Found::member).collect();
    if Tiers::new(plan.node, &plan.policy.locality, &members).tiers.len() < 2 {
        return;
    }
    for one in found.iter_mut().filter(|one| one.health.is_in_kernel_exile(now)) {
        if one.state == State::Available {
            one.state = State::Failing;
        }
    }
}

/// Whether these are all captured here. Those that get nothing count as well:
/// what is open to them goes on.
pub(super) fn whereabouts(
    instances: impl Iterator<Item = SocketAddr>,
    captured: &HashSet<IpAddr>,
) -> Instances {
    let mut whereabouts = Instances::Unknown;
    for instance in instances {
        if !captured.contains(&instance.ip().to_canonical()) {
            return Instances::Elsewhere(instance);
        }
        whereabouts = Instances::Captured;
    }
    whereabouts
}

impl Found<'_> {
    fn member(&self) -> Member<'_> {
        Member {
            priority: self.instance.priority,
            locality: &self.instance.locality,
            weight: self.instance.weight,
            state: self.state,
        }
    }

    fn endpoint(&self, turns: u32, tier: u16) -> Endpoint {
        Endpoint {
            address: self.address,
            weight: self.instance.weight,
            turns,
            tier,
            priority: self.instance.priority,
            locality: Arc::clone(&self.instance.locality),
            labels: Arc::clone(&self.instance.labels),
            live: Arc::clone(&self.live),
            concurrency: Arc::clone(&self.concurrency),
            health: Arc::clone(&self.health),
            failing: self.state == State::Failing,
        }
    }
}

/// The instances of the port, each once, with what was kept of them.
fn find<'a>(plan: &Plan<'a>, port: Port, before: &[Arc<Endpoint>]) -> Vec<Found<'a>> {
    let known: HashMap<_, _> = before.iter().map(|one| (one.address, one)).collect();
    let mut seen = HashSet::new();
    let own = Serves { port: port.port, transport: port.protocol.transport() };
    let mut found = Vec::with_capacity(plan.instances.len());
    for &instance in plan.instances {
        if instance.serves.is_some_and(|serves| serves != own) {
            continue;
        }
        let address = SocketAddr::new(instance.address, instance.port.unwrap_or(port.port).get());
        if !seen.insert(address) {
            continue;
        }
        let before = known.get(&address);
        let new = before.is_none() && !known.is_empty();
        let (live, concurrency, health) = match before {
            None => Default::default(),
            Some(before) => (
                Arc::clone(&before.live),
                Arc::clone(&before.concurrency),
                Arc::clone(&before.health),
            ),
        };
        if !plan.policy.failover.ejection {
            health.set_returned(net::monotonic_ns());
        }
        let state = match (live.is_drained(), health.is_failing()) {
            (true, _) => State::Drained,
            (false, true) => State::Failing,
            (false, false) => State::Available,
        };
        let returned = before.is_some_and(|before| before.failing) && state == State::Available;
        let entry = match (new, returned) {
            (true, _) => Some(Entrance::New),
            (_, true) => Some(Entrance::Returned),
            _ => None,
        };
        concurrency.configure(plan.policy.adaptive_concurrency.as_ref());
        found.push(Found { address, instance, live, concurrency, health, state, entry });
    }
    found
}

/// An instance that comes in starts slowly, with the response time of its
/// peers: nobody knows better, and with none at all it would get everything.
fn welcome(plan: &Plan<'_>, found: &[Found<'_>], tiers: &Tiers) {
    let Plan { policy, now, .. } = plan;
    for (index, one) in found.iter().enumerate() {
        let Some(entry) = one.entry else { continue };
        if entry == Entrance::Returned || policy.slow_start.is_some() {
            one.live.start_slowly(*now);
        }
        if policy.algorithm == Algorithm::LeastResponseTime {
            let peers = found.iter().zip(&tiers.of).filter(|(peer, tier)| {
                peer.entry.is_none() && peer.state == State::Available && **tier == tiers.of[index]
            });
            let times = peers.filter_map(|(peer, _)| peer.live.response_time(*now)).collect();
            if let Some(median) = median(times) {
                one.live.assume(median, *now);
            }
        }
    }
}

fn median(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

fn balancer(
    policy: &Policy,
    found: &[Found<'_>],
    tiers: &Tiers,
    turns: &[u32],
    cursor: &Arc<AtomicU64>,
) -> Balancer {
    let choices = (found.iter().zip(turns).zip(&tiers.of))
        .map(|((found, &turns), &tier)| Choice {
            weight: found.instance.weight,
            turns,
            tier,
            hash: balance::key::instance(found.address),
            live: Arc::clone(&found.live),
        })
        .collect();
    let slow_start = policy.slow_start.unwrap_or_default();
    Balancer::new(policy.algorithm, slow_start, choices, Arc::clone(cursor))
}

/// The same rules over the instances that have all the labels.
fn subset(
    plan: &Plan<'_>,
    labels: &Labels,
    found: &[Found<'_>],
    cursor: &Arc<AtomicU64>,
) -> Subset {
    let belongs = |instance: &Instance| {
        labels.iter().all(|(name, value)| instance.labels.get(name) == Some(value))
    };
    // Without a weight it is as if it weren't there.
    let members: Vec<_> = (found.iter())
        .map(|one| match belongs(one.instance) {
            true => one.member(),
            false => Member { weight: Weight(0), ..one.member() },
        })
        .collect();
    let tiers = Tiers::new(plan.node, &plan.policy.locality, &members);
    let turns = tiers.turns(&members);
    Subset {
        labels: Arc::clone(labels),
        balancer: balancer(plan.policy, found, &tiers, &turns, cursor),
        panic: tiers.panic,
    }
}

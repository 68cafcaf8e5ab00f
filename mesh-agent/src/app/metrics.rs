//! The metrics page, from the snapshot and the kernel's maps as they are now.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use super::{
    agent::Agent,
    connections,
    views::{self, KernelCounters},
    watches,
};
use crate::{
    admin::{AgentState, EndpointState, SourceState, WatchState},
    balance::ResponseTimes,
    registry::{Copied, Endpoint, ServicePort},
    retry::Reason,
    telemetry::{
        Exposition,
        metrics::{self as table, Distribution},
    },
};

pub(super) fn page(agent: &Agent) -> String {
    let mut page = Exposition::default();
    of_the_agent(agent, &mut page);
    of_the_sources(agent, &mut page);
    of_the_watches(agent, &mut page);
    of_the_kernel(agent, &mut page);
    of_the_pods(agent, &mut page);
    let counters = KernelCounters::read(agent);
    for port in agent.snapshots.load().ports() {
        of_a_port(agent, port, &mut page);
        let shares = port.balancer.shares(tokio::time::Instant::now());
        for (endpoint, share) in port.endpoints.iter().zip(shares) {
            of_the_balance(port, endpoint, share, &mut page);
            of_an_instance(agent, port, endpoint, &counters, &mut page);
        }
    }
    page.text()
}

fn of_the_agent(agent: &Agent, page: &mut Exposition) {
    page.gauge(&table::BUILD_INFO, [env!("CARGO_PKG_VERSION")], 1.0);
    page.gauge(&table::UPTIME, [], agent.started.elapsed().as_secs_f64());
    page.gauge(&table::READY, [], f64::from(agent.state() == AgentState::Serving));
    page.process();
    let (ok, failed) = agent.count_reloads();
    page.counter(&table::RELOADS, ["ok"], ok);
    page.counter(&table::RELOADS, ["failed"], failed);
    page.counter(&table::ENDED_BY_REMOVAL, [], agent.ended_by_removal.load(Ordering::Relaxed));
    page.gauge(&table::TAPS, [], agent.taps.watchers() as f64);
    page.counter(&table::TAP_LOST, [], agent.taps.lost());
    let last_ok = agent.last_reload().is_none_or(|reload| reload.problems.is_empty());
    page.gauge(&table::RELOAD_OK, [], f64::from(last_ok));
    page.gauge(&table::REGISTRY_GENERATION, [], agent.snapshots.load().generation as f64);
    page.gauge(&table::NAMESPACES, [], agent.namespaces().0.len() as f64);
    let dns = agent.dns.stats();
    for (result, count) in [
        ("answered", &dns.answered),
        ("forwarded", &dns.forwarded),
        ("failed", &dns.failed),
        ("dropped", &dns.dropped),
    ] {
        page.counter(&table::DNS_QUERIES, [result], count.load(Ordering::Relaxed));
    }
}

fn of_the_sources(agent: &Agent, page: &mut Exposition) {
    // Of two sources of a service that are asked for the same, say the first:
    // a series may stand on the page once.
    let mut seen = std::collections::HashSet::new();
    for source in views::sources(agent) {
        let labels = [source.service.as_str(), &source.kind, &source.target];
        if !seen.insert(labels.map(str::to_owned)) {
            continue;
        }
        page.gauge(&table::SOURCE_INSTANCES, labels, source.instances as f64);
        if let Some(age) = source.age_ms {
            page.gauge(&table::SOURCE_AGE, labels, age as f64 / 1000.0);
        }
        let failing = source.state == SourceState::Failing;
        page.gauge(&table::SOURCE_OK, labels, f64::from(!failing));
        page.counter(&table::SOURCE_ANSWERS, labels, source.answers);
        page.counter(&table::SOURCE_ERRORS, labels, source.errors);
    }
}

fn of_the_watches(agent: &Agent, page: &mut Exposition) {
    for watch in watches::views(agent) {
        let labels = [watch.resource.as_str()];
        page.gauge(&table::WATCH_OBJECTS, labels, watch.objects as f64);
        page.gauge(&table::WATCH_SYNCED, labels, f64::from(watch.state == WatchState::Synced));
        if let Some(age) = watch.age_ms {
            page.gauge(&table::WATCH_AGE, labels, age as f64 / 1000.0);
        }
        page.gauge(&table::WATCH_UNREADABLE, labels, watch.unreadable.len() as f64);
        page.counter(&table::WATCH_EVENTS, labels, watch.events);
        page.counter(&table::WATCH_LISTS, labels, watch.lists);
        page.counter(&table::WATCH_ERRORS, labels, watch.errors);
    }
}

/// By namespace and service account: pods come and go, and would each leave a
/// series behind.
fn of_the_pods(agent: &Agent, page: &mut Exposition) {
    let state = agent.pods.table();
    let mut pods = BTreeMap::<_, u32>::new();
    for pod in state.captured.iter().filter_map(|captured| captured.pod.as_ref()) {
        *pods.entry(&pod.namespace).or_default() += 1;
    }
    if pods.is_empty() {
        return;
    }
    for (namespace, count) in pods {
        page.gauge(&table::CAPTURED_PODS, [namespace], count.into());
    }
    for ((workload, service, path), count) in connections::by_workload(agent) {
        let labels = [&workload.namespace, &workload.service_account, service.as_str(), path];
        page.gauge(&table::CLIENT_CONNECTIONS, labels, f64::from(count));
    }
}

fn of_the_kernel(agent: &Agent, page: &mut Exposition) {
    let hooks = views::hooks(agent);
    let degraded = views::degraded(agent, &hooks);
    page.gauge(&table::DEGRADED, [], degraded.len() as f64);
    for hook in hooks {
        page.gauge(&table::HOOK_ATTACHED, [&hook.cgroup, &hook.hook], f64::from(hook.ok));
    }
    for map in views::maps(agent) {
        page.gauge(&table::MAP_ENTRIES, [&map.name], map.used as f64);
        page.gauge(&table::MAP_CAPACITY, [&map.name], map.capacity as f64);
    }
    for reason in views::reasons(agent) {
        page.counter(&table::VERDICTS, [&reason.name], reason.count);
    }
    let Some(kernel) = agent.kernel() else { return };
    page.gauge(&table::KERNEL_GENERATION, [], kernel.tables().generation() as f64);
    if let Some(age) = kernel.beat_age_ms() {
        page.gauge(&table::HEARTBEAT_AGE, [], age as f64 / 1000.0);
    }
}

fn of_a_port(agent: &Agent, port: &ServicePort, page: &mut Exposition) {
    let kernel = agent
        .kernel()
        .and_then(|kernel| kernel.tables().port_counters(&port.key()))
        .unwrap_or_default();
    let number = port.port.port.to_string();
    let labels = [port.service.as_str(), &number];
    let [service, number] = labels;
    let stats = &port.stats;
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    page.counter(&table::CONNECTIONS, [service, number, "kernel"], kernel.kernel);
    page.counter(&table::CONNECTIONS, [service, number, "proxy"], load(&stats.connections));
    let open = kernel.opened.saturating_sub(kernel.closed);
    page.gauge(&table::OPEN, [service, number, "kernel"], open as f64);
    page.gauge(&table::OPEN, [service, number, "proxy"], load(&stats.open) as f64);
    page.counter(&table::FALLBACK, labels, kernel.fallback);
    page.counter(&table::REFUSED, labels, kernel.refused);
    page.counter(&table::DATAGRAMS, labels, kernel.datagrams);
    page.counter(&table::REQUESTS, labels, load(&stats.requests));
    page.counter(&table::ERRORS, labels, load(&stats.errors));
    if let Some(responses) = responses(port) {
        page.histogram(&table::RESPONSES, labels, responses);
    }
    for reason in Reason::ALL {
        let count = load(&stats.retries[reason as usize]);
        page.counter(&table::RETRIES, [service, number, reason.name()], count);
    }
    page.counter(&table::RETRIES_REFUSED, labels, port.budget.exhausted());
    for copied in Copied::ALL {
        page.counter(
            &table::MIRRORED,
            [service, number, copied.name()],
            stats.mirrored.ended(copied),
        );
    }
    page.gauge(&table::MIRRORED_NOW, labels, f64::from(stats.mirrored.under_way()));
    for (reason, count) in port.flow.refusals.each() {
        page.counter(&table::OVER_LIMIT, [service, number, reason], count);
    }
    page.counter(&table::OVER_LIMIT, [service, number, "connect"], kernel.limited);
    page.counter(&table::DRY_RUN, labels, kernel.dry_run + port.flow.refusals.dry_run());
    page.gauge(&table::PANIC, labels, f64::from(port.panic));
    for (tier, of) in port.tiers.iter().enumerate() {
        page.gauge(&table::TIER_SHARE, [service, number, &tier.to_string()], of.share);
    }
}

/// Response times of all instances, in buckets of which each is twice as long
/// as the one before. `None` before the first.
fn responses(port: &ServicePort) -> Option<Distribution> {
    /// 256 µs to 33 s; what takes longer has no bound.
    const OCTAVES: std::ops::RangeInclusive<u32> = 8..=25;
    let times = || port.endpoints.iter().map(|endpoint| &endpoint.live.response_times);
    let bounds = OCTAVES.map(|octave| (f64::from(1_u32 << octave) / 1e6, 0));
    let mut buckets: Vec<(f64, u64)> = bounds.chain([(f64::INFINITY, 0)]).collect();
    for (longest_us, count) in times().flat_map(ResponseTimes::counts) {
        let octave = longest_us.checked_ilog2().map_or(0, |octave| octave + 1);
        let index = octave.saturating_sub(*OCTAVES.start()) as usize;
        let last = buckets.len() - 1;
        buckets[index.min(last)].1 += count;
    }
    let sum = times().map(|times| times.sum().as_secs_f64()).sum();
    buckets.iter().any(|(_, count)| *count > 0).then_some(Distribution { buckets, sum })
}

fn of_the_balance(port: &ServicePort, endpoint: &Endpoint, share: f64, page: &mut Exposition) {
    let (number, instance) = (port.port.port.to_string(), endpoint.address.to_string());
    page.gauge(&table::SHARE, [port.service.as_str(), &number, &instance], share);
}

fn of_an_instance(
    agent: &Agent,
    port: &ServicePort,
    endpoint: &Endpoint,
    counters: &KernelCounters,
    page: &mut Exposition,
) {
    let kernel = counters.of(agent, port, endpoint);
    let (number, instance) = (port.port.port.to_string(), endpoint.address.to_string());
    let labels = [port.service.as_str(), &number, &instance];
    let [service, number, instance] = labels;
    let live = &endpoint.live;
    let available =
        views::state_of(endpoint) == EndpointState::Available && endpoint.health.is_usable();
    page.gauge(&table::AVAILABLE, labels, f64::from(available));
    let health = &endpoint.health;
    page.gauge(&table::EJECTED, labels, f64::from(health.is_ejected()));
    page.counter(&table::EJECTIONS, labels, health.ejections());
    page.counter(&table::CHECKS_FAILED, labels, health.checks_failed());
    let of_proxy = [service, number, instance, "proxy"];
    let of_kernel = [service, number, instance, "kernel"];
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    page.gauge(&table::IN_FLIGHT, of_proxy, live.in_flight.load(Ordering::Relaxed).into());
    page.gauge(&table::IN_FLIGHT, of_kernel, views::open(&kernel) as f64);
    page.counter(&table::PICKS, of_proxy, load(&live.picks));
    page.counter(&table::PICKS, of_kernel, kernel.opened);
    page.counter(&table::FAILURES, of_proxy, load(&live.failures));
    page.counter(&table::FAILURES, of_kernel, kernel.failed);
    page.counter(&table::SENT, of_proxy, load(&live.bytes_sent));
    page.counter(&table::SENT, of_kernel, kernel.bytes_sent);
    page.counter(&table::RECEIVED, of_proxy, load(&live.bytes_received));
    page.counter(&table::RECEIVED, of_kernel, kernel.bytes_received);
    if let Some(limit) = endpoint.concurrency.limit() {
        page.gauge(&table::CONCURRENCY_LIMIT, labels, limit.into());
    }
    if let Some(time) = live.response_time(tokio::time::Instant::now()) {
        page.gauge(&table::RESPONSE_TIME, labels, time.as_secs_f64());
    }
    if kernel.srtt_us > 0 {
        page.gauge(&table::ROUND_TRIP, labels, f64::from(kernel.srtt_us) / 1e6);
    }
}

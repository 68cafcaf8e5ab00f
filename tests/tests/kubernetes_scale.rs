//! Many services, many endpoints, many changes: what they cost, and how soon
//! they are in the kernel's tables.
//!
//! `MESH_TESTS_LONG` in the environment makes the changes last 30 s, and not 3.
//! Numbers that are worth quoting come from a release build, which
//! `MESH_AGENT_BIN` may name.

use std::{
    env, fs,
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{
    Agent, Tables,
    cluster::{Cluster, SHOP, cluster_ip, until_watch_is},
    eventually, eventually_for,
    server::kubernetes::object::{service, slice},
};
use nix::time::{ClockId, clock_gettime};

/// On the kernel path.
const TCP: &str = "tcp-web";

/// What a process used so far: CPU time, and memory at its highest.
fn used(pid: u32) -> Result<(Duration, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name, which may have spaces: fields 14 and 15 are ticks of 10 ms.
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks: u64 = ticks.collect::<Result<Vec<_>, _>>()?.iter().sum();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|text| text.split_whitespace().next()).context("no VmHWM")?;
    Ok((Duration::from_millis(ticks * 10), peak.parse::<u64>()? / 1024))
}

/// All that are behind any service.
fn endpoints(agent: &Agent) -> Result<(usize, u64)> {
    let services = agent.json(["services"])?;
    let services = services.as_array().context("no list")?;
    let ports = services.iter().filter_map(|service| service["ports"].as_array()).flatten();
    Ok((services.len(), ports.filter_map(|port| port["endpoints"].as_u64()).sum()))
}

#[test]
fn a_thousand_services_with_ten_thousand_endpoints() -> Result<()> {
    const SERVICES: u32 = 1_000;
    const EACH: u32 = 10;
    let cluster = Cluster::new("kubemany")?;
    let empty = {
        let agent = cluster.agent()?;
        used(agent.pid())?
    };
    for number in 0..SERVICES {
        let name = format!("service-{number}");
        let [_, _, high, low] = (number + 256).to_be_bytes();
        cluster.kubernetes.apply(&service(SHOP, &name, [10, 96, high, low].into(), TCP))?;
        let address = |each: u32| -> IpAddr {
            let [_, _, high, low] = (number * EACH + each + 1).to_be_bytes();
            [10, 1, high, low].into()
        };
        let addresses: Vec<IpAddr> = (0..EACH).map(address).collect();
        cluster.kubernetes.apply(&slice((SHOP, &name), &name, TCP, &addresses))?;
    }
    let start = Instant::now();
    let agent = cluster.agent()?;
    eventually_for(Duration::from_secs(40), "all services", || {
        let found = endpoints(&agent)?;
        ensure!(found == (1_000, 10_000), "{found:?}");
        Ok(())
    })?;
    let took = start.elapsed();
    let (cpu, memory) = used(agent.pid())?;
    println!(
        "1,000 services with 10,000 endpoints: {cpu:?} of CPU, {memory} MiB at most, in force \
         after {took:?}; an agent without any: {:?}, {} MiB",
        empty.0, empty.1,
    );
    // A debug build on a busy machine; a release build needs a tenth.
    ensure!(cpu < Duration::from_secs(40), "{cpu:?} of CPU");
    ensure!(memory < 400, "{memory} MiB");
    Ok(())
}

#[test]
fn changes_by_the_hundred_are_followed() -> Result<()> {
    const SERVICES: usize = 10;
    const PAUSE: Duration = Duration::from_millis(10);
    let seconds = if env::var_os("MESH_TESTS_LONG").is_some() { 30 } else { 3 };
    let changes = seconds * 100;
    let cluster = Cluster::new("kubechanges")?;
    let address = |change: u32| -> IpAddr {
        let [_, _, high, low] = (change + 1).to_be_bytes();
        [10, 1, high, low].into()
    };
    let name = |place: usize| format!("service-{place}");
    let mut frontends = Vec::new();
    for place in 0..SERVICES {
        let number = 20 + u8::try_from(place)?;
        cluster.service(&name(place), number, TCP)?;
        frontends.push(cluster_ip(number));
    }
    let agent = cluster.agent()?;
    until_watch_is(&agent, "endpointslices", "synced")?;
    let tables = Tables::follow(&cluster.world, &frontends, seconds + 20)?;
    let before = used(agent.pid())?.0;

    // Change N gives service N % 10 the one endpoint whose address says N.
    let start = Instant::now();
    let mut made = Vec::new();
    for change in 0..changes {
        thread::sleep((start + PAUSE * change).saturating_duration_since(Instant::now()));
        let name = name(change as usize % SERVICES);
        made.push(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos() as u64);
        cluster.kubernetes.apply(&slice((SHOP, &name), &name, TCP, &[address(change)]))?;
    }
    let rate = f64::from(changes) / start.elapsed().as_secs_f64();
    let last = |place: usize| address(changes - SERVICES as u32 + place as u32);
    eventually("the last change of each service to be in the kernel", || {
        let seen = tables.changes()?;
        let of = |place| seen.iter().rfind(|change| change.frontend == place);
        let missing: Vec<_> = (0..SERVICES)
            .filter(|place| of(*place).is_none_or(|change| change.address != last(*place)))
            .collect();
        ensure!(missing.is_empty(), "not those of {missing:?}");
        Ok(())
    })?;
    let cpu = used(agent.pid())?.0 - before;

    // A change is in force when the table shows it, or a later one of its service.
    let seen = tables.changes()?;
    let mut shown = vec![u64::MAX; changes as usize];
    for one in seen.iter().rev() {
        let IpAddr::V4(address) = one.address else { continue };
        let change = (u32::from(address) & 0xffff) as usize - 1;
        for earlier in (one.frontend..=change).step_by(SERVICES) {
            shown[earlier] = shown[earlier].min(one.at_ns);
        }
    }
    let mut delays: Vec<u64> = Vec::new();
    for (change, (made, shown)) in made.iter().zip(&shown).enumerate() {
        ensure!(*shown != u64::MAX, "change {change} is lost");
        delays.push(shown.saturating_sub(*made) / 1_000);
    }
    delays.sort_unstable();
    let part = |percent: usize| Duration::from_micros(delays[(delays.len() - 1) * percent / 100]);
    let direct = seen.len();
    println!(
        "{changes} changes at {rate:.0}/s: in the kernel after {:?} (median), {:?} (p99), {:?} \
         (longest); {direct} states seen; {cpu:?} of agent CPU",
        part(50),
        part(99),
        part(100),
    );
    // What is promised is 100 ms; a debug build among other tests gets more.
    ensure!(part(50) < Duration::from_millis(500), "median {:?}", part(50));
    ensure!(part(99) < Duration::from_secs(3), "p99 {:?}", part(99));
    Ok(())
}

//! Instances that fail under constant load from pods, on both paths: how many
//! requests it costs, and how they come back.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use mesh_tests::{Agent, Attempt, Load, Trio, answers, eventually, link, server::Mood};
use nix::sys::signal::Signal;

/// Everything short, so that a test is.
const PROXY: &str = "failover: {base: 500ms, max: 2s}, \
    retry: {on: [connect-failure, refused-stream, reset, gateway-error], perTryTimeout: 400ms}";

/// How many failures eject is what it always is: 3 connects, 5 responses.
const KERNEL: &str = "failover: {base: 1s, max: 2s}, timeout: {connect: 300ms}";
const RESPONSES: usize = 5;
const EJECTED: &str = "ejected on the kernel path";

/// What happens to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The process is gone: its kernel refuses.
    Killed,
    /// The process stands still: its kernel goes on taking connections.
    Frozen,
    /// Its link is down: packets vanish.
    CutOff,
    /// It answers 503; on the kernel path, which reads no answers, it resets.
    Failing,
    /// Every answer takes longer than anybody waits.
    Slow,
}

const FAULTS: [Fault; 5] =
    [Fault::Killed, Fault::Frozen, Fault::CutOff, Fault::Failing, Fault::Slow];

impl Fault {
    fn begin(self, trio: &mut Trio, victim: usize, failing: u16) -> Result<()> {
        let server = &mut trio.servers[victim];
        match self {
            Self::Killed => server.process.kill9(),
            Self::Frozen => server.process.signal(Signal::SIGSTOP),
            Self::CutOff => link(&server.pod, "down"),
            Self::Failing => server.be(Mood { status: failing, ..Mood::default() }),
            Self::Slow => server.be(Mood { delay: Duration::from_secs(2), ..Mood::default() }),
        }
    }

    fn end(self, trio: &mut Trio, victim: usize) -> Result<()> {
        let server = &mut trio.servers[victim];
        match self {
            Self::Killed => server.restart(),
            Self::Frozen => server.process.signal(Signal::SIGCONT),
            Self::CutOff => link(&server.pod, "up"),
            Self::Failing | Self::Slow => server.be(Mood::default()),
        }
    }
}

/// Waits until `endpoints` says so of a server.
fn wait_for_state(trio: &Trio, victim: usize, state: &str) -> Result<()> {
    eventually(&format!("{} to be {state}", Trio::NAMES[victim]), || {
        let view = trio.view(&trio.servers[victim])?;
        ensure!(view["state"] == state, "{view}; its log:\n{}", trio.agent.log());
        Ok(())
    })
}

fn all_three_answer(load: &Load) -> Result<()> {
    load.wait("all three to answer", load.seen().len(), |seen| answers(seen).len() == 3)
}

fn failed(seen: &[Attempt]) -> Vec<&Attempt> {
    seen.iter().filter(|attempt| attempt.failed()).collect()
}

/// Nothing but 200s.
fn no_failure(load: &Load, agent: &Agent) -> Result<()> {
    let seen = load.seen();
    let failed = failed(&seen);
    ensure!(failed.is_empty(), "{failed:?} of {}\n{}", seen.len(), agent.log());
    Ok(())
}

#[test]
fn no_fault_costs_a_request_on_the_proxy_path() -> Result<()> {
    let mut trio = Trio::ip4("failproxy", ("http", "proxy"), PROXY)?;
    let load = Load::keeping(&trio.client, &trio.address(), "GET", 6)?;
    all_three_answer(&load)?;
    for (fault, victim) in FAULTS.into_iter().zip([0, 1, 2, 0, 1]) {
        fault.begin(&mut trio, victim, 503)?;
        let begun = Instant::now();
        wait_for_state(&trio, victim, "ejected")?;
        eprintln!("proxy path, {fault:?}: none goes there after {:?}", begun.elapsed());
        let from = load.seen().len();
        load.wait("the others to carry all", from, |seen| {
            // Those that were under way there are done with their tries by then.
            seen.len() > 100 && !answers(&seen[50..]).contains_key(Trio::NAMES[victim])
        })?;
        fault.end(&mut trio, victim)?;
        wait_for_state(&trio, victim, "available")?;
        all_three_answer(&load)?;
        no_failure(&load, &trio.agent)?;
    }
    Ok(())
}

#[test]
fn each_client_meets_a_dead_instance_once_on_the_kernel_path() -> Result<()> {
    on_the_kernel_path("faildead", &[Fault::Killed, Fault::CutOff, Fault::Failing])
}

#[test]
fn a_silent_instance_is_left_out_once_clients_gave_up_on_the_kernel_path() -> Result<()> {
    on_the_kernel_path("failsilent", &[Fault::Frozen, Fault::Slow])
}

fn on_the_kernel_path(name: &str, faults: &[Fault]) -> Result<()> {
    let mut trio = Trio::ip4(name, ("tcp", "kernel"), KERNEL)?;
    let mut clients = vec![trio.client.clone()];
    for name in ["second", "third"] {
        clients.push(trio.world.client(name)?);
    }
    let loads = clients.iter().map(|client| Load::connecting(client, &trio.address(), 1));
    let loads = loads.collect::<Result<Vec<_>>>()?;
    for (&fault, victim) in faults.iter().zip(0..) {
        loads.iter().try_for_each(all_three_answer)?;
        let before: Vec<_> = loads.iter().map(|load| load.seen().len()).collect();
        let ejections = trio.times_logged(EJECTED);
        fault.begin(&mut trio, victim, 0)?;
        let begun = Instant::now();
        trio.logged(EJECTED, ejections + 1)?;
        let ejected = begun.elapsed();
        // No exile is over yet: nothing of this is a probe's.
        let seen: Vec<_> =
            loads.iter().zip(&before).map(|(load, &before)| load.since(before)).collect();
        let connects = seen.iter().map(|seen| seen.iter().filter(|one| one.failed_to_connect()));
        let connects: Vec<_> = connects.map(Iterator::count).collect();
        let others = seen.iter().map(|seen| failed(seen).len()).sum::<usize>()
            - connects.iter().sum::<usize>();
        eprintln!(
            "kernel path, {fault:?}: failed connects {connects:?}, other failures {others}, \
             none goes there after {ejected:?}"
        );
        ensure!(connects.iter().all(|&failed| failed <= 1), "{fault:?}: {seen:?}");
        // Who was connected when it happened; and where connects succeed, as many
        // as eject, and who was under way meanwhile.
        let most = match fault {
            Fault::Killed | Fault::CutOff => loads.len(),
            Fault::Frozen | Fault::Failing | Fault::Slow => RESPONSES + loads.len() - 1,
        };
        ensure!(others <= most, "{fault:?}: {seen:?}");
        let from: Vec<_> = loads.iter().map(|load| load.seen().len()).collect();
        if fault == Fault::Killed {
            // While it is dead, each exile ends with exactly one probe.
            trio.logged(EJECTED, ejections + 2)?;
        }
        fault.end(&mut trio, victim)?;
        wait_for_state(&trio, victim, "available")?;
        loads.iter().try_for_each(all_three_answer)?;
        let after = loads.iter().zip(from).flat_map(|(load, from)| load.since(from));
        let after: Vec<_> = after.filter(Attempt::failed).collect();
        let probes = trio.times_logged(EJECTED) - ejections - 1;
        match fault {
            Fault::Killed => ensure!(after.len() == probes, "{probes} probes: {after:?}"),
            // Those that were under way, and the probes.
            _ => ensure!(after.len() <= probes + loads.len(), "{probes} probes: {after:?}"),
        }
    }
    Ok(())
}

#[test]
fn bodies_are_sent_again() -> Result<()> {
    let mut trio = Trio::ip4("failpost", ("http", "proxy"), PROXY)?;
    let load = Load::keeping(&trio.client, &trio.address(), "POST", 6)?;
    all_three_answer(&load)?;
    Fault::Frozen.begin(&mut trio, 0, 0)?;
    wait_for_state(&trio, 0, "ejected")?;
    Fault::Frozen.end(&mut trio, 0)?;
    wait_for_state(&trio, 0, "available")?;
    no_failure(&load, &trio.agent)?;
    let seen = load.seen();
    let whole = |attempt: &Attempt| attempt.what.ends_with("-5000");
    ensure!(seen.iter().all(whole), "not whole: {:?}", seen.iter().find(|one| !whole(one)));
    Ok(())
}

/// An instance that takes 300 ms for an answer is probed: until it has given it,
/// no second request goes there.
fn one_probe_decides(name: &str, way: (&'static str, &'static str), policy: &str) -> Result<()> {
    let mut trio = Trio::ip4(name, way, policy)?;
    let load = Load::connecting(&trio.client, &trio.address(), 6)?;
    all_three_answer(&load)?;
    Fault::Failing.begin(&mut trio, 0, if way.1 == "proxy" { 503 } else { 0 })?;
    wait_for_state(&trio, 0, "ejected")?;
    let well = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let victim = &trio.servers[0];
    victim.be(Mood { delay: Duration::from_millis(300), ..Mood::default() })?;
    wait_for_state(&trio, 0, "available")?;
    let seen = victim.seen();
    let answered: Vec<_> =
        seen.iter().filter(|seen| seen.at > well && seen.status == 200).collect();
    ensure!(answered.len() >= 2, "back without an answer: {seen:?}");
    ensure!(answered[0].begun && !answered[1].begun, "one alone decides: {answered:?}");
    victim.be(Mood::default())?;
    all_three_answer(&load)
}

#[test]
fn exactly_one_probe_brings_an_instance_back_on_the_proxy_path() -> Result<()> {
    one_probe_decides("probeproxy", ("http", "proxy"), PROXY)
}

#[test]
fn exactly_one_probe_brings_an_instance_back_on_the_kernel_path() -> Result<()> {
    one_probe_decides("probekernel", ("tcp", "kernel"), KERNEL)
}

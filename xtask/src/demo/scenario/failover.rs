//! One instance after the other fails, each in another way, under constant
//! requests on both paths: what it costs, and how long anything goes there.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use mesh_tests::{Attempt, Load, Pod, eventually, link, server::Mood};

use crate::demo::{
    Binaries,
    play::{self, Play},
    report::{self, Report, heading},
    traffic::Samples,
};

const NAMES: [&str; 3] = ["shop-1", "shop-2", "shop-3"];
const CLIENTS: usize = 3;
/// Responses that eject; connects are 3.
const RESPONSES: usize = 5;
const EJECTED: &str = "ejected on the kernel path";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    Frozen,
    CutOff,
    Failing,
    Slow,
}

const FAULTS: [Fault; 5] =
    [Fault::Killed, Fault::Frozen, Fault::CutOff, Fault::Failing, Fault::Slow];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Killed => "crashes",
            Self::Frozen => "freezes",
            Self::CutOff => "is cut off",
            Self::Failing => "answers 503",
            Self::Slow => "takes 2 s for an answer",
        }
    }

    /// Nobody reads what is answered on the kernel path.
    fn shows_on_the_kernel_path(self) -> bool {
        self != Self::Failing
    }

    fn set(self, play: &mut Play, victim: usize, on: bool) -> Result<()> {
        let server = &mut play.servers[victim];
        let (name, pid) = (&server.pod.name, server.process.pid());
        match (self, on) {
            (Self::Killed, true) => {
                report::command("host", &format!("kill -9 {pid}   # {name}"));
                server.process.kill9()
            }
            (Self::Killed, false) => server.restart(),
            (Self::Frozen, true) => play::signal("STOP", pid),
            (Self::Frozen, false) => play::signal("CONT", pid),
            (Self::CutOff, on) => {
                let state = if on { "down" } else { "up" };
                report::command(name, &format!("ip link set eth0 {state}"));
                link(&server.pod, state)
            }
            (Self::Failing, true) => server.be(Mood { status: 503, ..Mood::default() }),
            (Self::Slow, true) => {
                server.be(Mood { delay: Duration::from_secs(2), ..Mood::default() })
            }
            (Self::Failing | Self::Slow, false) => server.be(Mood::default()),
        }
    }
}

pub fn show(binaries: &Binaries, report: &mut Report) -> Result<Play> {
    let failover = "failover: {base: 2s, max: 10s}, timeout: {connect: 300ms}";
    let retry = "retry: {on: [gateway-error, reset, connect-failure], perTryTimeout: 500ms}";
    let mut play = Play::set_up(binaries, &NAMES, "", |_, servers| {
        let endpoints = play::fixed(servers);
        let (proxy, kernel) = (format!("{{{failover}, {retry}}}"), format!("{{{failover}}}"));
        Ok(play::service("shop", 10, ("http", "proxy"), &endpoints, &proxy)
            + &play::service("shop-tcp", 11, ("tcp", "kernel"), &endpoints, &kernel))
    })?;
    let loads = Loads::start(&play)?;
    for (fault, victim) in FAULTS.into_iter().zip([1, 2, 0, 1, 2]) {
        fail(&mut play, report, &loads, fault, victim)?;
    }
    Ok(play)
}

/// Requests without end.
struct Loads {
    /// Over six kept connections.
    proxied: Load,
    /// A connection for each, one after the other, from a pod each.
    kernel: Vec<Load>,
}

impl Loads {
    fn start(play: &Play) -> Result<Self> {
        let more = (1..CLIENTS).map(|n| play.world.client(&format!("client-{}", n + 1)));
        let mut pods = vec![play.client.clone()];
        pods.extend(more.collect::<Result<Vec<Pod>>>()?);
        report::command("client", "GET http://shop/ without end, over 6 kept connections");
        let proxied = Load::keeping(&play.client, "10.96.0.10", "GET", 6)?;
        report::command(
            "client, client-2, client-3",
            "GET http://shop-tcp/ without end, one after the other, a connection for each",
        );
        let kernel = pods.iter().map(|pod| Load::connecting(pod, "10.96.0.11", 1));
        let loads = Self { proxied, kernel: kernel.collect::<Result<_>>()? };
        loads.wait()?;
        Ok(loads)
    }

    /// Until all three answer everybody.
    fn wait(&self) -> Result<()> {
        for load in std::iter::once(&self.proxied).chain(&self.kernel) {
            load.wait("all three to answer", load.seen().len(), |seen| {
                mesh_tests::answers(seen).len() == NAMES.len()
            })?;
        }
        Ok(())
    }

    fn lengths(&self) -> (usize, Vec<usize>) {
        let of = |load: &Load| load.seen().len();
        (of(&self.proxied), self.kernel.iter().map(of).collect())
    }
}

fn fail(
    play: &mut Play,
    report: &mut Report,
    loads: &Loads,
    fault: Fault,
    victim: usize,
) -> Result<()> {
    let what = format!("{} {}", NAMES[victim], fault.name());
    heading(&what);
    loads.wait()?;
    let (before, kernel_before) = loads.lengths();
    let logged = |play: &Play| play.agent.log().matches(EJECTED).count();
    let exiles = logged(play);
    fault.set(play, victim, true)?;
    let begun = Instant::now();
    let proxied = left_after(play, "shop", victim, "ejected", begun)?;
    let both = if fault.shows_on_the_kernel_path() {
        Some(left_after(play, "shop-tcp", victim, "ejected", begun)?)
    } else {
        None
    };
    let seen = loads.kernel.iter().zip(&kernel_before);
    let first: Vec<_> = seen.map(|(load, &before)| load.since(before)).collect();
    let from = loads.lengths().1;
    play.ask("endpoints")?;
    thread::sleep(Duration::from_secs(1));
    fault.set(play, victim, false)?;
    let since = Instant::now();
    left_after(play, "shop", victim, "available", since)?;
    left_after(play, "shop-tcp", victim, "available", since)?;
    loads.wait()?;

    let all = loads.proxied.since(before);
    timeline("proxy", &all);
    let failed = all.iter().filter(|one| one.failed()).count();
    report.check(
        &format!("proxy path, {what}"),
        "0 failed",
        &format!("{failed} failed of {}, none goes there after {proxied:.2} s", all.len()),
        failed == 0,
    );
    let Some(both) = both else { return Ok(()) };
    let connects = first.iter().map(|seen| seen.iter().filter(|one| one.failed_to_connect()));
    let connects: Vec<_> = connects.map(Iterator::count).collect();
    let others = first.iter().flatten().filter(|one| one.failed() && !one.failed_to_connect());
    let others = others.count();
    let most = match fault {
        Fault::Killed | Fault::CutOff => CLIENTS,
        _ => RESPONSES + CLIENTS - 1,
    };
    report.check(
        &format!("kernel path, {what}"),
        &format!("at most 1 failed connect each, {most} failed requests"),
        &format!("{connects:?}, {others}; none goes there after {both:.2} s"),
        connects.iter().all(|&failed| failed <= 1) && others <= most,
    );
    let later = loads.kernel.iter().zip(from).flat_map(|(load, from)| load.since(from));
    let later: Vec<_> = later.filter(Attempt::failed).collect();
    let probes = logged(play) - exiles - 1;
    let under_way = if fault == Fault::Killed { 0 } else { CLIENTS };
    report.check(
        &format!("kernel path, {what}: after that"),
        &format!("one probe for each exile: {probes} failed, and who was under way"),
        &format!("{} failed", later.len()),
        later.len() <= probes + under_way,
    );
    Ok(())
}

/// Seconds from then until `endpoints` says so of an instance.
fn left_after(
    play: &Play,
    service: &str,
    victim: usize,
    state: &str,
    from: Instant,
) -> Result<f64> {
    let address = format!("{}:80", play.servers[victim].pod.ip4);
    eventually(&format!("{address} of {service} to be {state}"), || {
        let endpoints = play.endpoints(service)?;
        let found = endpoints.iter().find(|view| view["address"] == address.as_str());
        match found {
            Some(view) if view["state"] == state => Ok(from.elapsed().as_secs_f64()),
            other => bail!("{other:?}"),
        }
    })
}

fn timeline(path: &str, seen: &[Attempt]) {
    println!("  {path} path:");
    Samples::from(seen).print_timeline(&NAMES, 1.0);
}

//! Failing instances of the kernel path: left out after a few failures, tried
//! again by one connection.

use std::{collections::BTreeMap, process::Command, time::Duration};

use anyhow::{Result, ensure};
use mesh_tests::{
    Agent, Pod, Process, Service, World, eventually_for, output,
    server::{Fickle, Mood},
};
use nix::sys::signal::Signal;

/// Connects all the time and prints a line for each: when, how long it took,
/// and who answered or what went wrong.
const LOAD: &str = r#"
import errno, socket, sys, time
while True:
    start = time.monotonic()
    try:
        connection = socket.socket()
        connection.settimeout(1.5)
        connection.connect((sys.argv[1], 80))
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        body = b"".join(iter(lambda: connection.recv(4096), b""))
        what = body.split()[-1].decode()
    except OSError as error:
        what = "!" + errno.errorcode.get(error.errno, repr(error))
    finally:
        connection.close()
    print("%.3f %.3f %s" % (start, time.monotonic() - start, what), flush=True)
    time.sleep(0.01)
"#;

struct Scene {
    servers: Vec<Fickle>,
    agent: Agent,
    load: Process,
    _client: Pod,
    _world: World,
}

#[derive(Clone, Debug)]
struct Attempt {
    took: f64,
    what: String,
}

impl Scene {
    fn new(name: &str, policy: &str) -> Result<Self> {
        let world = World::new(name)?;
        let servers = ["one", "two", "three"].map(|name| Fickle::start(&world.backend(name)?));
        let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
        let client = world.client("client")?;
        let pods = servers.iter().map(|server| &server.pod);
        let service = Service::new("web", 20, ("tcp", "kernel"), pods, 80);
        let agent = Agent::start(&world, &service.under(&format!("{{{policy}}}")))?;
        agent.wait_for(&client)?;
        let load = client.spawn("python3", ["-c", LOAD, &service.ip4().to_string()])?;
        let scene = Self { servers, agent, load, _client: client, _world: world };
        scene.wait("all three to answer", 0, |seen| answers(seen).len() == 3)?;
        Ok(scene)
    }

    fn seen(&self, from: usize) -> Vec<Attempt> {
        let log = self.load.log();
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        (whole.lines().skip(from))
            .filter_map(|line| {
                let mut fields = line.split(' ').skip(1);
                let took = fields.next()?.parse().ok()?;
                Some(Attempt { took, what: fields.next()?.to_owned() })
            })
            .collect()
    }

    /// Waits for what is seen from the `from`th attempt on.
    fn wait(&self, what: &str, from: usize, is: impl Fn(&[Attempt]) -> bool) -> Result<()> {
        eventually_for(Duration::from_secs(40), what, || {
            let seen = self.seen(from);
            let last = &seen[seen.len().saturating_sub(20)..];
            ensure!(is(&seen), "{} attempts, the last: {last:?}", seen.len());
            Ok(())
        })
    }

    /// Waits until the agent has logged this so often.
    fn logged(&self, text: &str, times: usize) -> Result<()> {
        eventually_for(Duration::from_secs(40), text, || {
            let log = self.agent.log();
            let found = log.lines().filter(|line| line.contains(text)).count();
            ensure!(found >= times, "{found} times");
            Ok(())
        })
    }
}

fn answers(seen: &[Attempt]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for attempt in seen.iter().filter(|attempt| !attempt.what.starts_with('!')) {
        *counts.entry(attempt.what.as_str()).or_insert(0) += 1;
    }
    counts
}

fn failures(seen: &[Attempt]) -> Vec<&Attempt> {
    seen.iter().filter(|attempt| attempt.what.starts_with('!')).collect()
}

const POLICY: &str = "loadBalancer: {algorithm: roundRobin}, timeout: {connect: 300ms}, \
    slowStart: {window: 1s}, \
    failover: {consecutiveFailures: 2, base: 2s, max: 4s}";

#[test]
fn a_killed_instance_costs_no_more_than_the_threshold() -> Result<()> {
    let mut scene = Scene::new("kkill", POLICY)?;
    let before = scene.seen(0).len();
    scene.servers[0].process.kill9()?;
    scene.logged("ejected on the kernel path", 1)?;
    scene.logged("connects failed in a row, on the kernel path", 1)?;
    let ejected = scene.seen(0).len();
    // Those that were refused before it was ejected, and a reset one.
    let failed = scene.seen(before);
    let failed = failures(&failed);
    assert!((2..=3).contains(&failed.len()), "{failed:?}");
    // While it is dead each exile ends with exactly one probe: two of them.
    scene.logged("ejected on the kernel path", 3)?;
    let seen = scene.seen(ejected);
    assert!((1..=3).contains(&failures(&seen).len()), "{:?}", failures(&seen));
    assert!(!answers(&seen).contains_key("one"));
    // It comes back by itself, and gets its share.
    scene.servers[0].restart()?;
    scene.logged("back in service on the kernel path", 1)?;
    let back = scene.seen(0).len();
    scene.wait("its share", back + 150, |seen| {
        seen.len() > 60 && answers(seen).get("one").is_some_and(|&n| n * 100 / seen.len() > 20)
    })?;
    let after = scene.seen(back);
    assert!(failures(&after).is_empty(), "{:?}", failures(&after));
    Ok(())
}

#[test]
fn an_unreachable_instance_costs_the_connect_timeout() -> Result<()> {
    let scene = Scene::new("kcut", POLICY)?;
    let before = scene.seen(0).len();
    let netns = scene.servers[1].pod.netns.clone();
    link(&netns, "down")?;
    scene.logged("ejected on the kernel path", 1)?;
    let seen = scene.seen(before);
    let failed = failures(&seen);
    assert!((2..=3).contains(&failed.len()), "{failed:?}");
    // Set on the socket: neither the minutes of the kernel, nor the client's 1.5 s.
    for attempt in failed {
        let quick = attempt.what == "!EHOSTUNREACH";
        assert!((quick || attempt.took > 0.2) && attempt.took < 1.4, "{attempt:?}");
    }
    let ejected = scene.seen(0).len();
    scene.wait("traffic without it", ejected, |seen| seen.len() > 60)?;
    link(&netns, "up")?;
    scene.logged("back in service on the kernel path", 1)?;
    let back = scene.seen(0).len();
    scene.wait("all three to answer", back, |seen| answers(seen).len() == 3)
}

fn link(netns: &str, state: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-n", netns, "link", "set", "eth0", state]);
    let output = output(command)?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

/// Answers no request, but resets the connection once it has one.
const RESETTER: &str = r#"
import socket, struct
server = socket.create_server(("", 80), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
while True:
    connection, _ = server.accept()
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
"#;

#[test]
fn resets_before_the_answer_eject() -> Result<()> {
    let mut scene = Scene::new("kreset", POLICY)?;
    scene.servers[2].process.kill9()?;
    let resetter = scene.servers[2].pod.spawn("python3", ["-c", RESETTER])?;
    scene.logged("ejected on the kernel path", 2)?;
    scene.logged("connections broke before an answer, in a row, on the kernel path", 1)?;
    let from = scene.seen(0).len();
    scene.wait("a probe that is reset", from, |seen| {
        seen.iter().any(|attempt| attempt.what == "!ECONNRESET")
    })?;
    drop(resetter);
    scene.servers[2].restart()?;
    scene.logged("back in service on the kernel path", 1)?;
    let back = scene.seen(0).len();
    scene.wait("all three to answer", back, |seen| answers(seen).len() == 3)
}

#[test]
fn when_all_fail_they_are_used_all_the_same() -> Result<()> {
    let mut scene = Scene::new("kpanic", POLICY)?;
    for server in &mut scene.servers {
        server.process.kill9()?;
    }
    // At most one of three leaves; the others go on refusing.
    scene.logged("ejected on the kernel path", 1)?;
    let from = scene.seen(0).len();
    scene.wait("refusals", from, |seen| failures(seen).len() > 30)?;
    let seen = scene.seen(from);
    assert!(seen.iter().all(|attempt| attempt.what == "!ECONNREFUSED"), "{seen:?}");
    for server in &mut scene.servers {
        server.restart()?;
    }
    let from = scene.seen(0).len();
    scene.wait("all three to answer", from, |seen| answers(seen).len() == 3)
}

#[test]
fn a_frozen_instance_is_left_out_once_clients_gave_up() -> Result<()> {
    let scene = Scene::new("kfrozen", POLICY)?;
    // Its kernel goes on taking connections: what tells is that clients give up
    // on an instance that used to answer.
    scene.servers[0].process.signal(Signal::SIGSTOP)?;
    scene.logged("ejected on the kernel path", 1)?;
    let why = "clients got no answer and gave up, in a row, on the kernel path";
    scene.logged(why, 1)?;
    let endpoints = scene.agent.json(["endpoints", "web"])?;
    assert!(endpoints.to_string().contains(why), "{endpoints}");
    let from = scene.seen(0).len();
    scene.wait("traffic without it", from, |seen| seen.len() > 60)?;
    scene.servers[0].process.signal(Signal::SIGCONT)?;
    scene.logged("back in service on the kernel path", 1)
}

/// Has one answer, then sends ten requests and aborts each before its answer:
/// `SO_LINGER` 0 makes the kernel send a reset. Then it begins ten connects, and
/// gives them up at once.
const ABORTS: &str = r#"
import socket, struct, sys
for number in range(12):
    one = socket.create_connection((sys.argv[1], 80), 5)
    one.sendall(b"GET / HTTP/1.0\r\n\r\n")
    if number < 2:
        while one.recv(4096):
            pass
    else:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()
for number in range(10):
    one = socket.socket()
    one.setblocking(False)
    one.connect_ex((sys.argv[1], 80))
    one.close()
"#;

#[test]
fn what_a_client_aborts_is_no_failure_of_the_instance() -> Result<()> {
    let world = World::new("kabort")?;
    let servers = ["one", "two"].map(|name| Fickle::start(&world.backend(name)?));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    for server in &servers {
        server.be(Mood { delay: Duration::from_millis(300), ..Mood::default() })?;
    }
    let client = world.client("client")?;
    let pods = servers.iter().map(|server| &server.pod);
    let service = Service::new("web", 20, ("tcp", "kernel"), pods, 80);
    let agent = Agent::start(&world, &service.under(&format!("{{{POLICY}}}")))?;
    agent.wait_for(&client)?;
    client.run("python3", ["-c", ABORTS, &service.ip4().to_string()])?;
    let status = agent.json(["status"])?;
    let reasons = status["reasons"].as_array().cloned().unwrap_or_default();
    let count = |name: &str| {
        let found = reasons.iter().find(|reason| reason["name"] == name);
        found.and_then(|reason| reason["count"].as_u64())
    };
    assert_eq!(count("ejected").unwrap_or(0), 0, "{reasons:?}");
    assert_eq!(count("ejection-capped").unwrap_or(0), 0, "{reasons:?}");
    assert!(count("balanced").is_some_and(|count| count >= 22), "{reasons:?}");
    Ok(())
}

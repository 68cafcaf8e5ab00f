//! Instances that fail under constant load from a pod, on the proxy path.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Result, ensure};
use mesh_tests::{Agent, Pod, Process, Service, World, eventually, example, server::Moody, text};
use nix::sys::signal::Signal;

/// Everything short, so that a test is.
const POLICY: &str = "failover: {base: 500ms, max: 2s}, \
    retry: {on: [connect-failure, refused-stream, reset, gateway-error], perTryTimeout: 400ms}";

/// Three instances behind one service, and a pod that asks for it.
struct Scene {
    agent: Agent,
    client: Pod,
    servers: Vec<Moody>,
    service: Service,
    _world: World,
}

fn scene(name: &str, policy: &str) -> Result<Scene> {
    let world = World::new(name)?;
    let servers = ["one", "two", "three"].map(|name| Moody::start(&world.backend(name)?));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    let client = world.client("client")?;
    let service = web(servers.iter().map(|server| &server.pod));
    let agent = Agent::start(&world, &with(&service, policy))?;
    agent.wait_for(&client)?;
    Ok(Scene { agent, client, servers, service, _world: world })
}

/// One address for each instance: two would be two instances that fail together.
fn web<'a>(pods: impl Iterator<Item = &'a Pod>) -> Service {
    let mut service = Service::new("web", 20, ("http", "proxy"), pods, 80);
    service.instances.retain(std::net::SocketAddr::is_ipv4);
    service
}

fn with(service: &Service, policy: &str) -> String {
    let ours = "algorithm: roundRobin}";
    service.to_string().replace(ours, &format!("{ours}, {policy}"))
}

/// Asks without pause from several connections until it is told to stop, and
/// prints how often it got what.
const LOAD: &str = r#"
import collections, http.client, os, sys, threading, time

address, method, stop = sys.argv[1:]
body = b"x" * 5000 if method == "POST" else None
counts, lock = collections.Counter(), threading.Lock()
end = time.monotonic() + 30

def ask():
    connection = http.client.HTTPConnection(address, 80, timeout=10)
    while not os.path.exists(stop) and time.monotonic() < end:
        try:
            connection.request(method, "/", body)
            answer = connection.getresponse()
            text = answer.read().decode().strip()
            outcome = "%d %s" % (answer.status, text)
        except Exception as error:
            outcome = repr(error)
            connection.close()
        with lock:
            counts[outcome] += 1
        time.sleep(0.002)

threads = [threading.Thread(target=ask) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
for outcome, count in counts.items(): print(count, outcome)
"#;

/// Load that goes on until it is ended.
struct Load<'a> {
    client: &'a Pod,
    process: Process,
}

impl<'a> Load<'a> {
    fn start(scene: &'a Scene, method: &str) -> Result<Self> {
        let client = &scene.client;
        let stop = client.folder.join("stop").display().to_string();
        let address = scene.service.ip4().to_string();
        let process = client.spawn("python3", ["-c", LOAD, &address, method, &stop])?;
        let load = Self { client, process };
        // Under way everywhere before anything happens.
        for server in &scene.servers {
            eventually("load on every instance", || {
                let seen = server.requests();
                if seen > 20 { Ok(()) } else { Err(seen) }
            })?;
        }
        Ok(load)
    }

    /// Outcomes by how often they came.
    fn end(mut self) -> Result<BTreeMap<String, usize>> {
        self.client.file("stop", "")?;
        ensure!(self.process.wait()?.success(), "{}", self.process.log());
        let printed = self.process.log();
        let lines = printed.lines().filter_map(|line| line.split_once(' '));
        Ok(lines
            .filter_map(|(count, outcome)| Some((outcome.to_owned(), count.parse().ok()?)))
            .collect())
    }
}

/// Nothing but 200s.
fn no_failure(outcomes: &BTreeMap<String, usize>, agent: &Agent) -> Result<()> {
    let failed: Vec<_> = outcomes.iter().filter(|(text, _)| !text.starts_with("200 ")).collect();
    ensure!(failed.is_empty(), "{failed:?} of {outcomes:?}\n{}", agent.log());
    Ok(())
}

impl Scene {
    fn wait_for_metric(&self, name: &str, pod: &Pod, wanted: f64) -> Result<()> {
        wait_for_metric(&self.agent, name, &[format!("instance=\"{}:", pod.ip4)], wanted)
    }
}

/// Until the metric that has all these labels has this value.
fn wait_for_metric(agent: &Agent, name: &str, labels: &[String], wanted: f64) -> Result<()> {
    let url = format!("http://{}/metrics", agent.http());
    eventually(&format!("{name}{labels:?} to be {wanted}"), || {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", &url]);
        let page = text(command)?;
        let line = (page.lines())
            .find(|line| line.starts_with(name) && labels.iter().all(|one| line.contains(one)));
        let value: Option<f64> = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        ensure!(value == Some(wanted), "it is {value:?}; its log:\n{}", agent.log());
        Ok(())
    })
}

const EJECTED: &str = "mesh_instance_ejected{";

#[test]
fn an_instance_that_answers_503_and_one_that_is_killed_cost_no_request() -> Result<()> {
    let mut scene = scene("failkill", POLICY)?;
    let load = Load::start(&scene, "GET")?;
    let sick = &scene.servers[1];
    sick.set_sick(true)?;
    scene.wait_for_metric(EJECTED, &sick.pod, 1.0)?;
    sick.set_sick(false)?;
    scene.wait_for_metric(EJECTED, &sick.pod, 0.0)?;
    scene.servers[0].process.signal(Signal::SIGKILL)?;
    scene.wait_for_metric(EJECTED, &scene.servers[0].pod, 1.0)?;
    let before = scene.servers[2].requests();
    eventually("the others to carry all", || {
        let more = scene.servers[2].requests() - before;
        if more > 100 { Ok(()) } else { Err(more) }
    })?;
    let outcomes = load.end()?;
    no_failure(&outcomes, &scene.agent)?;
    scene.servers[0].process.kill9()
}

#[test]
fn an_instance_that_is_cut_off_costs_no_request_and_returns() -> Result<()> {
    let scene = scene("failcut", POLICY)?;
    let victim = &scene.servers[0].pod;
    let load = Load::start(&scene, "GET")?;
    victim.shell("ip link set eth0 down")?;
    scene.wait_for_metric(EJECTED, victim, 1.0)?;
    victim.shell("ip link set eth0 up")?;
    scene.wait_for_metric(EJECTED, victim, 0.0)?;
    let before = scene.servers[0].requests();
    eventually("it to serve again", || {
        if scene.servers[0].requests() > before + 5 { Ok(()) } else { Err("nothing yet") }
    })?;
    no_failure(&load.end()?, &scene.agent)
}

#[test]
fn a_frozen_instance_costs_posts_a_try_and_their_bodies_are_sent_again() -> Result<()> {
    let scene = scene("failfreeze", POLICY)?;
    let victim = &scene.servers[0];
    let load = Load::start(&scene, "POST")?;
    victim.process.signal(Signal::SIGSTOP)?;
    scene.wait_for_metric(EJECTED, &victim.pod, 1.0)?;
    victim.process.signal(Signal::SIGCONT)?;
    scene.wait_for_metric(EJECTED, &victim.pod, 0.0)?;
    let outcomes = load.end()?;
    no_failure(&outcomes, &scene.agent)?;
    ensure!(outcomes.keys().all(|text| text.ends_with(" 5000")), "whole bodies: {outcomes:?}");
    Ok(())
}

#[test]
fn exactly_one_probe_brings_an_instance_back() -> Result<()> {
    let scene = scene("failprobe", POLICY)?;
    let victim = &scene.servers[0];
    let load = Load::start(&scene, "GET")?;
    victim.set_sick(true)?;
    scene.wait_for_metric(EJECTED, &victim.pod, 1.0)?;
    // Those that were under way are done.
    eventually("nothing to be under way there", || {
        let log = victim.process.log();
        let count = |what: &str| log.lines().filter(|line| *line == what).count();
        if count("begun") == count("done") { Ok(()) } else { Err("still busy") }
    })?;
    let before = victim.requests();
    victim.set_slow(true)?;
    victim.set_sick(false)?;
    scene.wait_for_metric(EJECTED, &victim.pod, 0.0)?;
    let log = victim.process.log();
    let mut lines = log.lines().filter(|line| matches!(*line, "begun" | "done")).skip(2 * before);
    ensure!(lines.next() == Some("begun"), "{log}");
    ensure!(lines.next() == Some("done"), "one request alone decides: {log}");
    victim.set_slow(false)?;
    no_failure(&load.end()?, &scene.agent)
}

/// What is checked stands where the agent is, on the loopback address: pods have
/// no way to it, nor it to them.
#[test]
fn active_checks_of_all_kinds_take_out_who_fails_them() -> Result<()> {
    let world = World::new("failcheck")?;
    let port = |base: u16| base + world.lane();
    let (well, sick, grpc, nobody) = (port(18_100), port(18_110), port(18_120), port(18_130));
    let start = |program: &str, arguments: &[&str]| {
        let mut command = world.command(program, 60)?;
        command.args(arguments);
        Process::start(program, command, world.folder().join("servers.log"))
    };
    let web = |port: u16| {
        let folder = world.folder().join(format!("web{port}"));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("healthz"), "well")?;
        let (number, path) = (port.to_string(), folder.display().to_string());
        let server = ["-m", "http.server", &number, "--bind", "127.0.0.1", "--directory", &path];
        anyhow::Ok((start("python3", &server)?, folder.join("healthz")))
    };
    let (_well, _) = web(well)?;
    let (sick_server, file) = web(sick)?;
    let program = example("grpc")?.display().to_string();
    let _grpc = start(&program, &["server", "serving", &grpc.to_string()])?;

    let service = |name: &str, number, ports: &[u16], check: &str| {
        let mut service = Service::new(name, number, ("http", "proxy"), [], 80);
        service.instances = ports.iter().map(|&port| ([127, 0, 0, 1], port).into()).collect();
        let policy = format!(
            "locality: {{panicThreshold: 0%}}, \
             healthCheck: {{{check}, interval: 100ms, timeout: 2s, unhealthy: 2}}"
        );
        with(&service, &policy)
    };
    let services = [
        service("byhttp", 20, &[well, sick], "http: {path: /healthz, status: 200-299}"),
        service("bygrpc", 21, &[well, grpc], "grpc: {}"),
        service("bytcp", 22, &[sick, nobody], "tcp: {}"),
    ];
    let agent = Agent::start(&world, &services.concat())?;
    let available = |service: &str, port: u16, wanted: f64| {
        let labels = [format!("service=\"{service}\""), format!("instance=\"127.0.0.1:{port}\"")];
        wait_for_metric(&agent, "mesh_instance_available{", &labels, wanted)
    };
    available("byhttp", well, 1.0)?;
    available("byhttp", sick, 1.0)?;
    available("bygrpc", grpc, 1.0)?;
    available("bygrpc", well, 0.0)?;
    available("bytcp", sick, 1.0)?;
    available("bytcp", nobody, 0.0)?;
    fs::remove_file(&file)?;
    available("byhttp", sick, 0.0)?;
    available("bytcp", sick, 1.0)?;
    fs::write(&file, "well again")?;
    available("byhttp", sick, 1.0)?;
    // It runs below `timeout`, which hands this on.
    sick_server.signal(nix::sys::signal::Signal::SIGTERM)?;
    available("bytcp", sick, 0.0)?;
    available("byhttp", sick, 0.0)?;
    // Nobody is asked any more: it counts as healthy.
    agent.reload(&services.concat().replace("tcp: {}, interval", "http: {path: /}, interval"))?;
    available("bytcp", nobody, 0.0)?;
    let unchecked = with(&Service::new("bytcp", 22, ("http", "proxy"), [], 80), "onRemoval: keep")
        .replace("        []", &format!("        - {{address: 127.0.0.1, port: {nobody}}}"));
    agent.reload(&unchecked)?;
    available("bytcp", nobody, 1.0)
}

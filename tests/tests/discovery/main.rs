//! Instances out of DNS and HTTP: they come, change and stay with what serves,
//! whatever becomes of the servers that name them.
//!
//! The servers stand where the agent is: on the loopback address of this
//! process's namespace. Consul isn't to be had from a package registry, so its
//! API is spoken by a small server here.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{Agent, Pod, Process, World, eventually, server::Nginx};
use nix::sys::signal::Signal;
use serde_json::Value;

mod dns;
mod http;

/// Longer than any test.
const SECONDS: u32 = 60;
/// Of the service's virtual address.
const URL: &str = "http://10.96.0.20/";

/// Two backends, a client, and the YAML of a service with these endpoints.
struct Scene {
    client: Pod,
    servers: Vec<Nginx>,
    world: World,
}

impl Scene {
    fn new(name: &str) -> Result<Self> {
        let world = World::new(name)?;
        let servers = ["one", "two"].map(|name| Nginx::start(&world.backend(name)?));
        let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(Self { client: world.client("client")?, servers, world })
    }

    fn agent(&self, protocol: &str, endpoints: &str) -> Result<Agent> {
        let agent = Agent::start(&self.world, &service(protocol, endpoints))?;
        agent.wait_for(&self.client)?;
        Ok(agent)
    }

    fn ip(&self, number: usize) -> String {
        self.servers[number].pod.ip4.to_string()
    }

    /// A port of the loopback address that no other world uses.
    fn port(&self, base: u16) -> u16 {
        base + self.world.lane()
    }

    fn file(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.world.folder().join(name);
        // In one step: a server must not read half of it.
        let fresh = self.world.folder().join(format!("{name}.new"));
        fs::write(&fresh, content)?;
        fs::rename(fresh, &path)?;
        Ok(path)
    }

    fn start(&self, program: &str, arguments: &[&str]) -> Result<Process> {
        let mut command = self.world.command(program, SECONDS)?;
        command.args(arguments);
        Process::start(program, command, self.world.folder().join(format!("{program}.log")))
    }

    /// Who answers.
    fn answer(&self) -> Result<String> {
        Ok(self.client.curl(["--max-time", "5", URL])?.trim().to_owned())
    }

    /// Until exactly these answer, and no request fails any more.
    fn until(&self, agent: &Agent, names: &[&str]) -> Result<()> {
        eventually(&format!("{names:?} to answer"), || {
            let seen = (0..8).map(|_| self.answer()).collect::<Result<BTreeSet<_>>>()?;
            let expected = names.iter().map(|&name| name.to_owned()).collect();
            ensure!(seen == expected, "{seen:?}; {}", agent.ask(["status"])?);
            Ok(())
        })
    }
}

/// Connects again and again until its input ends; prints how often it worked,
/// and how often not.
const LOAD: &str = r#"
import socket, sys, threading
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
good = bad = 0
while not stop.is_set():
    try:
        with socket.create_connection(("10.96.0.20", 80), 5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n")
            good += b" 200 OK" in b"".join(iter(lambda: connection.recv(4096), b""))
    except OSError:
        bad += 1
print(good, bad)
"#;

struct Load(Child);

impl Load {
    fn start(pod: &Pod) -> Result<Self> {
        let mut command = pod.command("python3")?;
        command.args(["-c", LOAD]);
        Ok(Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?))
    }

    /// Ends it; an error where a single connection failed.
    fn finish(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        let output = String::from_utf8(self.0.wait_with_output()?.stdout)?;
        let (good, bad) = output.trim().split_once(' ').context("two numbers")?;
        ensure!(good.parse::<u32>()? > 10 && bad == "0", "{good} good, {bad} bad");
        Ok(())
    }
}

fn service(protocol: &str, endpoints: &str) -> String {
    format!(
        "  - name: web\n    address: 10.96.0.20\n    \
         ports: [{{port: 80, protocol: {protocol}}}]\n    endpoints: {{{endpoints}}}\n"
    )
}

/// `sources` of `status`.
fn sources(agent: &Agent) -> Result<Vec<Value>> {
    let mut status = agent.json(["status"])?;
    serde_json::from_value(status["sources"].take()).context("status has sources")
}

/// Until the only source is in this state with so many instances.
fn until_state(agent: &Agent, state: &str, instances: u64) -> Result<Value> {
    eventually(&format!("the source to be {state} with {instances}"), || {
        let sources = sources(agent)?;
        let [source] = &sources[..] else { anyhow::bail!("one source: {sources:?}") };
        let right = source["state"] == state && source["instances"] == instances;
        ensure!(right, "{source}");
        Ok(source.clone())
    })
}

fn pid_file(scene: &Scene) -> PathBuf {
    scene.world.folder().join("dnsmasq.pid")
}

/// Has dnsmasq read other hosts. By its own pid: `timeout`, which it runs
/// under, passes each signal on once only.
fn rewrite(scene: &Scene, hosts: &str) -> Result<()> {
    scene.file("hosts", hosts)?;
    let pid = fs::read_to_string(pid_file(scene))?.trim().parse()?;
    Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGHUP)?)
}

fn dnsmasq(scene: &Scene, hosts: &str, more: &[&str]) -> Result<(Process, u16)> {
    let port = scene.port(15_320);
    let hosts = scene.file("hosts", hosts)?;
    let pid_file = format!("--pid-file={}", pid_file(scene).display());
    let (port_option, hosts) =
        (format!("--port={port}"), format!("--addn-hosts={}", hosts.display()));
    let usual = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
        "--no-resolv",
        "--no-hosts",
        "--local=/test/",
        "--local-ttl=1",
        "--log-facility=-",
        &pid_file,
        &port_option,
        &hosts,
    ];
    Ok((scene.start("dnsmasq", &[&usual[..], more].concat())?, port))
}

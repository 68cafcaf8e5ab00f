//! The stage of most tests of balancing: three servers behind one service, a
//! client, and an agent between them.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    agent::Agent, pod::Pod, process::text, server::Fickle, service::Service, wait::eventually,
    world::World,
};

/// Connects `n` times, each with one request, and prints who answered.
const REQUESTS: &str = r#"
import socket, sys
for _ in range(int(sys.argv[2])):
    with socket.create_connection((sys.argv[1], 80), 5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        body = b"".join(iter(lambda: connection.recv(4096), b""))
        print(body.split()[-1].decode())
"#;

/// Fields are dropped in this order; the world last.
#[derive(Debug)]
pub struct Trio {
    /// In pods of these names: see [`Trio::NAMES`].
    pub servers: Vec<Fickle>,
    /// `web`, with both addresses of each pod.
    pub service: Service,
    pub agent: Agent,
    pub client: Pod,
    pub world: World,
}

impl Trio {
    pub const NAMES: [&str; 3] = ["one", "two", "three"];

    /// `way` is protocol and path, `policy` the inside of a mapping.
    pub fn new(name: &str, way: (&'static str, &'static str), policy: &str) -> Result<Self> {
        Self::start(name, way, policy, |_| true)
    }

    /// By IPv4 alone: each server is one instance, and not two that fail together.
    pub fn ip4(name: &str, way: (&'static str, &'static str), policy: &str) -> Result<Self> {
        Self::start(name, way, policy, SocketAddr::is_ipv4)
    }

    fn start(
        name: &str,
        way: (&'static str, &'static str),
        policy: &str,
        is: impl Fn(&SocketAddr) -> bool,
    ) -> Result<Self> {
        let world = World::new(name)?;
        let servers = Self::NAMES.map(|name| Fickle::start(&world.backend(name)?));
        let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
        let client = world.client("client")?;
        let pods = servers.iter().map(|server| &server.pod);
        let mut service = Service::new("web", 20, way, pods, 80);
        service.instances.retain(is);
        let agent = Agent::start(&world, &service.under(&format!("{{{policy}}}")))?;
        agent.wait_for(&client)?;
        Ok(Self { servers, service, agent, client, world })
    }

    /// The service's IPv4 address.
    pub fn address(&self) -> String {
        self.service.ip4().to_string()
    }

    /// Who answers `n` connections of a pod, and how often.
    pub fn ask(&self, pod: &Pod, n: usize) -> Result<BTreeMap<String, usize>> {
        let answers = pod.run("python3", ["-c", REQUESTS, &self.address(), &n.to_string()])?;
        let mut counts = BTreeMap::new();
        for name in answers.lines() {
            *counts.entry(name.to_owned()).or_insert(0) += 1;
        }
        Ok(counts)
    }

    /// Of `n` connections, how many of a hundred this server gets.
    pub fn share(&self, name: &str, n: usize) -> Result<usize> {
        Ok(self.ask(&self.client, n)?.get(name).copied().unwrap_or(0) * 100 / n)
    }

    /// What `endpoints` says of this server, by its IPv4 address.
    pub fn view(&self, server: &Fickle) -> Result<Value> {
        let address = format!("{}:80", server.pod.ip4);
        let endpoints = self.agent.json(["endpoints", "web"])?;
        let mut all = endpoints.as_array().into_iter().flatten();
        let view = all.find(|view| view["address"] == address.as_str());
        view.cloned().with_context(|| format!("{address} is not among {endpoints}"))
    }

    /// Waits until the agent has logged this so often.
    pub fn logged(&self, text: &str, times: usize) -> Result<()> {
        eventually(text, || {
            let found = self.times_logged(text);
            ensure!(found >= times, "{found} times");
            Ok(())
        })
    }

    pub fn times_logged(&self, text: &str) -> usize {
        self.agent.log().lines().filter(|line| line.contains(text)).count()
    }
}

/// Takes a pod's link down, or up again.
pub fn link(pod: &Pod, state: &str) -> Result<()> {
    let mut command = std::process::Command::new("ip");
    command.args(["-n", &pod.netns, "link", "set", "eth0", state]);
    text(command).map(drop)
}

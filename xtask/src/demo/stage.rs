//! The pods, the application and the agent.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use mesh_tests::{
    Agent, Pod, Service, World, output,
    server::{Bookinfo, Role},
};

use super::{
    Binaries,
    report::{self, heading},
};

/// Fields are dropped in this order; the world last.
#[derive(Debug)]
pub struct Stage {
    pub agent: Agent,
    pub servers: Vec<Bookinfo>,
    pub services: Vec<Service>,
    pub client: Pod,
    pub binaries: Binaries,
    pub world: World,
}

/// Service, pod, role. Every pod is captured, as on a node: services call
/// each other through the mesh too.
const PODS: [(&str, &str, Role); 7] = [
    ("productpage", "productpage-1", Role::ProductPage),
    ("details", "details-1", Role::Details),
    ("reviews", "reviews-v1", Role::Reviews(1)),
    ("reviews", "reviews-v2", Role::Reviews(2)),
    ("reviews", "reviews-v3", Role::Reviews(3)),
    ("ratings", "ratings-1", Role::Ratings),
    ("ratings", "ratings-2", Role::Ratings),
];

/// Service, last part of its virtual addresses, protocol, path.
const SERVICES: [(&str, u8, &str, &str); 4] = [
    ("productpage", 10, "http", "auto"),
    ("details", 11, "http", "auto"),
    ("reviews", 12, "http", "proxy"),
    ("ratings", 13, "tcp", "kernel"),
];

impl Stage {
    pub fn set_up(binaries: &Binaries) -> Result<Self> {
        let world = World::beside_the_tests("demo")?;
        heading("Pods: each has its own network namespace, addresses and cgroup");
        let mut services = SERVICES.map(|(name, number, protocol, path)| Service {
            name: name.to_owned(),
            number,
            port: Bookinfo::PORT,
            protocol,
            path,
            instances: Vec::new(),
            more: "",
        });
        let client = world.client("client")?;
        println!("  {:14} {:10} calls the others", client.name, client.ip4);
        let mut servers = Vec::new();
        for (service, name, role) in PODS {
            let pod = world.client(name)?;
            println!("  {name:14} {:10} an instance of {service}", pod.ip4);
            let instance = SocketAddr::new(pod.ip4.into(), Bookinfo::PORT);
            for owner in services.iter_mut().filter(|owner| owner.name == service) {
                owner.instances.push(instance);
            }
            servers.push(Bookinfo::start_binary(&pod, role, &binaries.bookinfo)?);
        }
        println!("  No pod has a route out: a virtual address that isn't redirected goes nowhere.");

        heading("The agent, on this configuration");
        let text: String = services.iter().map(ToString::to_string).collect();
        let dns = "dns: {enabled: true}\n";
        let agent = Agent::start_binary(&world, binaries.agent.clone(), dns, &text)?;
        report::printed(&agent.config()?, usize::MAX);
        agent.wait_for(&client)?;
        for server in &servers {
            agent.wait_for(&server.pod)?;
        }
        let (services, binaries) = (services.to_vec(), binaries.clone());
        Ok(Self { agent, servers, services, client, binaries, world })
    }

    pub fn service(&self, name: &str) -> Result<&Service> {
        let found = self.services.iter().find(|service| service.name == name);
        found.with_context(|| format!("no service is called {name}"))
    }

    /// Runs a shell command in the client's pod and shows it. What it printed
    /// is judged by a check, so its exit code is not.
    pub fn client(&self, line: &str) -> Result<String> {
        report::command(&self.client.name, line);
        let mut command = self.client.command("sh")?;
        command.args(["-c", line]);
        let output = output(command)?;
        report::printed(&String::from_utf8_lossy(&output.stderr), 3);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command of the agent's and shows it with what it prints.
    pub fn ask(&self, line: &str) -> Result<()> {
        report::command("host", &format!("mesh-agent {line}"));
        let answer = self.agent.ask(line.split(' '))?;
        report::printed(&answer, 40);
        Ok(())
    }

    /// Kills the application in a pod, as a crash would.
    pub fn crash(&mut self, pod: &str) -> Result<()> {
        let server = self.servers.iter_mut().find(|server| server.pod.name == pod);
        let server = server.with_context(|| format!("no pod is called {pod}"))?;
        report::command("host", &format!("kill -9 {}   # {pod}", server.process.pid()));
        server.process.kill9()
    }

    /// Starts the application in a pod again.
    pub fn revive(&mut self, pod: &str, role: Role) -> Result<()> {
        let server = self.servers.iter_mut().find(|server| server.pod.name == pod);
        let server = server.with_context(|| format!("no pod is called {pod}"))?;
        *server = Bookinfo::start_binary(&server.pod, role, &self.binaries.bookinfo)?;
        Ok(())
    }

    /// For people who keep it.
    pub fn print_what_to_try(&self) -> Result<()> {
        let (run, agent) = (self.world.write_entrance()?, self.agent.command([]));
        let (run, agent) = (run.display(), format!("{agent:?}").replace('"', ""));
        heading("It is still running. To try, from another terminal, as root");
        println!("  {run} client curl -s http://productpage:9080/productpage");
        println!("  {run} client curl -s http://reviews:9080/reviews/0");
        println!("  {run} client bash");
        println!("  {agent} services      # also: status, endpoints, connections");
        println!("  {agent} explain {}", self.service("reviews")?.authorities()[0]);
        println!("  {agent} drain reviews {}", self.service("reviews")?.instances[0]);
        Ok(())
    }
}

//! The stage of the scenarios: a client, a few servers that can be told to
//! misbehave, and an agent between them.

use std::process::Command;

use anyhow::{Context as _, Result};
use mesh_tests::{
    Agent, Pod, World, eventually,
    server::{Fickle, Mood},
};
use serde_json::Value;

use super::{
    Binaries,
    report::{self, heading},
};

/// Fields are dropped in this order; the world last.
#[derive(Debug)]
pub struct Play {
    pub agent: Agent,
    pub servers: Vec<Fickle>,
    pub client: Pod,
    pub world: World,
}

impl Play {
    /// Servers of these names, and an agent on what `services` makes of them.
    pub fn set_up(
        binaries: &Binaries,
        names: &[&str],
        top: &str,
        services: impl FnOnce(&World, &[Fickle]) -> Result<String>,
    ) -> Result<Self> {
        let world = World::beside_the_tests("demo")?;
        heading("Pods: each has its own network namespace, addresses and cgroup");
        let client = world.client("client")?;
        println!("  {:14} {:10} calls the others", client.name, client.ip4);
        let mut servers = Vec::new();
        for name in names {
            let server = Fickle::start(&world.backend(name)?)?;
            println!("  {name:14} {:10} a server", server.pod.ip4);
            servers.push(server);
        }
        let services = services(&world, &servers)?;
        heading("The agent, on this configuration");
        let top = format!("dns: {{enabled: true}}\n{top}");
        let agent = Agent::start_binary(&world, binaries.agent.clone(), &top, &services)?;
        report::printed(&agent.config()?, usize::MAX);
        agent.wait_for(&client)?;
        Ok(Self { agent, servers, client, world })
    }

    pub fn server(&self, name: &str) -> Result<&Fickle> {
        let found = self.servers.iter().find(|server| server.pod.name == name);
        found.with_context(|| format!("no server is called {name}"))
    }

    /// Tells a server how to answer from now on.
    pub fn tell(&self, name: &str, what: &str, mood: Mood) -> Result<()> {
        println!("  … {name} {what}");
        self.server(name)?.be(mood)
    }

    /// Runs a command of the agent's and shows it with what it prints.
    pub fn ask(&self, line: &str) -> Result<()> {
        report::command("host", &format!("mesh-agent {line}"));
        report::printed(&self.agent.ask(line.split(' '))?, 40);
        Ok(())
    }

    /// For people who keep it.
    pub fn print_what_to_try(&self) -> Result<()> {
        let (run, agent) = (self.world.write_entrance()?, self.agent.command([]));
        let (run, agent) = (run.display(), format!("{agent:?}").replace('"', ""));
        heading("It is still running. To try, from another terminal, as root");
        println!("  {run} client curl -s http://10.96.0.10/");
        println!("  {run} client bash");
        println!("  {agent} endpoints      # also: status, services, connections");
        println!("  {agent} explain 10.96.0.10:80");
        Ok(())
    }

    /// Where clients reach a service.
    pub fn address_of(&self, service: &str) -> Result<String> {
        let services = self.agent.json(["services"])?;
        let found = services.as_array().into_iter().flatten().find(|one| one["name"] == service);
        let address = found.and_then(|one| one["addresses"][0].as_str());
        Ok(format!("{}:80", address.with_context(|| format!("no service {service}"))?))
    }

    /// The instances of a service, as `mesh-agent endpoints` has them.
    pub fn endpoints(&self, service: &str) -> Result<Vec<Value>> {
        let answer = self.agent.json(["endpoints", service])?;
        let list = answer.as_array().or_else(|| answer["endpoints"].as_array());
        list.cloned().with_context(|| format!("`endpoints` is no list: {answer}"))
    }

    /// Waits until so many instances stand behind a service.
    pub fn wait_for_instances(&self, service: &str, count: usize) -> Result<()> {
        eventually(&format!("{count} instances of {service}"), || {
            match self.endpoints(service).map(|all| all.len()) {
                Ok(seen) if seen == count => Ok(()),
                seen => Err(format!("{seen:?}")),
            }
        })
    }
}

/// A service in YAML, on one virtual address and port 80.
pub fn service(
    name: &str,
    number: u8,
    (protocol, path): (&str, &str),
    endpoints: &str,
    policy: &str,
) -> String {
    format!(
        "  - name: {name}\n    address: 10.96.0.{number}\n    hostnames: [{name}]\n    \
         ports: [{{port: 80, protocol: {protocol}}}]\n    path: {path}\n    \
         endpoints: {endpoints}\n    policy: {policy}\n"
    )
}

/// All servers, as static endpoints.
pub fn fixed<'a>(servers: impl IntoIterator<Item = &'a Fickle>) -> String {
    let all: Vec<_> = (servers.into_iter())
        .map(|server| format!("{{address: {}, port: 80}}", server.pod.ip4))
        .collect();
    format!("{{static: [{}]}}", all.join(", "))
}

/// Sends a signal, shown as the command that does it.
pub fn signal(name: &str, pid: u32) -> Result<()> {
    let line = format!("kill -{name} {pid}");
    report::command("host", &line);
    let mut command = Command::new("kill");
    crate::process::run(command.args(line.split(' ').skip(1)))
}

//! Random bytes through every path: not one lost, reordered or invented.
//!
//! Streams have random lengths in both directions, end one half before the
//! other, are read slowly or fast, and the agent is restarted under them. What
//! was cut by a restart may be cut, but what has arrived must be what was sent.

mod traffic;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

pub use self::traffic::Totals;
use self::traffic::{serve, streams, uploads};
use crate::{
    Agent, Pod, Process, Service, World, agent::agent_binary, server::Nginx, wait::eventually,
};

/// A world with one server, one client, and a service for each path.
#[derive(Debug)]
pub struct Stress {
    agent: Agent,
    client: Pod,
    raw: [Service; 2],
    web: [Service; 2],
    _nginx: Nginx,
    server: Process,
    _world: World,
}

impl Stress {
    pub fn set_up(world: World) -> Result<Self> {
        Self::with_agent(world, agent_binary()?)
    }

    /// [`Stress::set_up`] for an agent that is somewhere else.
    pub fn with_agent(world: World, agent: std::path::PathBuf) -> Result<Self> {
        let (server, client) = (world.backend("server")?, world.client("client")?);
        let process = serve(&server)?;
        let nginx = Nginx::start(&server)?;
        let raw = [("kernel", 30), ("proxy", 31)].map(|(path, number)| {
            let name = format!("raw-{path}");
            Service::new(&name, number, ("tcp", path), [&server], traffic::PORT)
        });
        let web = [("http", 40, 80), ("http2", 41, 81)].map(|(protocol, number, port)| {
            Service::new(protocol, number, (protocol, "proxy"), [&server], port)
        });
        let services: String = raw.iter().chain(&web).map(ToString::to_string).collect();
        let agent = Agent::start_binary(&world, agent, "", &services)?;
        agent.wait_for(&client)?;
        Ok(Self { agent, client, raw, web, _nginx: nginx, server: process, _world: world })
    }

    /// Moves bytes by all paths until `time` is over, with a restart of the
    /// agent in each round where `restarts` says so.
    pub fn run(&mut self, time: Duration, restarts: bool, seed: u64) -> Result<Totals> {
        let end = Instant::now() + time;
        let mut totals = Totals::default();
        let mut round = seed;
        while Instant::now() < end {
            round += 1;
            let left = end.saturating_duration_since(Instant::now());
            totals.add(&self.round(left.min(Duration::from_secs(10)), round)?);
            if restarts {
                totals.add(&self.restart(round)?);
            }
        }
        // It prints what it saw of wrong bytes on their way up.
        let log = self.server.log();
        ensure!(!log.contains("WRONG"), "the server got wrong bytes: {log}");
        ensure!(totals.whole > 0, "nothing was moved in {time:?}");
        Ok(totals)
    }

    /// Without a disturbance: everything has to arrive.
    fn round(&self, time: Duration, seed: u64) -> Result<Totals> {
        let mut running = Vec::new();
        for service in &self.raw {
            running.push(streams(&self.client, service, time, seed)?);
        }
        for (service, version) in self.web.iter().zip(["--http1.1", "--http2-prior-knowledge"]) {
            running.push(uploads(&self.client, service, version, time, seed)?);
        }
        let mut totals = Totals::default();
        for traffic in running {
            let part = traffic.finish().with_context(|| format!("seed {seed}"))?;
            ensure!(part.cut == 0, "cut without a reason, seed {seed}: {part:?}");
            totals.add(&part);
        }
        Ok(totals)
    }

    /// Streams on both paths while the agent is killed and started again. Those
    /// of the kernel path don't notice.
    fn restart(&mut self, seed: u64) -> Result<Totals> {
        let time = Duration::from_secs(2);
        // Another one, or marks of the round before would be taken for new.
        let seed = seed + 500;
        let kernel = streams(&self.client, &self.raw[0], time, seed)?;
        let proxied = streams(&self.client, &self.raw[1], time, seed)?;
        kernel.flows()?;
        proxied.flows()?;
        self.agent.kill9()?;
        self.agent.restart()?;
        let kernel = kernel.finish().with_context(|| format!("kernel path, seed {seed}"))?;
        ensure!(kernel.cut == 0, "the agent's end cut streams of the kernel path: {kernel:?}");
        let proxied = proxied.finish().with_context(|| format!("proxy path, seed {seed}"))?;
        eventually("the agent to listen again", || self.agent.wait_for(&self.client))?;
        let mut totals = kernel;
        totals.add(&proxied);
        Ok(totals)
    }
}

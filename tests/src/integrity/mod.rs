//! Random bytes through every path: not one lost, reordered or invented.
//!
//! Streams have random lengths in both directions, end one half before the
//! other, are read slowly or fast, and the agent is restarted under them. What
//! was cut by a restart may be cut, but what has arrived must be what was sent.

mod traffic;

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

pub use self::traffic::Totals;
use self::traffic::{serve, streams, uploads};
use crate::{
    Agent, Pod, Process, Service, World, agent::agent_binary, server::Nginx, wait::eventually,
};

/// Of [`Stress::raw`].
const PAST_TCP: Range<usize> = 2..4;

/// A world with one server, one client, and a service for each path.
#[derive(Debug)]
pub struct Stress {
    agent: Agent,
    client: Pod,
    /// Kernel path, proxy path, and both past TCP.
    raw: [Service; 4],
    web: [Service; 4],
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
        let (server, client) = (world.client("server")?, world.client("client")?);
        let process = serve(&server)?;
        let nginx = Nginx::start(&server)?;
        let new =
            |name: &str, number, ways, port| Service::new(name, number, ways, [&server], port);
        let raw = [
            new("raw-kernel", 30, ("tcp", "kernel"), traffic::PORT),
            new("raw-proxy", 31, ("tcp", "proxy"), traffic::PORT),
            new("raw-past", 32, ("tcp", "kernel"), traffic::PORT),
            new("raw-past-proxy", 33, ("tcp", "proxy"), traffic::PORT),
        ];
        let web = [
            new("http", 40, ("http", "proxy"), 80),
            new("http2", 41, ("http2", "proxy"), 81),
            new("past", 42, ("tcp", "kernel"), 80),
            new("past-http", 43, ("http", "proxy"), 80),
        ];
        let services: String = [&raw, &web]
            .map(|services: &[Service; 4]| {
                let [one, two, past, other] = services;
                [one, two].map(ToString::to_string).concat()
                    + &[past, other].map(|service| service.under("{bypass: true}")).concat()
            })
            .concat();
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
        let versions = ["--http1.1", "--http2-prior-knowledge", "--http1.1", "--http1.1"];
        for (service, version) in self.web.iter().zip(versions) {
            running.push(uploads(&self.client, service, version, time, seed)?);
        }
        let mut totals = Totals::default();
        for (number, traffic) in running.into_iter().enumerate() {
            let part = traffic.finish();
            let part = part.with_context(|| format!("seed {seed}\n{}", self.server.log()))?;
            // A client that is faster than the other end stays on TCP.
            let past =
                if PAST_TCP.contains(&number) { part.whole / 2..part.whole + 1 } else { 0..1 };
            ensure!(past.contains(&part.past), "{number}: {part:?}: {past:?} past TCP");
            totals.add(&part);
        }
        Ok(totals)
    }

    /// Streams on all paths while the agent is killed and started again. Those
    /// of the kernel path don't notice.
    fn restart(&mut self, seed: u64) -> Result<Totals> {
        let time = Duration::from_secs(2);
        // Another one, or marks of the round before would be taken for new.
        let seed = seed + 500;
        let [kernel, proxied, past, past_proxied] = &self.raw;
        let start = |service| streams(&self.client, service, time, seed);
        let unnoticed = [start(kernel)?, start(past)?];
        let proxied = [start(proxied)?.may_be_cut(), start(past_proxied)?.may_be_cut()];
        unnoticed.iter().chain(&proxied).try_for_each(traffic::Traffic::flows)?;
        self.agent.kill9()?;
        self.agent.restart()?;
        let mut totals = Totals::default();
        for traffic in unnoticed {
            let part = traffic.finish();
            let about = || format!("kernel path, seed {seed}\n{}", self.server.log());
            totals.add(&part.with_context(about)?);
        }
        for traffic in proxied {
            totals.add(&traffic.finish().with_context(|| format!("proxy path, seed {seed}"))?);
        }
        eventually("the agent to listen again", || self.agent.wait_for(&self.client))?;
        Ok(totals)
    }
}

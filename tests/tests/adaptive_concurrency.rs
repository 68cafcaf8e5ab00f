//! `adaptiveConcurrency` with the numbers that it promises: a server with four
//! workers of 10 ms each, asked for ten times what it can do.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use mesh_tests::{Agent, Overload, Pod, Process, Service, World};

const WORKERS: u32 = 4;
const WORK: u32 = 10;
/// Requests per second: ten times as many as four workers can serve.
const ASKED: u32 = 10 * WORKERS * 1000 / WORK;

struct Scene {
    client: Pod,
    agent: Agent,
    address: String,
    /// The server's own address: nothing of the mesh is in the way.
    server: String,
    _server: Process,
    _world: World,
}

impl Scene {
    fn new(name: &str, way: (&'static str, &'static str)) -> Result<Self> {
        let world = World::new(name)?;
        let pod = world.backend("one")?;
        let process = Overload::server(&pod, 80, WORKERS, WORK)?;
        let client = world.client("client")?;
        let mut service = Service::new("web", 20, way, [&pod], 80);
        service.instances.retain(SocketAddr::is_ipv4);
        let agent = Agent::start(&world, &service.under("{adaptiveConcurrency: {}}"))?;
        agent.wait_for(&client)?;
        let address = service.authorities()[0].clone();
        let server = format!("{}:80", pod.ip4);
        Ok(Self { client, agent, address, server, _server: process, _world: world })
    }

    /// Holds an overload against the promise. A busy machine spoils some of the
    /// runs, a rule that is wrong all of them.
    fn holds(&self, connections: [Option<u32>; 2]) -> Result<Overload> {
        let mut why = String::new();
        for _ in 0..3 {
            let [few, many] = connections;
            let unloaded = Overload::run(&self.client, &self.address, 20, few, 2)?;
            let most = Overload::run(&self.client, &self.server, ASKED, Some(WORKERS), 1)?;
            let overload = Overload::run(&self.client, &self.address, ASKED, many, 3)?;
            ensure!(overload.failed == 0.0, "{overload:?}");
            ensure!(overload.refused > overload.served, "no overload: {overload:?}");
            let p99 = overload.p99 / unloaded.p99;
            let goodput = overload.goodput() / most.goodput();
            why = format!(
                "p99 {:.1} ms, {p99:.2} times that of {:.1} ms without load; {:.0} served per \
                 second, {goodput:.2} of the capacity of {:.0}",
                overload.p99,
                unloaded.p99,
                overload.goodput(),
                most.goodput()
            );
            eprintln!("{why}");
            if p99 < 5.0 && goodput > 0.9 {
                return Ok(overload);
            }
        }
        bail!("{why}")
    }

    fn refused_by_limits(&self, name: &str) -> Result<u64> {
        let services = self.agent.json(["services"])?;
        let limited = services[0]["ports"][0]["limited"].as_array().context("limited")?;
        let one = limited.iter().find(|one| one["name"] == name);
        Ok(one.and_then(|one| one["count"].as_u64()).unwrap_or(0))
    }
}

#[test]
fn requests_of_the_proxy_path() -> Result<()> {
    let scene = Scene::new("adaptiveproxy", ("http", "proxy"))?;
    let overload = scene.holds([Some(1), Some(100)])?;
    ensure!(scene.refused_by_limits("overloaded")? as f64 >= overload.refused);
    Ok(())
}

#[test]
fn connections_of_the_kernel_path() -> Result<()> {
    let scene = Scene::new("adaptivekernel", ("tcp", "kernel"))?;
    let overload = scene.holds([None, None])?;
    // As the hooks counted it: for the service, and by the reason.
    ensure!(scene.refused_by_limits("connect")? as f64 >= overload.refused);
    let status = scene.agent.json(["status"])?;
    let reasons = status["reasons"].as_array().context("reasons")?;
    let reason = reasons.iter().find(|reason| reason["name"] == "over-concurrency-limit");
    let counted = reason.and_then(|reason| reason["count"].as_u64()).context("the reason")?;
    ensure!(counted as f64 >= overload.refused, "{counted} of {}", overload.refused);
    Ok(())
}

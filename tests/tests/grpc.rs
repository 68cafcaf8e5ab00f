//! gRPC by tonic at both ends, which knows nothing of the agent between them.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{Agent, Pod, Process, Service, World, example, server::wait_for_port};

/// The protocols that gRPC goes through, each with a service of its own.
const PROTOCOLS: [&str; 4] = ["grpc", "http2", "http", "auto"];

struct Scene {
    agent: Agent,
    client: Pod,
    servers: Vec<Process>,
    services: Vec<Service>,
    peer: String,
    _world: World,
}

/// Three instances behind one service for each protocol.
fn scene(name: &str) -> Result<Scene> {
    let peer = example("grpc")?.to_str().context("the path of this program")?.to_owned();
    let world = World::new(name)?;
    let pods = ["one", "two", "three"].map(|name| world.backend(name));
    let pods = pods.into_iter().collect::<Result<Vec<_>>>()?;
    let mut servers = Vec::new();
    for pod in &pods {
        servers.push(pod.spawn(&peer, ["server", &pod.name, "50051"])?);
        wait_for_port(pod, 50051)?;
    }
    let client = world.client("client")?;
    let service = |(number, protocol): (u8, &'static str)| {
        let mut service = Service::new(protocol, number, (protocol, "proxy"), &pods, 50051);
        // One address for each, so that equal shares are three.
        service.instances.retain(std::net::SocketAddr::is_ipv4);
        service
    };
    let services: Vec<_> = (20..).zip(PROTOCOLS).map(service).collect();
    let agent = Agent::start(&world, &services.iter().map(Service::to_string).collect::<String>())?;
    agent.wait_for(&client)?;
    Ok(Scene { agent, client, servers, services, peer, _world: world })
}

/// Outcomes of calls by how often they came.
fn outcomes(printed: &str) -> BTreeMap<&str, usize> {
    let line = |line: &'_ str| -> Option<(usize, usize)> {
        let space = line.find(' ')?;
        Some((line[..space].parse().ok()?, space + 1))
    };
    printed.lines().filter_map(|text| line(text).map(|(count, at)| (&text[at..], count))).collect()
}

#[test]
fn calls_of_one_connection_are_spread() -> Result<()> {
    let scene = scene("grpc")?;
    for service in &scene.services {
        let [four, six] = service.authorities();
        for authority in [four, six] {
            let call = ["check", &authority, "", "300", "20"];
            let printed = scene.client.run(&scene.peer, call)?;
            let wanted = BTreeMap::from([("one", 100), ("two", 100), ("three", 100)]);
            let protocol = service.protocol;
            let seen = outcomes(&printed);
            // Workers have cursors of their own; one connection has one worker.
            assert_eq!(seen, wanted, "{protocol}: {printed}{}", scene.agent.log());
        }
    }
    Ok(())
}

#[test]
fn errors_and_streams_arrive() -> Result<()> {
    let scene = scene("grpcstream")?;
    for service in &scene.services {
        let [authority, _] = service.authorities();
        let protocol = service.protocol;
        // An answer of nothing but headers with grpc-status 5.
        let printed = scene.client.run(&scene.peer, ["check", &authority, "nosuch", "10", "2"])?;
        assert_eq!(outcomes(&printed), BTreeMap::from([("NotFound", 10)]), "{protocol}");
        // Messages come while the stream is open, or this would never end.
        let printed = scene.client.run(&scene.peer, ["watch", &authority, "flip", "6"])?;
        let lines: Vec<_> = printed.lines().collect();
        ensure!(lines.len() == 6, "{protocol}: {printed}");
        ensure!(lines.windows(2).all(|pair| pair[0] != pair[1]), "{protocol}: {printed}");
    }
    Ok(())
}

#[test]
fn a_killed_instance_costs_no_call() -> Result<()> {
    const CONCURRENCY: usize = 20;
    let mut scene = scene("grpckill")?;
    let [authority, _] = scene.services[0].authorities();
    let mut command = scene.client.command(&scene.peer)?;
    command.args(["check", &authority, "", "6000", &CONCURRENCY.to_string()]);
    let mut victim = scene.servers.remove(1);
    let printed = thread::scope(|scope| {
        let calls = scope.spawn(|| mesh_tests::text(command));
        thread::sleep(Duration::from_millis(300));
        victim.kill9()?;
        calls.join().expect("it returns its errors")
    })?;
    let mut seen = outcomes(&printed);
    assert_eq!(seen.values().sum::<usize>(), 6000, "{printed}");
    let of_victim = seen.remove("two").unwrap_or(0);
    ensure!(of_victim > 0 && of_victim < 2000, "killed under load: {printed}");
    let answered: usize = ["one", "three"].iter().filter_map(|name| seen.remove(name)).sum();
    // Those that were under way there are sent again: their messages are short
    // enough to be kept, and health checks may be asked twice.
    assert_eq!(answered + of_victim, 6000, "{printed}{}", scene.agent.log());
    Ok(())
}

#[test]
fn without_instances_a_client_is_told_unavailable() -> Result<()> {
    let mut scene = scene("grpcnone")?;
    let [authority, _] = scene.services[0].authorities();
    for server in &mut scene.servers {
        server.kill9()?;
    }
    let printed = scene.client.run(&scene.peer, ["check", &authority, "", "3", "1"])?;
    ensure!(printed.starts_with("3 Unavailable: "), "all three are gone: {printed}");
    // Without any in the file the connection itself is refused.
    let mut empty = scene.services[0].clone();
    empty.instances.clear();
    scene.agent.reload(&empty.to_string())?;
    let refused = scene.client.run(&scene.peer, ["check", &authority, "", "1", "1"]);
    let refused = format!("{:#}", refused.expect_err("there is nobody to connect to"));
    ensure!(refused.contains("No route to host"), "{refused}");
    Ok(())
}

//! What the commands say is what happens.

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{Agent, Pod, Process, Service, World, eventually, output, server::Nginx};
use nix::sys::signal::Signal;
use serde_json::Value;

struct Scene {
    agent: Agent,
    client: Pod,
    servers: Vec<Nginx>,
    kernel: Service,
    proxied: Service,
    world: World,
}

fn scene(name: &str) -> Result<Scene> {
    let world = World::new(name)?;
    let servers = ["one", "two"].map(|name| Nginx::start(&world.backend(name)?));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    let client = world.client("client")?;
    let pods = || servers.iter().map(|server| &server.pod);
    let kernel = Service::new("direct", 20, ("tcp", "auto"), pods(), 80);
    let proxied = Service::new("proxied", 21, ("http", "auto"), pods(), 80);
    let agent = Agent::start(&world, &format!("{kernel}{proxied}"))?;
    agent.wait_for(&client)?;
    Ok(Scene { agent, client, servers, kernel, proxied, world })
}

fn list<'a>(answer: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    answer
        .as_array()
        .or_else(|| answer[key].as_array())
        .with_context(|| format!("a list of {key} in {answer}"))
}

fn get(scene: &Scene, service: &Service) -> Result<String> {
    scene.client.curl([&format!("http://{}/", service.ip4()) as &str])
}

#[test]
fn services_and_endpoints_count_what_they_served() -> Result<()> {
    let scene = scene("listings")?;
    for service in [&scene.kernel, &scene.proxied] {
        let url = format!("http://{}/?[1-20]", service.ip4());
        scene.client.curl(["-H", "Connection: close", &url])?;
    }
    let services = scene.agent.json(["services"])?;
    for (name, path) in [("direct", "kernel"), ("proxied", "proxy")] {
        let service = list(&services, "services")?
            .iter()
            .find(|service| service["name"] == name)
            .with_context(|| format!("{name} in {services}"))?;
        assert_eq!(service["ports"][0]["path"], path, "{service}");
    }
    for name in ["direct", "proxied"] {
        eventually("all 20 picks to be counted", || {
            let endpoints = scene.agent.json(["endpoints", name])?;
            let picks: u64 = list(&endpoints, "endpoints")?
                .iter()
                .filter_map(|endpoint| endpoint["picks"].as_u64())
                .sum();
            ensure!(picks == 20, "{picks} picks of {name}: {endpoints}");
            Ok(())
        })?;
    }
    for command in ["status", "services", "endpoints", "connections"] {
        let table = scene.agent.ask([command])?;
        let widest = table.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(widest <= 100, "a table fits 100 columns:\n{table}");
    }
    Ok(())
}

#[test]
fn explain_says_what_becomes_of_a_destination() -> Result<()> {
    let scene = scene("explain")?;
    let [kernel, _] = scene.kernel.authorities();
    let [_, proxied] = scene.proxied.authorities();
    for (authority, service, path) in [(kernel, "direct", "kernel"), (proxied, "proxied", "proxy")]
    {
        let text = scene.agent.ask(["explain", &authority])?;
        assert!(text.contains(service) && text.contains(path), "{text}");
        let instance = scene.servers[0].pod.ip4.to_string();
        assert!(text.contains(&instance) || authority.starts_with('['), "{text}");
    }
    let other = scene.agent.output(["explain", "192.0.2.1:80"])?;
    assert_eq!(other.status.code(), Some(1), "no service is there");
    Ok(())
}

#[test]
fn a_drained_instance_gets_nothing_new() -> Result<()> {
    let scene = scene("drain")?;
    let one = &scene.servers[0].pod;
    for service in [&scene.kernel, &scene.proxied] {
        for address in one.ips() {
            let instance = std::net::SocketAddr::new(address, 80).to_string();
            scene.agent.ask(["drain", &service.name, &instance])?;
        }
        for _ in 0..6 {
            assert_eq!(get(&scene, service)?, "two\n", "{}", service.name);
        }
        for address in one.ips() {
            let instance = std::net::SocketAddr::new(address, 80).to_string();
            scene.agent.ask(["undrain", &service.name, &instance])?;
        }
        eventually("it to be back", || {
            let name = get(&scene, service)?;
            ensure!(name == "one\n", "{name}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn metrics_and_health_are_served() -> Result<()> {
    let scene = scene("metrics")?;
    get(&scene, &scene.proxied)?;
    let fetch = |path: &str| {
        let mut command = std::process::Command::new("curl");
        command.args(["-sSf", &format!("http://{}{path}", scene.agent.http())]);
        mesh_tests::text(command)
    };
    fetch("/healthz")?;
    fetch("/readyz")?;
    let metrics = fetch("/metrics")?;
    assert!(metrics.contains("# TYPE ") && metrics.contains("proxied"), "{metrics}");
    assert!(metrics.trim_end().ends_with("# EOF") || metrics.contains("# HELP"), "{metrics}");
    Ok(())
}

#[test]
fn what_a_stopped_agent_leaves_is_removed_by_uninstall() -> Result<()> {
    let mut scene = scene("uninstall")?;
    scene.agent.stop()?;
    // Stopped is not uninstalled: the kernel goes on.
    get(&scene, &scene.kernel)?;
    get(&scene, &scene.proxied)?;
    assert!(scene.world.pins().exists());

    let mut command = scene.world.command(mesh_tests::agent_binary()?, 20)?;
    command.arg("uninstall").arg("--config").arg(scene.world.folder().join("mesh.yaml"));
    let output = output(command)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pins = scene.world.pins();
    let left: Vec<_> = std::fs::read_dir(pins).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    let beside = std::fs::read_dir(scene.world.folder())?.flatten();
    let beside: Vec<_> = beside.map(|file| file.file_name()).collect();
    let locks = |name: &&std::ffi::OsString| name.to_string_lossy().ends_with(".lock");
    assert_eq!(beside.iter().find(locks), None);
    assert!(get(&scene, &scene.kernel).is_err(), "nobody redirects any more");

    scene.agent.restart()?;
    scene.agent.wait_for(&scene.client)?;
    get(&scene, &scene.proxied)?;
    Ok(())
}

/// As a container that removes what agents left, and has to stay.
#[test]
fn uninstall_stays_until_it_is_told_to_end() -> Result<()> {
    let world = World::new("stay")?;
    let mut command = world.command(mesh_tests::agent_binary()?, 20)?;
    command.args(["uninstall", "--stay", "--pins"]).arg(world.pins());
    let mut process = Process::start("uninstall", command, world.folder().join("uninstall.log"))?;
    eventually("it to be done", || {
        let log = process.log();
        ensure!(log.contains("nothing is pinned"), "{log}");
        Ok(())
    })?;
    process.alive()?;
    process.signal(Signal::SIGTERM)?;
    ensure!(process.wait()?.success(), "{}", process.log());
    Ok(())
}

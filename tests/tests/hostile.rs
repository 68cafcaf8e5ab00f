//! Clients that are slow, vast or gone: refused or borne, and nobody else hurt.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{Agent, Pod, Service, World, eventually, server::Nginx};

struct Scene {
    agent: Agent,
    client: Pod,
    other: Pod,
    address: String,
    server: Nginx,
    _world: World,
}

fn scene(name: &str) -> Result<Scene> {
    let world = World::new(name)?;
    let server = Nginx::start(&world.backend("one")?)?;
    let (client, other) = (world.client("client")?, world.client("other")?);
    let service = Service::new("web", 20, ("http", "proxy"), [&server.pod], 80);
    let agent = Agent::start(&world, &service.to_string())?;
    agent.wait_for(&client)?;
    agent.wait_for(&other)?;
    let address = service.ip4().to_string();
    Ok(Scene { agent, client, other, address, server, _world: world })
}

impl Scene {
    /// Of the agent, in KiB.
    fn memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.agent.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
        Ok(number.parse()?)
    }

    fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.agent.pid()))?.count())
    }
}

#[test]
fn vast_heads_are_refused() -> Result<()> {
    let scene = scene("vast")?;
    let url = format!("http://{}/", scene.address);
    let many: Vec<String> =
        (0..300).map(|number| format!("X-{number}: {}", "a".repeat(1000))).collect();
    let mut arguments = vec!["-s", "-w", "%{http_code}", "-o", "/dev/null", &url];
    arguments.extend(many.iter().flat_map(|header| ["-H", header.as_str()]));
    let before = scene.server.clients().len();
    assert_eq!(scene.client.run("curl", arguments)?, "431");
    assert_eq!(scene.server.clients().len(), before, "the backend has not seen it");
    assert_eq!(scene.client.curl([&url as &str])?, "one\n");
    Ok(())
}

#[test]
fn slow_clients_hurt_nobody() -> Result<()> {
    /// 300 that never end their head, 50 that hardly read.
    const CLIENT: &str = "import socket, sys, time\n\
        held = []\n\
        for number in range(350):\n    \
            connection = socket.socket()\n    \
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)\n    \
            connection.connect((sys.argv[1], 80))\n    \
            connection.sendall(b'GET /files/big HTTP/1.1\\r\\nHost: a\\r\\n' + (b'\\r\\n' if number < 50 else b''))\n    \
            held.append(connection)\n\
        print('all', flush=True)\n\
        time.sleep(30)";
    let scene = scene("slow")?;
    scene.server.serve("big", &vec![7; 64 << 20])?;
    let url = format!("http://{}/", scene.address);
    scene.other.curl([&url as &str])?;
    let (memory, descriptors) = (scene.memory()?, scene.descriptors()?);
    let mut slow = scene.client.spawn("python3", ["-uc", CLIENT, &scene.address])?;
    eventually("all slow clients", || match slow.log().as_str() {
        "all\n" => Ok(()),
        other => Err(other.to_owned()),
    })?;
    eventually("the agent to have taken them all in", || match scene.descriptors() {
        Ok(now) if now >= descriptors + 350 => Ok(()),
        now => Err(format!("{now:?} descriptors, {descriptors} before")),
    })?;
    let many = format!("{url}?[1-500]");
    let answers = scene.other.curl(["--max-time", "10", &many])?;
    assert_eq!(answers.lines().filter(|line| *line == "one").count(), 500);
    // Fifty bodies of 64 MiB wait: none of them in the agent's memory.
    let grown = scene.memory()?.saturating_sub(memory);
    ensure!(grown < 100 << 10, "{grown} KiB more than before");
    slow.kill9()?;
    eventually("the agent to let go of them", || match scene.descriptors() {
        Ok(now) if now <= descriptors + 8 => Ok(()),
        now => Err(format!("{now:?} descriptors, {descriptors} before")),
    })
}

//! The agent may die: what goes on without it, and what comes back with it.

use std::{
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use mesh_tests::{Agent, Pod, Service, World, eventually, output, server::Nginx};
use serde_json::Value;

/// A client that opens a connection for each request, one after the other,
/// until told to stop by the end of its input; prints the counts as JSON.
const CLIENT: &str = r#"
import json, socket, sys, threading
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
good, bad, kinds = 0, 0, {}
while not stop.is_set():
    try:
        with socket.create_connection((sys.argv[1], 80), 5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert b" 200 OK" in answer, repr(answer)
        good += 1
    except (OSError, AssertionError) as error:
        bad += 1
        kinds[repr(error)] = kinds.get(repr(error), 0) + 1
print(json.dumps({"good": good, "bad": bad, "kinds": kinds}))
"#;

struct Load {
    child: Child,
}

impl Load {
    fn start(pod: &Pod, address: &str) -> Result<Self> {
        let mut command = pod.command("python3")?;
        command.args(["-c", CLIENT, address]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        Ok(Self { child })
    }

    fn finish(mut self) -> Result<Value> {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output()?;
        serde_json::from_slice(&output.stdout).context("the client prints its counts")
    }
}

/// Backends, a client, and one service for each way.
struct Scene {
    agent: Agent,
    client: Pod,
    kernel: Service,
    proxied: Service,
    servers: Vec<Nginx>,
    world: World,
}

fn scene(name: &str, more: &'static str) -> Result<Scene> {
    let world = World::new(name)?;
    let servers = ["one", "two"].map(|name| Nginx::start(&world.backend(name)?));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    let client = world.client("client")?;
    let pods = || servers.iter().map(|server| &server.pod);
    let kernel = Service::new("direct", 20, ("tcp", "kernel"), pods(), 80);
    let proxied = Service::new("proxied", 21, ("http", "proxy"), pods(), 80);
    let proxied = Service { more, ..proxied };
    let agent = Agent::start(&world, &format!("{kernel}{proxied}"))?;
    agent.wait_for(&client)?;
    Ok(Scene { agent, client, kernel, proxied, servers, world })
}

fn get(client: &Pod, service: &Service) -> Result<String> {
    client.curl([&format!("http://{}/", service.ip4()) as &str])
}

#[test]
fn traffic_goes_on_while_the_agent_dies_and_returns() -> Result<()> {
    let Scene { mut agent, client, kernel, proxied, servers, world: _world } = scene("death", "")?;
    let direct = Load::start(&client, &kernel.ip4().to_string())?;
    let through = Load::start(&client, &proxied.ip6().to_string())?;
    let requests = || servers.iter().map(|server| server.clients().len()).sum::<usize>();
    let more = |than: usize| {
        eventually("200 more requests", || match requests() {
            now if now > than + 200 => Ok(now),
            now => Err(now),
        })
    };
    let before = more(0)?;
    agent.kill9()?;
    let without = more(before)?;
    agent.restart()?;
    agent.wait_for(&client)?;
    more(without)?;

    let direct = direct.finish()?;
    assert_eq!(direct["bad"], 0, "the kernel path doesn't notice: {direct}");
    // One request is under way at a time. It breaks with its connection, when
    // all listeners are closed; or with the listener that has just taken it, and
    // then those of the other workers, which the kernel closes microseconds
    // later, may each take it once more.
    let listeners = std::thread::available_parallelism()?.get() as u64;
    let through = through.finish()?;
    assert!(through["bad"].as_u64().context("a count")? <= listeners, "{through}");
    assert!(get(&client, &kernel).is_ok() && get(&client, &proxied).is_ok());
    Ok(())
}

#[test]
fn closed_refuses_what_must_not_be_bypassed() -> Result<()> {
    let Scene { mut agent, client, kernel, proxied, servers: _servers, world: _world } =
        scene("closed", "onAgentFailure: closed")?;
    get(&client, &proxied)?;
    agent.kill9()?;
    let start = Instant::now();
    let failed = get(&client, &proxied).expect_err("nobody applies the policy");
    assert!(format!("{failed:#}").contains("Couldn't connect"), "{failed:#}");
    assert!(start.elapsed() < Duration::from_secs(1), "refused at once");
    get(&client, &kernel)?;
    agent.restart()?;
    agent.wait_for(&client)?;
    get(&client, &proxied)?;
    Ok(())
}

#[test]
fn a_frozen_agent_is_noticed_by_its_heartbeat() -> Result<()> {
    use nix::sys::signal::{Signal, kill};
    let Scene { agent, client, proxied, servers: _servers, world: _world, .. } =
        scene("frozen", "")?;
    let pid = nix::unistd::Pid::from_raw(i32::try_from(agent.pid())?);
    kill(pid, Signal::SIGSTOP)?;
    // Its listeners still accept: only the missing heartbeat tells.
    eventually("new connections to take the kernel path", || {
        let url = format!("http://{}/", proxied.ip4());
        client.curl(["--max-time", "1", &url])
    })?;
    kill(pid, Signal::SIGCONT)?;
    eventually("the agent to proxy again", || {
        let mut command = client.command("curl")?;
        command.args(["-s", &format!("http://{}/forwarded", proxied.ip4())]);
        let answer = String::from_utf8(output(command)?.stdout)?;
        // Only the agent adds this header.
        let own = [client.ip4.to_string(), client.ip6.to_string()];
        anyhow::ensure!(own.iter().any(|own| answer.trim() == own), "{answer}");
        Ok(())
    })
}

#[test]
fn a_restarted_agent_serves_what_the_file_says_by_then() -> Result<()> {
    let Scene { mut agent, client, proxied: removed, servers, world, .. } = scene("adopt", "")?;
    agent.kill9()?;
    drop(agent);
    let one = &servers[0].pod;
    let kernel = Service::new("direct", 20, ("tcp", "kernel"), [one], 80);
    let agent = Agent::start(&world, &kernel.to_string())?;
    agent.wait_for(&client)?;
    for _ in 0..10 {
        assert_eq!(get(&client, &kernel)?, "one\n");
    }
    assert!(get(&client, &removed).is_err(), "a service that is gone from the file is gone");
    Ok(())
}

//! Thousands of services: memory, processor time, and how long a change takes
//! until an application feels it.

use std::{
    fmt::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use mesh_tests::{Agent, World, eventually_for};
use serde_json::Value;

use super::{
    cost,
    result::{Fact, Spread},
};

const INSTANCES: u32 = 10;

/// Changes that are timed.
const CHANGES: u32 = 100;

/// The service whose only instance is taken out and put back.
const PROBE: &str = "10.96.0.200";

/// Takes the instance out and puts it back by the agent's socket, and calls
/// `connect` on a UDP socket, which sends nothing, until the kernel's answer to
/// it changes: that is the moment from which no application is led there.
const CLIENT: &str = r#"
import json, socket, sys, time

path, address, count = sys.argv[1], sys.argv[2], int(sys.argv[3])

def reachable():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 80))
            return True
        except OSError:
            return False

times = []
for number in range(count):
    drained = number % 2 == 0
    body = json.dumps({"service": "probe", "endpoint": "10.1.0.1:9", "drained": drained}).encode()
    with socket.socket(socket.AF_UNIX) as agent:
        agent.connect(path)
        agent.settimeout(60)
        start = time.perf_counter()
        agent.sendall(b"POST /v1/drain HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n"
                      b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        while reachable() == drained:
            if time.perf_counter() - start > 30:
                sys.exit("no effect within 30 s: " + agent.recv(1000).decode())
        times.append((time.perf_counter() - start) * 1e6)
        agent.recv(65536)
    time.sleep(0.02)
print(json.dumps(times))
"#;

pub fn run(name: &str, services: u32, agent: &Path) -> Result<Vec<Fact>> {
    let world = World::beside_the_tests("bench-scale")?;
    let client = world.client("client")?;
    let group = [world.agent_cgroup()];
    let mut facts = Vec::new();
    let mut fact = |what: &str, value: f64, unit: &str| {
        let (scenario, name, unit) = (name.to_owned(), what.to_owned(), unit.to_owned());
        facts.push(Fact { scenario, name, value, unit });
    };

    let agent = Agent::start_binary(&world, agent.to_owned(), "", &probe())?;
    agent.wait_for(&client)?;
    fact("memory before", cost::now(&group)? as f64 / MIB, "MiB");

    let before = cost::seconds(&group)?;
    let start = Instant::now();
    agent.reload(&(probe() + &many(services)))?;
    fact("load all", start.elapsed().as_secs_f64() * 1e3, "ms");
    fact("load all, processor", (cost::seconds(&group)? - before) * 1e3, "ms");
    fact("memory", settled(&group)? as f64 / MIB, "MiB");
    fact("memory peak", cost::peak(&group)? as f64 / MIB, "MiB");

    let mut times = changes(&agent, &client)?;
    times.sort_by(f64::total_cmp);
    let spread = Spread::of(times.iter().copied()).context("no change was timed")?;
    fact("change p50", spread.median / 1e3, "ms");
    fact("change p99", times[(times.len() - 1) * 99 / 100] / 1e3, "ms");
    fact("change max", spread.highest / 1e3, "ms");

    // The same through the file, all of which is read anew.
    let start = Instant::now();
    agent.reload(&(probe().replace("10.1.0.1", "10.1.0.2") + &many(services)))?;
    fact("change by reload of the file", start.elapsed().as_secs_f64() * 1e3, "ms");

    let before = cost::seconds(&group)?;
    const QUIET: Duration = Duration::from_secs(5);
    std::thread::sleep(QUIET);
    let share = (cost::seconds(&group)? - before) / QUIET.as_secs_f64();
    fact("processor at rest", share * 100.0, "% of a core");
    Ok(facts)
}

const MIB: f64 = 1_048_576.0;

fn changes(agent: &Agent, client: &mesh_tests::Pod) -> Result<Vec<f64>> {
    let command = agent.command(["status"]);
    let socket = command.get_args().last().context("commands name the socket")?.to_owned();
    let socket = socket.to_str().context("paths of a world are ASCII")?;
    let count = CHANGES.to_string();
    let printed = client.run("python3", ["-c", CLIENT, socket, PROBE, &count])?;
    let value: Value = serde_json::from_str(&printed)?;
    let times = value.as_array().context("a list of times")?;
    Ok(times.iter().filter_map(Value::as_f64).collect())
}

/// Once it has stopped changing: old generations live on for a moment.
fn settled(group: &[std::path::PathBuf]) -> Result<u64> {
    let mut last = cost::now(group)?;
    eventually_for(Duration::from_secs(20), "the agent's memory to settle", || {
        std::thread::sleep(Duration::from_secs(1));
        let now = cost::now(group)?;
        let change = now.abs_diff(last);
        last = now;
        anyhow::ensure!(change * 100 <= now, "still changes by {change} bytes");
        Ok(now)
    })
}

fn probe() -> String {
    format!(
        "  - name: probe\n    address: {PROBE}\n    ports: [{{port: 80, protocol: udp}}]\n    \
         endpoints: {{static: [{{address: 10.1.0.1, port: 9}}]}}\n"
    )
}

/// So many services, every second one on the proxy path.
fn many(services: u32) -> String {
    let mut text = String::new();
    for number in 0..services {
        let (high, low) = (number / 250, number % 250 + 1);
        let protocol = if number % 2 == 0 { "http" } else { "tcp" };
        let _ = write!(
            text,
            "  - name: s{number}\n    address: 10.97.{high}.{low}\n    \
             ports: [{{port: 80, protocol: {protocol}}}]\n    endpoints:\n      static:\n"
        );
        for instance in 0..INSTANCES {
            let id = number * INSTANCES + instance;
            let (a, b, c) = (id / 62_500, id / 250 % 250, id % 250 + 1);
            let _ = writeln!(text, "        - {{address: 10.{}.{b}.{c}, port: 8080}}", 20 + a);
        }
    }
    text
}

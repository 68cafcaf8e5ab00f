//! What a captured pod costs that does nothing.

use std::{path::Path, thread, time::Duration};

use anyhow::Result;
use mesh_tests::{Agent, World};

use super::{cost, result::Fact};

const PODS: u32 = 100;
const QUIET: Duration = Duration::from_secs(10);
const MIB: f64 = 1_048_576.0;

pub fn run(name: &str, agent: &Path) -> Result<Vec<Fact>> {
    let world = World::beside_the_tests("bench-idle")?;
    let group = [world.agent_cgroup()];
    let agent = Agent::start_binary(&world, agent.to_owned(), "", "  []\n")?;
    agent.wait_for(&world.client("first")?)?;
    let alone = share(&group)?;
    let memory = cost::now(&group)?;
    for number in 1..=PODS {
        agent.wait_for(&world.client(&format!("pod-{number}"))?)?;
    }
    let with = share(&group)?;
    let more = cost::now(&group)?.saturating_sub(memory);
    let fact = |what: &str, value: f64, unit: &str| Fact {
        scenario: name.to_owned(),
        name: what.to_owned(),
        value,
        unit: unit.to_owned(),
    };
    Ok(vec![
        fact("memory", memory as f64 / MIB, "MiB"),
        fact("processor", alone * 100.0, "% of a core"),
        fact("memory per pod", more as f64 / f64::from(PODS) / 1024.0, "KiB"),
        fact(
            "processor per pod",
            ((with - alone) / f64::from(PODS)).max(0.0) * 100.0,
            "% of a core",
        ),
    ])
}

/// Cores in use, over a while of quiet.
fn share(group: &[std::path::PathBuf]) -> Result<f64> {
    thread::sleep(QUIET);
    let before = cost::seconds(group)?;
    thread::sleep(QUIET);
    Ok((cost::seconds(group)? - before) / QUIET.as_secs_f64())
}

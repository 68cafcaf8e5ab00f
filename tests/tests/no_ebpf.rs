//! The agent as a plain proxy: no hooks, no privileges.

use std::fs;

use anyhow::{Result, ensure};
use mesh_tests::{Process, World, agent_binary, eventually, server::Nginx, text};
use nix::sys::signal::Signal;

#[test]
fn it_listens_on_the_services_addresses_and_stops_cleanly() -> Result<()> {
    let world = World::new("plain")?;
    // All in one pod: its loopback has the services' addresses.
    let pod = world.backend("one")?;
    let _nginx = Nginx::start(&pod)?;
    let folder = std::env::temp_dir().join(world.id());
    fs::create_dir_all(&folder)?;
    let (binary, config) = (folder.join("mesh-agent"), folder.join("mesh.yaml"));
    fs::copy(agent_binary()?, &binary)?;
    let service = |name: &str, last: u8, protocol: &str, port: u16| {
        format!(
            "  - {{name: {name}, address: [127.0.0.{last}], ports: [{{port: 8080, protocol: \
             {protocol}}}], endpoints: {{static: [{{address: 127.0.0.1, port: {port}}}]}}}}\n"
        )
    };
    let file = |raw: u16| {
        format!(
            "capture: {{cgroups: []}}\nadmin: {{socket: {}}}\nservices:\n{}{}{}",
            folder.join("admin.sock").display(),
            service("h1", 21, "http", 80),
            service("h2", 22, "http2", 81),
            service("raw", 23, "tcp", raw),
        )
    };
    fs::write(&config, file(80))?;
    // Nobody's folder: it has no privileges at all.
    text(world.command("chown", 5).map(|mut command| {
        command.args(["-R", "65534:65534"]).arg(&folder);
        command
    })?)?;
    let mut command = pod.command("setpriv")?;
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
    command.arg(&binary).args(["run", "--no-ebpf", "--config"]).arg(&config);
    let mut agent: Process = pod.spawn_command("mesh-agent", command)?;
    let outcome = (|| {
        eventually("the agent to serve", || pod.curl(["http://127.0.0.21:8080/"]))?;
        for (flag, last) in [("--http1.1", 21), ("--http2-prior-knowledge", 22), ("--http1.1", 23)]
        {
            let url = format!("http://127.0.0.{last}:8080/");
            assert_eq!(pod.curl([flag, &url as &str])?, "one\n", "{}", agent.log());
        }
        // Policies and instances are followed without a restart.
        fs::write(&config, file(81))?;
        agent.signal(Signal::SIGHUP)?;
        eventually("the other instance", || {
            pod.curl(["--http2-prior-knowledge", "http://127.0.0.23:8080/"])
        })?;
        agent.signal(Signal::SIGTERM)?;
        let status = agent.wait()?;
        ensure!(status.success(), "{status}: {}", agent.log());
        ensure!(!folder.join("admin.sock").exists(), "its socket is gone");
        Ok(())
    })();
    let log = agent.log();
    fs::remove_dir_all(&folder)?;
    outcome.map_err(|error: anyhow::Error| error.context(log))
}

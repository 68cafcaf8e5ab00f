//! `healthCheck`: the agent asks the instances itself, and takes out who fails.

use std::{fs, process::Command};

use anyhow::{Result, ensure};
use mesh_tests::{Agent, Process, Service, World, eventually, example, text};
use nix::sys::signal::Signal;

/// Until the metric that has all these labels has this value.
fn wait_for_metric(agent: &Agent, name: &str, labels: &[String], wanted: f64) -> Result<()> {
    let url = format!("http://{}/metrics", agent.http());
    eventually(&format!("{name}{labels:?} to be {wanted}"), || {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", &url]);
        let page = text(command)?;
        let line = (page.lines())
            .find(|line| line.starts_with(name) && labels.iter().all(|one| line.contains(one)));
        let value: Option<f64> = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        ensure!(value == Some(wanted), "it is {value:?}; its log:\n{}", agent.log());
        Ok(())
    })
}

/// What is checked stands where the agent is, on the loopback address: pods have
/// no way to it, nor it to them.
#[test]
fn active_checks_of_all_kinds_take_out_who_fails_them() -> Result<()> {
    let world = World::new("failcheck")?;
    let port = |base: u16| base + world.lane();
    let (well, sick, grpc, nobody) = (port(18_100), port(18_110), port(18_120), port(18_130));
    let start = |program: &str, arguments: &[&str]| {
        let mut command = world.command(program, 60)?;
        command.args(arguments);
        Process::start(program, command, world.folder().join("servers.log"))
    };
    let web = |port: u16| {
        let folder = world.folder().join(format!("web{port}"));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("healthz"), "well")?;
        let (number, path) = (port.to_string(), folder.display().to_string());
        let server = ["-m", "http.server", &number, "--bind", "127.0.0.1", "--directory", &path];
        anyhow::Ok((start("python3", &server)?, folder.join("healthz")))
    };
    let (_well, _) = web(well)?;
    let (sick_server, file) = web(sick)?;
    let program = example("grpc")?.display().to_string();
    let _grpc = start(&program, &["server", "serving", &grpc.to_string()])?;

    let service = |name: &str, number, ports: &[u16], check: &str| {
        let mut service = Service::new(name, number, ("http", "proxy"), [], 80);
        service.instances = ports.iter().map(|&port| ([127, 0, 0, 1], port).into()).collect();
        let policy = format!(
            "locality: {{panicThreshold: 0%}}, \
             healthCheck: {{{check}, interval: 100ms, timeout: 2s, unhealthy: 2}}"
        );
        service.under(&format!("{{{policy}}}"))
    };
    let services = [
        service("byhttp", 20, &[well, sick], "http: {path: /healthz, status: 200-299}"),
        service("bygrpc", 21, &[well, grpc], "grpc: {}"),
        service("bytcp", 22, &[sick, nobody], "tcp: {}"),
    ];
    let agent = Agent::start(&world, &services.concat())?;
    let available = |service: &str, port: u16, wanted: f64| {
        let labels = [format!("service=\"{service}\""), format!("instance=\"127.0.0.1:{port}\"")];
        wait_for_metric(&agent, "mesh_instance_available{", &labels, wanted)
    };
    available("byhttp", well, 1.0)?;
    available("byhttp", sick, 1.0)?;
    available("bygrpc", grpc, 1.0)?;
    available("bygrpc", well, 0.0)?;
    available("bytcp", sick, 1.0)?;
    available("bytcp", nobody, 0.0)?;
    fs::remove_file(&file)?;
    available("byhttp", sick, 0.0)?;
    available("bytcp", sick, 1.0)?;
    fs::write(&file, "well again")?;
    available("byhttp", sick, 1.0)?;
    // It runs below `timeout`, which hands this on.
    sick_server.signal(Signal::SIGTERM)?;
    available("bytcp", sick, 0.0)?;
    available("byhttp", sick, 0.0)?;
    // Nobody is asked any more: it counts as healthy.
    agent.reload(&services.concat().replace("tcp: {}, interval", "http: {path: /}, interval"))?;
    available("bytcp", nobody, 0.0)?;
    let unchecked = Service::new("bytcp", 22, ("http", "proxy"), [], 80)
        .under("{onRemoval: keep}")
        .replace("        []", &format!("        - {{address: 127.0.0.1, port: {nobody}}}"));
    agent.reload(&unchecked)?;
    available("bytcp", nobody, 1.0)
}

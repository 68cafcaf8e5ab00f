//! Wrong input and wrong surroundings: a clear message, and nothing lost.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use mesh_tests::{Agent, Pod, Service, World, agent_binary, output, server::Nginx};

fn errors(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn check_names_all_mistakes_with_line_and_column() -> Result<()> {
    const FILE: &str = "\
capture:
  cgroups: [/sys/fs/cgroup]
dns: {enabeld: true}
services:
  - name: web
    address: [10.96.0.300]
    ports: [{port: 99999, protocol: http}]
    endpoints:
      static:
        - {address: 10.1.0.1, port: 80}
    policy: {loadBalancer: {algorithm: fastest}}
  - name: other
    address: [10.96.0.12]
    ports: [{port: 53, protocol: udp}]
    path: proxies
    endpoints: {static: [{address: 10.1.0.1, port: 80}]}
";
    let folder = std::env::temp_dir().join(format!("mesh-check-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let file = folder.join("mesh.yaml");
    fs::write(&file, FILE)?;
    let mut command = Command::new(agent_binary()?);
    command.arg("check").arg(&file);
    let output = output(command)?;
    fs::remove_dir_all(&folder)?;
    let said = errors(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for (place, word) in [
        ("3:7", "enabeld"),
        ("6:15", "10.96.0.300"),
        ("7:20", "99999"),
        ("11:40", "fastest"),
        ("15:11", "proxies"),
    ] {
        ensure!(said.contains(place) && said.contains(word), "no {word} at {place} in:\n{said}");
    }
    Ok(())
}

/// A world with one service that is reached over the kernel path.
fn scene(name: &str) -> Result<(World, Nginx, Pod, Service, Agent)> {
    let world = World::new(name)?;
    let server = Nginx::start(&world.backend("one")?)?;
    let client = world.client("client")?;
    let service = Service::new("web", 20, ("tcp", "kernel"), [&server.pod], 80);
    let agent = Agent::start(&world, &service.to_string())?;
    Ok((world, server, client, service, agent))
}

#[test]
fn a_second_agent_is_told_and_the_first_goes_on() -> Result<()> {
    let (world, _server, client, service, agent) = scene("second")?;
    let mut command = world.command(agent_binary()?, 10)?;
    command.args(["run", "--config"]).arg(world.folder().join("mesh.yaml"));
    let second = output(command)?;
    let said = errors(&second);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another agent"), "{said}");
    let [authority, _] = service.authorities();
    assert_eq!(client.curl([&format!("http://{authority}/") as &str])?, "one\n");
    agent.ask(["status"])?;
    Ok(())
}

#[test]
fn an_agent_without_privileges_says_what_it_needs() -> Result<()> {
    let world = World::new("nobody")?;
    let service = Service::new("web", 20, ("tcp", "kernel"), [], 80);
    // A binary and a file that anyone may read.
    let folder = std::env::temp_dir().join(world.id());
    fs::create_dir_all(&folder)?;
    let (binary, config) = (folder.join("mesh-agent"), folder.join("mesh.yaml"));
    fs::copy(agent_binary()?, &binary)?;
    let captured = world.captured();
    let socket = folder.join("admin.sock");
    fs::write(
        &config,
        format!(
            "capture: {{cgroups: [{}], pins: {}}}\nadmin: {{socket: {}}}\nservices:\n{service}",
            captured.display(),
            world.pins().display(),
            socket.display(),
        ),
    )?;
    let mut command = world.command("setpriv", 10)?;
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg(&binary).args(["run", "--config"]).arg(&config);
    let tried = output(command);
    fs::remove_dir_all(&folder)?;
    let tried = tried?;
    let said = errors(&tried);
    assert_eq!(tried.status.code(), Some(1), "{said}");
    let named = ["CAP_BPF", "CAP_SYS_ADMIN", "root"].iter().any(|word| said.contains(word));
    assert!(named, "it names what is missing: {said}");
    Ok(())
}

#[test]
fn exit_codes() -> Result<()> {
    let (world, _server, _client, _service, mut agent) = scene("codes")?;
    let code = |arguments: &[&str]| -> Result<i32> {
        let output = agent.output(arguments.iter().copied())?;
        output.status.code().context("ended by a signal")
    };
    assert_eq!(code(&["status"])?, 0);
    assert_eq!(code(&["endpoints", "nosuchservice"])?, 1);
    assert_eq!(code(&["drain", "web", "192.0.2.1:80"])?, 1);
    assert_eq!(code(&["status", "--nosuchflag"])?, 2);
    agent.kill9()?;
    assert_eq!(agent.output(["status"])?.status.code(), Some(3));
    drop(world);
    Ok(())
}

#[test]
fn a_bad_file_is_refused_and_the_good_one_serves_on() -> Result<()> {
    let (_world, _server, client, service, agent) = scene("reload")?;
    let [authority, _] = service.authorities();
    let url = format!("http://{authority}/");
    let refused = agent.reload("  - {name: web, adress: [10.96.0.20]}\n").expect_err("a bad file");
    assert!(format!("{refused:#}").contains("adress"), "{refused:#}");
    assert_eq!(client.curl([&url as &str])?, "one\n");
    let status = agent.json(["status"])?;
    assert_eq!(status["lastReload"]["ok"], false, "{status}");
    agent.reload(&service.to_string())?;
    assert_eq!(client.curl([&url as &str])?, "one\n");
    Ok(())
}

#[test]
fn a_configuration_that_no_map_holds_is_refused_as_a_whole() -> Result<()> {
    let (_world, _server, client, service, agent) = scene("full")?;
    let [authority, _] = service.authorities();
    let url = format!("http://{authority}/");
    let generation = agent.json(["status"])?["generation"].clone();
    // 300 services with 256 addresses each: more than 65,536 of address and port.
    let crowd: String = (0..300)
        .map(|number| {
            let addresses: Vec<_> = (0..256)
                .map(|last| format!("10.{}.{}.{last}", 100 + number / 256, number % 256))
                .collect();
            format!(
                "  - {{name: s{number}, address: [{}], ports: [{{port: 80, protocol: tcp}}], \
                 path: kernel, endpoints: {{static: []}}}}\n",
                addresses.join(", "),
            )
        })
        .collect();
    let refused = agent.reload(&crowd).expect_err("more than the map holds");
    let said = format!("{refused:#}");
    for word in ["addresses times ports", "76800", "65536", "mesh.yaml:"] {
        ensure!(said.contains(word), "no {word} in: {said}");
    }
    assert_eq!(client.curl([&url as &str])?, "one\n");
    let status = agent.json(["status"])?;
    assert_eq!(status["lastReload"]["ok"], false, "{status}");
    assert_eq!(status["generation"], generation, "{status}");
    agent.reload(&service.to_string())?;
    assert_eq!(client.curl([&url as &str])?, "one\n");
    Ok(())
}

#[test]
fn what_the_kernel_lacks_is_said_with_what_to_do() -> Result<()> {
    let world = World::new("lacks")?;
    let service = Service::new("web", 20, ("tcp", "kernel"), [], 80);
    let config = world.folder().join("mesh.yaml");
    fs::write(
        &config,
        format!(
            "capture: {{cgroups: [{}], pins: {}}}\nadmin: {{socket: {}}}\nservices:\n{service}",
            world.captured().display(),
            world.pins().display(),
            world.folder().join("admin.sock").display(),
        ),
    )?;
    let lacking = |name: &str, arguments: &[&str]| -> Result<(Option<i32>, String)> {
        let mut command = world.command(agent_binary()?, 20)?;
        command.args(arguments).env("MESH_AGENT_SIMULATE_MISSING", name).env("NO_COLOR", "1");
        let output = output(command)?;
        Ok((output.status.code(), errors(&output)))
    };
    let config = config.to_str().context("paths of a world are ASCII")?;
    for name in ["kernel", "btf", "cgroup2", "bpffs", "netns-cookie"] {
        let (code, said) = lacking(name, &["preflight"])?;
        assert_eq!(code, Some(1), "{said}");
        let row = said.lines().find(|line| line.contains(name)).context(name)?;
        ensure!(row.contains("missing"), "{said}");
        let (code, said) = lacking(name, &["run", "--config", config])?;
        assert_eq!(code, Some(1), "{said}");
        ensure!(said.contains(name) && said.contains("mesh-agent preflight"), "{said}");
    }
    ensure!(!world.pins().join("v1").exists(), "nothing was loaded");
    Ok(())
}

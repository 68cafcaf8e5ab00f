//! The agent under test.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    pod::Pod,
    process::{Place, Process, command_in, output, text},
    wait::eventually,
    world::World,
};

/// Names the agent's binary; else it is looked for beside this program.
const BINARY: &str = "MESH_AGENT_BIN";

/// `dns.port` where the file doesn't set it.
const DNS_PORT: u16 = 15_053;

/// The agent of a world, in the network namespace of this process.
#[derive(Debug)]
pub struct Agent {
    binary: PathBuf,
    cgroup: PathBuf,
    preamble: String,
    config: PathBuf,
    socket: PathBuf,
    http: SocketAddr,
    proxy_port: u16,
    log: PathBuf,
    process: Process,
}

impl Agent {
    /// Starts it on these `services` (the list as in the file, in YAML) and
    /// waits until it serves.
    pub fn start(world: &World, services: &str) -> Result<Self> {
        Self::start_with(world, "dns: {enabled: true}\n", services)
    }

    /// [`Agent::start`] with other top-level keys than `capture` and `admin`.
    pub fn start_with(world: &World, others: &str, services: &str) -> Result<Self> {
        Self::start_binary(world, agent_binary()?, others, services)
    }

    /// [`Agent::start_with`] for a binary that is somewhere else.
    pub fn start_binary(
        world: &World,
        binary: PathBuf,
        others: &str,
        services: &str,
    ) -> Result<Self> {
        let preamble = format!("{}{others}", preamble(world));
        let config = world.folder().join("mesh.yaml");
        let log = world.folder().join("agent.log");
        let cgroup = world.agent_cgroup();
        fs::write(&config, format!("{preamble}services:\n{services}"))?;
        let process = run(&binary, &cgroup, &config, &log)?;
        let mut agent = Self {
            binary,
            cgroup,
            preamble,
            config,
            socket: socket(world),
            http: http(world),
            proxy_port: proxy_port(world),
            log,
            process,
        };
        agent.wait_until_ready()?;
        Ok(agent)
    }

    /// Waits until it listens inside a pod: the first connections of a new pod
    /// take the kernel path otherwise.
    pub fn wait_for(&self, pod: &Pod) -> Result<()> {
        eventually(&format!("the agent to listen in pod {}", pod.name), || {
            for family in ["tcp", "tcp6"] {
                if !pod.listens(family, self.proxy_port)? {
                    bail!("nothing on {family} port {}; its log:\n{}", self.proxy_port, self.log());
                }
            }
            if self.preamble.contains("dns: {enabled: true}") && !pod.listens("udp", DNS_PORT)? {
                bail!("nothing on udp port {DNS_PORT}; its log:\n{}", self.log());
            }
            Ok(())
        })
    }

    /// The file that it runs on.
    pub fn config(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.config)?)
    }

    /// All that it logged since its first start.
    pub fn log(&self) -> String {
        self.process.log()
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where /metrics, /healthz and /readyz are.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// One of its commands, to be run or shown.
    pub fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--socket").arg(&self.socket);
        command
    }

    /// What one of its commands prints; an error where its exit code isn't 0.
    pub fn ask<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        text(self.command(arguments))
    }

    /// [`Agent::ask`] for JSON.
    pub fn json<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<Value> {
        let answer = self.ask(arguments.into_iter().chain(["-o", "json"]))?;
        serde_json::from_str(&answer).with_context(|| format!("not JSON: {answer}"))
    }

    /// [`Agent::ask`], whatever its exit code.
    pub fn output<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<Output> {
        output(self.command(arguments))
    }

    /// Puts other services in the file and has it reloaded.
    pub fn reload(&self, services: &str) -> Result<()> {
        fs::write(&self.config, format!("{}services:\n{services}", self.preamble))?;
        self.ask(["reload"]).map(drop)
    }

    /// Ends it as a crash would.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.kill9()
    }

    /// Asks it to end, and waits until it has drained.
    pub fn stop(&mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        let status = self.process.wait()?;
        if !status.success() {
            bail!("the agent ended with {status}; its log:\n{}", self.log());
        }
        Ok(())
    }

    /// Starts it again, after [`Agent::kill9`] or [`Agent::stop`].
    pub fn restart(&mut self) -> Result<()> {
        self.process = run(&self.binary, &self.cgroup, &self.config, &self.log)?;
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let ready = eventually("the agent to be ready", || {
            // No use in waiting for a process that has ended.
            if let Err(ended) = self.process.alive() {
                return Ok(Err(ended));
            }
            text(self.command(["status"])).map(|_| Ok(()))
        });
        ready.with_context(|| format!("its log:\n{}", self.log()))?
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of the agent ---\n{}--- end of the agent's log ---", self.log());
        }
    }
}

/// The agent to test.
pub fn agent_binary() -> Result<PathBuf> {
    beside_this_program("mesh-agent", BINARY)
}

/// One of the programs in tests/examples, which stand for applications.
pub fn example(name: &str) -> Result<PathBuf> {
    let me = env::current_exe().context("find out where this program is")?;
    me.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("examples").join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("no {name}: run `cargo build -p mesh-tests --examples` first"))
}

/// A binary of this workspace: `variable` names it, or it is in the same
/// target folder as this program.
pub fn beside_this_program(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(named) = env::var_os(variable) {
        return Ok(named.into());
    }
    let me = env::current_exe().context("find out where this program is")?;
    me.ancestors()
        .skip(1)
        // target/debug, or target/debug/deps below it for tests.
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| {
            format!("no {name} near {}: build it first, or name it in {variable}", me.display())
        })
}

fn run(binary: &Path, cgroup: &Path, config: &Path, log: &Path) -> Result<Process> {
    let place = Place { cgroup, netns: None, resolv_conf: None };
    let mut command = command_in(&place, binary)?;
    command.args(["run", "--config"]).arg(config).env("NO_COLOR", "1");
    Process::start("mesh-agent", command, log.to_owned())
}

fn socket(world: &World) -> PathBuf {
    world.folder().join("admin.sock")
}

fn http(world: &World) -> SocketAddr {
    ([127, 0, 0, 1], 15_120 + world.lane()).into()
}

fn proxy_port(world: &World) -> u16 {
    15_101 + world.lane()
}

/// What keeps the agents of several worlds apart, which share the host.
fn preamble(world: &World) -> String {
    format!(
        "capture:\n  cgroups: [{}]\n  kubepods: {}\n  pins: {}\n  proxyPort: {}\n\
         admin:\n  socket: {}\n  http: {}\n",
        world.captured().display(),
        world.cgroup().display(),
        world.pins().display(),
        proxy_port(world),
        socket(world).display(),
        http(world),
    )
}

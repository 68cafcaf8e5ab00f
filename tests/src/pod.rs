//! A pod: a network namespace with an address of each family, and a cgroup.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    cgroup,
    process::{Place, Process, command_in, text},
};

/// What is asked of a new pod.
#[derive(Clone, Copy, Debug)]
pub struct PodOptions {
    /// Its cgroup is below the one that the agent captures.
    pub captured: bool,
}

/// Lives as long as its world.
#[derive(Clone, Debug)]
pub struct Pod {
    pub name: String,
    pub ip4: Ipv4Addr,
    pub ip6: Ipv6Addr,
    /// As `ip netns` knows it.
    pub netns: String,
    pub cgroup: PathBuf,
    /// Of this pod's own files.
    pub folder: PathBuf,
    /// A process that lives as long as the pod, in captured ones.
    pub pause: Option<u32>,
}

impl Pod {
    /// Its two addresses.
    pub fn ips(&self) -> [IpAddr; 2] {
        [self.ip4.into(), self.ip6.into()]
    }

    /// File of the network namespace.
    pub fn netns_path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.netns)
    }

    /// A command that runs inside.
    pub fn command(&self, program: &str) -> Result<Command> {
        let place = Place {
            cgroup: &self.cgroup,
            netns: Some(&self.netns_path()),
            resolv_conf: Some(&self.resolv_conf()),
        };
        command_in(&place, program)
    }

    /// [`Pod::command`] in a cgroup of its own below the pod's, whose use of the
    /// processor can be told from that of the pod's other programs.
    pub fn command_apart(&self, group: &str, program: &str) -> Result<Command> {
        let cgroup = self.cgroup.join(group);
        cgroup::create(&cgroup)?;
        let place = Place {
            cgroup: &cgroup,
            netns: Some(&self.netns_path()),
            resolv_conf: Some(&self.resolv_conf()),
        };
        command_in(&place, program)
    }

    /// Runs a program inside to its end and returns what it printed; an error
    /// where its exit code isn't 0.
    pub fn run<'a>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<String> {
        let mut command = self.command(program)?;
        command.args(arguments);
        text(command).with_context(|| format!("in pod {}", self.name))
    }

    /// Runs a shell script inside, as [`Pod::run`] does.
    pub fn shell(&self, script: &str) -> Result<String> {
        self.run("sh", ["-c", script])
    }

    /// `curl` with a deadline; the body of the answer, an error for a status
    /// of 400 and more.
    pub fn curl<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let usual = ["--silent", "--show-error", "--fail-with-body", "--max-time", "20"];
        self.run("curl", usual.into_iter().chain(arguments))
    }

    /// Starts a server inside.
    pub fn spawn<'a>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Process> {
        let mut command = self.command(program)?;
        command.args(arguments);
        self.spawn_command(program, command)
    }

    /// Starts a server that [`Pod::command`] made.
    pub fn spawn_command(&self, program: &str, command: Command) -> Result<Process> {
        let short = Path::new(program).file_name().unwrap_or(program.as_ref());
        let log = self.folder.join(format!("{}.log", short.to_string_lossy()));
        Process::start(&format!("{program} in pod {}", self.name), command, log)
    }

    /// Writes a file of this pod's own and returns its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Whom programs in this pod ask for names from now on.
    pub fn set_resolver(&self, server: IpAddr) -> Result<()> {
        let content = format!("nameserver {server}\noptions timeout:2 attempts:2\n");
        self.file("resolv.conf", content)?;
        Ok(())
    }

    /// Whether something in this captured pod listens on a port of the loopback
    /// address of `family`: `tcp`, `tcp6`, `udp` or `udp6`.
    pub fn listens(&self, family: &str, port: u16) -> Result<bool> {
        let pid = self.pause.context("only captured pods have a process all the time")?;
        let path = format!("/proc/{pid}/net/{family}");
        let table = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        // `sl local_address rem_address …`: ports in hex; a socket without a
        // peer is a listener.
        Ok(table.lines().skip(1).any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, remote) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
            local.ends_with(&format!(":{port:04X}")) && remote.ends_with(":0000")
        }))
    }

    fn resolv_conf(&self) -> PathBuf {
        self.folder.join("resolv.conf")
    }
}

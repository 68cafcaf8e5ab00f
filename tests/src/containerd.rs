//! A containerd of a world's own: images and containers, none of which is left.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::{
    process::{Process, text},
    wait::eventually,
    world::World,
};

/// Shims' sockets stand in a place that can't be configured, so there is another
/// folder there. Mounts are seen by nobody else and end with the processes, which
/// are all in the world's cgroup: also a crash leaves none.
const START: &str = r#"
mkdir -p /run/containerd && mount --bind "$0/run" /run/containerd &&
exec containerd --config "$0/config.toml" --log-level warn
"#;

#[derive(Debug)]
pub struct Containerd {
    folder: PathBuf,
    process: Process,
}

impl Containerd {
    /// Waits until it answers.
    pub fn start(world: &World) -> Result<Self> {
        let folder = world.folder().join("containerd");
        fs::create_dir_all(folder.join("run"))?;
        fs::write(folder.join("config.toml"), config(&folder))?;
        const SECONDS: u32 = 300;
        let mut command = world.command("unshare", SECONDS)?;
        command.args(["--mount", "--propagation", "private", "sh", "-c", START]).arg(&folder);
        let process = Process::start("containerd", command, folder.join("log"))?;
        let mut containerd = Self { folder, process };
        let answers = eventually("containerd to answer", || {
            if let Err(ended) = containerd.process.alive() {
                return Ok(Err(ended));
            }
            containerd.ctr(["version"]).map(|_| Ok(()))
        });
        answers.with_context(|| format!("its log:\n{}", containerd.process.log()))??;
        Ok(containerd)
    }

    /// What `ctr` prints; an error where it fails.
    pub fn ctr<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        text(self.command(arguments)?)
    }

    fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<Command> {
        // The one that holds the mounts is below `timeout`.
        let children = format!("/proc/{0}/task/{0}/children", self.process.pid());
        let children = fs::read_to_string(&children).context("containerd has ended")?;
        let pid = children.split_whitespace().next().context("containerd is about to start")?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{pid}/ns/mnt"));
        command.arg("ctr").arg("--address").arg(self.folder.join("sock"));
        command.args(["--namespace", "mesh-tests"]).args(arguments);
        Ok(command)
    }

    /// Takes an image in; what it is called.
    pub fn import(&self, archive: &Path) -> Result<String> {
        let archive = archive.to_str().context("a path in UTF-8")?;
        self.ctr(["images", "import", archive])?;
        let names = self.ctr(["images", "list", "--quiet"])?;
        names.lines().last().map(str::to_owned).context("the archive has no image")
    }

    /// A container that has the host's network and processes. The kubelet asks
    /// for that by leaving the namespaces out, which `ctr` has no flag for: so it
    /// gets a specification of its own.
    pub fn run(
        &self,
        image: &str,
        name: &str,
        environment: &[String],
        mounts: &[Mount],
        log: &Path,
    ) -> Result<()> {
        let root = self.folder.join(format!("root-{name}"));
        fs::create_dir_all(&root)?;
        self.ctr(["images", "mount", "--rw", image, root.to_str().context("a path in UTF-8")?])?;
        let file = self.folder.join(format!("{name}.json"));
        fs::write(&file, specification(&root, environment, mounts).to_string())?;
        let log = format!("file://{}", log.display());
        let file = file.to_str().context("a path in UTF-8")?;
        self.ctr(["run", "--detach", "--log-uri", &log, "--config", file, name]).map(drop)
    }

    /// As the kubelet ends a container: SIGTERM, wait, remove.
    pub fn stop(&self, container: &str) -> Result<()> {
        self.ctr(["task", "kill", "--signal", "SIGTERM", container])?;
        eventually(&format!("the container {container} to end"), || {
            match self.ctr(["task", "list"])? {
                list if has_stopped(&list, container) => Ok(()),
                list => bail!("{list}"),
            }
        })?;
        self.ctr(["task", "delete", container])?;
        self.ctr(["container", "delete", container]).map(drop)
    }
}

/// What of the host stands in a container.
#[derive(Clone, Debug)]
pub struct Mount {
    pub from: PathBuf,
    pub to: PathBuf,
    pub options: &'static [&'static str],
}

/// No more than the agent says that it needs: `mesh-agent preflight`.
const CAPABILITIES: [&str; 6] = [
    "CAP_BPF",
    "CAP_PERFMON",
    "CAP_NET_ADMIN",
    "CAP_SYS_ADMIN",
    // Other processes' namespaces, and files of other users.
    "CAP_SYS_PTRACE",
    "CAP_DAC_OVERRIDE",
];

fn specification(root: &Path, environment: &[String], mounts: &[Mount]) -> Value {
    let mut all = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}),
        json!({
            "destination": "/sys", "type": "bind", "source": "/sys",
            "options": ["rbind", "rw", "rslave"]
        }),
    ];
    all.extend(mounts.iter().map(|mount| {
        let Mount { from, to, options } = mount;
        json!({"destination": to, "type": "bind", "source": from, "options": options})
    }));
    let sets = ["bounding", "effective", "permitted"];
    let capabilities: serde_json::Map<_, _> =
        sets.map(|set| (set.to_owned(), json!(CAPABILITIES))).into_iter().collect();
    let namespaces = ["mount", "ipc", "uts"].map(|kind| json!({"type": kind}));
    let mut variables = vec!["PATH=/usr/bin".to_owned(), "NO_COLOR=1".to_owned()];
    variables.extend(environment.iter().cloned());
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": root, "readonly": true},
        "process": {
            "args": ["mesh-agent", "run", "--config", "/etc/mesh-agent/mesh.yaml"],
            "cwd": "/",
            "env": variables,
            "user": {"uid": 0, "gid": 0},
            "capabilities": capabilities,
        },
        "mounts": all,
        "linux": {"namespaces": namespaces, "resources": {}},
    })
}

fn has_stopped(list: &str, container: &str) -> bool {
    list.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.next() == Some(container) && fields.last() == Some("STOPPED")
    })
}

fn config(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "version = 2\nroot = \"{folder}/root\"\nstate = \"{folder}/state\"\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
         [grpc]\naddress = \"{folder}/sock\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_container_itself_counts() {
        let list = "TASK     PID    STATUS\nagent    12     RUNNING\nagent-2    13    STOPPED\n";
        assert!(has_stopped(list, "agent-2"));
        assert!(!has_stopped(list, "agent"));
        assert!(!has_stopped(list, "other"));
    }
}

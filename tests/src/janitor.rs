//! Leaves nothing behind, also when the process that made it is killed.
//!
//! A world is cleaned up in one way only: by a shell that waits for the end of
//! its standard input. The world holds the other end of that pipe, and the
//! kernel closes it however the world's process ends.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

use crate::slot;

/// Arguments: cgroup, namespace prefix, pins, run folder, lock.
///
/// `cgroup.kill` ends exactly the processes of this world: all of them were
/// started inside its cgroup, and none else ever is.
const SCRIPT: &str = r#"
cat >/dev/null
cgroup=$1 prefix=$2 pins=$3 run=$4 lock=$5
if [ -d "$cgroup" ]; then
    echo 1 >"$cgroup/cgroup.kill"
    tries=0
    while grep -q 'populated 1' "$cgroup/cgroup.events" && [ $tries -lt 100 ]; do
        sleep 0.05; tries=$((tries + 1))
    done
fi
for namespace in /run/netns/"$prefix".*; do
    [ -e "$namespace" ] && ip netns delete "${namespace##*/}"
done
rm -rf "$pins" "$run"
[ -d "$cgroup" ] && find "$cgroup" -depth -type d -exec rmdir {} \;
rm -f "$lock"
"#;

/// What a world leaves in the system, by its id.
#[derive(Clone, Debug)]
pub struct Traces {
    pub cgroup: PathBuf,
    /// Names of its namespaces begin with this and a dot.
    pub prefix: String,
    pub pins: PathBuf,
    pub run: PathBuf,
    pub lock: PathBuf,
}

impl Traces {
    pub fn of(id: &str, cgroups: &Path, home: &Path) -> Self {
        Self {
            cgroup: cgroups.join(id),
            prefix: id.to_owned(),
            pins: Path::new("/sys/fs/bpf").join(id),
            run: home.join(id),
            lock: home.join(format!("{id}.lock")),
        }
    }

    fn shell(&self) -> Command {
        // A session of its own: Ctrl-C at the terminal doesn't reach it.
        let mut command = Command::new("setsid");
        command.args(["--wait", "sh", "-c", SCRIPT, "mesh-janitor"]);
        command.args([&self.cgroup, Path::new(&self.prefix), &self.pins, &self.run, &self.lock]);
        command.stdout(Stdio::null()).current_dir("/");
        command
    }
}

/// Cleans up when dropped, and when the process dies.
#[derive(Debug)]
pub struct Janitor {
    child: Child,
}

impl Janitor {
    pub fn start(traces: &Traces) -> Result<Self> {
        let child = traces
            .shell()
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start the janitor: is util-linux (setsid) installed?")?;
        Ok(Self { child })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        // Ends its input, upon which it works and exits.
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            eprintln!("the janitor of this world can't be waited for: {error}");
        }
    }
}

/// Cleans up after worlds whose process, and whose janitor, are dead.
pub fn sweep(cgroups: &Path, home: &Path) -> Result<()> {
    for entry in fs::read_dir(home).with_context(|| format!("list {}", home.display()))? {
        let path = entry?.path();
        let Some(id) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".lock"))
        else {
            continue;
        };
        // Held while we sweep, so that two sweepers don't meet.
        let Ok(_dead) = slot::lock(&path) else { continue };
        let traces = Traces::of(id, cgroups, home);
        let status = traces.shell().stdin(Stdio::null()).status().context("start a janitor")?;
        if !status.success() {
            eprintln!("some traces of the dead world {id} could not be removed");
        }
    }
    Ok(())
}

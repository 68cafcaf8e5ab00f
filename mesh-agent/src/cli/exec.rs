//! `mesh-agent exec`

use std::{
    ffi::OsString,
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::Verdict;
use crate::config;

/// Runs a command inside the captured cgroup
#[derive(Debug, clap::Args)]
#[command(long_about = "\
Runs a command inside the first captured cgroup of a configuration, so that its \
connections to services are steered. The cgroup is made where it is missing. The \
command takes this process's place: its exit code is the command's own.

Examples:
  sudo mesh-agent exec --config mesh.yaml -- curl http://reviews:9080/
  sudo mesh-agent exec --config mesh.yaml -- bash")]
pub struct Args {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub fn run(args: &Args) -> anyhow::Result<Verdict> {
    let settings = config::load(&args.config)?;
    let Some(cgroup) = settings.capture.cgroups.first() else {
        bail!("{} captures no cgroup: name one under `capture.cgroups`", args.config.display());
    };
    // 0 is the writing process.
    enter(cgroup, 0)?;
    let [program, arguments @ ..] = &args.command[..] else {
        bail!("no command: write it after `--`");
    };
    // Returns only where it failed.
    let error = Command::new(program).args(arguments).exec();
    let what = match error.kind() {
        io::ErrorKind::NotFound => "there is no such command",
        io::ErrorKind::PermissionDenied => "it is not executable",
        _ => "it could not be started",
    };
    Err(error).with_context(|| format!("cannot run {}: {what}", program.display()))
}

/// Moves a process into `cgroup`, making it where it is missing.
fn enter(cgroup: &Path, process: u32) -> anyhow::Result<()> {
    let existing = cgroup.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let found = statfs(existing)
        .with_context(|| format!("cannot look at the file system of {}", existing.display()))?;
    if found.filesystem_type() != CGROUP2_SUPER_MAGIC {
        bail!(
            "{} is not below a cgroup v2 mount: `grep cgroup2 /proc/mounts` shows where one is",
            cgroup.display()
        );
    }
    let hint = |error: &io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => "run it as root, or as the owner of the cgroup",
        io::ErrorKind::ResourceBusy => {
            "a cgroup that gives controllers to its children can't hold processes: capture a child"
        }
        _ => "see `mesh-agent preflight`",
    };
    fs::create_dir_all(cgroup).map_err(|error| {
        let hint = hint(&error);
        anyhow::Error::new(error)
            .context(format!("cannot make the cgroup {}; {hint}", cgroup.display()))
    })?;
    fs::write(cgroup.join("cgroup.procs"), process.to_string()).map_err(|error| {
        let hint = hint(&error);
        anyhow::Error::new(error).context(format!("cannot move into {}; {hint}", cgroup.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cgroup that goes with the test.
    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir(self.0.join("pod"));
            let _ = fs::remove_dir(&self.0);
        }
    }

    #[test]
    fn a_missing_cgroup_is_made_and_entered() {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|fields| fields[2] == "cgroup2")
            .map(|fields| PathBuf::from(fields[1]));
        let Some(mount) = mount.filter(|_| nix::unistd::geteuid().is_root()) else {
            eprintln!("not run: it needs root and a cgroup v2 mount");
            assert!(std::env::var_os("CI").is_none(), "CI must be able to run it");
            return;
        };
        let scratch = Scratch(mount.join(format!("mesh-exec-test-{}", std::process::id())));
        let cgroup = scratch.0.join("pod");
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let entered = enter(&cgroup, child.id());
        let seen = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        entered.unwrap();
        let expected = format!("0::/mesh-exec-test-{}/pod", std::process::id());
        assert!(seen.lines().any(|line| line == expected), "{seen}");
    }

    #[test]
    fn what_is_no_cgroup_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pod");
        let error = enter(&path, 0).unwrap_err().to_string();
        assert!(error.contains("not below a cgroup v2 mount"), "{error}");
        assert!(!path.exists());
    }
}

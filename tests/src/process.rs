//! A process of a world, ended when its guard is dropped.

use std::{
    ffi::CString,
    fs::{self, File},
    io::Write as _,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::cgroup;

/// Where a process shall live.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub cgroup: &'a Path,
    /// File of its network namespace; the caller's where `None`.
    pub netns: Option<&'a Path>,
    /// What it sees as /etc/resolv.conf; the system's where `None`.
    pub resolv_conf: Option<&'a Path>,
}

/// A command whose process moves to its place before it runs.
pub fn command_in(place: &Place<'_>, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
    let mut door = cgroup::door(place.cgroup)?;
    let netns = place
        .netns
        .map(|path| File::open(path).with_context(|| format!("open {}", path.display())))
        .transpose()?;
    let resolv_conf = place
        .resolv_conf
        .map(|path| CString::new(path.as_os_str().as_encoded_bytes()))
        .transpose()
        .context("a path with a NUL byte")?;
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    let enter = move || {
        door.write_all(b"0")?;
        if let Some(netns) = &netns {
            setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)?;
        }
        if let Some(file) = &resolv_conf {
            const NONE: Option<&std::ffi::CStr> = None;
            unshare(CloneFlags::CLONE_NEWNS)?;
            // Or the bind below would show in the namespace of everybody.
            mount(NONE, c"/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
            mount(Some(file.as_c_str()), c"/etc/resolv.conf", NONE, MsFlags::MS_BIND, NONE)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes only system calls, on
    // descriptors and strings made before; it neither allocates nor locks.
    unsafe { command.pre_exec(enter) };
    Ok(command)
}

/// A server or another long-running process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, what it prints appended to the file `log`.
    pub fn start(name: &str, mut command: Command, log: PathBuf) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("open the log {}", log.display()))?;
        let child = command
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {name} ({command:?}): is it installed?"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// An error with its log where it has ended.
    pub fn alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended: {status}; it printed:\n{}", self.name, self.log());
        }
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid())?);
        kill(pid, signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// Ends it at once, as a crash would.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("kill {}", self.name))?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self) -> Result<std::process::ExitStatus> {
        Ok(self.child.wait()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end; an error only where it can't be started.
pub fn output(mut command: Command) -> Result<Output> {
    command.output().with_context(|| format!("start {command:?}: is it installed?"))
}

/// What a command printed; an error with all it said where it failed.
pub fn text(command: Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = output(command)?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{shown}: {}\n{printed}{errors}", output.status);
    }
    Ok(printed)
}

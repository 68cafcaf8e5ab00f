//! Whether this machine can do what the agent needs, and what to do where not.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use aya::programs::loaded_programs;
use nix::sys::statfs::statfs;

use super::{
    hooks::HOOKS,
    object::Object,
    pins::is_on_bpffs,
    place::cgroup2_mounts,
    prepare::{BPFFS, is_makeable, is_mountable},
    sys,
};
use crate::net::Namespace;

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub name: &'static str,
    pub state: State,
    /// What was seen.
    pub detail: String,
    /// What to do about it; empty where all is well.
    pub todo: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ok,
    /// It works, with something less.
    Degraded,
    /// The agent can't run.
    Missing,
}

impl State {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
        }
    }
}

/// Names of findings to report as missing, separated by commas: to see what
/// the agent says on a machine that one doesn't have.
pub const SIMULATE: &str = "MESH_AGENT_SIMULATE_MISSING";

/// What a finding can be called.
const NAMES: [&str; 9] = [
    "capabilities",
    "kernel",
    "btf",
    "cgroup2",
    "bpffs",
    "netns-cookie",
    "capture",
    "programs",
    "other-programs",
];

/// Looks at everything. Changes nothing: programs are loaded and dropped.
pub fn check(pins: &Path, cgroups: &[PathBuf]) -> Vec<Finding> {
    let mut findings = required(pins, cgroups);
    findings.push(programs());
    findings.extend(cgroups.iter().map(|cgroup| others(cgroup)));
    simulate(&mut findings);
    findings
}

/// The part that `run` insists on before it touches anything.
pub fn required(pins: &Path, cgroups: &[PathBuf]) -> Vec<Finding> {
    let mut findings = vec![capabilities(), kernel(), btf(), cgroup2(), bpffs(pins), namespace()];
    findings.extend(cgroups.iter().map(|cgroup| captured(cgroup)));
    simulate(&mut findings);
    findings
}

fn simulate(findings: &mut [Finding]) {
    let Ok(names) = std::env::var(SIMULATE) else { return };
    for name in names.split(',').filter(|name| !NAMES.contains(name)) {
        tracing::warn!(name, known = NAMES.join(","), "{SIMULATE} names nothing that is checked");
    }
    for finding in findings.iter_mut().filter(|f| names.split(',').any(|name| name == f.name)) {
        finding.state = State::Missing;
        finding.detail = format!("simulated by {SIMULATE}");
        if finding.todo.is_empty() {
            finding.todo = format!("unset {SIMULATE}");
        }
    }
}

fn finding(name: &'static str, result: Result<String, (String, &str)>) -> Finding {
    match result {
        Ok(detail) => Finding { name, state: State::Ok, detail, todo: String::new() },
        Err((detail, todo)) => {
            Finding { name, state: State::Missing, detail, todo: todo.to_owned() }
        }
    }
}

fn capabilities() -> Finding {
    const NEEDED: [(u32, &str); 4] =
        [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
    let effective = fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .unwrap_or(0);
    let missing: Vec<_> =
        NEEDED.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|&(_, name)| name).collect();
    let result = if missing.is_empty() {
        Ok("CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_SYS_ADMIN".to_owned())
    } else {
        Err((
            format!("without {}", missing.join(", ")),
            "run as root, or give the process these capabilities (a privileged DaemonSet has them)",
        ))
    };
    finding("capabilities", result)
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let result = if version >= (6, 1) {
        Ok(format!("Linux {release}"))
    } else {
        Err((
            format!("Linux {release}"),
            "Linux 6.1 or later: it is the first whose connect hooks may say with which error a \
             call fails",
        ))
    };
    finding("kernel", result)
}

fn btf() -> Finding {
    let path = "/sys/kernel/btf/vmlinux";
    let result = match fs::metadata(path) {
        Ok(_) => Ok(path.to_owned()),
        Err(error) => Err((format!("{path}: {error}"), "a kernel with CONFIG_DEBUG_INFO_BTF=y")),
    };
    finding("btf", result)
}

fn cgroup2() -> Finding {
    let result = match cgroup2_mounts().first() {
        Some(mount) => Ok(mount.display().to_string()),
        None => Err((
            "no cgroup2 in /proc/mounts".to_owned(),
            "mount one: mount -t cgroup2 none /sys/fs/cgroup/unified",
        )),
    };
    finding("cgroup2", result)
}

fn captured(cgroup: &Path) -> Finding {
    if is_makeable(cgroup) {
        return Finding {
            name: "capture",
            state: State::Degraded,
            detail: format!("{}: there is no such cgroup", cgroup.display()),
            todo: "`run` makes it, empty: look for a typing error".to_owned(),
        };
    }
    const CGROUP2_MAGIC: i64 = 0x6367_7270;
    let result = match statfs(cgroup) {
        Err(error) => Err((
            format!("{}: {error}", cgroup.display()),
            "create the cgroup (mkdir), or correct capture.cgroups",
        )),
        Ok(stat) if stat.filesystem_type().0 != CGROUP2_MAGIC => Err((
            format!("{} is not in a cgroup v2 hierarchy", cgroup.display()),
            "name a folder below the cgroup2 mount in capture.cgroups",
        )),
        Ok(_) => Ok(cgroup.display().to_string()),
    };
    finding("capture", result)
}

fn bpffs(pins: &Path) -> Finding {
    if is_mountable(pins) {
        return Finding {
            name: "bpffs",
            state: State::Degraded,
            detail: format!("{BPFFS} is not mounted"),
            todo: "`run` mounts it; better: mount it at boot, so that pins outlive a container"
                .to_owned(),
        };
    }
    let result = if is_on_bpffs(pins) {
        Ok(pins.display().to_string())
    } else {
        Err((
            format!("{} is not on a bpffs", pins.display()),
            "mount one: mount -t bpf bpf /sys/fs/bpf (or set capture.pins)",
        ))
    };
    finding("bpffs", result)
}

fn namespace() -> Finding {
    let result = match Namespace::current() {
        Ok(namespace) => Ok(format!("this namespace has cookie {}", namespace.cookie())),
        Err(error) => Err((error.to_string(), "Linux 5.14 or later: SO_NETNS_COOKIE")),
    };
    finding("netns-cookie", result)
}

fn programs() -> Finding {
    let result = match Object::load(None) {
        Ok(_) => Ok(format!("{} programs pass the verifier", HOOKS.len())),
        Err(error) => Err((
            error.to_string(),
            "the capabilities above, Linux 6.1, and a locked-memory limit that isn't tiny",
        )),
    };
    finding("programs", result)
}

/// Programs of others at our hooks: they run as well, and may rewrite before
/// or after us.
fn others(cgroup: &Path) -> Finding {
    let name = "other-programs";
    let ours: Vec<&str> = HOOKS.iter().map(|hook| hook.program).collect();
    let names: std::collections::HashMap<u32, String> = loaded_programs()
        .flatten()
        .filter_map(|info| Some((info.id(), info.name_as_str()?.to_owned())))
        .collect();
    let Ok(file) = File::open(cgroup) else { return finding(name, Ok("none".to_owned())) };
    let mut found = Vec::new();
    for hook in &HOOKS {
        for id in sys::programs_at(&file, hook.attach_type).unwrap_or_default() {
            let program = names.get(&id).map_or("?", String::as_str);
            // The kernel keeps 15 characters of a program's name.
            if !ours.iter().any(|our| our.starts_with(program) && program.starts_with("mesh_")) {
                found.push(format!("{} at {}", program, hook.name));
            }
        }
    }
    if found.is_empty() {
        return finding(name, Ok(format!("none at {}", cgroup.display())));
    }
    Finding {
        name,
        state: State::Degraded,
        detail: format!("{}: {}", cgroup.display(), found.join(", ")),
        todo: "programs of another product translate sockets here too (Cilium: set \
               socketLB.hostNamespaceOnly); make sure that they leave services' addresses alone"
            .to_owned(),
    }
}

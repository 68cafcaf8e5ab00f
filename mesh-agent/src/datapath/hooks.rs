//! The hooks on captured cgroups: one pinned link each, whose program is
//! replaced in place and never missing.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail, ensure};
use aya::programs::{CgroupAttachMode, CgroupSkbAttachType, Program, links::FdLink};

use super::{
    object::Object,
    pins::{Pins, remove_tree},
    place::{self, cgroup2_mounts},
    sys,
};

/// A program and the place where it runs.
#[derive(Debug)]
pub(super) struct Hook {
    /// Name of the program in the object.
    pub program: &'static str,
    /// Name of the hook, as the kernel's documentation has it.
    pub name: &'static str,
    /// `enum bpf_attach_type`
    pub attach_type: u32,
}

pub(super) const HOOKS: [Hook; 10] = [
    // What undoes a translation is attached before what makes one.
    Hook { program: "mesh_peername4", name: "getpeername4", attach_type: 29 },
    Hook { program: "mesh_peername6", name: "getpeername6", attach_type: 30 },
    Hook { program: "mesh_recvmsg4", name: "recvmsg4", attach_type: 19 },
    Hook { program: "mesh_recvmsg6", name: "recvmsg6", attach_type: 20 },
    Hook { program: "mesh_release", name: "sock_release", attach_type: 34 },
    Hook { program: "mesh_lifecycle", name: "sock_ops", attach_type: 3 },
    Hook { program: "mesh_sendmsg4", name: "sendmsg4", attach_type: 14 },
    Hook { program: "mesh_sendmsg6", name: "sendmsg6", attach_type: 15 },
    Hook { program: "mesh_connect4", name: "connect4", attach_type: 10 },
    Hook { program: "mesh_connect6", name: "connect6", attach_type: 11 },
];

/// Programs that see every packet of the captured sockets: attached only while
/// a service is balanced by response time.
pub(super) const TIMING: [Hook; 2] = [
    Hook { program: "mesh_answered", name: "ingress", attach_type: 0 },
    Hook { program: "mesh_asked", name: "egress", attach_type: 1 },
];

/// Run for what sockets of the bypass send, and what they receive by TCP; with
/// their attach type in `include/uapi/linux/bpf.h`.
pub(super) const BYPASS: [(&str, u32); 2] = [("mesh_bypass", 7), ("mesh_by_tcp", 5)];

/// Run by the agent itself.
pub(super) const MEND: &str = "mesh_mend";

/// A hook as it is attached now.
#[derive(Clone, Debug)]
pub struct Attached {
    pub cgroup: PathBuf,
    pub hook: &'static str,
    pub link: u32,
    pub program: u32,
    pub pin: PathBuf,
    /// What is wrong with it, if anything.
    pub problem: Option<String>,
}

/// The hooks of all captured cgroups.
#[derive(Debug, Default)]
pub struct Hooks {
    cgroups: Vec<(PathBuf, u64)>,
    timing: bool,
}

impl Hooks {
    /// Attaches to these cgroups, and detaches from all others of `pins`.
    /// `timing` says whether answers are to be timed.
    pub fn attach(
        object: &mut Object,
        pins: &Pins,
        cgroups: &[PathBuf],
        timing: bool,
    ) -> anyhow::Result<Self> {
        let mut hooks = Self { timing, ..Self::default() };
        for path in cgroups {
            let cgroup = File::open(path).with_context(|| {
                format!(
                    "can't open the cgroup {}: create it, or correct capture.cgroups",
                    path.display()
                )
            })?;
            let id = cgroup.metadata()?.ino();
            for hook in hooks.wanted() {
                attach_one(object, hook, &cgroup, &pins.link(id, hook.name))
                    .with_context(|| format!("attaching {} to {}", hook.name, path.display()))?;
            }
            hooks.cgroups.push((path.clone(), id));
        }
        hooks.detach_others(pins)?;
        if let Err(error) = follow_agent(object, cgroups) {
            let error = format!("{error:#}");
            tracing::warn!(error, "nothing goes past TCP between applications and the agent");
        }
        for outdated in pins.outdated() {
            remove_tree(&outdated, &mut Vec::new())
                .with_context(|| format!("removing {}", outdated.display()))?;
        }
        Ok(hooks)
    }

    /// Begins or ends to time answers; whether anything changed.
    pub fn time_answers(
        &mut self,
        object: &mut Object,
        pins: &Pins,
        timing: bool,
    ) -> anyhow::Result<bool> {
        if self.timing == timing || self.cgroups.is_empty() {
            return Ok(false);
        }
        let cgroups: Vec<_> = self.cgroups.iter().map(|(path, _)| path.clone()).collect();
        *self = Self::attach(object, pins, &cgroups, timing)?;
        Ok(true)
    }

    fn wanted(&self) -> impl Iterator<Item = &'static Hook> + use<> {
        HOOKS.iter().chain(if self.timing { &TIMING[..] } else { &[] })
    }

    fn detach_others(&self, pins: &Pins) -> io::Result<()> {
        let wanted: BTreeSet<PathBuf> = (self.cgroups.iter())
            .flat_map(|&(_, id)| self.wanted().map(move |hook| pins.link(id, hook.name)))
            .collect();
        for entry in fs::read_dir(pins.links())? {
            let path = entry?.path();
            if !wanted.contains(&path) {
                tracing::info!(link = %path.display(), "detached: no longer captured, or no longer needed");
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Looks at every hook in the kernel, not at what we remember.
    pub fn verify(&self, pins: &Pins) -> Vec<Attached> {
        (self.cgroups.iter())
            .flat_map(|(path, id)| self.wanted().map(move |hook| verify_one(path, *id, hook, pins)))
            .collect()
    }
}

/// Follows the agent's own sockets, as the bypass needs it, for as long as this
/// process lives.
fn follow_agent(object: &mut Object, cgroups: &[PathBuf]) -> anyhow::Result<()> {
    let own = place::own_cgroup()?;
    // Hooks above it follow them already.
    if object.follows_agent || cgroups.iter().any(|cgroup| own.starts_with(cgroup)) {
        return Ok(());
    }
    ensure!(
        !cgroup2_mounts().contains(&own),
        "the agent is in the root cgroup, whose sockets are all of the node's: start it in one of its own"
    );
    let Some(Program::SockOps(program)) = object.ebpf.program_mut("mesh_lifecycle") else {
        bail!("the object has no program mesh_lifecycle");
    };
    program.attach(File::open(&own)?, CgroupAttachMode::Single)?;
    object.follows_agent = true;
    Ok(())
}

fn verify_one(cgroup: &Path, id: u64, hook: &Hook, pins: &Pins) -> Attached {
    let pin = pins.link(id, hook.name);
    let info = sys::open_pin(&pin).and_then(|link| sys::link_info(link.as_fd()));
    let problem = match &info {
        Err(error) => Some(format!("no link at its pin: {error}")),
        Ok(info) if info.cgroup == 0 => Some("its cgroup was removed".to_owned()),
        Ok(info) if info.cgroup != id => Some(format!("attached to cgroup {}", info.cgroup)),
        Ok(_) if fs::metadata(cgroup).map(|m| m.ino()).ok() != Some(id) => {
            Some("the cgroup at this path is another one now".to_owned())
        }
        Ok(_) => None,
    };
    let info = info.unwrap_or_default();
    Attached {
        cgroup: cgroup.to_owned(),
        hook: hook.name,
        link: info.id,
        program: info.program,
        pin,
        problem,
    }
}

/// Puts our program into the link pinned at `pin`, or pins a new link there.
fn attach_one(object: &mut Object, hook: &Hook, cgroup: &File, pin: &Path) -> anyhow::Result<()> {
    let program = object
        .ebpf
        .program_mut(hook.program)
        .ok_or_else(|| anyhow!("the object has no program {}", hook.program))?;
    if pin.exists() {
        let link = sys::open_pin(pin).context("opening the pinned link")?;
        match sys::update_link(link.as_fd(), program.fd()?.as_fd()) {
            Ok(()) => return Ok(()),
            // The cgroup behind it is gone; one of the same id can't be.
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => fs::remove_file(pin)?,
            Err(error) => return Err(error).context("replacing the program in the pinned link"),
        }
    }
    let link = match program {
        Program::CgroupSockAddr(program) => {
            let id = program.attach(cgroup, CgroupAttachMode::Single)?;
            FdLink::try_from(program.take_link(id)?)
        }
        Program::CgroupSock(program) => {
            let id = program.attach(cgroup, CgroupAttachMode::Single)?;
            FdLink::try_from(program.take_link(id)?)
        }
        Program::SockOps(program) => {
            let id = program.attach(cgroup, CgroupAttachMode::Single)?;
            FdLink::try_from(program.take_link(id)?)
        }
        Program::CgroupSkb(program) => {
            let direction = if hook.name == "ingress" {
                CgroupSkbAttachType::Ingress
            } else {
                CgroupSkbAttachType::Egress
            };
            let id = program.attach(cgroup, direction, CgroupAttachMode::Single)?;
            FdLink::try_from(program.take_link(id)?)
        }
        _ => return Err(anyhow!("{} is no cgroup program", hook.program)),
    };
    link.map_err(|_| anyhow!("the kernel has no bpf_link for cgroups (Linux 5.7)"))?.pin(pin)?;
    Ok(())
}

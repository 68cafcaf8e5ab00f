//! A world: a switch, pods on it, a cgroup, and nothing left of it afterwards.

use std::{
    ffi::OsStr,
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::fcntl::Flock;

use crate::{
    cgroup,
    janitor::{Janitor, Traces, sweep},
    pod::{Pod, PodOptions},
    process::{Place, Process, command_in, text},
    slot::{self, Slot},
    wait::eventually,
};

/// Where worlds keep what the next one must find after a crash.
const HOME: &str = "/run/mesh-tests";

/// Whom pods ask for names unless told otherwise. Nobody has this address:
/// an answer can only come from the mesh.
pub const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 53));

/// Fields are dropped in this order: the janitor first, then the lock that
/// says that this world lives, then the place in the queue.
#[derive(Debug)]
pub struct World {
    traces: Traces,
    pods: AtomicU16,
    /// One in each captured pod: see [`World::pod`].
    pauses: Mutex<Vec<Process>>,
    /// Sets worlds that exist at a time apart, where they share the host.
    lane: u16,
    _janitor: Janitor,
    _alive: Flock<File>,
    _slot: Option<Slot>,
}

impl World {
    /// A world of a test: waits until few enough exist.
    pub fn new(name: &str) -> Result<Self> {
        need_root()?;
        let slot = Slot::wait(Path::new(HOME))?;
        let lane = slot.number();
        Self::build(name, lane, Some(slot))
    }

    /// A world that doesn't queue with those of the tests.
    pub fn beside_the_tests(name: &str) -> Result<Self> {
        need_root()?;
        const LANE: u16 = 9;
        Self::build(name, LANE, None)
    }

    fn build(name: &str, lane: u16, slot: Option<Slot>) -> Result<Self> {
        static NUMBER: AtomicU16 = AtomicU16::new(0);
        let id = format!("mesh-{name}-{}-{}", process::id(), NUMBER.fetch_add(1, Relaxed));
        let home = Path::new(HOME);
        let cgroups = cgroup::mount_point()?;
        fs::create_dir_all(home)?;
        let traces = Traces::of(&id, &cgroups, home);
        let alive = {
            // One at a time, or a sweeper takes a lock that was just made for dead.
            let _door = eventually("the door to new worlds", || slot::lock(&home.join("door")))?;
            sweep(&cgroups, home)?;
            mount_bpffs()?;
            slot::lock(&traces.lock)?
        };
        // From here on whatever we make is removed, whatever happens.
        let janitor = Janitor::start(&traces)?;
        let world = Self {
            traces,
            pods: AtomicU16::new(0),
            pauses: Mutex::default(),
            lane,
            _janitor: janitor,
            _alive: alive,
            _slot: slot,
        };
        fs::create_dir_all(world.folder())?;
        for path in [world.captured(), world.apart(), world.agent_cgroup()] {
            cgroup::create(&path)?;
        }
        world.make_switch().context("make the switch that pods are attached to")?;
        Ok(world)
    }

    /// Name of this world, which all names that it makes begin with.
    pub fn id(&self) -> &str {
        &self.traces.prefix
    }

    /// Of files that end with this world.
    pub fn folder(&self) -> &Path {
        &self.traces.run
    }

    /// Where the agent pins its maps and links.
    pub fn pins(&self) -> &Path {
        &self.traces.pins
    }

    /// All processes of this world live in this cgroup or below it.
    pub fn cgroup(&self) -> &Path {
        &self.traces.cgroup
    }

    /// The cgroup that the agent captures.
    pub fn captured(&self) -> PathBuf {
        self.traces.cgroup.join("captured")
    }

    /// The cgroup of pods that are not captured.
    pub fn apart(&self) -> PathBuf {
        self.traces.cgroup.join("apart")
    }

    /// The agent's own cgroup.
    pub fn agent_cgroup(&self) -> PathBuf {
        self.traces.cgroup.join("agent")
    }

    /// A command in the network namespace of this process; it ends with the
    /// world, and after `seconds` at the latest.
    pub fn command(&self, program: impl AsRef<OsStr>, seconds: u32) -> Result<Command> {
        let cgroup = self.agent_cgroup();
        let place = Place { cgroup: &cgroup, netns: None, resolv_conf: None };
        let mut command = command_in(&place, "timeout")?;
        command.arg(seconds.to_string()).arg(program);
        Ok(command)
    }

    /// Differs between worlds that exist at a time.
    pub fn lane(&self) -> u16 {
        self.lane
    }

    /// A pod whose sockets the agent captures.
    pub fn client(&self, name: &str) -> Result<Pod> {
        self.pod(name, PodOptions { captured: true })
    }

    /// A pod that the agent leaves alone.
    pub fn backend(&self, name: &str) -> Result<Pod> {
        self.pod(name, PodOptions { captured: false })
    }

    /// A new pod, on the switch with all others.
    ///
    /// As on Kubernetes a captured one has a process that does nothing, so that
    /// the agent finds the pod before its application starts.
    pub fn pod(&self, name: &str, options: PodOptions) -> Result<Pod> {
        let above = if options.captured { self.captured() } else { self.apart() };
        let mut pod = self.pod_in(name, above.join(name))?;
        if options.captured {
            self.pause(&mut pod)?;
        }
        Ok(pod)
    }

    /// A pod without any process, whose cgroup is this one.
    pub fn pod_in(&self, name: &str, cgroup: PathBuf) -> Result<Pod> {
        let number = self.pods.fetch_add(1, Relaxed) + 1;
        ensure!(number < 250, "a world has room for 250 pods");
        let host = number as u8;
        let pod = Pod {
            name: name.to_owned(),
            ip4: Ipv4Addr::new(10, 1, 0, host),
            ip6: Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, host.into()),
            netns: self.netns(name),
            cgroup,
            folder: self.folder().join(name),
            pause: None,
        };
        fs::create_dir_all(&pod.folder)?;
        cgroup::create(&pod.cgroup)?;
        pod.set_resolver(RESOLVER)?;
        self.attach(&pod, number).with_context(|| format!("make the pod {name}"))?;
        Ok(pod)
    }

    /// Starts the process that does nothing.
    pub fn pause(&self, pod: &mut Pod) -> Result<()> {
        let pause = pod.spawn("sleep", ["infinity"])?;
        pod.pause = Some(pause.pid());
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner).push(pause);
        Ok(())
    }

    /// Writes a script that people can use: `SCRIPT POD COMMAND…` runs a command
    /// inside a pod, with its namespace, its cgroup and its resolver.
    pub fn write_entrance(&self) -> Result<PathBuf> {
        let path = self.folder().join("in");
        let script = format!(
            r#"#!/bin/sh
# Usage: $0 POD COMMAND...
pod=$1; shift
for group in {captured} {apart}; do
    [ -d "$group/$pod" ] && echo $$ >"$group/$pod/cgroup.procs"
done
exec nsenter --net="/run/netns/{id}.$pod" unshare --mount sh -c     'mount --bind "$0" /etc/resolv.conf && exec "$@"' "{folder}/$pod/resolv.conf" "$@"
"#,
            captured = self.captured().display(),
            apart = self.apart().display(),
            id = self.id(),
            folder = self.folder().display(),
        );
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    fn netns(&self, name: &str) -> String {
        format!("{}.{name}", self.id())
    }

    /// A bridge in a namespace of its own, which has no other way out.
    fn make_switch(&self) -> Result<()> {
        let switch = self.netns("switch");
        ip(&format!("netns add {switch}"))?;
        no_duplicate_detection(&switch)?;
        no_detour(&switch)?;
        ip(&format!("-n {switch} link add switch type bridge forward_delay 0"))?;
        ip(&format!("-n {switch} link set switch up"))
    }

    fn attach(&self, pod: &Pod, number: u16) -> Result<()> {
        let (switch, netns) = (self.netns("switch"), &pod.netns);
        let (ip4, ip6) = (pod.ip4, pod.ip6);
        ip(&format!("netns add {netns}"))?;
        no_duplicate_detection(netns)?;
        ip(&format!("-n {switch} link add p{number} type veth peer name eth0 netns {netns}"))?;
        ip(&format!("-n {switch} link set p{number} master switch up"))?;
        ip(&format!("-n {netns} link set lo up"))?;
        ip(&format!("-n {netns} addr add {ip4}/24 dev eth0"))?;
        ip(&format!("-n {netns} addr add {ip6}/64 dev eth0 nodad"))?;
        ip(&format!("-n {netns} link set eth0 up"))
    }
}

/// Addresses are usable at once: nobody else could have them.
fn no_duplicate_detection(netns: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", netns, "sysctl", "-qw"]);
    command.args(["net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0"]);
    text(command).map(drop)
}

/// Where some container engine has loaded `br_netfilter`, every frame would go
/// through the rules of iptables, of which there are none.
fn no_detour(netns: &str) -> Result<()> {
    let mut command = Command::new("ip");
    // `-e`: it is not an error that the module isn't there.
    command.args(["netns", "exec", netns, "sysctl", "-e", "-qw"]);
    command.args(["net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0"]);
    text(command).map(drop)
}

fn ip(arguments: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(arguments.split(' '));
    text(command).map(drop)
}

/// The agent pins there.
fn mount_bpffs() -> Result<()> {
    if cgroup::mounted("bpf").is_some() {
        return Ok(());
    }
    let mut command = Command::new("mount");
    command.args(["-t", "bpf", "bpf", "/sys/fs/bpf"]);
    text(command).context("mount the BPF file system").map(drop)
}

fn need_root() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("this needs root: it makes network namespaces and cgroups, and loads eBPF programs");
    }
    Ok(())
}

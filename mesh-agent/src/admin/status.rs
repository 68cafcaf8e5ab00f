//! How the agent is.

use serde::{Deserialize, Serialize};

/// `mesh-agent status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub uptime_ms: u64,
    pub state: AgentState,
    /// The configuration file.
    pub config: String,
    /// `false` for `run --no-ebpf`: no hooks, maps or namespaces.
    pub ebpf: bool,
    pub hooks: Vec<HookView>,
    pub namespaces: Vec<NamespaceView>,
    /// `None` where there is no heartbeat (`--no-ebpf`).
    pub heartbeat_age_ms: Option<u64>,
    pub dns: DnsView,
    /// Where instances are discovered; services with `static` ones have none.
    pub sources: Vec<SourceView>,
    /// What is watched of the Kubernetes cluster, where there is one.
    pub watches: Vec<WatchView>,
    /// `None` before the first reload.
    pub last_reload: Option<ReloadView>,
    pub generations: Generations,
    pub maps: Vec<MapView>,
    /// What doesn't work as it should, each with its consequence.
    pub degraded: Vec<String>,
    /// What the hooks decided, and how often.
    pub reasons: Vec<ReasonView>,
    /// The log filter in force.
    pub log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AgentState {
    Starting,
    Serving,
    /// It ends; live connections have until the drain deadline.
    Draining,
}

/// One hook on one cgroup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HookView {
    pub cgroup: String,
    /// As the kernel names it, such as `connect4`.
    pub hook: String,
    pub program_id: Option<u32>,
    pub link_id: Option<u32>,
    /// Where the link is pinned.
    pub pinned: String,
    /// Attached, to this cgroup, with our program.
    pub ok: bool,
    /// What is wrong where it isn't.
    pub problem: Option<String>,
}

/// A network namespace with captured sockets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceView {
    pub cookie: u64,
    /// Addresses that the agent listens on in there.
    pub listeners: Vec<String>,
    /// Processes that it was seen with.
    pub pids: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsView {
    pub enabled: bool,
    /// How many hostnames are answered.
    pub hostnames: u64,
}

/// A source of instances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceView {
    pub service: String,
    /// `dns`, `http` or `kubernetes`.
    pub kind: String,
    /// What is asked for: a name, a URL, or a Service.
    pub target: String,
    pub state: SourceState,
    /// How many stand of it.
    pub instances: u64,
    /// Since it answered last, perhaps to an earlier agent; `None` if never.
    pub age_ms: Option<u64>,
    /// What went wrong last; not cleared by an answer.
    pub last_error: Option<String>,
    /// Since then.
    pub last_error_age_ms: Option<u64>,
    /// Until it is asked again; `None` while it is being asked, or where it tells by itself.
    pub next_try_ms: Option<u64>,
    /// Times that it answered this agent.
    pub answers: u64,
    /// Times that it didn't.
    pub errors: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SourceState {
    /// Not asked yet.
    Waiting,
    Ok,
    /// It says that there is nothing.
    Empty,
    /// It doesn't answer, or nothing that can be used: what it said before
    /// stands.
    Failing,
}

/// A resource of Kubernetes that is watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchView {
    /// Such as `endpointslices.discovery.k8s.io`.
    pub resource: String,
    pub state: WatchState,
    pub objects: u64,
    /// Since the API server last said anything of it; `None` if never.
    pub age_ms: Option<u64>,
    /// What went wrong last; not cleared by what goes well.
    pub last_error: Option<String>,
    pub last_error_age_ms: Option<u64>,
    /// Changes that were seen.
    pub events: u64,
    /// Times that all objects were listed: once, and after each gap.
    pub lists: u64,
    pub errors: u64,
    /// Objects that make no sense: what was known of them stands.
    pub unreadable: Vec<UnreadableView>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnreadableView {
    /// Namespace and name.
    pub object: String,
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WatchState {
    /// Its objects haven't been listed yet.
    Waiting,
    /// It follows.
    Synced,
    /// It doesn't follow: what was known stands.
    Stale,
    /// It doesn't follow, and nothing is known.
    Failing,
    /// The cluster doesn't have this resource, which it needn't.
    NotInstalled,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReloadView {
    pub age_ms: u64,
    pub ok: bool,
    /// Why it was refused; the configuration before it serves on.
    pub problems: Vec<String>,
}

/// Which state of the services is where: different only while maps are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Generations {
    pub registry: u64,
    pub kernel: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MapView {
    pub name: String,
    pub used: u64,
    pub capacity: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReasonView {
    pub name: String,
    pub count: u64,
}

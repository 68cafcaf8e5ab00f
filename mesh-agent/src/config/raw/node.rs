//! Sections about the node and the agent itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::text::{AbsolutePath, Duration, Listen, Place, Size},
    model,
};

/// Which sockets are captured, and how.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Capture {
    /// Absolute paths of cgroups (version 2). Their sockets, those of child cgroups included, are captured.
    #[schemars(length(max = 1024))]
    pub cgroups: Vec<AbsolutePath>,
    /// Cgroups below `cgroups` that are left alone.
    #[schemars(length(max = 1024))]
    pub exclude: Vec<AbsolutePath>,
    /// The cgroup in which the kubelet keeps all pods, or one above it, with `kubernetes.enabled`. Found by itself unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubepods: Option<AbsolutePath>,
    /// Folder on a bpffs that maps and links are pinned under; every agent on a node needs its own.
    pub pins: AbsolutePath,
    /// Port of the agent's listener in each captured network namespace, on 127.0.0.1 and `::1`.
    #[schemars(range(min = 1))]
    pub proxy_port: u16,
    /// `SO_MARK` of the agent's own sockets, which are never captured. Must be free on this node.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub mark: u32,
    /// An agent whose heartbeat is older than this counts as gone (see `onAgentFailure`).
    pub stale_after: Duration,
}

/// Where commands and scrapers reach the agent.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Admin {
    /// Unix socket that the commands use; mode 0600.
    pub socket: AbsolutePath,
    /// Address and port of /metrics, /healthz and /readyz, or `off`.
    pub http: Listen,
}

/// Answers to captured sockets that ask for services' hostnames; all other queries go on unchanged.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Dns {
    /// `false` leaves all queries alone.
    pub enabled: bool,
    /// Port of the agent's DNS listener in each captured network namespace.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// How long applications may keep an answer; whole seconds.
    pub ttl: Duration,
}

/// What keeps one client from hurting the others.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Longest head of a request (request line and header fields), 8KiB to 16MiB.
    pub header_size: Size,
    /// Most header fields in a request.
    #[schemars(range(min = 1, max = 4096))]
    pub header_count: u32,
    /// Time for the whole head of a request to arrive.
    pub header_timeout: Duration,
    /// Most connections that the agent proxies at a time.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub connections: u32,
    /// Most concurrent HTTP/2 streams on one client connection.
    #[schemars(range(min = 1, max = 65_536))]
    pub streams: u32,
    /// Time for live connections to end when the agent stops; `0s` cuts them at once.
    pub drain: Duration,
}

/// Where a node or an instance is. What is left out is unknown.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Locality {
    /// Such as `aws`.
    pub cloud: Place,
    /// Such as `eu-west-1`.
    pub region: Place,
    /// Such as `a`; quotes around a number.
    pub zone: Place,
    /// Such as `node-7`; an instance on the same node is nearest.
    pub node: Place,
}

impl Default for Capture {
    fn default() -> Self {
        let model::Capture { cgroups, exclude, kubepods, pins, proxy_port, mark, stale_after } =
            model::Capture::default();
        Self {
            cgroups: cgroups.into_iter().map(AbsolutePath).collect(),
            exclude: exclude.into_iter().map(AbsolutePath).collect(),
            kubepods: kubepods.map(AbsolutePath),
            pins: AbsolutePath(pins),
            proxy_port,
            mark,
            stale_after: Duration(stale_after),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        let model::Admin { socket, http } = model::Admin::default();
        Self { socket: AbsolutePath(socket), http: Listen(http) }
    }
}

impl Default for Dns {
    fn default() -> Self {
        let model::Dns { enabled, port, ttl } = model::Dns::default();
        Self { enabled, port, ttl: Duration(ttl) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let limits = model::Limits::default();
        let count = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
        Self {
            header_size: Size(limits.header_size),
            header_count: count(limits.header_count),
            header_timeout: Duration(limits.header_timeout),
            connections: count(limits.connections),
            streams: limits.streams,
            drain: Duration(limits.drain),
        }
    }
}

impl From<Capture> for model::Capture {
    fn from(raw: Capture) -> Self {
        Self {
            cgroups: raw.cgroups.into_iter().map(|path| path.0).collect(),
            exclude: raw.exclude.into_iter().map(|path| path.0).collect(),
            kubepods: raw.kubepods.map(|path| path.0),
            pins: raw.pins.0,
            proxy_port: raw.proxy_port,
            mark: raw.mark,
            stale_after: raw.stale_after.0,
        }
    }
}

impl From<Admin> for model::Admin {
    fn from(raw: Admin) -> Self {
        Self { socket: raw.socket.0, http: raw.http.0 }
    }
}

impl From<Dns> for model::Dns {
    fn from(raw: Dns) -> Self {
        Self { enabled: raw.enabled, port: raw.port, ttl: raw.ttl.0 }
    }
}

impl From<Limits> for model::Limits {
    fn from(raw: Limits) -> Self {
        Self {
            header_size: raw.header_size.0,
            header_count: raw.header_count as usize,
            header_timeout: raw.header_timeout.0,
            connections: raw.connections as usize,
            streams: raw.streams,
            drain: raw.drain.0,
        }
    }
}

impl From<Locality> for model::Locality {
    fn from(raw: Locality) -> Self {
        Self { cloud: raw.cloud.0, region: raw.region.0, zone: raw.zone.0, node: raw.node.0 }
    }
}

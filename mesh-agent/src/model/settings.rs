//! Everything the file says, validated.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use super::{Kubernetes, Locality, ServiceSpec};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub capture: Capture,
    pub admin: Admin,
    pub dns: Dns,
    pub limits: Limits,
    /// Of this node.
    pub locality: Locality,
    pub kubernetes: Kubernetes,
    pub services: Vec<Arc<ServiceSpec>>,
}

impl Settings {
    /// Takes the services that are as they were from the settings before these:
    /// each is held once.
    pub fn keep(&mut self, before: &Self) {
        let before: HashMap<_, _> = before.services.iter().map(|one| (&one.name, one)).collect();
        for service in &mut self.services {
            if let Some(&same) = before.get(&service.name).filter(|one| ***one == *service) {
                *service = Arc::clone(same);
            }
        }
    }
}

/// `capture`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Sockets of these cgroups, children included, are captured.
    pub cgroups: Vec<PathBuf>,
    /// Cgroups below them that are left alone.
    pub exclude: Vec<PathBuf>,
    /// The cgroup of all pods, or one above it; found by itself where `None`.
    pub kubepods: Option<PathBuf>,
    /// Folder on a bpffs that maps and links are pinned under; one agent each.
    pub pins: PathBuf,
    /// The agent's listener in each captured namespace, on 127.0.0.1 and `::1`.
    pub proxy_port: u16,
    /// `SO_MARK` of the agent's own sockets.
    pub mark: u32,
    /// A heartbeat older than this means that the agent is gone.
    pub stale_after: Duration,
}

/// `admin`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The commands' unix socket.
    pub socket: PathBuf,
    /// /metrics, /healthz, /readyz; off where `None`.
    pub http: Option<SocketAddr>,
}

/// `dns`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    pub enabled: bool,
    /// The agent's DNS listener in each captured namespace.
    pub port: u16,
    /// Of the answers for services' hostnames.
    pub ttl: Duration,
}

/// `limits`: what keeps one client from hurting the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of a request's head, bytes.
    pub header_size: usize,
    /// Fields in a request's head.
    pub header_count: usize,
    /// For the whole request head to arrive.
    pub header_timeout: Duration,
    /// Connections that the agent proxies at a time.
    pub connections: usize,
    /// Concurrent HTTP/2 streams on one client connection.
    pub streams: u32,
    /// For live connections to end when the agent stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_size: 64 * 1024,
            header_count: 128,
            header_timeout: Duration::from_secs(10),
            connections: 65_536,
            streams: 256,
            drain: Duration::from_secs(10),
        }
    }
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            cgroups: Vec::new(),
            exclude: Vec::new(),
            kubepods: None,
            pins: "/sys/fs/bpf/mesh-agent".into(),
            proxy_port: 15_001,
            mark: 0x6d65_7368,
            stale_after: Duration::from_secs(1),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            socket: "/run/mesh-agent/admin.sock".into(),
            http: Some(([127, 0, 0, 1], 15_020).into()),
        }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self { enabled: true, port: 15_053, ttl: Duration::from_secs(5) }
    }
}

//! The peers, each with the settings that make it fastest.

pub mod envoy;
pub mod haproxy;
pub mod install;
pub mod nginx;

use std::{net::Ipv4Addr, path::PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use mesh_tests::{Pod, Process};

use super::scenario::Kind;
use crate::process;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Peer {
    Envoy,
    Nginx,
    Haproxy,
}

impl Peer {
    pub const ALL: [Self; 3] = [Self::Envoy, Self::Nginx, Self::Haproxy];

    /// Its program, where it is installed.
    pub fn find(self) -> Option<PathBuf> {
        match self {
            Self::Envoy => install::envoy(),
            Self::Nginx => process::find_program("nginx"),
            Self::Haproxy => process::find_program("haproxy"),
        }
    }
}

/// What a peer in a pod proxies for: the servers behind each kind of traffic.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub addresses: Vec<Ipv4Addr>,
}

impl Upstream {
    /// `address:port` of all that answer this kind.
    pub fn of(&self, kind: Kind) -> Vec<(String, u16)> {
        let port = kind.server_port();
        let addresses = &self.addresses[..kind.servers()];
        addresses.iter().map(|address| (address.to_string(), port)).collect()
    }
}

/// Where an explicit peer listens in its client's pod.
pub fn explicit_port(kind: Kind) -> u16 {
    20_000 + u16::from(kind.number())
}

/// All kinds that a proxy can carry.
pub fn kinds() -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(|kind| *kind != Kind::Datagram)
}

/// The cgroup of a peer, below that of the pod that it serves.
pub const GROUP: &str = "proxy";

/// Starts a peer in its cgroup on the cores of proxies.
fn start(pod: &Pod, name: &str, cores: &str, line: &str) -> Result<Process> {
    let mut command = pod.command_apart(GROUP, "taskset")?;
    command.args(["-c", cores]).args(line.split(' '));
    pod.spawn_command(name, command)
}

//! The rules that lead a pod's traffic elsewhere, for those who need such.

use std::{net::Ipv4Addr, process::Command};

use anyhow::{Context as _, Result};
use mesh_tests::{Pod, text};

use super::scenario::Kind;

/// The user that a sidecar runs as, whose own traffic is let through.
pub const SIDECAR_USER: u32 = 1337;
/// Where a sidecar waits for what its pod sends, and for what it is sent.
pub const OUTBOUND: u16 = 15_001;
pub const INBOUND: u16 = 15_006;

/// Virtual addresses of a service per kind of traffic.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Last part of the first one.
    pub base: u8,
}

impl Addresses {
    pub const PORT: u16 = 80;

    pub fn number(self, kind: Kind) -> u8 {
        self.base + kind.number()
    }

    pub fn of(self, kind: Kind) -> Ipv4Addr {
        Ipv4Addr::new(10, 96, 0, self.number(kind))
    }
}

/// What kube-proxy writes for services with a cluster address: one chain of all
/// services, one per service, one per instance.
pub fn kube_proxy(pod: &Pod, addresses: Addresses, servers: &[Ipv4Addr]) -> Result<()> {
    let mut chains = String::from(":KUBE-SERVICES - [0:0]\n");
    let mut rules = String::from("-A OUTPUT -j KUBE-SERVICES\n");
    for kind in Kind::ALL {
        let (address, number) = (addresses.of(kind), kind.number());
        let protocol = if kind == Kind::Datagram { "udp" } else { "tcp" };
        chains += &format!(":KUBE-SVC-{number} - [0:0]\n");
        rules += &format!(
            "-A KUBE-SERVICES -d {address}/32 -p {protocol} -m {protocol} --dport {} -j KUBE-SVC-{number}\n",
            Addresses::PORT
        );
        let servers = &servers[..kind.servers()];
        for (index, server) in servers.iter().enumerate() {
            let left = servers.len() - index;
            let chance = match left {
                1 => String::new(),
                _ => format!("-m statistic --mode random --probability {:.10} ", 1.0 / left as f64),
            };
            chains += &format!(":KUBE-SEP-{number}-{index} - [0:0]\n");
            rules += &format!("-A KUBE-SVC-{number} {chance}-j KUBE-SEP-{number}-{index}\n");
            rules += &format!(
                "-A KUBE-SEP-{number}-{index} -p {protocol} -m {protocol} -j DNAT --to-destination {server}:{}\n",
                kind.server_port()
            );
        }
    }
    restore(pod, &chains, &rules)?;
    route(pod)
}

/// Leads what a pod sends to virtual addresses to the sidecar in it.
pub fn outbound(pod: &Pod) -> Result<()> {
    let rules = format!(
        "-A OUTPUT -p tcp -m owner --uid-owner {SIDECAR_USER} -j RETURN\n\
         -A OUTPUT -p tcp -d 10.96.0.0/16 -j REDIRECT --to-ports {OUTBOUND}\n"
    );
    restore(pod, "", &rules)?;
    route(pod)
}

/// Leads what a pod is sent to the sidecar in it.
pub fn inbound(pod: &Pod) -> Result<()> {
    restore(pod, "", &format!("-A PREROUTING -p tcp -j REDIRECT --to-ports {INBOUND}\n"))
}

fn restore(pod: &Pod, chains: &str, rules: &str) -> Result<()> {
    let file = pod.file("nat.rules", format!("*nat\n{chains}{rules}COMMIT\n"))?;
    let path = file.to_str().context("paths of a world are ASCII")?;
    pod.run("iptables-restore", [path]).map(drop)
}

/// The kernel looks for a route before the rules are asked.
fn route(pod: &Pod) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-n", &pod.netns, "route", "add", "10.96.0.0/16", "dev", "eth0"]);
    text(command).map(drop)
}

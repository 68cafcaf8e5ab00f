//! dnsmasq: a DNS server with the names that it is given.

use std::net::IpAddr;

use anyhow::{Context as _, Result};

use super::wait_for_port;
use crate::{pod::Pod, process::Process};

/// dnsmasq in a pod, on port 53.
#[derive(Debug)]
pub struct Dnsmasq {
    pub process: Process,
}

impl Dnsmasq {
    /// Answers for these names only; NXDOMAIN for all others.
    pub fn start(pod: &Pod, names: &[(&str, IpAddr)]) -> Result<Self> {
        let hosts: String =
            names.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
        let hosts = pod.file("hosts", hosts)?;
        let hosts = hosts.to_str().context("paths of a world are ASCII")?;
        let process = pod.spawn(
            "dnsmasq",
            [
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--user=root",
                "--no-resolv",
                "--no-hosts",
                "--local=/test/",
                "--log-queries",
                "--log-facility=-",
                "--pid-file",
                &format!("--addn-hosts={hosts}"),
            ],
        )?;
        wait_for_port(pod, 53)?;
        Ok(Self { process })
    }
}

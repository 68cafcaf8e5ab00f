//! `--no-ebpf`: the proxy alone, on listeners that clients know.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;

use super::agent::Agent;
use crate::{
    model::Transport,
    net::{Namespace, Original, OriginalDestinations},
};

/// Without hooks nothing is redirected: a listener's own address is where its
/// clients wanted to go.
#[derive(Debug)]
pub(super) struct NotRedirected;

impl OriginalDestinations for NotRedirected {
    fn take(&self, _: u64, _: SocketAddr) -> Option<Original> {
        None
    }

    fn resolver(&self, _: u64, _: SocketAddr, _: u16) -> Option<Original> {
        None
    }
}

impl Agent {
    /// `--no-ebpf`: on the addresses of all services themselves.
    pub(super) async fn listen_explicitly(&self) -> anyhow::Result<()> {
        let snapshot = self.snapshots.load();
        let addresses: Vec<SocketAddr> = (snapshot.ports())
            .filter(|port| port.port.protocol.transport() == Transport::Tcp)
            .flat_map(|port| {
                let number = port.port.port.get();
                port.addresses.iter().map(move |&address| SocketAddr::new(address, number))
            })
            .collect();
        let namespace = Arc::new(Namespace::current().context("opening this network namespace")?);
        let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        self.proxy.open_explicit(namespace, addresses).await.map(drop).with_context(|| {
            format!(
                "--no-ebpf listens on the services' own addresses ({}): they must be this machine's",
                shown.join(", ")
            )
        })
    }
}

//! Where the queries that aren't ours go.

use std::{io, net::SocketAddr, sync::atomic::Ordering};

use crate::{balance::Ask, model::Transport, registry::Snapshot};

/// Where to reach the resolver that the application asked: itself, or one of
/// its instances where it is a service.
///
/// The agent's own sockets bypass the hooks, so nobody else would balance them.
pub fn reach(
    snapshot: &Snapshot,
    asked: SocketAddr,
    transport: Transport,
    ask: Ask,
) -> io::Result<SocketAddr> {
    let Some(port) = snapshot.find(asked, transport) else { return Ok(asked) };
    let index = port.balancer.pick(ask, |_| true).ok_or_else(|| {
        let name = &port.service;
        io::Error::other(format!("the resolver {asked} is service {name}, without instances"))
    })?;
    let endpoint = &port.endpoints[index];
    endpoint.live.picks.fetch_add(1, Ordering::Relaxed);
    Ok(endpoint.address)
}

/// The client isn't one that the hooks redirected, or they have forgotten it.
pub fn unknown() -> io::Error {
    io::Error::other("nothing is known of the resolver that the client asked")
}

//! Connections of the kernel path whose end no hook saw: they are taken off the
//! counts that balancing and limits go by.

use std::{
    collections::{HashMap, HashSet},
    io,
    time::Duration,
};

use super::agent::Agent;
use crate::net::{Namespace, tcp_sockets, udp_sockets};

/// How often the kernel's sockets are compared with what the hooks counted.
pub(super) const PERIOD: Duration = Duration::from_secs(10);

/// A namespace that we don't know after this long has no captured process.
const UNKNOWN: Duration = Duration::from_secs(60);

/// Cookies are unique among all sockets.
fn sockets_of(namespace: &Namespace) -> io::Result<HashSet<u64>> {
    let mut sockets = tcp_sockets(namespace)?;
    sockets.extend(udp_sockets(namespace)?.into_keys());
    Ok(sockets)
}

pub(super) fn reconcile(agent: &Agent) {
    let Some(kernel) = agent.kernel() else { return };
    // Read before the sockets are: what is opened meanwhile isn't in here.
    let connections = kernel.tables().connections();
    if connections.is_empty() {
        return;
    }
    let mut live = HashMap::new();
    let mut known = HashSet::new();
    for tracked in &agent.namespaces().0 {
        let cookie = tracked.namespace.cookie();
        known.insert(cookie);
        match sockets_of(&tracked.namespace) {
            Ok(sockets) => drop(live.insert(cookie, sockets)),
            Err(error) => tracing::warn!(
                netns = cookie, %error,
                "asking for the namespace's sockets failed: its connections are counted as they are"
            ),
        }
    }
    let gone: Vec<_> = (connections.into_iter())
        .filter(|open| {
            let netns = open.connection.netns;
            match live.get(&netns) {
                Some(sockets) => !sockets.contains(&open.cookie),
                None => !known.contains(&netns) && open.age > UNKNOWN,
            }
        })
        .collect();
    if gone.is_empty() {
        return;
    }
    match kernel.tables().forget(&gone) {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "connections ended unseen: taken off the counts"),
        Err(error) => {
            tracing::warn!(%error, "taking connections off that ended unseen failed");
        }
    }
}

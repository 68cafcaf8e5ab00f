//! Connections whose end no hook saw: they are taken off the counts that
//! balancing and limits go by, and out of the map of those that are past TCP.

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

/// What is open in the captured namespaces.
#[derive(Default)]
struct Open {
    /// By namespace; none where asking failed.
    sockets: HashMap<u64, Option<HashSet<u64>>>,
}

impl Open {
    fn of(agent: &Agent) -> Self {
        let mut open = Self::default();
        for tracked in &agent.namespaces().0 {
            let cookie = tracked.namespace.cookie();
            let sockets = sockets_of(&tracked.namespace).inspect_err(|error| {
                tracing::warn!(
                    netns = cookie, %error,
                    "asking for the namespace's sockets failed: its connections are counted as they are"
                );
            });
            open.sockets.insert(cookie, sockets.ok());
        }
        open
    }

    /// Whether a socket is gone; `None` where nobody knows its namespace.
    fn lacks(&self, netns: u64, cookie: u64) -> Option<bool> {
        let sockets = self.sockets.get(&netns)?;
        Some(sockets.as_ref().is_some_and(|sockets| !sockets.contains(&cookie)))
    }
}

/// Cookies are unique among all sockets.
fn sockets_of(namespace: &Namespace) -> io::Result<HashSet<u64>> {
    let mut sockets = tcp_sockets(namespace)?;
    sockets.extend(udp_sockets(namespace)?.into_keys());
    Ok(sockets)
}

pub(super) fn reconcile(agent: &Agent) {
    let Some(kernel) = agent.kernel() else { return };
    // Read before the sockets are: what is opened meanwhile isn't in here.
    let tables = kernel.tables();
    let (connections, proxied) = (tables.connections(), tables.proxied_past_tcp());
    drop(tables);
    if connections.is_empty() && proxied.is_empty() {
        return;
    }
    let open = Open::of(agent);
    let proxied: Vec<_> = (proxied.into_iter())
        // Those of a namespace that nobody knows may live: they go on by TCP.
        .filter(|(key, cookie)| open.lacks(key.netns, *cookie).unwrap_or(true))
        .map(|(key, _)| key)
        .collect();
    let gone: Vec<_> = (connections.into_iter())
        .filter(|live| {
            let lacks = open.lacks(live.connection.netns, live.cookie);
            lacks.unwrap_or(live.age > UNKNOWN)
        })
        .collect();
    if gone.is_empty() && proxied.is_empty() {
        return;
    }
    let mut tables = kernel.tables();
    tables.forget_past_tcp(&proxied);
    match tables.forget(&gone) {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "connections ended unseen: taken off the counts"),
        Err(error) => {
            tracing::warn!(%error, "taking connections off that ended unseen failed");
        }
    }
}

//! Tells the registry which instances live in pods that this agent captures:
//! their sockets can be paced, so the path of some services depends on it.

use std::collections::HashSet;

use tokio::task::spawn_blocking;

use super::{agent::Agent, namespaces::Tracked};
use crate::net::Namespace;

/// Looks at the namespaces as they are now. They have processes of their own in
/// captured cgroups, and aren't the agent's: there, servers that nobody captures
/// have the same addresses.
pub(super) async fn follow(agent: &Agent) {
    if !agent.registry.lock().await.asks_for_captured() {
        return;
    }
    let tracked = agent.namespaces();
    let addresses = spawn_blocking(move || {
        let own = Namespace::current().map_or(0, |namespace| namespace.inode());
        let pods = tracked.0.iter().filter(|tracked| is_pod(tracked, own));
        // One that has just gone has no addresses.
        pods.flat_map(|pod| pod.namespace.addresses().unwrap_or_default())
            .map(|address| address.to_canonical())
            .collect::<HashSet<_>>()
    });
    let Ok(addresses) = addresses.await else { return };
    let mut registry = agent.registry.lock().await;
    if !registry.set_captured(addresses) {
        return;
    }
    if let Some(kernel) = agent.kernel()
        && let Err(error) = kernel.tables().sync(&agent.snapshots.load())
    {
        tracing::warn!(
            error = format!("{error:#}"),
            "services can't take the path that their instances allow: they stay on the other"
        );
    }
}

fn is_pod(tracked: &Tracked, own: u64) -> bool {
    tracked.processes > 0 && tracked.namespace.inode() != own
}

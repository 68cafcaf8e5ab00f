//! Passes on what the cluster says of this node's pods.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::app::agent::Agent;

/// Not everything that makes the pods known changes them.
const AGAIN: Duration = Duration::from_secs(1);

/// Passes on what stands now.
pub(crate) fn tell(agent: &Agent) {
    if let Some(pods) = agent.kubernetes().and_then(|kubernetes| kubernetes.cluster.node_pods()) {
        agent.pods.tell(pods);
    }
}

/// Passes on every change.
pub(crate) async fn listen(agent: Arc<Agent>, stop: CancellationToken) {
    let Some(kubernetes) = agent.kubernetes() else { return };
    let cluster = &kubernetes.cluster;
    let (mut pods, mut namespaces) = (cluster.pods(), cluster.captured());
    loop {
        tell(&agent);
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = pods.changed() => {}
            Ok(()) = namespaces.changed() => {}
            () = sleep(AGAIN) => {}
        }
    }
}

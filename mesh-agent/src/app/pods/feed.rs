//! Passes on what the cluster says of this node's pods.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::app::agent::Agent;

/// Passes on what stands now.
pub(crate) fn tell(agent: &Agent) {
    let pods = agent.kubernetes().and_then(|it| it.cluster.pods().borrow().clone());
    if let Some(pods) = pods {
        agent.pods.tell((*pods).clone());
    }
}

/// Passes on every change.
pub(crate) async fn listen(agent: Arc<Agent>, stop: CancellationToken) {
    let Some(kubernetes) = agent.kubernetes() else { return };
    let mut pods = kubernetes.cluster.pods();
    loop {
        pods.mark_unchanged();
        tell(&agent);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = pods.changed() => if changed.is_err() { return },
        }
    }
}

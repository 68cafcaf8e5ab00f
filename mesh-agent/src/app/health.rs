//! Active checks of all instances that are to be checked, and what follows when
//! the health of one changes.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{task::AbortHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use super::agent::Agent;
use crate::{
    health::{CheckError, Checker, Health, Outliers, Rules, Verdict},
    model::{HealthCheck, ServiceName, Settings},
    net::{self, Namespace, SocketOptions},
    registry::{Difference, Endpoint, PortKey, ServicePort},
};

/// Checks under way at a time: enough for thousands of instances, as one takes
/// milliseconds; and few enough not to be noticed.
const CONCURRENT: usize = 64;

/// Changes come together, when a node dies for example.
const SETTLE: Duration = Duration::from_millis(10);

/// Who checks: from the agent's own namespace, with its mark where there are
/// hooks that would look at it.
pub(super) fn checker(settings: &Settings, ebpf: bool) -> anyhow::Result<Checker> {
    let namespace = Namespace::current().context("opening this network namespace")?;
    let socket = SocketOptions { mark: if ebpf { settings.capture.mark } else { 0 } };
    Ok(Checker::new(Arc::new(namespace), socket, CONCURRENT))
}

/// Runs until the agent stops.
pub(super) async fn run(agent: Arc<Agent>, checker: Checker, stop: CancellationToken) {
    let changed = agent.registry.lock().await.health_changed();
    let mut generations = agent.registry.lock().await.watch();
    let mut checks = Checks { checker, running: HashMap::new() };
    let mut known = HashSet::new();
    let mut before = Arc::default();
    loop {
        generations.borrow_and_update();
        let snapshot = agent.snapshots.load();
        // Whatever happens to an instance's health makes its service a new one.
        let difference = snapshot.since(&before);
        checks.follow(&difference);
        note(&difference, &mut known);
        before = snapshot;
        tokio::select! {
            () = stop.cancelled() => return,
            _ = generations.changed() => {}
            () = changed.notified() => {
                sleep(SETTLE).await;
                refresh(&agent).await;
            }
        }
    }
}

/// Computes the tiers of what changed anew, and tells the kernel.
async fn refresh(agent: &Agent) {
    let mut registry = agent.registry.lock().await;
    let snapshot = agent.snapshots.load();
    let changed: HashSet<&ServiceName> = (snapshot.ports())
        .filter(|port| port.outliers.take_change())
        .map(|port| &port.service)
        .collect();
    for service in &changed {
        registry.refresh(service.as_str());
    }
    if let Some(kernel) = agent.kernel()
        && !changed.is_empty()
        && let Err(error) = kernel.tables().sync(&agent.snapshots.load())
    {
        // What the maps hold goes on serving; the next change tries again.
        tracing::error!(
            error = format!("{error:#}"),
            "telling the kernel of an instance's health failed"
        );
    }
}

/// Which instances are checked, each by a task.
struct Checks {
    checker: Checker,
    running: HashMap<(PortKey, SocketAddr), Running>,
}

/// The check of one instance; it ends when this is dropped.
struct Running {
    check: HealthCheck,
    rules: Rules,
    health: Arc<Health>,
    outliers: Arc<Outliers>,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checks {
    /// Starts what is new, and ends what is gone or has other settings now.
    fn follow(&mut self, difference: &Difference<'_>) {
        let mut before = HashMap::new();
        for port in difference.left.iter().flat_map(|service| &service.ports) {
            for endpoint in port.endpoints.iter().filter(|_| port.policy.health_check.is_some()) {
                before.extend(self.running.remove_entry(&(port.key(), endpoint.address)));
            }
        }
        for port in difference.came.iter().flat_map(|service| &service.ports) {
            let Some(check) = &port.policy.health_check else { continue };
            for endpoint in &port.endpoints {
                let key = (port.key(), endpoint.address);
                let rules = Rules::from(&port.policy.failover);
                let running = before
                    .remove(&key)
                    .filter(|one| one.check == *check && one.rules == rules)
                    .filter(|one| Arc::ptr_eq(&one.health, &endpoint.health))
                    .unwrap_or_else(|| self.start(port, endpoint, check, rules));
                self.running.insert(key, running);
            }
        }
        for gone in before.into_values() {
            gone.outliers.forget_check(&gone.health, net::monotonic_ns());
        }
    }

    fn start(
        &self,
        port: &ServicePort,
        endpoint: &Endpoint,
        check: &HealthCheck,
        rules: Rules,
    ) -> Running {
        let (health, outliers) = (Arc::clone(&endpoint.health), Arc::clone(&port.outliers));
        let (service, instance) = (port.service.clone(), endpoint.address);
        let tell = {
            let (health, outliers) = (Arc::clone(&health), Arc::clone(&outliers));
            move |result: Result<(), CheckError>, verdict| {
                let before = health.verdict();
                if let Err(error) = &result {
                    tracing::debug!(%service, %instance, %error, "health check failed");
                }
                match (&result, before != verdict) {
                    (Err(error), true) if verdict == Verdict::Unhealthy => {
                        tracing::info!(%service, %instance, %error, "unhealthy");
                    }
                    (Ok(()), true) if before == Verdict::Unhealthy => {
                        tracing::info!(%service, %instance, "healthy again");
                    }
                    _ => {}
                }
                let at = (net::monotonic_ns(), rand::random());
                outliers.checked(&health, result.is_ok(), verdict, &rules, at);
            }
        };
        // What an earlier check found stands until this one knows better.
        let known = health.verdict();
        let checking = self.checker.clone().run(endpoint.address, check.clone(), known, tell);
        let task = tokio::spawn(checking).abort_handle();
        Running { check: check.clone(), rules, health, outliers, task }
    }
}

/// Logs who was ejected and who came back.
fn note(difference: &Difference<'_>, known: &mut HashSet<(PortKey, SocketAddr)>) {
    let left: HashSet<PortKey> =
        difference.left.iter().flat_map(|service| &service.ports).map(|port| port.key()).collect();
    let mut before: HashSet<_> = known.extract_if(|(port, _)| left.contains(port)).collect();
    for port in difference.came.iter().flat_map(|service| &service.ports) {
        for endpoint in port.endpoints.iter().filter(|one| one.health.is_ejected()) {
            let key = (port.key(), endpoint.address);
            if !before.remove(&key) {
                let reason = endpoint.health.reason(net::monotonic_ns());
                let (service, instance) = (&port.service, endpoint.address);
                tracing::info!(%service, %instance, reason, "ejected");
            }
            known.insert(key);
        }
    }
    for ((service, ..), instance) in &before {
        tracing::info!(%service, %instance, "back in service");
    }
}

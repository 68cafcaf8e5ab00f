//! Brings what the sources find into the registry and the kernel, and keeps it
//! for the next run.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{agent::Agent, kernel::Kernel};
use crate::{model::Discovered, registry::Registry};

/// How long a start or a reload waits for new sources to be asked once. Above
/// the default timeout of a source: one that is down has said so by then.
pub(super) const FIRST_ANSWERS: Duration = Duration::from_secs(3);
/// Between two changes that are taken in: the first at once, and those that come
/// meanwhile together, as after a deployment.
const PAUSE: Duration = Duration::from_millis(4);
/// What the kernel's maps refused is tried again: room may have been made.
const RETRY: Duration = Duration::from_secs(10);
/// A set that changed is kept after at most this long.
const SAVE: Duration = Duration::from_secs(1);

/// The file that outlives the agent, as the kernel's maps do: beside the admin
/// socket, whose folder is gone after a boot.
pub(super) fn memory(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".discovered");
    path.into()
}

pub(super) async fn run(agent: Arc<Agent>, stop: CancellationToken) {
    let (mut save_at, mut retry_at) = (None, None);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = agent.discovery.changed() => {
                retry_at = take_in(&agent).await.then(|| Instant::now() + RETRY);
                save_at = save_at.or_else(|| Some(Instant::now() + SAVE));
                sleep(PAUSE).await;
            }
            () = at(retry_at) => retry_at = take_in(&agent).await.then(|| Instant::now() + RETRY),
            () = at(save_at) => {
                save_at = None;
                save(&agent).await;
            }
        }
    }
    // Before it stops, which forgets what stands.
    save(&agent).await;
    agent.discovery.stop().await;
}

pub(super) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Puts all changes into force; `true` where some were refused.
async fn take_in(agent: &Agent) -> bool {
    // Held throughout: a reload may give the sources other places.
    let mut registry = agent.registry.lock().await;
    let changes = agent.discovery.changes();
    let refused = match agent.kernel() {
        None => {
            registry.discover(changes);
            Vec::new()
        }
        Some(kernel) => put_into_force(agent, kernel, &mut registry, changes),
    };
    let problems = refused.iter().map(|(change, error)| refusal(agent, change, error));
    agent.publish_undiscovered(problems.collect());
    let any = !refused.is_empty();
    agent.discovery.put_back(refused.iter().map(|(change, _)| change));
    any
}

/// That a set isn't in force, in words.
pub(super) fn refusal(agent: &Agent, change: &Discovered, error: &str) -> String {
    format!(
        "what was discovered for {} is not in force, the {} instances before it are: {error}",
        change.service,
        agent.snapshots.load().service(change.service.as_str()).map_or(0, instances)
    )
}

fn instances(service: &Arc<crate::registry::Service>) -> usize {
    service.ports.iter().map(|port| port.endpoints.len()).max().unwrap_or(0)
}

/// All changes at once. Where the kernel refuses that, one after the other: one
/// service that grows out of bounds must not hold back the others. Returns
/// those that are refused, with the reason.
pub(super) fn put_into_force(
    agent: &Agent,
    kernel: &Kernel,
    registry: &mut Registry,
    changes: Vec<Discovered>,
) -> Vec<(Discovered, String)> {
    let sync = || kernel.tables().sync(&agent.snapshots.load());
    let before = registry.discovered_before(&changes);
    if !registry.discover(changes.clone()) || sync().is_ok() {
        return Vec::new();
    }
    registry.discover(before.clone());
    let mut refused = Vec::new();
    for change in changes {
        registry.discover(vec![change.clone()]);
        if let Err(error) = sync() {
            let same = |other: &&Discovered| {
                (&other.service, other.source) == (&change.service, change.source)
            };
            registry.discover(before.iter().filter(same).cloned().collect());
            tracing::error!(
                service = %change.service,
                error = format!("{error:#}"),
                "the kernel refuses what was discovered: the set before it stays"
            );
            refused.push((change, format!("{error:#}")));
        }
    }
    if let Err(error) = sync() {
        tracing::error!(error = format!("{error:#}"), "putting the discovered sets back failed");
    }
    refused
}

async fn save(agent: &Agent) {
    let memory = agent.discovery.memory();
    let path = memory_path(agent);
    let shown = path.display().to_string();
    let saved = tokio::task::spawn_blocking(move || memory.save(&path)).await;
    if let Err(error) = saved.unwrap_or_else(|error| Err(error.into())) {
        tracing::warn!(
            path = shown,
            %error,
            "can't keep what was discovered: the next start waits for the sources to answer"
        );
    }
}

fn memory_path(agent: &Agent) -> PathBuf {
    memory(&agent.settings().admin.socket)
}

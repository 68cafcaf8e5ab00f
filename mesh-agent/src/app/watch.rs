//! Watches the configuration file and reloads when it changes.

use std::{
    hash::{DefaultHasher, Hasher as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use notify::{
    Event, EventKind, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{agent::Agent, reload};

/// An editor writes a file in several steps; wait until they are over.
const SETTLE: Duration = Duration::from_millis(200);

pub(super) async fn config(agent: Arc<Agent>, stop: CancellationToken) {
    let (changed, mut changes) = mpsc::channel(1);
    let watcher = watcher(&agent.config_path(), changed);
    let _watcher = match watcher {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "can't watch the configuration file: use `mesh-agent reload`");
            return;
        }
    };
    let mut seen = read(&agent).await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            change = changes.recv() => if change.is_none() { return },
        }
        sleep(SETTLE).await;
        while changes.try_recv().is_ok() {}
        // The folder changes for many reasons; only the content counts.
        let now = read(&agent).await;
        if now.is_some() && now != seen {
            seen = now;
            reload::and_log(&agent, "the file changed").await;
        }
    }
}

/// What its content comes to: the file may be long, and stays in nobody's memory.
async fn read(agent: &Agent) -> Option<u64> {
    let content = tokio::fs::read(agent.config_path()).await.ok()?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&content);
    Some(hasher.finish())
}

/// Watches the folder, not the file: editors and Kubernetes' config maps put a
/// new file (or link) in the place of the old one.
fn watcher(path: &PathBuf, changed: mpsc::Sender<()>) -> anyhow::Result<impl Watcher + use<>> {
    let path = std::path::absolute(path)?;
    let folder = path.parent().unwrap_or(&path).to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // Who looks at the file changes nothing: we do so ourselves.
        if event.is_ok_and(|event| event.kind.is_access() && !is_written(event.kind)) {
            return;
        }
        // Full: a change is already waiting to be looked at.
        let _ = changed.try_send(());
    })?;
    watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

fn is_written(kind: EventKind) -> bool {
    kind == EventKind::Access(AccessKind::Close(AccessMode::Write))
}

//! Watches the configuration file and reloads when it changes.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
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
    agent.note_read(Stamp::of(&agent.config_path()));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            change = changes.recv() => if change.is_none() { return },
        }
        sleep(SETTLE).await;
        while changes.try_recv().is_ok() {}
        // The folder changes for many reasons, and `mesh-agent reload` may have
        // come first.
        let now = Stamp::of(&agent.config_path());
        if now.is_some() && now != agent.last_read() {
            reload::and_log(&agent, "the file changed").await;
        }
    }
}

/// By which a file is known to be the one that was read, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    size: u64,
    /// Modified and changed, each in seconds and nanoseconds.
    times: [(i64, i64); 2],
}

impl Stamp {
    /// `None` where there is no such file.
    pub fn of(path: &Path) -> Option<Self> {
        let file = std::fs::metadata(path).ok()?;
        Some(Self {
            file: (file.dev(), file.ino()),
            size: file.size(),
            times: [(file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec())],
        })
    }
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

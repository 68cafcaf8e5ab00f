//! Keeps a listener in every namespace that captured processes live in.
//!
//! A namespace is found by looking through the captured cgroups: now and then,
//! more often for a while after a cgroup was made in there (a container starts),
//! and at once when the hooks report a socket that nobody listens for. It is
//! let go when nobody else holds it: no captured process and no name.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use notify::{RecursiveMode, Watcher as _};
use tokio::{sync::mpsc, task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{agent::Agent, captured, pods, reconcile};
use crate::{
    datapath::{self, Captured, Occupant},
    kubernetes::Pod,
    net::Namespace,
};

const SCAN_PERIOD: Duration = Duration::from_secs(1);
/// Where cgroups are watched and the last looks found nothing new: a node at
/// rest has hundreds of pods to look at.
const REST_PERIOD: Duration = Duration::from_secs(5);
const REST_AFTER: u32 = 10;
/// After a cgroup was made: its first process comes soon.
const BURST_PERIOD: Duration = Duration::from_millis(50);
const BURST: u32 = 20;

/// A report of the hooks: a connect in a namespace without a listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    pub pid: u32,
    pub cookie: u64,
}

/// A namespace that we listen in, as `status` shows it.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    pub namespace: Arc<Namespace>,
    pub listeners: Vec<std::net::SocketAddr>,
    pub pid: Option<u32>,
    pub processes: usize,
    /// Whose it is, on Kubernetes.
    pub pod: Option<Arc<Pod>>,
    /// The pod's own; it may get them only after its first process.
    addresses: Vec<IpAddr>,
}

pub(super) struct Tracker {
    agent: Arc<Agent>,
    /// By inode.
    tracked: HashMap<u64, Tracked>,
    /// Namespaces that can't be listened in, so that each is logged once.
    refused: HashMap<u64, String>,
    /// The last scan failed, and that has been logged.
    blind: bool,
}

/// Cgroups that are watched.
struct Watched {
    watcher: Option<notify::RecommendedWatcher>,
    cgroups: HashSet<PathBuf>,
    /// How many can't be.
    failed: usize,
}

impl Tracker {
    pub fn new(agent: Arc<Agent>) -> Self {
        Self { agent, tracked: HashMap::new(), refused: HashMap::new(), blind: false }
    }

    /// So that a start is complete before the hooks are attached.
    pub async fn first_scan(mut self) -> Self {
        self.scan().await;
        self
    }

    pub async fn run(mut self, mut missing: mpsc::Receiver<Missing>, stop: CancellationToken) {
        let (made, mut cgroups) = mpsc::channel(1);
        let mut watched = Watched::new(made);
        let mut pods = self.agent.pods.watch();
        watched.follow(&self.agent);
        let (mut burst, mut unchanged) = (0, 0);
        let mut reconciled = Instant::now();
        loop {
            let period = match (burst, unchanged) {
                (1.., _) => BURST_PERIOD,
                (0, REST_AFTER..) if watched.is_complete() => REST_PERIOD,
                (0, _) => SCAN_PERIOD,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = cgroups.recv() => burst = BURST,
                Some(report) = missing.recv() => self.answer(report).await,
                // Pods that run already are captured only after this.
                Ok(()) = pods.changed() => {
                    burst = BURST;
                    watched.follow(&self.agent);
                    self.scan().await;
                }
                () = sleep(period) => {
                    burst = burst.saturating_sub(1);
                    watched.follow(&self.agent);
                    let changed = self.scan().await || self.blind;
                    unchanged = if changed { 0 } else { unchanged.saturating_add(1) };
                    if reconciled.elapsed() >= reconcile::PERIOD {
                        reconciled = Instant::now();
                        let agent = Arc::clone(&self.agent);
                        if let Err(error) = spawn_blocking(move || reconcile::reconcile(&agent)).await {
                            tracing::error!(%error, "comparing connections with sockets failed");
                        }
                    }
                }
            }
        }
    }

    /// Looks through the captured cgroups; whether another namespace is there, or
    /// one has gone.
    async fn scan(&mut self) -> bool {
        let (generation, table) = self.agent.pods.watch().borrow().clone();
        let (roots, exclude) = pods::places(&self.agent.settings().capture, &table);
        let files = roots.len() - table.captured.len();
        let found = spawn_blocking(move || datapath::scan(&roots, &exclude)).await;
        let Ok(found) = found else { return false };
        let found = match found {
            Ok(found) => found,
            // Nothing is let go on a guess.
            Err(error) => {
                if !std::mem::replace(&mut self.blind, true) {
                    tracing::warn!(%error, "can't look for pods: those that are known stay");
                }
                return false;
            }
        };
        let before: HashSet<u64> = self.tracked.keys().copied().collect();
        self.blind = false;
        for (&inode, occupant) in &found.occupied {
            let captured = occupant.root.checked_sub(files).and_then(|at| table.captured.get(at));
            let pod = captured.and_then(|captured| captured.pod.clone());
            self.take_in(inode, occupant, pod).await;
        }
        self.name_pods();
        self.let_go(&found).await;
        self.publish();
        self.agent.pods.note_scanned(generation);
        captured::follow(&self.agent).await;
        before.len() != self.tracked.len() || self.tracked.keys().any(|one| !before.contains(one))
    }

    async fn take_in(&mut self, inode: u64, occupant: &Occupant, pod: Option<Arc<Pod>>) {
        let &Occupant { pid, processes, .. } = occupant;
        if let Some(tracked) = self.tracked.get_mut(&inode) {
            (tracked.pid, tracked.processes) = (Some(pid), processes);
            if pod.is_some() {
                tracked.pod = pod;
            }
        } else if let Ok(namespace) = Namespace::of_process(pid)
            && namespace.inode() == inode
        {
            self.open(namespace, Some(pid), processes).await;
            if let Some(tracked) = self.tracked.get_mut(&inode) {
                tracked.pod = pod;
            }
        }
    }

    /// Tells the hooks the pods' addresses: one that its sockets are hashed by,
    /// and all, to know who is on this node.
    fn name_pods(&mut self) {
        let Some(kernel) = self.agent.kernel() else { return };
        for tracked in self.tracked.values_mut().filter(|tracked| tracked.addresses.is_empty()) {
            tracked.addresses = tracked.namespace.addresses().unwrap_or_default();
            if let Some(&address) = tracked.addresses.iter().min() {
                kernel.tables().set_client(tracked.namespace.cookie(), Some(address));
            }
        }
        let addresses = self.tracked.values().flat_map(|tracked| {
            let cookie = tracked.namespace.cookie();
            tracked.addresses.iter().map(move |&address| (address, cookie))
        });
        if let Err(error) = kernel.neighbours().follow(addresses) {
            tracing::warn!(
                error = format!("{error:#}"),
                "the hooks don't know all pods of this node: what leads to the others is treated \
                 as if it left the node"
            );
        }
    }

    async fn let_go(&mut self, found: &Captured) {
        let gone: Vec<u64> = (self.tracked.iter_mut())
            .filter_map(|(&inode, tracked)| {
                if found.occupied.contains_key(&inode) {
                    return None;
                }
                (tracked.pid, tracked.processes) = (None, 0);
                (!found.named.contains(&inode)).then_some(inode)
            })
            .collect();
        for inode in gone {
            if let Some(tracked) = self.tracked.remove(&inode) {
                tracing::info!(netns = tracked.namespace.cookie(), "namespace is gone");
                if let Some(kernel) = self.agent.kernel() {
                    kernel.tables().set_client(tracked.namespace.cookie(), None);
                }
                self.agent.close_namespace(tracked.namespace.cookie()).await;
            }
        }
        self.refused.retain(|inode, _| found.occupied.contains_key(inode));
    }

    async fn answer(&mut self, report: Missing) {
        if self.tracked.values().any(|t| t.namespace.cookie() == report.cookie) {
            return;
        }
        // The process may have ended by now; its namespace may have a name.
        let found = Namespace::of_process(report.pid)
            .ok()
            .filter(|namespace| namespace.cookie() == report.cookie)
            .or_else(|| named(report.cookie));
        if let Some(namespace) = found {
            self.open(namespace, Some(report.pid), 1).await;
            self.publish();
        }
    }

    async fn open(&mut self, namespace: Namespace, pid: Option<u32>, processes: usize) {
        let namespace = Arc::new(namespace);
        let inode = namespace.inode();
        match self.agent.open_namespace(&namespace).await {
            Ok(listeners) => {
                tracing::info!(netns = namespace.cookie(), pid, "listening in a namespace");
                self.refused.remove(&inode);
                let tracked = Tracked {
                    namespace,
                    listeners,
                    pid,
                    processes,
                    pod: None,
                    addresses: Vec::new(),
                };
                self.tracked.insert(inode, tracked);
            }
            Err(error) => {
                let error = format!("{error:#}");
                let known = self.refused.insert(inode, error.clone());
                if known.as_ref() != Some(&error) {
                    tracing::warn!(
                        netns = namespace.cookie(),
                        pid,
                        error,
                        "can't listen in a namespace: its proxied services take the kernel path"
                    );
                }
            }
        }
    }

    fn publish(&self) {
        self.agent.publish_namespaces(
            self.tracked.values().cloned().collect(),
            self.refused.values().cloned().collect(),
        );
    }
}

impl Watched {
    /// Tells `made` of cgroups that come and go below those that are followed. Where the
    /// kernel doesn't let us watch, the slower look has to do.
    fn new(made: mpsc::Sender<()>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| event.kind.is_create() || event.kind.is_remove()) {
                // Full: somebody was told already.
                let _ = made.try_send(());
            }
        });
        if let Err(error) = &watcher {
            tracing::info!(%error, "can't watch cgroups: new processes are found once a second");
        }
        Self { watcher: watcher.ok(), cgroups: HashSet::new(), failed: 0 }
    }

    /// Whether all that is captured is watched.
    fn is_complete(&self) -> bool {
        self.watcher.is_some() && self.failed == 0
    }

    /// Watches what is captured now, and nothing else.
    fn follow(&mut self, agent: &Agent) {
        let Some(watcher) = &mut self.watcher else { return };
        let (roots, _) = pods::places(&agent.settings().capture, &agent.pods.table());
        let wanted: HashSet<PathBuf> = roots.into_iter().map(|root| root.cgroup).collect();
        for gone in self.cgroups.difference(&wanted) {
            // The kernel ends a watch with its cgroup.
            let _ = watcher.unwatch(gone);
        }
        self.cgroups.retain(|cgroup| wanted.contains(cgroup));
        self.failed = 0;
        for cgroup in wanted {
            if self.cgroups.contains(&cgroup) {
                continue;
            }
            match watcher.watch(&cgroup, RecursiveMode::Recursive) {
                Ok(()) => drop(self.cgroups.insert(cgroup)),
                Err(error) => {
                    self.failed += 1;
                    tracing::debug!(cgroup = %cgroup.display(), %error, "can't watch a cgroup");
                }
            }
        }
    }
}

fn named(cookie: u64) -> Option<Namespace> {
    let paths = |folder: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(Path::new(folder)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    (paths("/run/netns").into_iter().chain(paths("/run/docker/netns")))
        .filter_map(|path| Namespace::open(&path).ok())
        .find(|namespace| namespace.cookie() == cookie)
}
